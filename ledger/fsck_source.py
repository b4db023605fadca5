"""Where fsck reads rows: SQLite through its own interface, PostgreSQL through psycopg; both read only, in one snapshot.

Nothing of the code that writes the log is used: another way to the same bytes.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row

from medtrail.errors import NotFoundError, UnavailableError

Row = Mapping[str, Any]
ROWS_A_FETCH = 1000
SQLITE = "sqlite:////"


class Source(Protocol):
    """Rows of one snapshot. All statements are constants of the checks; values go in as ``?``."""

    def rows(self, statement: str, *values: object) -> Iterator[Row]:
        """Yield the rows of a query, a bounded number in memory."""

    def damage(self) -> str:
        """Return what the database finds wrong with its own pages, or an empty text."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a query raises when the database cannot be read."""


class SqliteSource:
    """An SQLite file, opened for reading only, so that nothing here mends what it should report."""

    errors: tuple[type[Exception], ...] = (sqlite3.DatabaseError,)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, *values: object) -> Iterator[Row]:
        """Yield the rows of a query."""
        with closing(self._connection.execute(statement, values)) as cursor:
            yield from cursor

    def damage(self) -> str:
        """Return what SQLite finds wrong with its pages and indices."""
        found = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check(10)")]
        return "" if found == ["ok"] else "; ".join(found)


class PostgresSource:
    """A PostgreSQL database, in a read-only transaction at REPEATABLE READ, with cursors on the server."""

    errors: tuple[type[Exception], ...] = (psycopg.Error,)

    def __init__(self, connection: "psycopg.Connection[dict[str, Any]]") -> None:
        self._connection = connection
        self._number = 0

    def rows(self, statement: str, *values: object) -> Iterator[Row]:
        """Yield the rows of a query."""
        self._number += 1
        with self._connection.cursor(name=f"fsck_{self._number}") as cursor:
            cursor.itersize = ROWS_A_FETCH
            cursor.execute(statement.replace("?", "%s"), values)
            yield from cursor

    def damage(self) -> str:
        """Return nothing: the server checks its pages by itself, as far as it was set to."""
        return ""


@contextmanager
def open_source(path: Path, database_url: str) -> Iterator[Source]:
    """Open the log's database for one snapshot.

    Args:
        path: SQLite file, when no URL is given.
        database_url: ``postgresql://…``, ``sqlite:////path`` or empty.

    Raises:
        NotFoundError: FILE_MISSING.
        UnavailableError: STORAGE_UNREACHABLE.
    """
    with ExitStack() as stack:
        if database_url.startswith(SQLITE):
            path = Path("/") / database_url.removeprefix(SQLITE)
        elif database_url:
            try:
                connection = stack.enter_context(psycopg.connect(database_url, row_factory=dict_row))
            except psycopg.Error as error:
                raise UnavailableError(
                    f"the database cannot be reached: {error}", code="STORAGE_UNREACHABLE"
                ) from error
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield PostgresSource(connection)
            return
        if not path.is_file():
            raise NotFoundError(f"{path} is missing", code="FILE_MISSING", field="dir")
        file = stack.enter_context(closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)))
        file.row_factory = sqlite3.Row
        # One snapshot, whatever a running ledger adds meanwhile.
        file.execute("BEGIN")
        yield SqliteSource(file)
