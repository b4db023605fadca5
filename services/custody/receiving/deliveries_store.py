"""Deliveries, their scans and samples in the database."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.errors import ConflictError, DuplicateError, MalformedError, NotFoundError
from medtrail.gs1 import Gln
from services.custody.holdings_store import from_us, to_us
from services.custody.receiving import lines_store
from services.custody.receiving.codes import SCANNABLE, Condition, DeliveryState, ResultCode
from services.custody.receiving.lines_store import Counts
from services.custody.receiving.reconcile import Label
from services.custody.receiving.tables import DeliveryDespatch, DeliveryRow, DeliverySample, DeliveryScan
from services.custody.units import unit_of_path

_DELIVERY = DeliveryRow.__table__  # type: ignore[attr-defined]
_DESPATCH = DeliveryDespatch.__table__  # type: ignore[attr-defined]
_SCAN = DeliveryScan.__table__  # type: ignore[attr-defined]
_SAMPLE = DeliverySample.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery.

    Attributes:
        number: In order of opening here, from 1.
        delivery_id: UUID.
        blind: Opened before any data.
        location: Of ours, where the goods are.
        sample_permille: Share of a sealed container's packs to be scanned.
        secret: From which samples are drawn; 32 bytes.
        close_time: None before it was closed.
        closings: How often it was closed.
        closed_scan: Number of the last scan before it was last closed.
    """

    number: int
    delivery_id: str
    state: DeliveryState
    blind: bool
    location: Gln
    sample_permille: int
    secret: bytes
    open_time: datetime
    close_time: datetime | None
    closings: int
    closed_scan: int

    def __repr__(self) -> str:
        """Show nothing of the secret."""
        return f"Delivery({self.delivery_id}, {self.state})"


def _delivery(row: Any) -> Delivery:  # noqa: ANN401  # a row of delivery
    return Delivery(
        number=row["number"],
        delivery_id=row["delivery_id"],
        state=DeliveryState(row["state"]),
        blind=bool(row["blind"]),
        location=Gln(row["location"]),
        sample_permille=row["sample_permille"],
        secret=row["secret"],
        open_time=from_us(row["open_us"]),
        close_time=None if row["close_us"] is None else from_us(row["close_us"]),
        closings=row["closings"],
        closed_scan=row["closed_scan"],
    )


def add(
    connection: Connection, *, blind: bool, location: Gln, sample_permille: int, secret: bytes, now: datetime
) -> Delivery:
    """Store a new delivery and return it."""
    delivery_id = str(uuid.uuid4())
    connection.execute(
        insert(_DELIVERY).values(
            delivery_id=delivery_id,
            state=DeliveryState.OPEN.value,
            blind=blind,
            location=str(location),
            sample_permille=sample_permille,
            secret=secret,
            open_us=to_us(now),
        )
    )
    return get(connection, delivery_id)


def get(connection: Connection, delivery_id: str) -> Delivery:
    """Return a delivery.

    Raises:
        MalformedError: The id is no UUID (DELIVERY_ID_MALFORMED).
        NotFoundError: There is none of that id (DELIVERY_UNKNOWN).
    """
    try:
        canonical = str(uuid.UUID(delivery_id))
    except ValueError as error:
        message = f"expected the UUID of a delivery, got {delivery_id[:50]!r}"
        raise MalformedError(message, code="DELIVERY_ID_MALFORMED", field="delivery_id") from error
    row = connection.execute(select(_DELIVERY).where(_DELIVERY.c.delivery_id == canonical)).mappings().first()
    if row is None:
        message = f"there is no delivery {canonical}"
        raise NotFoundError(message, code="DELIVERY_UNKNOWN", field="delivery_id")
    return _delivery(row)


def by_number(connection: Connection, number: int) -> Delivery:
    """Return the delivery of a number."""
    return _delivery(connection.execute(select(_DELIVERY).where(_DELIVERY.c.number == number)).mappings().one())


