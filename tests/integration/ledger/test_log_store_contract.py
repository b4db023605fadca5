"""What the ledger relies on in its storage, the same on every backend."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select, text, update

from ledger.commands import main
from ledger.projections.projector import PROJECTION_NAME, Projector, open_projection
from ledger.projector_process import read_chained
from ledger.storage import checkpoint_store, entry_store, log_store
from ledger.storage.bulk import bulk_insert
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.log_store import FenceLostError, MustReach
from ledger.storage.migrate import HEAD, migrate, require_current
from ledger.storage.open import open_storage
from ledger.storage.tables import LEDGER_METADATA, REFUSAL, SIGNED_EVENT, STATE
from medtrail.codec import encode_batch
from medtrail.epcis.model import Extension
from medtrail.errors import ConflictError, MalformedError, MedtrailError, NotFoundError, UnavailableError
from medtrail.merkle import CompactRange, hash_leaf
from medtrail.runtime.database import Database
from medtrail.runtime.postgres import PostgresDatabase

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import CheckLog, Events, NewLog, OfflineLog

SALT = bytes(range(32))


@pytest.fixture
def database(tmp_path: Path, database_url: str) -> Iterator[Database]:
    opened = open_storage(tmp_path, database_url)
    migrate(opened, map_salt=SALT)
    yield opened
    opened.close()


@pytest.fixture
def log(new_log: "NewLog", events: "Events") -> "OfflineLog":
    made = new_log()
    made.enrol(events)
    made.publish()
    return made


# --- large events ---


def test_large_entries_are_read_as_many_as_fill_an_answer(log: "OfflineLog", events: "Events") -> None:
    long = [Extension("urn:x", "note", "n" * 200_000)]
    large = [events.sign(replace(events.commission(serial), extensions=tuple(long))) for serial in range(6)]
    for event in large:
        log.integrate(log.message(encode_batch([event])))
    read = log.database.read_now
    of_all = partial(entry_store.entries_of_types, payload_types=[], start=8, end=14, limit=100)
    assert [entry.leaf_index for entry in read(of_all)] == [8, 9, 10, 11, 12, 13]
    # Up to the first that does not fit any more, so that it is known to be there.
    assert [entry.leaf_index for entry in read(partial(of_all, most_bytes=450_000))] == [8, 9, 10]
    assert [entry.leaf_index for entry in read(partial(of_all, most_bytes=1))] == [8]
    assert read(partial(of_all, most_bytes=450_000, payload_types=["application/none"])) == []
    some = partial(entry_store.entries_at, indices=[13, 2, 9, 8, 99])
    assert [entry.leaf_index for entry in read(partial(some, most_bytes=450_000))] == [2, 8, 9, 13]
    assert [entry.leaf_index for entry in read(partial(some, most_bytes=300_000))] == [2, 9, 13]
    assert len(read(partial(entry_store.entries, start=0, end=20))) == 14

    async def projected() -> int:
        projection = open_projection(log.home.root / PROJECTION_NAME)
        assert 8 < len(await read_chained(log.database, 0, 22)) < 22
        count = await Projector(projection, partial(read_chained, log.database)).catch_up(22)
        projection.close()
        return count

    more = [events.sign(replace(events.commission(serial), extensions=tuple(long))) for serial in range(6, 14)]
    for event in more:
        log.integrate(log.message(encode_batch([event])))
    log.publish()
    assert asyncio.run(projected()) == 22


# --- versions ---


def test_migrated_schema_is_the_one_that_the_tables_name(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, LEDGER_METADATA))

    assert database.read_now(differences) == []
    require_current(database)


def test_database_of_a_later_version_is_refused(database: Database) -> None:
    database.write_now(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    for refused in (lambda: migrate(database, map_salt=SALT), lambda: require_current(database)):
        with pytest.raises(ConflictError) as caught:
            refused()  # type: ignore[no-untyped-call]
        assert caught.value.code == "STORAGE_TOO_NEW"


def test_two_processes_that_start_at_once_migrate_once(tmp_path: Path, database_url: str) -> None:
    opened = [open_storage(tmp_path, database_url) for _ in range(2)]
    errors: list[BaseException] = []

    def start(one: Database) -> None:
        try:
            migrate(one, map_salt=SALT)
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=start, args=(one,)) for one in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = opened[0].read_now(
        lambda connection: connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    )
    for one in opened:
        one.close()
    assert (errors, found) == ([], [HEAD])


def test_commands_want_a_database_of_this_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Database(tmp_path / "ledger.db").write_now(lambda connection: connection.execute(text("CREATE TABLE x (y int)")))
    assert main(["new-epoch", "--dir", str(tmp_path), "--reason", "none"]) == 2
    assert "STORAGE_TOO_OLD" in capsys.readouterr().err


# --- transactions ---


def test_error_rolls_everything_back(log: "OfflineLog") -> None:
    def half(connection: Connection) -> None:
        connection.execute(update(STATE).values(epoch=77))
        raise MalformedError("no more")

    with pytest.raises(MalformedError):
        log.database.write_now(half)
    assert log.rows("SELECT epoch FROM log_state") == [(1,)]


def test_read_sees_one_moment_while_another_writes(log: "OfflineLog") -> None:
    def read(connection: Connection) -> tuple[int, int]:
        before = connection.execute(select(STATE.c.epoch)).scalar_one()
        log.database.write_now(lambda writing: writing.execute(update(STATE).values(epoch=5)))
        return before, connection.execute(select(STATE.c.epoch)).scalar_one()

    assert log.database.read_now(read) == (1, 1)
    assert log.rows("SELECT epoch FROM log_state") == [(5,)]


def test_read_cannot_write(log: "OfflineLog") -> None:
    with pytest.raises(UnavailableError) as caught:
        log.database.read_now(lambda connection: connection.execute(update(STATE).values(epoch=5)))
    assert caught.value.code == "STORAGE_READONLY"


@pytest.mark.parametrize("bulk", [True, False])
def test_broken_constraint_is_a_conflict(log: "OfflineLog", bulk: bool) -> None:
    row = {"leaf_index": 0, "data": b"again"}

    def insert_again(connection: Connection) -> None:
        if bulk:
            bulk_insert(connection, SIGNED_EVENT, [row])
        else:
            connection.execute(SIGNED_EVENT.insert().values(**row))

    with pytest.raises(ConflictError) as caught:
        log.database.write_now(insert_again)
    assert caught.value.code == "STORAGE_CONSTRAINT"
    # The connection is good for more.
    assert log.rows("SELECT count(*) FROM log_state") == [(1,)]


def test_wrong_statement_is_our_own_mistake(log: "OfflineLog") -> None:
    with pytest.raises(MedtrailError) as caught:
        log.rows("SELECT nothing FROM nowhere")
    assert caught.value.code == "STORAGE_STATEMENT"


def test_bulk_insert_keeps_every_byte(database: Database) -> None:
    texts = ["", "a\tb\nc\\d\re", "\\N", "é 中 \U0001f9ea", "'\"%s ? :x {}", " \x7f\x01"]
    rows = [
        {
            "epoch": 2**62 + number,
            "stream_seq": number,
            "position": number,
            "signed_event_sha256": bytes(32),
            "signed_event": bytes(range(256)) * number,
            "event_id": value,
            "code": value,
            "field": value,
            "message": value,
            "signer_gln": "",
        }
        for number, value in enumerate(texts)
    ]
    database.write_now(lambda connection: bulk_insert(connection, REFUSAL, rows))
    database.write_now(lambda connection: bulk_insert(connection, REFUSAL, []))
    found = database.read_now(
        lambda connection: [dict(row._mapping) for row in connection.execute(REFUSAL.select().order_by("position"))]
    )
    assert found == rows


# --- the log's state ---


def test_fence_is_lost_to_whoever_took_it_last(log: "OfflineLog") -> None:
    second = log.database.write_now(partial(log_store.take_fence, holder="two"))
    for late in (log_store.require_fence, log_store.beat):
        with pytest.raises(FenceLostError):
            log.database.write_now(lambda connection, late=late: late(connection, log.fence))  # type: ignore[misc]
    log.database.write_now(lambda connection: log_store.beat(connection, second))
    log.database.write_now(lambda connection: log_store.give_up_lease(connection, log.fence))
    assert log.database.read_now(log_store.read_lease).holder == "two"
    log.database.write_now(lambda connection: log_store.give_up_lease(connection, second))
    assert log.database.read_now(log_store.read_lease).holder == ""


def test_of_checkpoints_signed_at_once_exactly_one_is_kept(log: "OfflineLog") -> None:
    others = [open_storage(log.home.root, log.home.database_url) for _ in range(4)]
    newest = log.database.read_now(checkpoint_store.newest_checkpoint)
    assert newest is not None
    outcomes: list[str] = []

    def sign(database: Database, number: int) -> None:
        tree = newest.tree.append(hash_leaf(b"%d" % number))
        new = StoredCheckpoint(tree, tree.root(), b"note %d" % number)
        swap = partial(checkpoint_store.swap_checkpoint, expected=newest.note, new=new, fence=log.fence)
        try:
            database.write_now(swap)
            outcomes.append("signed")
        except ConflictError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=sign, args=(one, number)) for number, one in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.close()
    assert sorted(outcomes) == ["CHECKPOINT_MOVED"] * 3 + ["signed"]


def test_smaller_checkpoint_is_not_kept(log: "OfflineLog") -> None:
    newest = log.database.read_now(checkpoint_store.newest_checkpoint)
    assert newest is not None
    new = StoredCheckpoint(CompactRange(), bytes(32), b"note")
    with pytest.raises(ConflictError) as caught:
        log.database.write_now(partial(checkpoint_store.swap_checkpoint, expected=newest.note, new=new))
    assert caught.value.code == "LOG_ROLLED_BACK"


def test_largest_tree_that_must_be_reached_stays(log: "OfflineLog") -> None:
    for size, expected in ((20, 20), (30, 30), (25, 30)):
        reach = MustReach(size, bytes([size]) * 32)
        log.database.write_now(partial(log_store.freeze, reason=f"{size}", must_reach=reach))
        state = log.database.read_now(log_store.require_state)
        assert state.must_reach == MustReach(expected, bytes([expected]) * 32)
    log.database.write_now(log_store.thaw)
    state = log.database.read_now(log_store.require_state)
    assert (state.frozen, state.must_reach) == ("", None)


def test_new_epoch_begins_at_the_first_message_and_takes_the_fence(log: "OfflineLog") -> None:
    epoch = log.database.write_now(partial(log_store.begin_epoch, reason="a test", now_us=1))
    state = log.database.read_now(log_store.require_state)
    assert (epoch, state.epoch, state.next_seq, state.last_message_sha256) == (2, 2, 1, b"")
    assert state.fence == log.fence + 1


def test_followers_keep_their_positions(database: Database) -> None:
    assert database.read_now(partial(log_store.follower_position, name="one")) == 0
    for position in (3, 9):
        database.write_now(partial(log_store.move_follower, name="one", position=position))
        assert database.read_now(partial(log_store.follower_position, name="one")) == position


def test_newer_cosignature_takes_the_place_of_the_older(database: Database) -> None:
    for time_s in (1, 2):
        line = f"line {time_s}"
        put = partial(checkpoint_store.put_cosignature, tree_size=3, witness="w", line=line, time_s=time_s)
        database.write_now(put)
    assert database.read_now(partial(checkpoint_store.cosignatures, tree_size=3)) == ["line 2"]


def test_event_without_its_bytes_tells_whether_it_was_erased(log: "OfflineLog") -> None:
    log.change("DELETE FROM signed_event WHERE leaf_index IN (2, 3)")
    log.change("INSERT INTO erasure VALUES (3, 5, NULL, '', '', 1)")
    found = {entry.leaf_index: entry for entry in log.database.read_now(partial(entry_store.entries, start=1, end=4))}
    assert found[1].require_event()
    for index, code in ((2, "EVENT_MISSING"), (3, "EVENT_ERASED")):
        with pytest.raises(MedtrailError) as caught:
            found[index].require_event()
        assert caught.value.code == code


def test_log_is_missing_before_it_is_created(database: Database) -> None:
    with pytest.raises(NotFoundError) as caught:
        database.read_now(log_store.require_state)
    assert caught.value.code == "LOG_MISSING"


def test_refused_event_may_hold_what_a_text_cannot(log: "OfflineLog", events: "Events", check_log: "CheckLog") -> None:
    statement = events.observe(1)
    bad = type(statement)(**{name: getattr(statement, name) for name in statement.__slots__} | {"epc_list": ("\0",)})
    log.integrate(log.message(encode_batch([events.sign(bad)])))
    assert log.rows("SELECT count(*) FROM refusal") == [(1,)]
    log.publish()
    check_log(log.home.root)


# --- PostgreSQL alone ---


def _ended(database: PostgresDatabase, server: str) -> None:
    name = database.name.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


def test_lost_connection_is_told_and_made_anew(postgres_url: str, postgres_server: str) -> None:
    database = PostgresDatabase(postgres_url)
    migrate(database, map_salt=SALT)

    def cut(connection: Connection) -> None:
        _ended(database, postgres_server)
        connection.execute(text("SELECT 1"))

    for run in (database.write_now, database.read_now):
        with pytest.raises(UnavailableError) as caught:
            run(cut)
        assert caught.value.code == "STORAGE_UNREACHABLE"
        assert database.read_now(lambda connection: connection.execute(text("SELECT 2")).scalar()) == 2
    database.close()


def test_connection_lost_at_the_commit_leaves_all_or_nothing(postgres_url: str, postgres_server: str) -> None:
    database = PostgresDatabase(postgres_url)
    migrate(database, map_salt=SALT)

    def write(connection: Connection) -> None:
        log_store.move_follower(connection, "one", 5)
        _ended(database, postgres_server)

    with pytest.raises(UnavailableError):
        database.write_now(write)
    assert database.read_now(partial(log_store.follower_position, name="one")) in {0, 5}
    database.close()


def test_server_that_is_not_there_is_told_without_the_password() -> None:
    database = PostgresDatabase("postgresql://user:secret-word@127.0.0.1:1/log")
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(database.read(log_store.require_state))
    assert caught.value.code == "STORAGE_UNREACHABLE"
    assert "secret-word" not in f"{caught.value} {database!r} {database.name}"
    database.close()


@pytest.mark.parametrize("url", ["", "mysql://a/b", "postgresql://host", "nonsense:secret-word@"])
def test_what_is_no_address_of_postgresql_is_refused(url: str) -> None:
    with pytest.raises(MalformedError) as caught:
        PostgresDatabase(url)
    assert caught.value.code == "SETTING_INVALID"
    assert "secret-word" not in str(caught.value)
