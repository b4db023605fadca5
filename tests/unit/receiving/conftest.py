"""Bays: houses that open deliveries, scan and close them, and deliver each other's messages by hand."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from medtrail.epcis.model import Action, EpcisEvent
from medtrail.gs1 import Sgtin, Sscc
from medtrail.verdict import Verdict
from services.custody import inbound_store
from services.custody.dossier import units_of
from services.custody.exceptions import store as case_store
from services.custody.exceptions.case import Case
from services.custody.exceptions.store import CaseQuery
from services.custody.receiving import closing, concealed, deliveries, deliveries_store, lines_store, scanning
from services.custody.receiving.codes import Condition, ResultCode
from services.custody.receiving.concealed import Reported
from services.custody.receiving.deliveries_store import Delivery
from services.custody.receiving.lines_store import Counts, Line
from services.custody.receiving.reconcile import Label
from services.custody.receiving.scanning import NewScan, Outcome
from services.custody.units import Unit
from tests.unit.custody.conftest import (
    CASE_GTIN,
    EXPIRY,
    LOT,
    House,
    clock,
    distributor,
    houses,
    maker,
    named,
    packs,
    pharmacy,
)

__all__ = ["clock", "distributor", "houses", "maker", "pharmacy"]


def case_of(serial: int | str) -> Sgtin:
    return Sgtin(CASE_GTIN, str(serial))


@dataclass
class Bay:
    """One delivery at a house, scanned by one station or several."""

    house: House
    delivery: Delivery
    numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, house: House, *despatch_ids: str, permille: int = 0) -> "Bay":
        made = house.database.write_now(
            lambda c: deliveries.open_delivery(
                c, house.desk, despatch_ids, location=house.desk.default_location, sample_permille=permille
            )
        )
        return cls(house, made)

    def scan(
        self,
        unit: Unit | None,
        *,
        lot: str = LOT,
        expiry: date | None = EXPIRY,
        taken_from: Unit | None = None,
        condition: Condition = Condition.GOOD,
        verdict: Verdict | None = None,
        station: str = "bay 1",
        label: Label | None = None,
    ) -> Outcome:
        number = self.numbers[station] = self.numbers.get(station, 0) + 1
        if label is None and unit is not None:
            pack = isinstance(unit, Sgtin) and unit.gtin != CASE_GTIN
            label = Label(unit, lot if pack else "", expiry if pack else None)
        new = NewScan(
            station=station,
            scan_number=number,
            text="" if unit is None else unit.path,
            time=self.house.clock(),
            label=label,
            taken_from=taken_from,
            condition=condition,
            verdict=verdict,
            request_sha256=hashlib.sha256(f"{station}{number}".encode()).digest(),
        )
        return self.house.database.write_now(
            lambda c: scanning.record_scan(c, self.house.desk, deliveries_store.by_number(c, self.delivery.number), new)
        )

    def scan_all(self, units: Sequence[Unit]) -> list[ResultCode]:
        return [self.scan(unit).codes[0] for unit in units]

    def undo(self, number: int) -> Counts:
        return self.house.database.write_now(
            lambda c: scanning.undo_scan(c, deliveries_store.by_number(c, self.delivery.number), number)
        )

    def close(self, *, samples_missing: bool = False) -> closing.Closed:
        occasion = self.house.occasion()
        return self.house.write(
            lambda s: closing.close_delivery(
                s,
                deliveries_store.by_number(s.connection, self.delivery.number),
                occasion,
                samples_missing=samples_missing,
            )
        )

    def reopen(self, *units: Unit) -> Delivery:
        return self.house.database.write_now(
            lambda c: deliveries.reopen(c, deliveries_store.by_number(c, self.delivery.number), named(units))
        )

    def concealed(self, *, short: Sequence[Unit] = (), over: Sequence[Label] = ()) -> Reported:
        occasion = self.house.occasion()

        def work(session: object) -> Reported:
            delivery = deliveries_store.by_number(session.connection, self.delivery.number)  # type: ignore[attr-defined]
            one = concealed.report_shortages(session, delivery, named(short))  # type: ignore[arg-type]
            labels = [(label, f"overage_scans[{number}]") for number, label in enumerate(over)]
            two = concealed.report_overages(session, delivery, labels, occasion)  # type: ignore[arg-type]
            return Reported([*one.accepted, *two.accepted], [*one.case_ids, *two.case_ids])

        return self.house.write(work, [*short, *(label.unit for label in over)])

    def line(self, unit: Unit) -> Line:
        found = self.house.read(lambda c: lines_store.get(c, self.delivery.number, unit.path))
        assert found is not None
        return found

    def counts(self) -> Counts:
        """The counts, after checking that they are those of the lines."""
        found = self.house.read(lambda c: deliveries_store.counts(c, self.delivery.number))
        lines = self.house.read(lambda c: lines_store.find(c, lines_store.of_delivery(self.delivery.number)))
        counted = [line for line in lines if line.leaf]
        assert found.expected == sum(line.expected for line in counted)
        by_result: dict[ResultCode | None, int] = {}
        for line in counted:
            by_result[line.result] = by_result.get(line.result, 0) + 1
        assert found.by_result == by_result
        parents = {line.parent for line in lines}
        # What a withdrawn despatch alone had told of is counted no more.
        assert all(line.leaf == (line.path not in parents) or line.posting == "withdrawn" for line in lines)
        return found

    def despatches(self) -> list[str]:
        return self.house.read(lambda c: deliveries_store.despatches(c, self.delivery.number))


def cases(house: House, *, resolved: bool = False) -> list[Case]:
    query = CaseQuery(include_resolved=resolved)
    return house.read(lambda c: case_store.list_cases(c, query, limit=100))[0]


def case_codes(house: House) -> list[str]:
    return sorted(case.code.value for case in cases(house))


def case_units(house: House, code: str) -> set[str]:
    return {
        item.unit.path
        for case in cases(house)
        if case.code.value == code
        for item in house.read(lambda c: case_store.units_of_case(c, case.case_id))  # noqa: B023 - read at once
    }


def inbound(house: House, despatch_id: str) -> inbound_store.InboundShipment:
    found = house.read(lambda c: inbound_store.find(c, despatch_id))
    assert found is not None
    return found


def biz_steps(house: House) -> list[tuple[str, int]]:
    """Business step and number of units of all that a house said."""
    found = []
    for event in house.events():
        step = getattr(event.statement, "biz_step", None)
        if step is not None:
            statement = event.statement
            found.append((step, len(statement.epc_list) + len(statement.child_epcs)))  # type: ignore[union-attr]
    return found


def said_absent(house: House) -> list[tuple[Unit, Unit]]:
    """Containers and units of which a house said that they were not in them."""
    statements = [event.statement for event in house.events()]
    return [
        (units_of((statement.parent_id or "",))[0], child)
        for statement in statements
        if isinstance(statement, EpcisEvent)
        if (statement.biz_step, statement.disposition, statement.action) == ("unpacking", "unknown", Action.DELETE)
        for child in units_of(statement.child_epcs)
    ]


def pack_cases(maker: House, *, cases: int = 2, packs_each: int = 3, first: int = 1) -> list[Sgtin]:
    """Commission packs and cases, and pack the ones into the others; return the cases."""
    made = []
    for number in range(first, first + cases):
        inside = packs(*(f"{number}-{item}" for item in range(1, packs_each + 1)))
        maker.commission(inside)
        maker.commission([case_of(number)])
        maker.pack(case_of(number), inside)
        made.append(case_of(number))
    return made


def ship_cases(
    maker: House, to: House, *, cases: int = 2, packs_each: int = 3, first: int = 1
) -> tuple[str, list[Sgtin]]:
    """Commission, pack and ship cases of packs; return the despatch's id and the cases."""
    made = pack_cases(maker, cases=cases, packs_each=packs_each, first=first)
    despatch_id = maker.ship(made, to.gln)[0].event_id
    maker.send_to(to)
    return despatch_id, made


def ship_pallet(maker: House, to: House, pallet: Sscc) -> tuple[str, list[Sgtin]]:
    """Commission and pack two cases of packs, and ship them on a pallet; return the despatch's id and the cases."""
    boxes = pack_cases(maker)
    maker.pack(pallet, boxes)
    despatch_id = maker.ship([pallet], to.gln)[0].event_id
    maker.send_to(to)
    return despatch_id, boxes


def packs_of(case: Sgtin, *, each: int = 3) -> tuple[Sgtin, ...]:
    return packs(*(f"{case.serial}-{item}" for item in range(1, each + 1)))