def require_scannable(delivery: Delivery) -> None:
    """Check that a delivery may be scanned.

    Raises:
        ConflictError: It is closed (DELIVERY_CLOSED).
    """
    if delivery.state not in SCANNABLE:
        message = f"delivery {delivery.delivery_id} is closed; reopen it for the units that are to be scanned"
        raise ConflictError(message, code="DELIVERY_CLOSED", field="delivery_id")


def require_closed(delivery: Delivery) -> None:
    """Check that a delivery is closed.

    Raises:
        ConflictError: It is open (DELIVERY_OPEN).
    """
    if delivery.state in SCANNABLE:
        message = f"delivery {delivery.delivery_id} is open: scan it"
        raise ConflictError(message, code="DELIVERY_OPEN", field="delivery_id")


def listed(
    connection: Connection, *, state: DeliveryState | None, despatch_id: str, before: int | None, limit: int
) -> list[Delivery]:
    """Return deliveries, newest first, those before a number."""
    query = select(_DELIVERY).order_by(_DELIVERY.c.number.desc()).limit(limit)
    if state is not None:
        query = query.where(_DELIVERY.c.state == state.value)
    if despatch_id:
        of_despatch = select(_DESPATCH.c.delivery).where(_DESPATCH.c.despatch_id == despatch_id)
        query = query.where(_DELIVERY.c.number.in_(of_despatch))
    if before is not None:
        query = query.where(_DELIVERY.c.number < before)
    return [_delivery(row) for row in connection.execute(query).mappings()]


def set_open(connection: Connection, delivery: Delivery, state: DeliveryState) -> Delivery:
    """Open a delivery again."""
    connection.execute(update(_DELIVERY).where(_DELIVERY.c.number == delivery.number).values(state=state.value))
    return by_number(connection, delivery.number)


def set_closed(connection: Connection, delivery: Delivery, *, now: datetime) -> Delivery:
    """Close a delivery."""
    last = select(func.coalesce(func.max(_SCAN.c.number), 0)).where(_SCAN.c.delivery == delivery.number)
    connection.execute(
        update(_DELIVERY)
        .where(_DELIVERY.c.number == delivery.number)
        .values(
            state=DeliveryState.CLOSED.value,
            close_us=to_us(now),
            closings=_DELIVERY.c.closings + 1,
            closed_scan=last.scalar_subquery(),
        )
    )
    return by_number(connection, delivery.number)


# --- despatches ---


def despatches(connection: Connection, delivery: int) -> list[str]:
    """Return the event ids of the despatches of a delivery, in order."""
    query = select(_DESPATCH.c.despatch_id).where(_DESPATCH.c.delivery == delivery).order_by(_DESPATCH.c.despatch_id)
    return list(connection.execute(query).scalars())


def add_despatch(connection: Connection, delivery: int, despatch_id: str) -> None:
    """Note a despatch of a delivery."""
    connection.execute(insert(_DESPATCH).values(delivery=delivery, despatch_id=despatch_id).on_conflict_do_nothing())


def drop_despatch(connection: Connection, delivery: int, despatch_id: str) -> None:
    """Forget a despatch of a delivery."""
    connection.execute(
        delete(_DESPATCH).where(_DESPATCH.c.delivery == delivery, _DESPATCH.c.despatch_id == despatch_id)
    )


def open_with_despatch(connection: Connection, despatch_id: str) -> list[Delivery]:
    """Return the deliveries of a despatch that may be scanned."""
    query = (
        select(_DELIVERY)
        .join(_DESPATCH, _DESPATCH.c.delivery == _DELIVERY.c.number)
        .where(_DESPATCH.c.despatch_id == despatch_id, _DELIVERY.c.state.in_([state.value for state in SCANNABLE]))
    )
    return [_delivery(row) for row in connection.execute(query).mappings()]


