"""Opening deliveries, and the despatches with which they are reconciled."""

import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, and_
from sqlmodel import col

from medtrail.errors import ConflictError, MalformedError, NotFoundError, TooLargeError
from medtrail.gs1 import Gln
from services.custody import holdings_store, inbound_store
from services.custody.desk import Desk
from services.custody.holding import Holding, HoldingState
from services.custody.inbound_store import InboundState
from services.custody.receiving import deliveries_store, inference, lines_store
from services.custody.receiving.codes import DeliveryState, Posting, ResultCode
from services.custody.receiving.deliveries_store import Delivery, ScanRecord
from services.custody.receiving.lines_store import Line
from services.custody.receiving.reconcile import Expected, Facts, reconcile
from services.custody.receiving.tables import DeliveryLine
from services.custody.units import Named, unit_of_path

MAX_DESPATCHES = 100
SECRET_BYTES = 32
PERMILLE_ALL = 1000


def open_delivery(
    connection: Connection, desk: Desk, despatch_ids: Sequence[str], *, location: Gln, sample_permille: int
) -> Delivery:
    """Begin a delivery; without despatches it is blind, and gains them as it is scanned.

    Raises:
        MalformedError: A share above the whole (SAMPLE_SHARE), or a despatch named twice (DESPATCH_TWICE).
        NotFoundError: A despatch was not advised (DESPATCH_UNKNOWN).
        ConflictError: A despatch was refused or withdrawn (DESPATCH_REFUSED), or is in another open delivery
            (DESPATCH_IN_DELIVERY).
    """
    if not 0 <= sample_permille <= PERMILLE_ALL:
        message = "expected a share from 0 to 1"
        raise MalformedError(message, code="SAMPLE_SHARE", field="sample_share")
    if len(despatch_ids) > MAX_DESPATCHES:
        message = f"expected at most {MAX_DESPATCHES} despatches, got {len(despatch_ids)}"
        raise TooLargeError(message, code="TOO_MANY_DESPATCHES", field="despatch_event_ids")
    for number, despatch_id in enumerate(despatch_ids):
        field = f"despatch_event_ids[{number}]"
        if despatch_id in despatch_ids[:number]:
            message = f"despatch {despatch_id} is named twice"
            raise MalformedError(message, code="DESPATCH_TWICE", field=field)
        _require_despatch(connection, despatch_id, field)
    delivery = deliveries_store.add(
        connection,
        blind=not despatch_ids,
        location=location,
        sample_permille=sample_permille,
        secret=secrets.token_bytes(SECRET_BYTES),
        now=desk.clock(),
    )
    for despatch_id in despatch_ids:
        attach(connection, delivery, despatch_id)
    return delivery


def _require_despatch(connection: Connection, despatch_id: str, field: str) -> None:
    shipment = inbound_store.find(connection, despatch_id)
    if shipment is None:
        message = f"no despatch {despatch_id[:100]} was advised"
        raise NotFoundError(message, code="DESPATCH_UNKNOWN", field=field)
    if shipment.state in {InboundState.REFUSED, InboundState.WITHDRAWN}:
        message = f"despatch {despatch_id} is {shipment.state}; its goods come without data"
        raise ConflictError(message, code="DESPATCH_REFUSED", field=field)
    others = deliveries_store.open_with_despatch(connection, despatch_id)
    if others:
        message = f"despatch {despatch_id} is being received by delivery {others[0].delivery_id}"
        raise ConflictError(message, code="DESPATCH_IN_DELIVERY", field=field, delivery_id=others[0].delivery_id)


def attach(connection: Connection, delivery: Delivery, despatch_id: str) -> None:
    """Reconcile a delivery with a despatch from here on: what of it is still on its way is expected.

    Units that the delivery knows already get the despatch's data; what their scans say is judged anew.
    """
    deliveries_store.add_despatch(connection, delivery.number, despatch_id)
    # A pack that waits for data is expected too: it was scanned, here or in an earlier delivery.
    expected = {
        item.unit.path: item
        for item in holdings_store.of_despatch(connection, despatch_id)
        if item.state is HoldingState.INBOUND
    }
    containers = {item.parent.path for item in expected.values() if item.parent is not None}
    known = lines_store.find_paths(connection, delivery.number, list(expected))
    lines = [
        _line(delivery.number, item, leaf=path not in containers, inside=expected)
        for path, item in expected.items()
        if path not in known
    ]
    lines_store.add(connection, lines)
    for line in known.values():
        if line.posting is Posting.NONE:
            item = expected[line.path]
            fresh = _line(delivery.number, item, leaf=line.path not in containers, inside=expected)
            lines_store.change_paths(
                connection,
                delivery.number,
                [line.path],
                parent=fresh.parent,
                despatch_id=despatch_id,
                leaf=fresh.leaf,
                expected=True,
                lot=fresh.lot,
                expiry=fresh.expiry,
            )
    judge_anew(connection, delivery, known)


