"""What Alembic runs: the steps, on the connection and in the transaction that it is handed."""

from alembic import context

from ledger.storage.tables import LEDGER_METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=LEDGER_METADATA, transactional_ddl=True)
context.run_migrations()
