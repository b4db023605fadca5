"""A database of the version before is brought up to date with all that it holds."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from ledger.storage.migrate import HEAD, migrate
from ledger.storage.open import open_storage
from medtrail.codec import encode_batch

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import CheckLog, Events, NewLog

# What version 0002 did, undone; versions themselves were not written yet.
BACK = (
    "CREATE TABLE key_list AS SELECT leaf_index, list_salt, map_keys FROM entry",
    "CREATE TABLE duplicate_key AS SELECT leaf_index, event_id, signer_gln, declaration FROM entry",
    "ALTER TABLE entry RENAME TO newer",
    (
        "CREATE TABLE entry AS SELECT leaf_index, entry, signed_event_sha256, epoch, stream_seq, position,"
        " stream_time_us, payload_type FROM newer"
    ),
    "DROP TABLE newer",
    "DROP TABLE lease",
    "DROP TABLE epoch",
    "DROP TABLE cosignature",
    "DROP TABLE erasure",
    "DROP TABLE erasure_refusal",
    "ALTER TABLE log_state DROP COLUMN frozen",
    "ALTER TABLE log_state DROP COLUMN must_reach_size",
    "ALTER TABLE log_state DROP COLUMN must_reach_root",
    "DROP TABLE alembic_version",
)


def test_database_of_the_version_before_keeps_its_log(
    new_log: "NewLog", events: "Events", check_log: "CheckLog"
) -> None:
    log = new_log()
    log.enrol(events)
    sent = [events.sign(events.commission(serial)) for serial in range(3)]
    log.integrate(log.message(encode_batch([*sent, sent[0]])))
    log.publish()

    def go_back(connection: Connection) -> None:
        for statement in BACK:
            connection.execute(text(statement))

    log.database.write_now(go_back)
    log.close()
    log.database = open_storage(log.home.root, log.home.database_url)
    migrate(log.database, map_salt=log.salt)
    assert log.rows("SELECT version_num FROM alembic_version") == [(HEAD,)]
    check_log(log.home.root, acknowledged=sent)
    log.fence = log.rows("SELECT fence FROM lease")[0][0]
    log.commission(events, [9])
    log.publish()
    assert check_log(log.home.root, acknowledged=sent).tree_size == 12
