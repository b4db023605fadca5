"""Inbound shipments and the parts of their advice in the database."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, case, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.epcis.model import BizTransaction, EpcisEvent
from medtrail.gs1 import Gln
from services.custody.dossier import units_of
from services.custody.events_store import Stored
from services.custody.holdings_store import from_us, to_us
from services.custody.parties import gln_of_uri, place_of
from services.custody.tables import AdvicePart, Inbound
from services.custody.units import Unit, unit_of_path


class InboundState(StrEnum):
    """State of an inbound shipment."""

    INCOMPLETE = "incomplete"
    ADVISED = "advised"
    PARTIALLY_RECEIVED = "partially_received"
    RECEIVED = "received"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


WITHOUT_DATA = frozenset({InboundState.REFUSED, InboundState.WITHDRAWN})
"""States of a shipment whose despatch does not hold any more: nothing rests on what it told."""


@dataclass(frozen=True, slots=True)
class InboundShipment:
    """A shipment that a partner has advised.

    Attributes:
        number: In order of arrival here.
        sender: Party GLN of whose goods they are.
        source_location: From where they left; the sender's party GLN where it is not said.
        returned: They come back.
        unit_count: Smallest units inside.
        received_count: Of those, received so far.
        provisional: The ledger's word on the despatch is not here yet.
    """

    number: int
    despatch_id: str
    signer: Gln
    sender: Gln
    source_location: Gln
    despatch_time: datetime
    units: tuple[Unit, ...]
    documents: tuple[BizTransaction, ...]
    returned: bool
    unit_count: int
    received_count: int
    provisional: bool
    state: InboundState


_TABLE = Inbound.__table__  # type: ignore[attr-defined]
_WITHOUT_DATA = tuple(sorted(state.value for state in WITHOUT_DATA))


def add(
    connection: Connection,
    *,
    despatch: Stored,
    statement: EpcisEvent,
    sender: Gln,
    unit_count: int,
    received_count: int,
    provisional: bool,
) -> None:
    """Store a shipment."""
    location = next((gln_of_uri(item.id) for item in statement.source_list if item.type == "location"), None)
    connection.execute(
        insert(Inbound).values(
            despatch_id=despatch.event.header.event_id,
            signer=str(despatch.signer),
            sender=str(sender),
            source_location=str(location or place_of(statement) or sender),
            despatch_us=to_us(statement.event_time),
            units="\n".join(unit.path for unit in units_of(statement.epc_list)),
            documents=json.dumps([[item.id, item.type] for item in statement.biz_transaction_list]),
            returned=statement.disposition == "returned",
            unit_count=unit_count,
            received_count=received_count,
            provisional=provisional,
            state=_state(received_count, unit_count).value,
        )
    )


def _state(received_count: int, unit_count: int) -> InboundState:
    if not received_count:
        return InboundState.ADVISED
    return InboundState.RECEIVED if received_count >= unit_count else InboundState.PARTIALLY_RECEIVED


def _from_row(row: Any) -> InboundShipment:  # noqa: ANN401  # a row of inbound
    return InboundShipment(
        number=row["number"],
        despatch_id=row["despatch_id"],
        signer=Gln(row["signer"]),
        sender=Gln(row["sender"]),
        source_location=Gln(row["source_location"]),
        despatch_time=from_us(row["despatch_us"]),
        units=tuple(unit_of_path(path) for path in row["units"].splitlines()),
        documents=tuple(BizTransaction(ident, kind) for ident, kind in json.loads(row["documents"])),
        returned=bool(row["returned"]),
        unit_count=row["unit_count"],
        received_count=row["received_count"],
        provisional=bool(row["provisional"]),
        state=InboundState(row["state"]),
    )


def find(connection: Connection, despatch_id: str) -> InboundShipment | None:
    """Return the shipment of a despatch, or None."""
    row = connection.execute(select(_TABLE).where(col(Inbound.despatch_id) == despatch_id)).mappings().first()
    return None if row is None else _from_row(row)


def is_return(connection: Connection, despatch_id: str) -> bool:
    """Tell whether a despatch to us brings goods back."""
    query = select(col(Inbound.returned)).where(col(Inbound.despatch_id) == despatch_id)
    return bool(connection.execute(query).scalar())


def list_inbound(
    connection: Connection, *, before: int | None, limit: int, include_received: bool
) -> list[InboundShipment]:
    """Return shipments, newest first, those before a number."""
    query = select(_TABLE).order_by(col(Inbound.number).desc()).limit(limit)
    if before is not None:
        query = query.where(col(Inbound.number) < before)
    if not include_received:
        query = query.where(col(Inbound.state) != InboundState.RECEIVED.value)
    return [_from_row(row) for row in connection.execute(query).mappings()]


def list_incomplete(connection: Connection) -> list[tuple[Gln, str]]:
    """Return sender and despatch id of the advices that are not complete or cannot be judged yet."""
    rows = connection.execute(select(col(AdvicePart.sender), col(AdvicePart.despatch_id)).distinct())
    return [(Gln(sender), despatch_id) for sender, despatch_id in rows]


def count_received(connection: Connection, despatch_id: str, count: int) -> None:
    """Add to the units received of a despatch, and set its state."""
    total = col(Inbound.received_count) + count
    final = col(Inbound.state).in_(_WITHOUT_DATA)
    connection.execute(
        update(Inbound)
        .where(col(Inbound.despatch_id) == despatch_id)
        .values(
            received_count=total,
            state=case(
                (final, col(Inbound.state)),
                (total <= 0, InboundState.ADVISED.value),
                (total >= col(Inbound.unit_count), InboundState.RECEIVED.value),
                else_=InboundState.PARTIALLY_RECEIVED.value,
            ),
        )
    )


def set_confirmed(connection: Connection, despatch_id: str) -> None:
    """Note that the ledger has confirmed a despatch."""
    connection.execute(update(Inbound).where(col(Inbound.despatch_id) == despatch_id).values(provisional=False))


def set_refused(connection: Connection, despatch_id: str) -> None:
    """Note that the ledger has refused a despatch."""
    connection.execute(
        update(Inbound).where(col(Inbound.despatch_id) == despatch_id).values(state=InboundState.REFUSED.value)
    )


def set_withdrawn(connection: Connection, despatch_id: str) -> None:
    """Note that the sender has declared a despatch an error."""
    connection.execute(
        update(Inbound).where(col(Inbound.despatch_id) == despatch_id).values(state=InboundState.WITHDRAWN.value)
    )


def provisional_despatches(connection: Connection) -> list[str]:
    """Return the event ids of the despatches on which the ledger's word is awaited, oldest first."""
    return list(
        connection.execute(
            select(col(Inbound.despatch_id))
            .where(
                col(Inbound.provisional).is_(True),
                col(Inbound.state).not_in(_WITHOUT_DATA),
            )
            .order_by(col(Inbound.number))
        ).scalars()
    )


