"""Receiving later: what is here and waited for data is received when its data have come, without another scan.

Called in the transaction that takes the data in, and for all that waits when a process starts. Doing it twice changes
nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MedtrailError
from medtrail.runtime.logging import get_logger
from services.custody import commands, events, events_store, holdings_store, inbound_store, rules
from services.custody.conditions import with_inside
from services.custody.desk import Accepted, Desk, Effect, Session
from services.custody.events import Occasion, Route
from services.custody.exceptions import store as case_store
from services.custody.exceptions.codes import ExceptionCode
from services.custody.holding import Books, Holding, HoldingState
from services.custody.inbound_store import InboundShipment
from services.custody.origin import Origin
from services.custody.receiving import arrivals_store, cases, flaws, lines_store, receipts
from services.custody.receiving.arrivals_store import Waiting
from services.custody.receiving.codes import CASE_OF_RESULT, Posting, ResultCode
from services.custody.receiving.reconcile import Label, mismatches
from services.custody.shipment import contents_of
from services.custody.units import Named, Unit, unit_of_path

log = get_logger(__name__)

FIELD = "despatch"
AT_ONCE = 1000
UTC_OFFSET = "+00:00"
_NOT_RECEIVED = frozenset({HoldingState.INBOUND, HoldingState.EXCEPTION})


def settle_all(connection: Connection, desk: Desk) -> list[Accepted]:
    """Receive all that is here and whose data have come: at the start of a process."""
    made: list[Accepted] = []
    after = ""
    while paths := arrivals_store.paths_after(connection, after, limit=AT_ONCE):
        made += settle(connection, desk, paths)
        after = paths[-1]
    return made


def settle(connection: Connection, desk: Desk, paths: Sequence[str]) -> list[Accepted]:
    """Receive those of some units that are here, waited for data, and whose data fit now; return the events made.

    Args:
        connection: In a write transaction.
        desk: Who signs; before its enrolment is known nothing is done.
        paths: Of units of which there is news; those that do not wait are left out.
    """
    waiting = arrivals_store.of_paths(connection, paths)
    if not waiting or desk.organisation is None:
        return []
    session = Session(connection, desk, [unit_of_path(path) for path in waiting])
    shipments: dict[str, InboundShipment | None] = {}
    ready: dict[tuple[str, str], list[Named]] = {}
    odd: dict[ResultCode, list[Holding]] = {}
    for path, item in waiting.items():
        holding = session.books.get(unit_of_path(path))
        if holding is None or holding.state is not HoldingState.EXCEPTION:
            # Sent back, destroyed, or received by other means meanwhile.
            arrivals_store.drop(connection, [path])
            continue
        if not has_data(connection, holding, shipments):
            continue
        found = mismatches(Label(holding.unit, item.lot, item.expiry), lot=holding.lot, expiry=holding.expiry)
        if found:
            odd.setdefault(found[0], []).append(holding)
            continue
        location = str(item.location or desk.default_location)
        ready.setdefault((holding.despatch_id, location), []).append(Named(holding.unit, FIELD))
    for result, holdings in odd.items():
        _mark_mismatches(session, holdings, result)
    made: list[Accepted] = []
    for (despatch_id, _), named in ready.items():
        shipment = shipments[despatch_id]
        if shipment is not None:
            made += _try(session, named, shipment, waiting)
    return made


def _try(
    session: Session, named: Sequence[Named], shipment: InboundShipment, waiting: Mapping[str, Waiting]
) -> list[Accepted]:
    """Receive units; where something forbids it they go on waiting, and the data that came are kept all the same."""
    try:
        with session.connection.begin_nested():
            return _receive(session, named, shipment, waiting)
    except MedtrailError as error:
        log.warning("not received later", despatch_id=shipment.despatch_id, code=error.code, why=str(error))
        session.received.clear()
        session.reload()
        return []


def has_data(
    connection: Connection, holding: Holding, shipments: dict[str, InboundShipment | None] | None = None
) -> bool:
    """Tell whether a despatch that holds tells of a unit; ``shipments``: those that were looked up, to keep."""
    despatch_id = holding.despatch_id
    if not despatch_id:
        return False
    shipments = {} if shipments is None else shipments
    if despatch_id not in shipments:
        shipments[despatch_id] = inbound_store.find(connection, despatch_id)
    shipment = shipments[despatch_id]
    return shipment is not None and shipment.state not in inbound_store.WITHOUT_DATA


def _mark_mismatches(session: Session, holdings: Sequence[Holding], result: ResultCode) -> None:
    """Say that data have come which do not fit what is on units; the case is another one from here on."""
    connection = session.connection
    code = CASE_OF_RESULT[result]
    odd = {item.unit.path: item for item in holdings if item.exception != code.value}
    holdings_store.mark(connection, list(odd), exception=code.value)
    latest: dict[str, lines_store.Line] = {}
    for line in lines_store.of_units(connection, list(odd)):
        if line.posting is Posting.PUT_ASIDE:
            latest.setdefault(line.path, line)
    groups: dict[tuple[int, str], list[lines_store.Line]] = {}
    for path, line in latest.items():
        holding = odd[path]
        lines_store.change_paths(
            connection,
            line.delivery,
            [path],
            result=result,
            expected=True,
            despatch_id=holding.despatch_id,
            lot=holding.lot,
            expiry="" if holding.expiry is None else holding.expiry.isoformat(),
        )
        changed = replace(line, despatch_id=holding.despatch_id)
        groups.setdefault((line.delivery, holding.despatch_id), []).append(changed)
    for lines in groups.values():
        cases.change_case(session, lines, code)


def _receive(
    session: Session, named: Sequence[Named], shipment: InboundShipment, waiting: Mapping[str, Waiting]
) -> list[Accepted]:
    desk = session.desk
    location = waiting[named[0].unit.path].location or desk.default_location
    occasion = Occasion(session.now, UTC_OFFSET, location)
    chosen = {item.unit for item in named}
    alone = [item for item in named if not any(box.unit in chosen for box in session.books.containers(item.unit))]
    outermost = {item.unit for item in alone}
    # What came inside of another and was never scanned is not named now either: it is still only inferred.
    seen = [
        item
        for item in named
        if item.unit in outermost or waiting[item.unit.path].lot or waiting[item.unit.path].expiry
    ]
    made = commands.take_out(session, alone, occasion)
    route = Route(shipment.sender, shipment.source_location, desk.gln, occasion.location)
    disposition = "returned" if shipment.returned else "in_progress"
    disputed = _disputed(session, named)
    for group in events.split([item.unit for item in seen]):
        statement = events.receiving(group, occasion, route, disposition=disposition, documents=shipment.documents)
        effect = _arriving(session, group, returned=shipment.returned, disputed=disputed)
        made.append(session.record(statement, effect=effect))
    commands.count_received(session)
    session.received.clear()
    # One advice of each event: its hash names it, so that a repetition is a resend.
    name = f"later-{made[-1].signed_event_sha256.hex()[:32]}"
    # Held first: the sender is not told that flawed goods were accepted.
    made += flaws.hold_later(session, named, occasion, despatch_id=shipment.despatch_id)
    _note_received(session, [item.unit for item in named], shipment, name=name)
    return made


def _disputed(session: Session, named: Sequence[Named]) -> set[Unit]:
    """Return what of some units, and of all that is inside, a person has to look at, for a station contradicted it."""
    parts = [part.unit for item in named for part in with_inside(session.books, item.unit)]
    around = {unit: {unit, *(box.unit for box in session.books.containers(unit))} for unit in parts}
    paths = {unit.path for units in around.values() for unit in units}
    found = case_store.paths_with_case(session.connection, paths, ExceptionCode.OFFLINE_CONFLICT)
    return {unit for unit, units in around.items() if any(item.path in found for item in units)}


def _arriving(session: Session, units: Sequence[Unit], *, returned: bool, disputed: Collection[Unit]) -> Effect:
    def effect(books: Books, origin: Origin) -> None:
        session.received.append(receive_waiting(books, units, origin, returned=returned))
        for part in {part.unit: part for unit in units for part in with_inside(books, unit)}.values():
            if part.unit in disputed and part.here:
                books.change(part, state=HoldingState.EXCEPTION, exception=ExceptionCode.OFFLINE_CONFLICT.value)

    return effect


def receive_waiting(books: Books, units: Iterable[Unit], origin: Origin, *, returned: bool) -> rules.Received:
    """Take delivery of units that were put aside, by the rule for those that are on their way."""
    named = [Named(unit, FIELD) for unit in units]
    for item in named:
        for part in with_inside(books, item.unit):
            if part.state is HoldingState.EXCEPTION:
                books.change(part, state=HoldingState.INBOUND, exception="")
    return rules.receive(books, named, origin, returned=returned)


def _note_received(session: Session, units: Sequence[Unit], shipment: InboundShipment, *, name: str) -> None:
    connection = session.connection
    parts = [part for unit in units for part in with_inside(session.books, unit)]
    paths = [part.unit.path for part in parts]
    arrivals_store.drop(connection, paths)
    settled = [line for line in lines_store.of_units(connection, paths) if line.posting in cases.UNSETTLED]
    for line in settled:
        where = lines_store.with_paths(line.delivery, [line.path])
        lines_store.change(
            connection,
            line.delivery,
            where,
            result=ResultCode.MATCH,
            expected=True,
            despatch_id=shipment.despatch_id,
            posting=Posting.RECEIVED_LATER,
        )
    cases.close_settled(session, [part.unit for part in parts])
    receipts.answer_later(session, shipment, parts, name=name)


def refresh(connection: Connection, paths: Sequence[str]) -> None:
    """Take over what the maker or a sender has said anew of lot and expiry, of units that are not received yet."""
    by_despatch: dict[str, list[Holding]] = {}
    for path in paths:
        holding = holdings_store.get_path(connection, path)
        if holding is not None and holding.state in _NOT_RECEIVED and holding.despatch_id:
            by_despatch.setdefault(holding.despatch_id, []).append(holding)
    for despatch_id, holdings in by_despatch.items():
        shipment = inbound_store.find(connection, despatch_id)
        if shipment is None:
            continue
        stored = events_store.find_event(connection, signer=shipment.signer, event_id=despatch_id, declaration=False)
        if stored is None or not isinstance(stored.event.statement, EpcisEvent):
            continue
        contents = contents_of(connection, stored.event.statement, [item.unit for item in holdings]).units
        for holding in holdings:
            content = contents.get(holding.unit.path)
            if (
                content is not None
                and content.made_by
                and (content.lot, content.expiry)
                != (
                    holding.lot,
                    holding.expiry,
                )
            ):
                expiry = "" if content.expiry is None else content.expiry.isoformat()
                holdings_store.mark(connection, [holding.unit.path], lot=content.lot, expiry=expiry)
                _tell_lines(connection, holding.unit.path, lot=content.lot, expiry=expiry)


def _tell_lines(connection: Connection, path: str, *, lot: str, expiry: str) -> None:
    for line in lines_store.of_units(connection, [path]):
        if line.expected:
            lines_store.change_paths(connection, line.delivery, [path], lot=lot, expiry=expiry)
