"""Brings the log's database to the version that this program knows, in one transaction.

Source: Alembic documentation, sharing a connection across commands.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from medtrail.errors import ConflictError
from medtrail.runtime.database import Database

HEAD = "0002"
"""Version of :mod:`ledger.storage.tables`."""

_KNOWN = ("0001", "0002")
_LOCK = 7_303_014_205_117_229_668
"""Of PostgreSQL's advisory locks, any number that is ours: two processes that start at once migrate once."""


def migrate(database: Database, *, map_salt: bytes) -> None:
    """Make the tables, or bring older ones up to date. Blocks: for the start of a process.

    Args:
        database: The log's.
        map_salt: The item map's secret, 32 bytes.

    Raises:
        ConflictError: STORAGE_TOO_NEW: the database was written by a later version of medtrail.
        UnavailableError: The database cannot be opened or written.
    """
    if database.read_now(_version) == HEAD:
        return
    database.write_now(lambda connection: _upgrade(connection, map_salt))


def require_current(database: Database) -> None:
    """Check that a database has the version that this program knows: for commands that only read.

    Raises:
        ConflictError: STORAGE_TOO_OLD or STORAGE_TOO_NEW.
    """
    found = database.read_now(_version)
    if found != HEAD:
        _refuse_newer(found)
        message = f"the database has version {found or 'none'}, this program reads {HEAD}: start the ledger once"
        raise ConflictError(message, code="STORAGE_TOO_OLD")


def _version(connection: Connection) -> str:
    tables = inspect(connection)
    if tables.has_table("alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return found or ""
    # The first version was written before versions were.
    return "0001" if tables.has_table("log_state") else ""


def _refuse_newer(found: str) -> None:
    if found and found not in _KNOWN:
        message = f"the database has version {found}, this program knows {HEAD} and older: use a newer medtrail"
        raise ConflictError(message, code="STORAGE_TOO_NEW")


def _upgrade(connection: Connection, map_salt: bytes) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    found = _version(connection)
    if found == HEAD:
        return
    _refuse_newer(found)
    # Only here: it takes a while to load, and a database is migrated once.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    config.attributes["map_salt"] = map_salt
    if found == "0001" and not inspect(connection).has_table("alembic_version"):
        command.stamp(config, "0001")
    command.upgrade(config, "head")
