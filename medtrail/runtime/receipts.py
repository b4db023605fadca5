"""What receipts leave open: that their events really are in the log, and that the witnesses saw it.

All functions here run inside a transaction of the service's own database. A receipt ends an event's way; its row in
``open_receipt`` lives until the inclusion is proven in a checkpoint of the one history that this service follows, and
until a checkpoint with the quorum covers it: any later one does, for it covers all that came before.

Source: LEDGER, sections 1 and 2; docs/adr/0009-receipts.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from medtrail.runtime import outbox
from medtrail.runtime.tables import FalseReceipts, OpenReceipts, SignedEvents, microseconds


@dataclass(frozen=True, slots=True)
class OpenReceipt:
    """An event of ours and where a receipt puts it.

    Attributes:
        sha256: Of the SignedEvent that was sent.
        leaf_index: Of its entry, or of the first entry with the same content.
        event_id: As in its header.
        tree_size: Of the receipt's checkpoint.
    """

    sha256: bytes
    leaf_index: int
    event_id: str
    tree_size: int


def open_receipts(
    connection: Connection, hashes: Iterable[bytes], *, tree_size: int, witnessed: bool, now: datetime
) -> None:
    """Note events that became logged by a receipt.

    Args:
        connection: In the transaction that notes them as logged.
        hashes: SHA-256 of each.
        tree_size: Of the receipt's checkpoint.
        witnessed: Whether that has the quorum, or none is asked for.
        now: Aware UTC.
    """
    for sha256 in hashes:
        leaf_index = connection.execute(
            select(SignedEvents.c.leaf_index).where(SignedEvents.c.sha256 == sha256)
        ).scalar_one()
        connection.execute(delete(OpenReceipts).where(OpenReceipts.c.sha256 == sha256))
        connection.execute(
            insert(OpenReceipts).values(
                sha256=sha256,
                leaf_index=leaf_index,
                tree_size=tree_size,
                proven=False,
                witnessed=witnessed,
                receive_time_us=microseconds(now),
            )
        )


def unproven(connection: Connection, *, tree_size: int, limit: int) -> tuple[OpenReceipt, ...]:
    """Return receipts that a tree of this size can prove, in log order, at most ``limit``."""
    rows = connection.execute(
        select(OpenReceipts.c.sha256, OpenReceipts.c.leaf_index, SignedEvents.c.event_id, OpenReceipts.c.tree_size)
        .join(SignedEvents, SignedEvents.c.sha256 == OpenReceipts.c.sha256)
        .where(OpenReceipts.c.proven.is_(False), OpenReceipts.c.leaf_index < tree_size)
        .order_by(OpenReceipts.c.leaf_index)
        .limit(limit)
    )
    return tuple(OpenReceipt(*row) for row in rows)


def mark_proven(connection: Connection, hashes: Iterable[bytes]) -> None:
    """Note that events are proven to be in the log; what was false of them before is mended."""
    for sha256 in hashes:
        connection.execute(update(OpenReceipts).where(OpenReceipts.c.sha256 == sha256).values(proven=True))
        connection.execute(update(FalseReceipts).where(FalseReceipts.c.sha256 == sha256).values(mended=True))


def mark_witnessed(connection: Connection, *, tree_size: int) -> None:
    """Note that a checkpoint of this size has the quorum, and end what is proven and witnessed."""
    connection.execute(update(OpenReceipts).where(OpenReceipts.c.leaf_index < tree_size).values(witnessed=True))
    connection.execute(delete(OpenReceipts).where(OpenReceipts.c.proven.is_(True), OpenReceipts.c.witnessed.is_(True)))


def mark_false(connection: Connection, receipt: OpenReceipt, *, message: str, now: datetime) -> None:
    """Note that the log does not hold an event where its receipt puts it, keep that, and send the event again."""
    connection.execute(delete(OpenReceipts).where(OpenReceipts.c.sha256 == receipt.sha256))
    connection.execute(
        insert(FalseReceipts).values(
            sha256=receipt.sha256,
            leaf_index=receipt.leaf_index,
            tree_size=receipt.tree_size,
            message=message,
            find_time_us=microseconds(now),
            mended=False,
        )
    )
    outbox.send_again(connection, receipt.sha256)


def is_witnessed(connection: Connection, sha256: bytes) -> bool:
    """Tell whether a logged event of ours is covered by a checkpoint with the quorum."""
    query = select(OpenReceipts.c.witnessed).where(OpenReceipts.c.sha256 == sha256)
    found = connection.execute(query).scalar_one_or_none()
    return found is None or bool(found)
