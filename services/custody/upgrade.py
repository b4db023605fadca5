"""The books of earlier versions: what they lack is added at the start, and what they hold stays."""

from sqlalchemy import Connection, update
from sqlmodel import col

from medtrail.runtime import tables
from services.custody import station_feed
from services.custody.holding import HoldingState
from services.custody.tables import CUSTODY_METADATA, HoldingRow


def upgrade(connection: Connection) -> None:
    """Make the tables and indices that are absent, and add columns that an earlier version did not have.

    A column that is added has a default, by which what earlier versions wrote reads as it was meant.
    """
    tables.prepare(connection, CUSTODY_METADATA)
    opened = col(HoldingRow.state) == HoldingState.PARTIALLY_DISPENSED.value
    connection.execute(update(HoldingRow).where(opened, col(HoldingRow.opened).is_(False)).values(opened=True))
    if station_feed.feed_id(connection):
        station_feed.begin_feed(connection)
