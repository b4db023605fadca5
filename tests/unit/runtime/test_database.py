import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from medtrail.errors import ConflictError, MalformedError, MedtrailError, UnavailableError
from medtrail.runtime.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "test.db")
    database.write_now(lambda c: c.execute(text("CREATE TABLE number (value INTEGER PRIMARY KEY)")))
    yield database
    database.close()


def add(connection: Connection, value: int) -> None:
    connection.execute(text("INSERT INTO number VALUES (:value)"), {"value": value})


def values(connection: Connection) -> list[int]:
    return list(connection.execute(text("SELECT value FROM number ORDER BY value")).scalars())


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 10_000)]
)
def test_every_connection_is_durable_and_strict(database: Database, pragma: str, value: object) -> None:
    def read(connection: Connection) -> object:
        return connection.execute(text(f"PRAGMA {pragma}")).scalar_one()

    assert database.read_now(read) == value
    assert database.write_now(read) == value


def test_write_is_there_for_readers_once_it_returned(database: Database) -> None:
    async def main() -> None:
        await database.write(lambda c: add(c, 1))
        assert await database.read(values) == [1]

    asyncio.run(main())


def test_error_of_ours_rolls_back_and_comes_out_as_it_is(database: Database) -> None:
    def write(connection: Connection) -> None:
        add(connection, 1)
        raise MalformedError("no", field="x")

    with pytest.raises(MalformedError):
        database.write_now(write)
    assert database.read_now(values) == []


def test_unexpected_error_rolls_back(database: Database) -> None:
    def write(connection: Connection) -> None:
        add(connection, 1)
        raise KeyError

    with pytest.raises(KeyError):
        database.write_now(write)
    assert database.read_now(values) == []


def test_savepoint_takes_back_its_own_part_only(database: Database) -> None:
    def write(connection: Connection) -> None:
        add(connection, 1)
        savepoint = connection.begin_nested()
        add(connection, 2)
        savepoint.rollback()
        add(connection, 3)

    database.write_now(write)
    assert database.read_now(values) == [1, 3]


def test_constraint_is_a_conflict(database: Database) -> None:
    database.write_now(lambda c: add(c, 1))
    with pytest.raises(ConflictError) as caught:
        database.write_now(lambda c: add(c, 1))
    assert caught.value.code == "STORAGE_CONSTRAINT"


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(UnavailableError) as caught:
        database.read_now(lambda c: add(c, 1))
    assert caught.value.code == "STORAGE_READONLY"


def test_full_disk_is_unavailable_and_leaves_nothing_half_written(database: Database) -> None:
    def limit(connection: Connection) -> None:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    def fill(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE large (content BLOB)"))
        connection.execute(text("INSERT INTO large VALUES (zeroblob(1000000))"))

    database.write_now(limit)
    with pytest.raises(UnavailableError) as caught:
        database.write_now(fill)
    assert caught.value.code == "STORAGE_FULL"
    assert database.read_now(values) == []


def test_damaged_file_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.write_bytes(b"this is no database, and it is long enough to be looked at" * 100)
    database = Database(path)
    with pytest.raises(UnavailableError) as caught:
        database.read_now(values)
    assert caught.value.code == "STORAGE_CORRUPT"
    database.close()


def test_missing_folder_is_unavailable(tmp_path: Path) -> None:
    database = Database(tmp_path / "absent" / "test.db")
    with pytest.raises(UnavailableError) as caught:
        database.create_tables()
    assert caught.value.code == "STORAGE_CANTOPEN"
    database.close()


def test_wrong_statement_is_a_mistake_of_ours(database: Database) -> None:
    with pytest.raises(MedtrailError) as caught:
        database.write_now(lambda c: c.execute(text("SELEKT 1")))
    assert caught.value.code == "STORAGE_STATEMENT"


def test_reader_sees_one_moment(database: Database) -> None:
    def read(connection: Connection) -> tuple[list[int], list[int]]:
        before = values(connection)
        database.write_now(lambda c: add(c, 1))
        return before, values(connection)

    assert database.read_now(read) == ([], [])
    assert database.read_now(values) == [1]


def test_closed_twice_and_whole_afterwards(tmp_path: Path) -> None:
    database = Database(tmp_path / "test.db")
    database.write_now(lambda c: c.execute(text("CREATE TABLE t (x)")))
    database.close()
    database.close()
    assert "test.db" in repr(database)
    connection = sqlite3.connect(tmp_path / "test.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