def _line(delivery: int, holding: Holding, *, leaf: bool, inside: dict[str, Holding]) -> Line:
    parent = "" if holding.parent is None or holding.parent.path not in inside else holding.parent.path
    return Line(
        delivery=delivery,
        path=holding.unit.path,
        parent=parent,
        despatch_id=holding.despatch_id,
        leaf=leaf,
        expected=True,
        lot=holding.lot,
        expiry="" if holding.expiry is None else holding.expiry.isoformat(),
    )


def detach(connection: Connection, delivery: Delivery, despatch_id: str) -> None:
    """Expect the units of a despatch no more: it was refused, or its sender has declared it an error.

    What was scanned has no data from here on; what was not found is not missed.
    """
    of_despatch = and_(
        lines_store.of_delivery(delivery.number),
        col(DeliveryLine.despatch_id) == despatch_id,
        col(DeliveryLine.posting) == "",
    )
    deliveries_store.drop_despatch(connection, delivery.number, despatch_id)
    unscanned = and_(of_despatch, col(DeliveryLine.scan) == 0)
    lines_store.remove(connection, delivery.number, unscanned)
    scanned = lines_store.paths(connection, of_despatch)
    expect_no_more(connection, delivery.number, scanned)
    judge_anew(connection, delivery, scanned)


def expect_no_more(connection: Connection, delivery: int, paths: Sequence[str], **values: object) -> None:
    """Let no despatch tell of some units any more; ``values``: further columns of their lines."""
    lines_store.change_paths(
        connection,
        delivery,
        paths,
        despatch_id="",
        parent="",
        leaf=True,
        expected=False,
        lot="",
        expiry="",
        **values,
    )


def judge_anew(connection: Connection, delivery: Delivery, paths: Iterable[str]) -> None:
    """State anew what the scans of some units say of them, from the data as they are now."""
    for path in paths:
        line = lines_store.get(connection, delivery.number, path)
        if line is None or line.posting is not Posting.NONE:
            continue
        record = deliveries_store.deciding_scan(connection, delivery.number, path)
        if record is None:
            if line.expected:
                lines_store.change_paths(connection, delivery.number, [path], scan=0, result=None)
            else:
                lines_store.remove(connection, delivery.number, lines_store.with_paths(delivery.number, [path]))
            continue
        result = _again(connection, line, record)
        lines_store.change_paths(connection, delivery.number, [path], scan=record.number, result=result)
        if not line.leaf and result is ResultCode.MATCH:
            inference.seal(connection, delivery, line)


def _again(connection: Connection, line: Line, record: ScanRecord) -> ResultCode:
    facts = Facts(
        expected=expected_of(connection, line),
        received=record.finding is ResultCode.ALREADY_RECEIVED,
        taken_from=unit_of_path(record.taken_from) if record.taken_from else None,
        sent_elsewhere=record.finding is ResultCode.NOT_FOR_US,
        commissioned=False if record.finding is ResultCode.UNKNOWN_SERIAL else None,
    )
    return reconcile(record.label, facts)[0]


def expected_of(connection: Connection, line: Line | None) -> Expected | None:
    """Return what the despatches of a delivery say of a unit; None: nothing."""
    if line is None or not line.expected:
        return None
    containers = tuple(item.unit for item in lines_store.ancestors(connection, line))
    return Expected(line.lot, line.expiry_day, containers)


def reopen(connection: Connection, delivery: Delivery, units: Sequence[Named]) -> Delivery:
    """Open a closed delivery again for units of it that are missing.

    Raises:
        ConflictError: It is open (DELIVERY_OPEN), or a unit of it is not missing (UNIT_NOT_MISSING).
        NotFoundError: A unit is not of the delivery (UNIT_NOT_IN_DELIVERY).
    """
    deliveries_store.require_closed(delivery)
    for named in units:
        line = lines_store.get(connection, delivery.number, named.unit.path)
        if line is None:
            message = f"{named.unit.path} is no unit of this delivery"
            raise NotFoundError(message, code="UNIT_NOT_IN_DELIVERY", field=named.field)
        if not expect_again(connection, line):
            message = f"{named.unit.path} is not missing"
            raise ConflictError(message, code="UNIT_NOT_MISSING", field=named.field)
    return deliveries_store.set_open(connection, delivery, DeliveryState.REOPENED)


def expect_again(connection: Connection, line: Line) -> bool:
    """Let the next closing decide on what is missing of a unit, or inside of it; return whether anything is."""
    missing = and_(
        lines_store.with_paths(line.delivery, [line.path]) | lines_store.inside(line.delivery, line.path),
        col(DeliveryLine.posting) == Posting.MISSING.value,
    )
    if not lines_store.paths(connection, missing):
        return False
    lines_store.change(connection, line.delivery, missing, result=None, posting=Posting.NONE, scan=0, sample="")
    return True
