"""Which database the ledger's settings name."""

from pathlib import Path

from medtrail.errors import NotFoundError
from medtrail.runtime.database import Database
from medtrail.runtime.postgres import PostgresDatabase

DATABASE_NAME = "ledger.db"
SQLITE = "sqlite:////"


def open_storage(data_dir: Path, database_url: str = "") -> Database:
    """Return the log's database, not yet connected.

    Args:
        data_dir: The instance's data folder; holds the SQLite file when no URL is given.
        database_url: ``postgresql://…``; ``sqlite:////path`` for instances on one machine that share a file; empty:
            ``ledger.db`` in the data folder.

    Raises:
        MalformedError: SETTING_INVALID: the URL is neither.
    """
    path = sqlite_path(data_dir, database_url)
    return PostgresDatabase(database_url) if path is None else Database(path)


def sqlite_path(data_dir: Path, database_url: str = "") -> Path | None:
    """Return the file of the database that :func:`open_storage` opens, or None where that is none."""
    if not database_url:
        return data_dir / DATABASE_NAME
    return Path("/") / database_url.removeprefix(SQLITE) if database_url.startswith(SQLITE) else None


def open_standing(data_dir: Path, database_url: str = "") -> Database:
    """Return the log's database as :func:`open_storage` does, if its file stands: a command makes none.

    Raises:
        NotFoundError: FILE_MISSING.
    """
    path = sqlite_path(data_dir, database_url)
    if path is not None and not path.is_file():
        raise NotFoundError(f"{path} is missing", code="FILE_MISSING", field="dir")
    return open_storage(data_dir, database_url)
