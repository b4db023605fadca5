"""A database of one process: one writer thread, several readers, and every commit on the disk before it returns.

Here is the SQLite file; :mod:`medtrail.runtime.postgres` has the same for PostgreSQL. Functions that are handed in run
in threads of their own, with a SQLAlchemy connection inside a transaction; they do no I/O but SQL and return values,
never rows or cursors.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, exc
from sqlalchemy.pool import QueuePool

from medtrail.errors import ConflictError, MedtrailError, UnavailableError

T = TypeVar("T")

PAGE_BYTES = 8192
"""Half as many pages of a batch to write, twice: into the write-ahead log and from there."""
WRITER_CACHE_BYTES = 64 * 1024 * 1024
"""At most: keys are random, so that each batch touches pages all over their indices."""
READER_CACHE_BYTES = 4 * 1024 * 1024
WAL_PAGES = 4096
"""Pages in the write-ahead log, 32 MiB, from which on they are moved into the database. At SQLite's default of 1,000
nearly every batch of the ledger had the pages of its random keys written twice."""
BUSY_TIMEOUT_MS = 10_000
SCRUB_TIMEOUT_MS = 500

_CODE_OF_SQLITE = {
    sqlite3.SQLITE_FULL: "STORAGE_FULL",
    sqlite3.SQLITE_IOERR: "STORAGE_IO",
    sqlite3.SQLITE_BUSY: "STORAGE_BUSY",
    sqlite3.SQLITE_LOCKED: "STORAGE_BUSY",
    sqlite3.SQLITE_READONLY: "STORAGE_READONLY",
    sqlite3.SQLITE_CANTOPEN: "STORAGE_CANTOPEN",
    sqlite3.SQLITE_CORRUPT: "STORAGE_CORRUPT",
    sqlite3.SQLITE_NOTADB: "STORAGE_CORRUPT",
}


class Database:
    """A SQLite database (WAL, synchronous=FULL, foreign keys on).

    A write that returned is durable. A write that raised :class:`UnavailableError` may or may not have been committed
    when the error came from the commit itself: whoever must know reads again.

    Attributes:
        name: For people and logs; without secrets.
        dialect: ``sqlite`` or ``postgresql``.
    """

    def __init__(self, path: Path, *, readers: int = 4) -> None:
        """Name the file; nothing is opened before the first use.

        Args:
            path: The file; its folder exists.
            readers: Most reads at one time, 1 or more.
        """
        writer = _engine(path, begin="BEGIN IMMEDIATE", size=1)
        self._take(str(path), writer, _engine(path, begin="BEGIN", size=readers), readers=readers)

    def _take(self, name: str, writer: Engine, reader: Engine, *, readers: int) -> None:
        self.name = name
        self.dialect = writer.dialect.name
        self._writer_engine = writer
        self._reader_engine = reader
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sql-writer")
        self._readers = ThreadPoolExecutor(max_workers=readers, thread_name_prefix="sql-reader")

    def create_tables(self, *metadatas: MetaData) -> None:
        """Make the tables that are absent. Blocks: for the start of a process.

        Raises:
            UnavailableError: The file cannot be opened or written.
        """

        def create(connection: Connection) -> None:
            for metadata in metadatas:
                metadata.create_all(connection)

        self.write_now(create)

    async def write(self, function: Callable[[Connection], T]) -> T:
        """Run a function in one write transaction (BEGIN IMMEDIATE) and return what it returned, once committed.

        An exception rolls everything back. If the awaiting task is cancelled, the transaction goes on to its end.

        Raises:
            UnavailableError: STORAGE_FULL, STORAGE_IO, STORAGE_BUSY ….
            ConflictError: STORAGE_CONSTRAINT: a constraint that the function did not handle.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._run, self._writer_engine, function)

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Run a function in one read transaction, a snapshot, and return what it returned.

        Raises:
            UnavailableError: As for writes; STORAGE_READONLY when the function tries to write.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run, self._reader_engine, function)

    async def scrub(self, *tables: str) -> None:
        """See to it that rows of some tables, deleted before, are gone from the files as well.

        SQLite overwrites what it deletes (secure_delete); older copies stand in the write-ahead log until that is
        emptied into the database, which is done here. PostgreSQL frees their space by VACUUM.

        Raises:
            UnavailableError: STORAGE_BUSY: readers of older states are at work; asking again may succeed.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer, self._scrub_now, tables)

    def _scrub_now(self, tables: tuple[str, ...]) -> None:
        try:
            # Neither statement can run inside a transaction, which the engine begins by itself.
            connection = self._writer_engine.raw_connection()
            try:
                self._scrub(connection.driver_connection, tables)
            finally:
                connection.close()
        except self._errors as error:
            origin = error.orig if isinstance(error, exc.DBAPIError) else error
            raise self._translated(origin or error) from error

    def _scrub(self, driver: Any, _tables: tuple[str, ...]) -> None:  # noqa: ANN401 - the driver's own class
        # Other writes wait meanwhile: rather ask again later than wait for somebody's long read.
        driver.execute(f"PRAGMA busy_timeout={SCRUB_TIMEOUT_MS}")
        try:
            (busy, _pages, _moved) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        if busy:
            raise UnavailableError("the write-ahead log is being read and cannot be emptied now", code="STORAGE_BUSY")

    def write_now(self, function: Callable[[Connection], T]) -> T:
        """Run a write as :meth:`write` does, blocking: for the start of a process and for tools."""
        return self._writer.submit(self._run, self._writer_engine, function).result()

    def read_now(self, function: Callable[[Connection], T]) -> T:
        """Run a read as :meth:`read` does, blocking: for the start of a process and for tools."""
        return self._readers.submit(self._run, self._reader_engine, function).result()

    def close(self) -> None:
        """Finish what is running and close the file. Safe to call twice."""
        self._readers.shutdown()
        self._writer.shutdown()
        self._reader_engine.dispose()
        self._writer_engine.dispose()

    def _run(self, engine: Engine, function: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return function(connection)
        except MedtrailError:
            raise
        except exc.IntegrityError as error:
            message = f"a constraint of the database forbids it: {error.orig}"
            raise ConflictError(message, code="STORAGE_CONSTRAINT") from error
        except self._errors as error:
            origin = error.orig if isinstance(error, exc.DBAPIError) else error
            raise self._translated(origin or error) from error

    _errors: tuple[type[Exception], ...] = (exc.DBAPIError, sqlite3.Error)

    def _translated(self, error: BaseException) -> MedtrailError:
        return _translated(error)

    def __repr__(self) -> str:
        """Name the database."""
        return f"{type(self).__name__}({self.name!r})"


def _translated(origin: BaseException) -> MedtrailError:
    number = getattr(origin, "sqlite_errorcode", None)
    # The low byte is the kind; the rest says where it struck.
    code = None if number is None else _CODE_OF_SQLITE.get(number & 0xFF)
    if code is None:
        # A wrong statement is our own mistake, not a state of the storage.
        return MedtrailError(f"the database refused a statement: {origin}", code="STORAGE_STATEMENT")
    return UnavailableError(f"the database cannot answer: {origin}", code=code)


def _engine(path: Path, *, begin: str, size: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        # What was to be written is nobody's to read in an error.
        hide_parameters=True,
    )
    read_only = begin == "BEGIN"
    # Of a value that is no plain number or text the driver asks its type and its protocols, at every value anew, how it
    # is to be written, unless it knows: these two are written as they are.
    sqlite3.register_adapter(bytes, bytes.__bytes__)
    sqlite3.register_adapter(bool, int)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own classes
        # The driver must not begin transactions by itself: it would begin deferred ones.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in (
            # Of a new file; one that is there keeps its own.
            f"page_size={PAGE_BYTES}",
            f"cache_size=-{(READER_CACHE_BYTES if read_only else WRITER_CACHE_BYTES) // 1024}",
            "journal_mode=WAL",
            f"wal_autocheckpoint={WAL_PAGES}",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            # What is erased must be gone from the file, not only unreachable in it.
            "secure_delete=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
