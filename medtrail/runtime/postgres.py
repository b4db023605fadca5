"""A PostgreSQL database with the interface of :class:`medtrail.runtime.database.Database`.

Writes run at READ COMMITTED, one at a time in a process; between processes, whoever writes locks the row that it
decides on. Reads run at REPEATABLE READ, read only: each is one snapshot. The driver is psycopg 3.

Source: PostgreSQL documentation, transaction isolation; client connection defaults; appendix A, error codes.
"""

from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from medtrail.errors import ConflictError, MalformedError, MedtrailError, UnavailableError
from medtrail.runtime.database import Database

APPLICATION_NAME = "medtrail"
CONNECT_TIMEOUT_S = 5
LOCK_TIMEOUT_MS = 10_000
IDLE_IN_TRANSACTION_MS = 15_000
"""The server ends the transaction of a process that stopped in the middle of it: others wait for its locks."""

_CODES = {
    "53100": "STORAGE_FULL",
    "58030": "STORAGE_IO",
    "40001": "STORAGE_BUSY",
    "40P01": "STORAGE_BUSY",
    "55P03": "STORAGE_BUSY",
    "57014": "STORAGE_BUSY",
    "25006": "STORAGE_READONLY",
    "25P03": "STORAGE_UNREACHABLE",
    "XX001": "STORAGE_CORRUPT",
    "XX002": "STORAGE_CORRUPT",
}
_CLASSES = {
    "08": "STORAGE_UNREACHABLE",
    "28": "STORAGE_CANTOPEN",
    "3D": "STORAGE_CANTOPEN",
    "53": "STORAGE_FULL",
    "57": "STORAGE_UNREACHABLE",
    "58": "STORAGE_IO",
}


class PostgresDatabase(Database):
    """A PostgreSQL database; connections that were lost are made anew by the next call."""

    def __init__(self, url: str, *, readers: int = 4) -> None:
        """Name the database; nothing is opened before the first use.

        Args:
            url: ``postgresql://user:password@host:port/name``, or with ``?host=/socket/folder``.
            readers: Most reads at one time, 1 or more.

        Raises:
            MalformedError: SETTING_INVALID: it is no such URL.
        """
        parsed = parse_postgres_url(url)
        writer = _engine(parsed, size=1, read_only=False)
        reader = _engine(parsed, size=readers, read_only=True)
        name = parsed.render_as_string(hide_password=True)
        self._take(name, writer, reader, readers=readers)

    _errors = (exc.DBAPIError, psycopg.Error)

    def _scrub(self, driver: Any, tables: tuple[str, ...]) -> None:  # noqa: ANN401 - the driver's own class
        driver.autocommit = True
        try:
            driver.execute(f"VACUUM {', '.join(tables)}")
        finally:
            driver.autocommit = False

    def _translated(self, error: BaseException) -> MedtrailError:
        return _translated(error)


def parse_postgres_url(text: str) -> URL:
    """Return a PostgreSQL URL for SQLAlchemy with psycopg.

    Raises:
        MalformedError: SETTING_INVALID; the text, which may hold a password, is not repeated.
    """
    try:
        url = make_url(text)
    except exc.ArgumentError:
        url = None
    if url is None or url.get_backend_name() not in {"postgresql", "postgres"} or not url.database:
        message = "expected postgresql://user:password@host:port/database"
        raise MalformedError(message, code="SETTING_INVALID", field="MEDTRAIL_DATABASE_URL") from None
    return url.set(drivername="postgresql+psycopg")


def _engine(url: URL, *, size: int, read_only: bool) -> Engine:
    settings = {
        "lock_timeout": LOCK_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
        "timezone": "UTC",
    }
    engine = create_engine(
        url,
        poolclass=QueuePool,
        # An error that is logged tells the statement, not the contents.
        hide_parameters=True,
        pool_size=size,
        max_overflow=0,
        # A server that was started again is met by a new connection, not by an error for each that it closed.
        pool_pre_ping=True,
        connect_args={
            "application_name": APPLICATION_NAME,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        },
    )

    @event.listens_for(engine, "connect")
    def configure(driver: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own classes
        if read_only:
            driver.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            driver.read_only = True
            return
        driver.autocommit = True
        (durable,) = driver.execute("SHOW synchronous_commit").fetchone()
        if durable in {"off", "local"}:
            # What was told to be stored must survive the server's crash; a stricter setting stays as it is.
            driver.execute("SET synchronous_commit = on")
        driver.autocommit = False

    return engine


def _translated(origin: BaseException) -> MedtrailError:
    state = getattr(origin, "sqlstate", None)
    code = None if state is None else _CODES.get(state) or _CLASSES.get(state[:2])
    if code is None and state is None and isinstance(origin, psycopg.OperationalError):
        # The connection broke, or was never made: the server had no occasion to name a code.
        code = "STORAGE_UNREACHABLE"
    text = str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__
    if code is None and state is not None and state.startswith("23"):
        return ConflictError(f"a constraint of the database forbids it: {text}", code="STORAGE_CONSTRAINT")
    if code is None:
        # A wrong statement is our own mistake, not a state of the storage.
        return MedtrailError(f"the database refused a statement: {text}", code="STORAGE_STATEMENT")
    return UnavailableError(f"the database cannot answer: {text}", code=code)
