"""The books of earlier versions: what they lack is added at the start, and what they hold stays."""

from sqlalchemy import Connection

from medtrail.runtime import tables
from services.custody.tables import CUSTODY_METADATA


def upgrade(connection: Connection) -> None:
    """Make the tables and indices that are absent, and add columns that an earlier version did not have.

    A column that is added has a default, by which what earlier versions wrote reads as it was meant.
    """
    tables.prepare(connection, CUSTODY_METADATA)
