"""Making PDG messages of a case: which lists of a report its units stand in, and what is asked for them."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from medtrail.errors import MedtrailError
from medtrail.gs1 import Gln, Sgtin
from medtrail.gs1.scan import parse_scan
from medtrail.pdg import (
    ContactInformation,
    DataMisalignment,
    Item,
    MissingProduct,
    MissingProductData,
    NumberError,
    ObservationSource,
    QuantityDifference,
    Report,
    ReportGroup,
    Resolution,
    Traits,
)
from services.custody.exceptions.case import Case
from services.custody.exceptions.codes import ExceptionCode
from services.custody.holding import Books, Holding
from services.custody.units import Unit

ITEMS_PER_REPORT = 200
"""More go into further reports: a letter has at most 256 KiB."""


@dataclass(frozen=True, slots=True)
class Reported:
    """One report of a case and the units that it is about.

    Attributes:
        request: What is asked for the case as a whole, where no item says it; else None.
    """

    report: Report
    units: tuple[Unit, ...]
    request: Resolution | None


@dataclass(frozen=True, slots=True)
class Told:
    """What goes into every report of a proposal: who says it, when, and what is asked for."""

    sender: ContactInformation
    time: datetime
    request: Resolution


def seconds(moment: datetime) -> int:
    """Return the timestamp of a message."""
    return int(moment.timestamp())


def reports_of(
    case: Case, units: Sequence[Unit], books: Books, told: Told, *, own_glns: Sequence[Gln]
) -> list[Reported]:
    """Return the reports of a case: one, or more where it has more than 200 items.

    Args:
        case: The case.
        units: Its units.
        books: Hold what is known of them.
        told: What goes into every report.
        own_glns: Of the house: the consignee that would have been right.
    """
    items = list(_items(case, units, books, told.request, own_glns))
    words = (f"{case.code}: {case.detail}",) if not items or case.rule.group is None else ()
    made = []
    for start in range(0, max(len(items), 1), ITEMS_PER_REPORT):
        part = items[start : start + ITEMS_PER_REPORT]
        about = tuple(dict.fromkeys(unit for unit, _, _ in part if unit is not None))
        report = Report(
            message_id=str(uuid.uuid4()),
            case_id=case.case_id,
            timestamp=seconds(told.time),
            po_number=case.purchase_order,
            sender=told.sender,
            case_resolved=False,
            items=tuple((group, item) for _, group, item in part),
            other_errors=words,
        )
        request = told.request if not any(item.request for _, _, item in part) else None
        made.append(Reported(report, about or tuple(units[:ITEMS_PER_REPORT]), request))
    return made


def closing_report(case: Case, sender: ContactInformation, now: datetime) -> Report:
    """Return the report that says that a case is resolved."""
    return Report(
        message_id=str(uuid.uuid4()),
        case_id=case.case_id,
        timestamp=seconds(now),
        po_number=case.purchase_order,
        sender=sender,
        case_resolved=True,
    )


Found = tuple[Unit | None, ReportGroup, Item]


def _items(
    case: Case, units: Sequence[Unit], books: Books, request: Resolution, own_glns: Sequence[Gln]
) -> Iterator[Found]:
    group = case.rule.group
    if case.code is ExceptionCode.WRONG_CONSIGNEE and own_glns:
        item_id = _item_id(case, ReportGroup.GLN_ERRORS, str(own_glns[0]))
        yield None, ReportGroup.GLN_ERRORS, NumberError(item_id, str(own_glns[0]), None, request)
        return
    if group is None:
        return
    if case.expected_count or case.counted_count:
        yield from _counted(case, units, books, request)
        return
    for unit in units:
        for pack in _packs(books, unit):
            item = _item(case, group, pack, books.get(pack), request)
            if item is not None:
                yield unit, group, item


def _packs(books: Books, unit: Unit) -> Iterator[Sgtin]:
    """Yield the packs of a unit: PDG items name a GTIN."""
    inside = [part.unit for part in books.inside(unit) if not books.contents(part.unit)]
    for found in inside or [unit]:
        if isinstance(found, Sgtin):
            yield found


def _counted(case: Case, units: Sequence[Unit], books: Books, request: Resolution) -> Iterator[Found]:
    gtin = next((str(pack.gtin) for unit in units for pack in _packs(books, unit)), "") or _gtin_of_scan(case)
    if not gtin:
        return
    group = ReportGroup.OVERAGES if case.counted_count > case.expected_count else ReportGroup.UNDERAGES
    item_id = _item_id(case, group, gtin)
    yield None, group, QuantityDifference(item_id, gtin, case.expected_count, case.counted_count, request)


def _gtin_of_scan(case: Case) -> str:
    scanned = _scanned(case)
    return "" if scanned is None else scanned.gtin


def _item_id(case: Case, group: ReportGroup, name: str) -> str:
    # The same item in a later report has the same id.
    return str(uuid.uuid5(uuid.UUID(case.case_id), f"{group}/{name}"))


def _item(case: Case, group: ReportGroup, pack: Sgtin, holding: Holding | None, request: Resolution) -> Item | None:
    item_id = _item_id(case, group, pack.path)
    if group is ReportGroup.MISSING_PRODUCT_DATA:
        return MissingProductData(item_id, str(pack.gtin), ObservationSource.SCAN, request, pack.serial)
    if group is ReportGroup.MISSING_PRODUCT:
        return MissingProduct(item_id, case.despatch_id, str(pack.gtin), pack.serial, request)
    if group is ReportGroup.DATA_MISALIGNMENT:
        told = Traits(
            str(pack.gtin),
            "" if holding is None else holding.lot,
            _day(None if holding is None else holding.expiry),
            pack.serial,
        )
        return DataMisalignment(item_id, _scanned(case) or told, told, request)
    return None


def _scanned(case: Case) -> Traits | None:
    """Return what the scan that raised a case says of the pack; None where it does not tell."""
    if case.scan is None or not case.scan.scan:
        return None
    try:
        scan = parse_scan(case.scan.scan, today=case.open_time.date())
    except MedtrailError:
        return None
    if not isinstance(scan.key, Sgtin):
        return None
    return Traits(
        str(scan.key.gtin), scan.lot or "", _day(None if scan.expiry is None else scan.expiry.day), scan.key.serial
    )


def _day(day: date | None) -> str:
    return "" if day is None else day.isoformat()