# --- scans ---


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A recorded scan.

    Attributes:
        number: In the delivery, from 1.
        path: Of the unit; empty when nothing could be read.
        taken_from: Path of the container from which it was taken; empty: not said.
        result: What was answered.
        finding: What it makes of the unit; None: nothing.
        undone: It was taken back.
    """

    number: int
    station: str
    scan_number: int
    scan: str
    scan_time: datetime
    path: str
    lot: str
    expiry: str
    taken_from: str
    condition: Condition
    result: ResultCode
    finding: ResultCode | None
    undone: bool

    @property
    def label(self) -> Label:
        """What was read; only of a scan that could be."""
        day = date.fromisoformat(self.expiry) if self.expiry else None
        return Label(unit_of_path(self.path), self.lot, day)


def _scan(row: Any) -> ScanRecord:  # noqa: ANN401  # a row of delivery_scan
    return ScanRecord(
        number=row["number"],
        station=row["station"],
        scan_number=row["scan_number"],
        scan=row["scan"],
        scan_time=from_us(row["scan_us"]),
        path=row["path"],
        lot=row["lot"],
        expiry=row["expiry"],
        taken_from=row["taken_from"],
        condition=Condition(row["condition"]),
        result=ResultCode(row["result"]),
        finding=ResultCode(row["finding"]) if row["finding"] else None,
        undone=bool(row["undone"]),
    )


def add_scan(connection: Connection, delivery: int, record: ScanRecord, *, request_sha256: bytes) -> ScanRecord:
    """Store a scan under the next number of its delivery; return it with the number."""
    last = connection.execute(select(func.max(_SCAN.c.number)).where(_SCAN.c.delivery == delivery)).scalar_one()
    numbered = replace(record, number=(last or 0) + 1)
    connection.execute(
        insert(_SCAN).values(
            delivery=delivery,
            number=numbered.number,
            station=record.station,
            scan_number=record.scan_number,
            scan=record.scan,
            scan_us=to_us(record.scan_time),
            path=record.path,
            lot=record.lot,
            expiry=record.expiry,
            taken_from=record.taken_from,
            condition=record.condition.value,
            result=record.result.value,
            finding="" if record.finding is None else record.finding.value,
            request_sha256=request_sha256,
        )
    )
    return numbered


def keep_answer(connection: Connection, delivery: int, number: int, answer: bytes) -> None:
    """Keep what was answered to a scan."""
    connection.execute(
        update(_SCAN).where(_SCAN.c.delivery == delivery, _SCAN.c.number == number).values(answer=answer)
    )


def answered(
    connection: Connection, delivery: int, *, station: str, scan_number: int, request_sha256: bytes
) -> bytes | None:
    """Return the answer given before to a scan, or None for a new one.

    Raises:
        DuplicateError: The station used the number for another scan (SCAN_NUMBER_REUSED).
    """
    row = connection.execute(
        select(_SCAN.c.request_sha256, _SCAN.c.answer).where(
            _SCAN.c.delivery == delivery, _SCAN.c.station == station, _SCAN.c.scan_number == scan_number
        )
    ).first()
    if row is None:
        return None
    if row[0] != request_sha256:
        message = f"station {station} used number {scan_number} for another scan of this delivery"
        raise DuplicateError(message, code="SCAN_NUMBER_REUSED", field="scan_number")
    return bytes(row[1])


def get_scan(connection: Connection, delivery: int, number: int) -> ScanRecord:
    """Return a scan.

    Raises:
        NotFoundError: There is none of that number (SCAN_UNKNOWN).
    """
    query = select(_SCAN).where(_SCAN.c.delivery == delivery, _SCAN.c.number == number)
    row = connection.execute(query).mappings().first()
    if row is None:
        message = f"the delivery has no scan {number}"
        raise NotFoundError(message, code="SCAN_UNKNOWN", field="delivery_scan_number")
    return _scan(row)


def scans_after(connection: Connection, delivery: int, *, after: int, limit: int) -> list[ScanRecord]:
    """Return scans in order, those after a number."""
    query = select(_SCAN).where(_SCAN.c.delivery == delivery, _SCAN.c.number > after).order_by(_SCAN.c.number)
    return [_scan(row) for row in connection.execute(query.limit(limit)).mappings()]


def deciding_scan(connection: Connection, delivery: int, path: str) -> ScanRecord | None:
    """Return the latest scan that says something of a unit and was not taken back."""
    query = (
        select(_SCAN)
        .where(_SCAN.c.delivery == delivery, _SCAN.c.path == path, _SCAN.c.undone.is_(False), _SCAN.c.finding != "")
        .order_by(_SCAN.c.number.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else _scan(row)


def taken_from(connection: Connection, delivery: int, path: str) -> list[str]:
    """Return the paths of the containers from which a unit was taken, by scans that were not taken back."""
    query = select(_SCAN.c.taken_from).where(
        _SCAN.c.delivery == delivery, _SCAN.c.path == path, _SCAN.c.undone.is_(False), _SCAN.c.taken_from != ""
    )
    return list(connection.execute(query).scalars())


def said_damaged(connection: Connection, delivery: int, path: str) -> bool:
    """Tell whether a scan of a unit that was not taken back says that it is damaged."""
    query = select(_SCAN.c.number).where(
        _SCAN.c.delivery == delivery,
        _SCAN.c.path == path,
        _SCAN.c.undone.is_(False),
        _SCAN.c.condition == Condition.DAMAGED.value,
    )
    return connection.execute(query.limit(1)).first() is not None


def set_undone(connection: Connection, delivery: int, number: int) -> None:
    """Note that a scan was taken back."""
    connection.execute(update(_SCAN).where(_SCAN.c.delivery == delivery, _SCAN.c.number == number).values(undone=True))


def unreadable_scans(connection: Connection, delivery: Delivery) -> list[ScanRecord]:
    """Return the scans since the last closing of units whose label cannot be read by any means, but for undone ones."""
    query = select(_SCAN).where(
        _SCAN.c.delivery == delivery.number,
        _SCAN.c.number > delivery.closed_scan,
        _SCAN.c.condition == Condition.LABEL_UNREADABLE.value,
        _SCAN.c.undone.is_(False),
    )
    return [_scan(row) for row in connection.execute(query.order_by(_SCAN.c.number)).mappings()]


def counts(connection: Connection, delivery: int) -> Counts:
    """Return the counts of a delivery."""
    last = select(func.coalesce(func.max(_SCAN.c.number), 0)).where(_SCAN.c.delivery == delivery).scalar_subquery()
    undone = select(func.count()).where(_SCAN.c.delivery == delivery, _SCAN.c.undone).scalar_subquery()
    scans = connection.execute(select(last - undone)).scalar_one()
    return replace(lines_store.counts(connection, delivery), scans=scans)


# --- samples ---


@dataclass(frozen=True, slots=True)
class Sample:
    """A container that was scanned as sealed and sampled; failed: all inside is to be scanned."""

    path: str
    failed_by: int
    given_up: bool

    @property
    def failed(self) -> bool:
        """Whether nothing inside is inferred any more."""
        return self.given_up or self.failed_by > 0


def samples(connection: Connection, delivery: int) -> dict[str, Sample]:
    """Return the sampled containers of a delivery, by path."""
    rows = connection.execute(
        select(_SAMPLE.c.path, _SAMPLE.c.failed_by, _SAMPLE.c.given_up)
        .where(_SAMPLE.c.delivery == delivery)
        .order_by(_SAMPLE.c.path)
    )
    return {path: Sample(path, failed_by, bool(given_up)) for path, failed_by, given_up in rows}


def put_sample(connection: Connection, delivery: int, path: str, *, failed_by: int = 0, given_up: bool = False) -> None:
    """State how the sample of a container stands."""
    values = {"failed_by": failed_by, "given_up": given_up}
    statement = insert(_SAMPLE).values(delivery=delivery, path=path, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["delivery", "path"], set_=values))


def drop_samples(connection: Connection, delivery: int, paths: Sequence[str]) -> None:
    """Forget the samples of containers."""
    connection.execute(delete(_SAMPLE).where(_SAMPLE.c.delivery == delivery, col(DeliverySample.path).in_(paths)))
