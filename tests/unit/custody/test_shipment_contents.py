"""What was inside of a shipment, which events say so, and what an organisation's own events report."""

import io
import random
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from medtrail.epcis.cbv import ilmd_lot_expiry
from medtrail.epcis.export import TradingParty
from medtrail.epcis.model import (
    Action,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    PersistentDisposition,
    Place,
    QuantityElement,
    SourceDest,
)
from medtrail.epcis.rules import Profile
from medtrail.errors import ConflictError, NotFoundError
from medtrail.event import Capture, Event, NationalNumber, PackLevel, Product, ProductContent
from medtrail.gs1 import Gln, OtherKey
from services.custody import commands, events_store, export, reports, shipment, undoing
from services.custody.desk import signed_bytes
from services.custody.dossier import contents_at, units_of
from services.custody.export import Exported, export_shipment
from services.custody.holding import Ending
from services.custody.master_data import Known, known_products
from services.custody.parties_file import PartiesFile
from services.custody.reports import OwnEventKind, Page
from services.custody.shipment import Contents, contents_of
from services.custody.steps import step_of
from tests.unit.custody.conftest import CASE_GTIN, EXPIRY, GTIN, LOT, House, named, packs, sscc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from services.custody.units import Unit

OUTSIDE = Gln("9521002000016")
TOTE = OtherKey("8004", "952100112345")


def statement_of(house: House, event_id: str) -> EpcisEvent:
    found = [item.statement for item in house.events() if item.header.event_id == event_id]
    assert isinstance(found[0], EpcisEvent)
    return found[0]


def contents(house: House, event: EpcisEvent) -> Contents:
    return house.read(lambda c: contents_of(c, event, units_of(event.epc_list)))


def exported(
    house: House, event_id: str, *, profile: Profile | None = None, file: PartiesFile | None = None
) -> tuple[Exported, bytes]:
    out = io.BytesIO()

    def work(connection: "Connection") -> Exported:
        known = Known(house.registry, known_products(connection, {}), file or PartiesFile())
        return export_shipment(
            connection, event_id, glns=house.desk.glns, known=known, profile=profile, now=house.clock(), out=out
        )

    return house.read(work), out.getvalue()


def codes(found: Exported) -> list[tuple[str, str]]:
    return [(gap.code, gap.subject) for gap in found.gaps.listed]


# --- contents ---


@pytest.mark.parametrize("beside", [False, True], ids=["containers", "containers and some of what is inside"])
def test_contents_are_those_of_the_replay_of_all_events_after_any_packing(maker: House, *, beside: bool) -> None:
    moves = random.Random(7)  # moves of a test, not a secret
    units = packs(*range(1, 13))
    cases = tuple(type(unit)(CASE_GTIN, unit.serial) for unit in packs(1, 2, 3, 4))
    pallets = tuple(sscc(number) for number in range(1, 4))
    maker.commission(units)
    for number in range(150):
        kinds: list[tuple[Sequence[Unit], Sequence[Unit]]] = [(cases, units), (pallets, cases), (pallets, units)]
        parents, children = moves.choice(kinds)
        action = moves.choice([Action.ADD, Action.ADD, Action.ADD, Action.DELETE, Action.OBSERVE])
        chosen = moves.sample(children, k=moves.randint(0 if action is Action.DELETE else 1, 4))
        came(maker, aggregation(maker, moves.choice(parents), chosen, action), number)
    event = despatch_of(maker, (*pallets, *cases[:2], *units[:6]) if beside else pallets)
    known = maker.read(lambda c: events_store.events_naming(c, [unit.path for unit in (*pallets, *cases, *units)]))
    expected = contents_at(event, [item.event for item in known])
    found = contents(maker, event).units
    assert {path: unit.parent for path, unit in found.items()} == {
        item.unit.path: "" if item.parent is None else item.parent.path for item in expected
    }
    assert len({item.parent for item in expected}) > 2
    for item in expected:
        unit = found[item.unit.path]
        assert (unit.lot, unit.expiry) == (item.traits.lot, item.traits.expiry)
        assert unit.holds is any(other.parent == item.unit for other in expected)


def aggregation(house: House, parent: "Unit", children: "Sequence[Unit]", action: Action) -> EpcisEvent:
    return EpcisEvent(
        EventType.AGGREGATION,
        house.clock(),
        "+00:00",
        action=action,
        parent_id=parent.digital_link,
        child_epcs=tuple(unit.digital_link for unit in children),
    )


def despatch_of(house: House, units: "Sequence[Unit]") -> EpcisEvent:
    epcs = tuple(unit.digital_link for unit in units)
    return EpcisEvent(EventType.OBJECT, house.clock(), "+00:00", action=Action.OBSERVE, epc_list=epcs)


