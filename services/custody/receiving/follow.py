"""What news of partners' despatches means for deliveries: an advice came, was refused by the ledger, or was taken back.

In whatever order the advice, the goods, the ledger's word and a correction come, the books end up the same.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from medtrail.epcis.model import Action, EpcisEvent, EventType
from services.custody import events_store, holdings_store, inbound_store
from services.custody.corrections import put_aside
from services.custody.desk import Accepted, Desk, Session
from services.custody.dossier import units_of
from services.custody.events_store import Stored
from services.custody.exceptions.case import CaseResolution
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.exchange import close_and_tell
from services.custody.grounds import DECLARED, open_cases
from services.custody.holding import Holding, HoldingState
from services.custody.receiving import arrivals_store, cases, deliveries, deliveries_store, lines_store, settle
from services.custody.receiving.arrivals_store import Waiting
from services.custody.receiving.codes import SCANNABLE, Posting, ResultCode
from services.custody.receiving.lines_store import Line
from services.custody.shipment import contents_of


def despatch_came(connection: Connection, desk: Desk, despatch_id: str) -> list[Accepted]:
    """Let deliveries know of a despatch that was taken in, and receive what had arrived before it.

    A delivery that may be scanned and knows any of its units is reconciled with it from here on.
    """
    paths = [item.unit.path for item in holdings_store.of_despatch(connection, despatch_id)]
    seen: set[int] = set()
    for line in lines_store.of_units(connection, paths):
        if line.delivery in seen or line.posting is not Posting.NONE:
            continue
        seen.add(line.delivery)
        delivery = deliveries_store.by_number(connection, line.delivery)
        if delivery.state in SCANNABLE:
            deliveries.attach(connection, delivery, despatch_id)
    return settle.settle(connection, desk, paths)


def data_came(connection: Connection, desk: Desk, paths: Iterable[str]) -> list[Accepted]:
    """Judge anew what waits for data, after events that tell of its units have come."""
    waiting = list(arrivals_store.of_paths(connection, list(paths)))
    settle.refresh(connection, waiting)
    return settle.settle(connection, desk, waiting)


def event_refused(connection: Connection, desk: Desk, stored: Stored, *, code: str) -> None:
    """Take back what a partner's event brought, because the ledger refused it.

    What is on its way has no data any more; what was received is put aside until corrected data come. Goods that
    another despatch brought stay as they are, whatever the refused event says of them.
    """
    event_id = stored.event.header.event_id
    shipment = inbound_store.find(connection, event_id)
    if shipment is None or shipment.signer != stored.signer:
        _withdraw_data(connection, desk, stored, code=code)
        return
    _withdraw(connection, desk, stored, code=code)
    inbound_store.set_refused(connection, event_id)
    open_cases_of_withdrawn(connection, desk, event_id)


def despatch_declared(connection: Connection, desk: Desk, declaration: Stored) -> str | None:
    """Take back what a partner's despatch brought, because its sender has declared it an error; return its id.

    A corrective despatch that comes with the declaration is taken in afterwards, and what is here is received by it.
    """
    despatch_id = declaration.event.header.event_id
    shipment = inbound_store.find(connection, despatch_id)
    if shipment is None or shipment.signer != declaration.signer or shipment.state in inbound_store.WITHOUT_DATA:
        return None
    stored = events_store.find_event(connection, signer=declaration.signer, event_id=despatch_id, declaration=False)
    if stored is None:
        return None
    _withdraw(connection, desk, stored, code=DECLARED)
    inbound_store.set_withdrawn(connection, despatch_id)
    return despatch_id


def _withdraw(connection: Connection, desk: Desk, stored: Stored, *, code: str) -> None:
    despatch_id = stored.event.header.event_id
    for delivery in deliveries_store.open_with_despatch(connection, despatch_id):
        deliveries.detach(connection, delivery, despatch_id)
    _expect_no_more(connection, stored, holdings_store.of_despatch(connection, despatch_id))
    # Of its own goods only: what it names beside them came by other despatches, and rests on those.
    _put_aside(connection, holdings_store.of_despatch(connection, despatch_id), code)
    brought = holdings_store.of_despatch(connection, despatch_id)
    here = [item for item in brought if item.here and item.exception == code]
    _keep_waiting(connection, desk, here)


def _put_aside(connection: Connection, goods: Sequence[Holding], code: str) -> None:
    """Put aside what lost its data, also what a station's word put aside: that waits for data first, then for a person.

    :func:`services.custody.receiving.settle.settle` puts it aside for the station's word again.
    """
    put_aside(connection, goods, code)
    in_conflict = [item.unit.path for item in goods if item.here and item.exception == ExceptionCode.OFFLINE_CONFLICT]
    holdings_store.mark(connection, in_conflict, exception=code)


def _expect_no_more(connection: Connection, despatch: Stored, goods: Iterable[Holding]) -> None:
    befores = holdings_store.befores(connection, despatch.number)
    for holding in goods:
        if holding.state is HoldingState.INBOUND:
            holdings_store.restore(connection, holding.unit.path, befores.get(holding.unit.path))


def _keep_waiting(connection: Connection, desk: Desk, here: Sequence[Holding]) -> None:
    """Keep in mind what was put aside, with what was read from it: it is received when data come that fit."""
    lines = _latest_lines(connection, [item.unit.path for item in here])
    waiting = []
    for item in here:
        line = lines.get(item.unit.path)
        if line is None:
            waiting.append(Waiting(item.unit.path, location=item.location))
        else:
            waiting.append(Waiting(line.path, line.delivery, line.seen_lot, line.seen_expiry_day, item.location))
    arrivals_store.keep(connection, waiting, now=desk.clock())
    for line in lines.values():
        if line.posting in {Posting.RECEIVED, Posting.RECEIVED_LATER}:
            lines_store.change_paths(connection, line.delivery, [line.path], posting=Posting.PUT_ASIDE)


_OURS_BY_DATA = frozenset(
    {HoldingState.INBOUND, HoldingState.ON_HAND, HoldingState.PARTIALLY_DISPENSED, HoldingState.EXCEPTION}
)


def _withdraw_data(connection: Connection, desk: Desk, stored: Stored, *, code: str) -> None:
    """Take back what a refused event that is no despatch told of goods: their despatches say too little without it."""
    by_despatch: dict[str, list[Holding]] = {}
    for holding in holdings_store.of_event_units(connection, stored.number):
        if holding.despatch_id and holding.state in _OURS_BY_DATA:
            by_despatch.setdefault(holding.despatch_id, []).append(holding)
    for despatch_id, holdings in by_despatch.items():
        shipment = inbound_store.find(connection, despatch_id)
        if shipment is None or shipment.state in inbound_store.WITHOUT_DATA:
            continue
        despatch = events_store.find_event(connection, signer=shipment.signer, event_id=despatch_id, declaration=False)
        resting = [] if despatch is None else _resting_on(connection, despatch, stored, holdings)
        if despatch is None or not resting:
            continue
        _expect_no_more(connection, despatch, resting)
        here = [item for item in resting if item.state is not HoldingState.INBOUND]
        _put_aside(connection, here, code)
        # No despatch tells of them any more: another one has to.
        holdings_store.mark(connection, [item.unit.path for item in here], exception=code, despatch_id="")
        _keep_waiting(connection, desk, here)
        _open_cases(connection, desk, [item for item in here if item.smallest], despatch_id)


def _resting_on(
    connection: Connection, despatch: Stored, refused: Stored, holdings: Sequence[Holding]
) -> list[Holding]:
    """Return the goods of a despatch of which nothing tells without a refused event, or not who made them."""
    statement, said = despatch.event.statement, refused.event.statement
    if not isinstance(statement, EpcisEvent) or not isinstance(said, EpcisEvent):
        return []
    units = contents_of(connection, statement, units_of(statement.epc_list)).units
    made = _given_life(said)
    found = []
    for holding in holdings:
        content = units.get(holding.unit.path)
        if content is None or (holding.unit.path in made and not content.made_by):
            found.append(holding)
    return found


def _given_life(statement: EpcisEvent) -> set[str]:
    if statement.type is EventType.OBJECT and statement.action is Action.ADD:
        return {unit.path for unit in units_of(statement.epc_list)}
    return {unit.path for unit in units_of(statement.output_epc_list)}


def _latest_lines(connection: Connection, paths: Sequence[str]) -> dict[str, Line]:
    found: dict[str, Line] = {}
    for line in lines_store.of_units(connection, paths):
        found.setdefault(line.path, line)
    return found


def open_cases_of_withdrawn(connection: Connection, desk: Desk, despatch_id: str) -> None:
    """Open a case for what is here of a despatch that does not hold any more, and forget what is missed of it."""
    goods = [
        item
        for item in holdings_store.of_despatch(connection, despatch_id)
        if item.state is HoldingState.EXCEPTION and item.smallest
    ]
    _open_cases(connection, desk, goods, despatch_id)
    forget_missing(Session(connection, desk), despatch_id)


def _open_cases(connection: Connection, desk: Desk, goods: Sequence[Holding], despatch_id: str) -> None:
    opened = open_cases(connection, desk.gln, despatch_id, goods, now=desk.clock())
    for case_id, units in opened.items():
        for line in _latest_lines(connection, [unit.path for unit in units]).values():
            lines_store.change_paths(connection, line.delivery, [line.path], case_id=case_id)


def forget_missing(session: Session, despatch_id: str) -> None:
    """Miss nothing more that only a withdrawn despatch told of; close the cases that were about nothing else."""
    connection = session.connection
    touched: set[str] = set()
    for line in lines_store.missing_of(connection, despatch_id):
        holding = holdings_store.get_path(connection, line.path)
        if holding is not None and holding.despatch_id and holding.despatch_id != despatch_id:
            # A corrected despatch says that it is on its way, after all.
            lines_store.change_paths(
                connection, line.delivery, [line.path], despatch_id=holding.despatch_id, result=ResultCode.UNDER
            )
            continue
        lines_store.change_paths(connection, line.delivery, [line.path], posting=Posting.WITHDRAWN, leaf=False)
        touched.add(line.case_id)
    for case_id in sorted(touched - {""}):
        if not lines_store.any_of_case(connection, case_id, cases.UNSETTLED):
            note = "the sender has taken back the despatch that told of the goods"
            close_and_tell(session, case_id, CaseResolution.CORRECTED_DATA, note=note)