def keep_part(
    connection: Connection, *, sender: Gln, despatch_id: str, part: int, part_count: int, advice: bytes
) -> None:
    """Keep a part until all are there; the same part again changes nothing."""
    connection.execute(
        insert(AdvicePart)
        .values(sender=str(sender), despatch_id=despatch_id, part=part, part_count=part_count, advice=advice)
        .on_conflict_do_nothing()
    )


def has_all_parts(connection: Connection, *, sender: Gln, despatch_id: str) -> bool:
    """Tell whether all parts of an advice are here."""
    counted = connection.execute(
        select(func.count(), func.max(col(AdvicePart.part_count)))
        .select_from(AdvicePart)
        .where(col(AdvicePart.sender) == str(sender), col(AdvicePart.despatch_id) == despatch_id)
    ).one()
    return bool(counted[0]) and counted[0] >= counted[1]


def parts(connection: Connection, *, sender: Gln, despatch_id: str) -> Iterator[bytes]:
    """Yield the parts of an advice in order, one at a time: together they may fill hundreds of megabytes."""
    of_advice = (col(AdvicePart.sender) == str(sender), col(AdvicePart.despatch_id) == despatch_id)
    numbers = connection.execute(select(col(AdvicePart.part)).where(*of_advice).order_by(col(AdvicePart.part)))
    for number in list(numbers.scalars()):
        query = select(col(AdvicePart.advice)).where(*of_advice, col(AdvicePart.part) == number)
        yield bytes(connection.execute(query).scalar_one())


def drop_parts(connection: Connection, *, sender: Gln, despatch_id: str) -> None:
    """Forget the parts of an advice that was taken in, or that never will be."""
    connection.execute(
        delete(AdvicePart).where(col(AdvicePart.sender) == str(sender), col(AdvicePart.despatch_id) == despatch_id)
    )


def change_parts(connection: Connection, change: Callable[[bytes], bytes | None]) -> None:
    """Put what a function returns, if anything, in the place of each waiting part."""
    names = select(col(AdvicePart.sender), col(AdvicePart.despatch_id), col(AdvicePart.part))
    # One after the other: all that partners have under way need not fit into memory.
    for sender, despatch_id, part in connection.execute(names).all():
        here = (
            col(AdvicePart.sender) == sender,
            col(AdvicePart.despatch_id) == despatch_id,
            col(AdvicePart.part) == part,
        )
        changed = change(connection.execute(select(col(AdvicePart.advice)).where(*here)).scalar_one())
        if changed is not None:
            connection.execute(update(AdvicePart).where(*here).values(advice=changed))


def count_parts(connection: Connection, *, sender: Gln) -> int:
    """Return how many parts of a sender wait."""
    return connection.execute(
        select(func.count()).select_from(AdvicePart).where(col(AdvicePart.sender) == str(sender))
    ).scalar_one()