def came(house: House, statement: EpcisEvent, number: int, *, capture: Capture = Capture.FIRST_HAND) -> None:
    """Put an event into a house's books as one that came from elsewhere, whatever the rules of verbs say."""
    header = replace(house.events()[0].header, event_id=f"urn:x:{number}", actor=OUTSIDE, capture=capture)
    event = Event(header, statement)
    signed_event, sha256 = signed_bytes(event, house.desk.key)
    named_units = {item.unit for item in step_of(statement, field="event").named}
    house.database.write_now(
        lambda c: events_store.insert_event(
            c, event, signer=OUTSIDE, own=False, sha256=sha256, signed_event=signed_event, units=named_units
        )
    )


def test_what_left_a_container_before_is_not_in_its_shipment(maker: House) -> None:
    units = packs(1, 2, 3)
    maker.commission(units)
    maker.pack(sscc(1), units[:2])
    maker.unpack(sscc(1), units[:1])
    maker.pack(sscc(2), (units[0], units[2]))
    sent = maker.ship([sscc(1)], OUTSIDE)
    found = contents(maker, statement_of(maker, sent[0].event_id))
    assert list(found.units) == [sscc(1).path, units[1].path]
    assert len(found.numbers()) == 2


def test_makers_own_word_on_a_lot_goes_before_what_others_repeat(maker: House) -> None:
    maker.commission([sscc(1)])
    life = replace(despatch_of(maker, packs(1)), action=Action.ADD, biz_step="commissioning")
    for number, (lot, capture) in enumerate(
        [
            ("B1", Capture.SECOND_HAND),
            ("A1", Capture.FIRST_HAND),
            ("B2", Capture.SECOND_HAND),
            ("A2", Capture.FIRST_HAND),
        ]
    ):
        came(maker, replace(life, event_time=maker.clock(), ilmd=ilmd_lot_expiry(lot, EXPIRY)), number, capture=capture)
    found = contents(maker, despatch_of(maker, packs(1)))
    assert found.units[packs(1)[0].path].lot == "A1"


def test_outputs_of_a_transformation_have_their_lot_and_are_made_by_it(maker: House) -> None:
    maker.commission([sscc(1)])
    made = EpcisEvent(
        EventType.TRANSFORMATION,
        maker.clock(),
        "+00:00",
        output_epc_list=tuple(unit.digital_link for unit in packs(1, 2)),
        input_epc_list=(packs(9)[0].digital_link,),
        ilmd=ilmd_lot_expiry("T1", EXPIRY),
    )
    came(maker, made, 1)
    found = contents(maker, despatch_of(maker, packs(1)))
    unit = found.units[packs(1)[0].path]
    assert (unit.lot, unit.expiry, found.numbers()) == ("T1", EXPIRY, [unit.made_by])


# --- gaps and refusals ---


def test_file_of_goods_whose_makers_events_are_not_known_names_every_gap(maker: House, distributor: House) -> None:
    maker.commission(packs(1))
    maker.pack(sscc(1), packs(1))
    maker.ship([sscc(1)], distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive([sscc(1)])

    def forget(connection: "Connection") -> None:
        for item in events_store.events_naming(connection, [packs(1)[0].path]):
            events_store.forget(connection, item.number)

    distributor.database.write_now(forget)
    distributor.unpack(sscc(1))
    sent = distributor.ship(packs(1), OUTSIDE)
    found, data = exported(distributor, sent[0].event_id)
    assert codes(found) == [
        ("UNIT_NOT_COMMISSIONED", packs(1)[0].path),
        ("PRODUCT_UNKNOWN", GTIN.digits),
        ("PARTY_ADDRESS_MISSING", str(distributor.gln)),
        ("PARTY_UNKNOWN", str(OUTSIDE)),
        ("PREFIX_UNKNOWN", f"/414/{distributor.gln}"),
        ("PREFIX_UNKNOWN", f"/414/{OUTSIDE}"),
        ("PREFIX_UNKNOWN", f"/417/{distributor.gln}"),
        ("PREFIX_UNKNOWN", f"/417/{OUTSIDE}"),
    ]
    assert (found.unit_count, found.pack_count, found.event_count, found.size) == (1, 1, 1, len(data))


def test_container_of_unknown_contents_and_a_case_without_its_packs_are_gaps(maker: House) -> None:
    cases = tuple(type(unit)(CASE_GTIN, unit.serial) for unit in packs(1))
    maker.commission(cases)
    maker.commission([sscc(1)])
    sent = maker.ship([sscc(1), *cases], OUTSIDE)
    found, _ = exported(maker, sent[0].event_id)
    assert [gap for gap in codes(found) if gap[0] == "CONTENTS_UNKNOWN"] == [
        ("CONTENTS_UNKNOWN", sscc(1).path),
        ("CONTENTS_UNKNOWN", cases[0].path),
    ]
    maker.write(lambda s: s.state(Product(CASE_GTIN, PackLevel.PACK, "Epcistra")))
    found, _ = exported(maker, sent[0].event_id)
    assert [gap for gap in codes(found) if gap[0] == "CONTENTS_UNKNOWN"] == [("CONTENTS_UNKNOWN", sscc(1).path)]


def test_asset_is_a_container(maker: House) -> None:
    maker.commission(packs(1))
    maker.pack(TOTE, packs(1))
    sent = maker.ship([TOTE], OUTSIDE)
    found, _ = exported(maker, sent[0].event_id)
    assert (found.unit_count, found.pack_count) == (2, 1)
    assert "CONTENTS_UNKNOWN" not in {code for code, _ in codes(found)}


def test_commissioning_without_lot_and_expiry_is_a_gap(maker: House) -> None:
    units = packs(1)
    occasion = maker.occasion()
    maker.write(lambda s: commands.commission(s, named(units), occasion, lot="", expiry=None), units)
    sent = maker.ship(units, OUTSIDE)
    found, _ = exported(maker, sent[0].event_id)
    assert codes(found)[:2] == [("LOT_MISSING", units[0].path), ("EXPIRY_MISSING", units[0].path)]


def test_grouping_is_described_by_what_it_holds_where_it_says_nothing_itself(maker: House) -> None:
    numbers = (NationalNumber("NDC", "0001-0123-45"),)
    inner = Product(GTIN, PackLevel.PACK, "Epcistra", numbers, "100 mg", "PILL", "500 pills")
    outer = Product(CASE_GTIN, PackLevel.CASE, "Epcistra, case", content=ProductContent(GTIN, 4))
    for product in (inner, outer):
        maker.write(lambda s, product=product: s.state(product))  # type: ignore[misc]
    cases = tuple(type(unit)(CASE_GTIN, unit.serial) for unit in packs(9))
    maker.commission(packs(1))
    maker.commission(cases)
    maker.pack(cases[0], packs(1))
    sent = maker.ship(cases, OUTSIDE)
    found, data = exported(maker, sent[0].event_id)
    assert {code for code, _ in codes(found)} == {"PARTY_ADDRESS_MISSING", "PARTY_UNKNOWN", "PREFIX_UNKNOWN"}
    assert data.count(b"500 pills") == 2
    assert data.count(b"Maker AG") >= 2


def test_refused_and_withdrawn_despatches_are_not_handed_on(maker: House) -> None:
    units = packs(1, 2)
    maker.commission(units)
    first, second = (maker.ship([unit], OUTSIDE)[0] for unit in units)

    def refuse(connection: "Connection") -> None:
        stored = events_store.find_by_id(connection, first.event_id)[0]
        events_store.set_refusal(connection, stored.number, "KEY_REVOKED")

    maker.database.write_now(refuse)
    declare_wrong(maker, second.event_id)
    for event_id, code in ((first.event_id, "DESPATCH_REFUSED"), (second.event_id, "DESPATCH_WITHDRAWN")):
        with pytest.raises(ConflictError) as caught:
            exported(maker, event_id)
        assert caught.value.code == code


def declare_wrong(house: House, event_id: str, *corrective: str) -> None:
    reason = "incorrect_data" if corrective else "did_not_occur"
    statement = statement_of(house, event_id)
    error = ErrorDeclaration(house.clock(), reason, corrective)
    wrong = replace(statement, event_id=event_id, error_declaration=error)
    units = tuple(item.unit for item in step_of(statement, field="event").named)
    house.write(lambda s: undoing.declare(s, wrong, error, field="event"), units)


def test_despatch_by_class_or_without_parties_is_a_gap(maker: House) -> None:
    maker.commission(packs(1))
    sent = maker.ship(packs(1), OUTSIDE)
    plain = statement_of(maker, sent[0].event_id)
    odd = replace(
        plain,
        event_time=maker.clock(),
        quantity_list=(QuantityElement("urn:epc:class:lgtin:030001.0012345.A123"),),
        source_list=(SourceDest("location", "urn:jaif:id:obj:7"),),
        destination_list=(),
    )

    def work(connection: "Connection") -> Exported:
        stored = events_store.find_by_id(connection, sent[0].event_id)[0]
        out = io.BytesIO()
        known = Known(maker.registry, {}, PartiesFile())
        one = export._Export(connection, stored, odd, known, maker.clock())
        one.open_containers()
        one.head(None)
        return Exported(0, 0, 0, len(out.getvalue()), one.gaps)

    assert codes(maker.read(work)) == [
        ("NOT_SERIALISED", sent[0].event_id),
        ("SENDER_MISSING", sent[0].event_id),
        ("RECEIVER_MISSING", sent[0].event_id),
        ("PRODUCT_UNKNOWN", GTIN.digits),
        ("PARTY_UNKNOWN", "urn:jaif:id:obj:7"),
    ]


def test_what_version_12_cannot_say_is_a_gap_and_left_out(maker: House) -> None:
    maker.commission(packs(1, 2))
    odd = replace(
        despatch_of(maker, packs(1)),
        action=Action.ADD,
        biz_step="commissioning",
        persistent_disposition=PersistentDisposition(set=("completeness_verified",)),
        read_point=Place("urn:epc:id:sgln:nothing"),
        ilmd=ilmd_lot_expiry(LOT, EXPIRY),
    )
    unit = type(packs(1)[0])(GTIN, "odd")
    came(maker, replace(odd, epc_list=(unit.digital_link,)), 1)
    maker.pack(sscc(1), packs(1))
    came(maker, aggregation(maker, sscc(1), (unit,), Action.ADD), 2)
    file = PartiesFile({OUTSIDE: TradingParty("")}, company_prefixes=("9521002",))
    found, data = exported(maker, maker.ship([sscc(1)], OUTSIDE)[0].event_id, file=file)
    gaps = codes(found)
    assert ("NOT_IN_VERSION", "urn:x:1 persistentDisposition") in gaps
    assert ("PARTY_NAME_MISSING", str(OUTSIDE)) in gaps
    assert "PREFIX_UNKNOWN" not in {code for code, _ in gaps}
    # What was left out is no longer what was signed under that id.
    assert b"urn:x:1" not in data
    assert b"persistentDisposition" not in data


def test_despatch_in_a_transaction_event_ships_its_parent_too(maker: House) -> None:
    maker.commission(packs(1, 2))
    maker.pack(sscc(1), packs(1))
    sent = maker.ship([sscc(1)], OUTSIDE)[0]
    plain = statement_of(maker, sent.event_id)
    despatch = replace(plain, parent_id=sscc(1).digital_link, epc_list=(packs(2)[0].digital_link,))

    def work(connection: "Connection") -> list[str]:
        stored = events_store.find_by_id(connection, sent.event_id)[0]
        one = export._Export(connection, stored, despatch, Known(maker.registry, {}, PartiesFile()), maker.clock())
        one.open_containers()
        return list(one.contents.units)

    assert set(maker.read(work)) == {sscc(1).path, packs(1)[0].path, packs(2)[0].path}


def test_gaps_beyond_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_LISTED", 2)
    gaps = export.Gaps()
    for number in range(5):
        gaps.add("LOT_MISSING", str(number), "")
    assert (len(gaps.listed), gaps.count) == (2, 5)


# --- reports ---


def listed(
    house: House,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    kinds: "Sequence[OwnEventKind]" = (),
    limit: int = 100,
) -> list[tuple[OwnEventKind, str]]:
    found: list[tuple[OwnEventKind, str]] = []

    def look(connection: "Connection", after: int) -> Page:
        return reports.list_own_events(connection, after=after, start=start, end=end, kinds=kinds, limit=limit)

    after: int | None = 0
    while after is not None:
        page = house.read(partial(look, after=after))
        found += [(item.kind, item.event_id) for item in page.events]
        after = page.position
    return found


def pack_lines(house: House, event_id: str, *, declaration: bool = False) -> list[tuple[str, str, str]]:
    found = house.read(lambda c: reports.packs_of(c, event_id, declaration=declaration))
    return [(pack.serial, pack.lot, str(pack.expiry)) for pack in found]


def test_reports_every_kind_in_the_order_in_which_it_was_recorded(
    maker: House, distributor: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = packs(*range(1, 9))
    maker.commission(units)
    sold = maker.ship(units[:3], distributor.gln)[0]
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive(units[:3])
    back = distributor.send_back(units[:1], maker.gln)[0]
    distributor.send_to(maker)
    maker.confirm_all()
    took = maker.receive(units[:1]).accepted[0]
    occasion = maker.occasion()
    lost = maker.write(lambda s: commands.end(s, named(units[5:6]), occasion, Ending.LOST), units[5:6])[0]
    gone = maker.write(lambda s: commands.end(s, named(units[6:7]), occasion, Ending.DESTROYED), units[6:7])[0]
    false, right = (maker.ship([unit], OUTSIDE)[0] for unit in units[3:5])
    declare_wrong(maker, false.event_id)
    declare_wrong(maker, right.event_id, sold.event_id)
    assert listed(distributor, kinds=(OwnEventKind.RETURN_SHIPMENT,)) == [(OwnEventKind.RETURN_SHIPMENT, back.event_id)]
    expected = [
        (OwnEventKind.SALES_SHIPMENT, sold.event_id),
        (OwnEventKind.RETURN_RECEIPT, took.event_id),
        (OwnEventKind.OTHER, lost.event_id),
        (OwnEventKind.DESTRUCTION, gone.event_id),
        (OwnEventKind.SALES_SHIPMENT, false.event_id),
        (OwnEventKind.SALES_SHIPMENT, right.event_id),
        (OwnEventKind.CANCELLATION, false.event_id),
        (OwnEventKind.CORRECTION, right.event_id),
    ]
    assert listed(maker)[1:] == expected
    assert listed(maker, limit=1)[1:] == expected
    monkeypatch.setattr(reports, "MAX_EXAMINED", 2)
    assert listed(maker)[1:] == expected
    assert pack_lines(maker, sold.event_id) == [(str(serial), LOT, EXPIRY.isoformat()) for serial in (1, 2, 3)]
    assert pack_lines(maker, false.event_id, declaration=True) == [("4", LOT, EXPIRY.isoformat())]


def test_time_of_a_declaration_is_its_own(maker: House) -> None:
    units = packs(1)
    maker.commission(units)
    sold = maker.ship(units, OUTSIDE)[0]
    between = maker.clock()
    declare_wrong(maker, sold.event_id)
    assert listed(maker, start=between) == [(OwnEventKind.CANCELLATION, sold.event_id)]
    assert (OwnEventKind.SALES_SHIPMENT, sold.event_id) in listed(maker, end=between)
    assert listed(maker, start=maker.clock() + timedelta(days=1)) == []


def test_packs_inside_of_containers_are_told_by_product_lot_and_length_of_serial(maker: House) -> None:
    maker.commission(packs(10, 9))
    maker.commission(packs(8), lot="A122")
    maker.pack(sscc(1), packs(10, 9, 8))
    sold = maker.ship([sscc(1)], OUTSIDE)[0]
    assert [serial for serial, _, _ in pack_lines(maker, sold.event_id)] == ["8", "9", "10"]


def test_refuses_packs_of_what_is_not_ours(maker: House, distributor: House) -> None:
    maker.commission(packs(1))
    sold = maker.ship(packs(1), distributor.gln)[0]
    maker.send_to(distributor)
    for event_id in (sold.event_id, "urn:uuid:0"):
        with pytest.raises(NotFoundError) as caught:
            pack_lines(distributor, event_id)
        assert caught.value.code == "EVENT_UNKNOWN"


def test_voided_shipment_is_a_cancellation(maker: House) -> None:
    voided = replace(despatch_of(maker, packs(1)), biz_step="void_shipping")
    assert reports.kind_of(voided) is OwnEventKind.CANCELLATION


def test_what_another_did_and_was_passed_on_is_not_reported(maker: House) -> None:
    maker.commission(packs(1))
    sold = maker.ship(packs(1), OUTSIDE)[0]
    before = listed(maker)

    def pass_on(connection: "Connection") -> None:
        stored = events_store.find_by_id(connection, sold.event_id)[0]
        header = replace(stored.event.header, event_id="urn:x:other", actor=OUTSIDE, capture=Capture.SECOND_HAND)
        event = replace(stored.event, header=header)
        signed_event, sha256 = signed_bytes(event, maker.desk.key)
        events_store.insert_event(
            connection, event, signer=maker.gln, own=True, sha256=sha256, signed_event=signed_event, units=()
        )

    maker.database.write_now(pass_on)
    assert listed(maker) == before


def test_event_of_what_is_no_unit_reports_nothing() -> None:
    statement = EpcisEvent(
        EventType.OBJECT, datetime.fromisoformat("2026-03-01T08:00:00Z"), "+00:00", epc_list=("urn:x:y",)
    )
    assert reports.kind_of(statement) is OwnEventKind.OTHER


def test_events_are_read_a_few_at_a_time(maker: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipment, "READ_EVENTS", 2)
    units = packs(*range(5))
    for unit in units:
        maker.commission([unit])
    sold = maker.ship(units, OUTSIDE)[0]
    found = contents(maker, statement_of(maker, sold.event_id))
    assert len(found.numbers()) == 5
    assert {unit.lot for unit in found.units.values()} == {LOT}
