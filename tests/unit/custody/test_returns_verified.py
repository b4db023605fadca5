"""Returns through the books of two and three houses: restocked or held, forwarded, recalled, counted."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MalformedError, MedtrailError
from medtrail.event import Recall, RecallScope
from medtrail.gs1 import Gln, Sgtin
from medtrail.verdict import Finding, Verdict, VerdictAction, VerdictCode, conclude
from services.custody import commands, excursions, holds, lot_holds, recall_returns, returns, returns_store, verdicts
from services.custody.commands import Consignee
from services.custody.desk import Session
from services.custody.exceptions import store as cases
from services.custody.exceptions.codes import ExceptionCode
from services.custody.excursions import NotedExcursion
from services.custody.hold_policy import HoldPolicy
from services.custody.holding import Ending, Holding, HoldingState
from services.custody.holds import HoldCode
from services.custody.recall_returns import RecallCounts
from services.custody.recalls import KnownRecall, RecallIndex
from services.custody.return_codes import ReturnCode
from services.custody.returns import Item, Outcome, Terms
from services.custody.returns_servicer import judge_scan, no_vouching
from services.custody.returns_store import Authorisation
from services.custody.scan import Scanner
from services.custody.units import Named, Unit
from services.custody.verdicts import RETURN_ON_ITS_WAY, Occasion, Own, Seen
from tests.unit.custody.conftest import CASE_GTIN, EXPIRY, GTIN, LOT, House, named, packs, sscc

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GENUINE = conclude([Finding(VerdictCode.GENUINE, "genuine")], judge_time=NOW)
OPENED = conclude([Finding(VerdictCode.PARTIALLY_DISPENSED, "opened")], judge_time=NOW)
CODE = f"(01){GTIN}(21)1(17)280331(10){LOT}"
RECALL_ID = "urn:uuid:11111111-1111-4111-8111-111111111111"


def refused(code: str, work: Callable[[], object]) -> None:
    with pytest.raises(MedtrailError) as caught:
        work()
    assert caught.value.code == code


def deliver(sender: House, receiver: House) -> None:
    sender.send_to(receiver)
    receiver.confirm_all()


def sell(seller: House, buyer: House, *units: Unit) -> None:
    seller.ship(units, buyer.gln)
    deliver(seller, buyer)
    buyer.receive(units)


def send_back(
    house: House, to: House, *units: Unit, authorisation: str = "", purpose: str = "", confirmed: bool = True
) -> None:
    occasion = house.occasion()
    consignee = Consignee(to.gln, to.gln)
    house.write(
        lambda s: commands.send_back(
            s, named(units), occasion, consignee, reason="unsold", authorisation=authorisation, purpose=purpose
        ),
        units,
    )
    house.send_to(to)
    if confirmed:
        to.confirm_all()


def take_back(
    house: House, *units: Unit, verdict: Verdict = GENUINE, terms: Terms | None = None
) -> dict[Unit, Outcome]:
    occasion = house.occasion()
    items = [Item(Named(unit, "scan"), verdict) for unit in units]

    def work(session: Session) -> list[Outcome]:
        return returns.take_back(session, items, occasion, terms or Terms())[0]

    return {outcome.item.named.unit: outcome for outcome in house.write(work, units)}


def codes(house: House, *units: Unit, terms: Terms | None = None) -> list[tuple[ReturnCode, ...]]:
    return [outcome.codes for outcome in take_back(house, *units, terms=terms).values()]


def held(house: House, unit: Unit) -> tuple[HoldingState, tuple[str, ...]]:
    holding: Holding = house.held(unit)
    return holding.state, holds.lines_of(holding.hold_reason)


@pytest.fixture
def sold(maker: House, distributor: House, pharmacy: House) -> None:
    maker.commission(packs(1, 2, 3, 4))
    sell(maker, distributor, *packs(1, 2, 3, 4))
    sell(distributor, pharmacy, *packs(1, 2, 3))


# --- our own sale ---


@pytest.mark.usefixtures("sold")
def test_no_return_unverified_for_what_was_sold_to_the_customer(distributor: House, pharmacy: House) -> None:
    send_back(pharmacy, distributor, *packs(1, 2))
    found = take_back(distributor, *packs(1, 2))

    assert [outcome.restocked for outcome in found.values()] == [True, True]
    assert [held(distributor, unit) for unit in packs(1, 2)] == [(HoldingState.ON_HAND, ())] * 2
    assert distributor.read(lambda c: cases.cases_of_unit(c, packs(1)[0])) == []
    # One event tells that both came, another that both are for sale.
    said = [event.statement.biz_step for event in distributor.events()[-2:] if isinstance(event.statement, EpcisEvent)]
    assert said == ["receiving", "storing"]
    sell(distributor, pharmacy, packs(1)[0])


@pytest.mark.usefixtures("sold")
def test_return_unverified_when_another_bought_it_is_a_case_and_a_hold(
    distributor: House, pharmacy: House, houses: dict[str, House]
) -> None:
    other = houses["repackager"]
    sell(pharmacy, other, packs(1)[0])
    send_back(other, distributor, packs(1)[0])
    (outcome,) = take_back(distributor, packs(1)[0]).values()

    assert outcome.codes == (ReturnCode.NOT_SOLD_TO_CUSTOMER,)
    state, reasons = held(distributor, packs(1)[0])
    assert state is HoldingState.ON_HAND
    assert reasons == ("RETURN_UNVERIFIED: return not verified: NOT_SOLD_TO_CUSTOMER",)
    (case,) = distributor.read(lambda c: cases.cases_of_unit(c, packs(1)[0]))
    assert (case.case_id, case.code) == (outcome.case_id, ExceptionCode.RETURN_UNVERIFIED)
    refused("UNIT_ON_HOLD", lambda: distributor.ship(packs(1), pharmacy.gln))


def test_what_was_never_sold_comes_back_as_an_exception(maker: House, distributor: House, pharmacy: House) -> None:
    maker.commission(packs(1))
    sell(maker, pharmacy, packs(1)[0])
    send_back(pharmacy, distributor, packs(1)[0])

    assert codes(distributor, packs(1)[0]) == [(ReturnCode.NOT_SOLD_TO_CUSTOMER,)]


@pytest.mark.usefixtures("sold")
def test_a_pack_sold_twice_comes_back_from_the_last_customer(distributor: House, pharmacy: House) -> None:
    for _ in range(2):
        send_back(pharmacy, distributor, packs(1)[0])
        assert codes(distributor, packs(1)[0]) == [()]
        sell(distributor, pharmacy, packs(1)[0])


@pytest.mark.usefixtures("sold")
def test_a_return_without_despatch_is_of_the_customer_that_is_named(distributor: House, pharmacy: House) -> None:
    assert codes(distributor, packs(1)[0], terms=Terms(customer=pharmacy.gln)) == [()]
    assert codes(distributor, packs(2)[0], terms=Terms(customer=Gln("0399999999991"))) == [
        (ReturnCode.NOT_SOLD_TO_CUSTOMER,)
    ]
    assert codes(distributor, packs(3)[0]) == [()]


# --- what is not recorded ---


@pytest.mark.usefixtures("sold")
def test_not_despatched_is_not_recorded(distributor: House) -> None:
    count = len(distributor.events())
    (outcome,) = take_back(distributor, packs(4)[0]).values()

    assert (outcome.codes, outcome.recorded) == ((ReturnCode.NOT_DESPATCHED,), False)
    assert len(distributor.events()) == count


@pytest.mark.usefixtures("sold")
def test_no_not_despatched_for_what_is_advised_back(distributor: House, pharmacy: House) -> None:
    send_back(pharmacy, distributor, packs(1)[0])

    assert take_back(distributor, packs(1)[0])[packs(1)[0]].recorded


@pytest.mark.usefixtures("sold")
def test_unit_unknown_is_not_recorded_and_holds_up_nothing(distributor: House) -> None:
    found = take_back(distributor, *packs(9, 1))

    assert [(outcome.codes, outcome.recorded) for outcome in found.values()] == [
        ((ReturnCode.UNIT_UNKNOWN,), False),
        ((), True),
    ]


@pytest.mark.usefixtures("sold")
def test_no_unit_unknown_for_what_was_sold(distributor: House) -> None:
    assert codes(distributor, packs(1)[0]) == [()]


def test_refuses_a_pack_that_is_named_twice() -> None:
    items = [Item(Named(packs(1)[0], f"scans[{number}]"), GENUINE) for number in range(2)]

    refused("UNIT_TWICE", lambda: returns.check_twice(items))


def judge(house: House, scan: str) -> Item | MalformedError:
    scanner = Scanner(house.database, house.desk, None, UTC)
    return asyncio.run(judge_scan(scanner, no_vouching, scan, NOW, field="scans[0]"))


def test_unreadable_scans_are_told(maker: House) -> None:
    assert isinstance(judge(maker, "no barcode"), MalformedError)


def test_no_unreadable_for_a_packs_own_code(maker: House) -> None:
    found = judge(maker, CODE)

    assert isinstance(found, Item)
    assert (found.named, found.expiry) == (Named(packs(1)[0], "scans[0]"), EXPIRY)


# --- on its way back ---


class GenuineLedger:
    """A ledger against whose word nothing speaks."""

    async def verify_pack(self, _sgtin: Sgtin, *, lot: str, expiry: date, judge_time: datetime) -> Verdict:
        assert lot == LOT
        assert expiry == EXPIRY
        return replace(GENUINE, judge_time=judge_time, tree_size=7)


def scanned(house: House) -> Verdict:
    return asyncio.run(scanner_of(house).judge(CODE, NOW))


def scanner_of(house: House) -> Scanner:
    return Scanner(house.database, house.desk, GenuineLedger(), UTC)  # type: ignore[arg-type]


@pytest.mark.usefixtures("sold")
def test_return_on_its_way_is_told_to_its_receiver_and_to_nobody_who_takes_it_back(
    distributor: House, pharmacy: House
) -> None:
    send_back(pharmacy, distributor, packs(1)[0])

    verdict = scanned(distributor)
    assert (verdict.code, verdict.action) == (VerdictCode.HELD, VerdictAction.HOLD)
    assert (verdict.reason, verdict.provisional) == (RETURN_ON_ITS_WAY, False)
    item = asyncio.run(judge_scan(scanner_of(distributor), no_vouching, CODE, NOW, field="scan"))
    assert isinstance(item, Item)
    assert item.verdict.codes == {VerdictCode.GENUINE}
    assert take_back(distributor, packs(1)[0], verdict=item.verdict)[packs(1)[0]].restocked
    assert scanned(distributor).code is VerdictCode.GENUINE


@pytest.mark.usefixtures("sold")
def test_return_on_its_way_does_not_hide_what_else_holds_it(distributor: House, pharmacy: House) -> None:
    send_back(pharmacy, distributor, packs(1)[0])

    own = Own(replace(distributor.held(packs(1)[0]), hold_reason="TEMPERATURE_EXCURSION: 40 degrees"), returning=True)
    verdict = verdicts.judge(Seen(packs(1)[0], LOT, EXPIRY), own, Occasion(NOW), GENUINE)
    assert (verdict.code, verdict.reason) == (VerdictCode.HELD, "ON_HOLD")


def test_no_return_on_its_way_for_what_is_delivered(maker: House, distributor: House) -> None:
    maker.commission(packs(1))
    maker.ship(packs(1), distributor.gln)
    deliver(maker, distributor)

    assert distributor.held(packs(1)[0]).state is HoldingState.INBOUND
    assert scanned(distributor).code is VerdictCode.GENUINE


# --- what makes a pack unsaleable ---


@pytest.mark.usefixtures("sold")
def test_an_unconfirmed_despatch_restocks_nothing(distributor: House, pharmacy: House) -> None:
    send_back(pharmacy, distributor, packs(1)[0], confirmed=False)

    assert codes(distributor, packs(1)[0]) == [(ReturnCode.UNCONFIRMED,)]


@pytest.mark.usefixtures("sold")
def test_the_margin_of_expiry_is_the_organisations_own(distributor: House, pharmacy: House) -> None:
    distributor.desk = replace(distributor.desk, holds=HoldPolicy(return_margin_days=365))
    distributor.clock.now = datetime(2027, 6, 1, tzinfo=UTC)
    send_back(pharmacy, distributor, packs(1)[0])

    assert codes(distributor, packs(1)[0]) == [(ReturnCode.EXPIRY_MARGIN,)]


@pytest.mark.usefixtures("sold")
def test_verified_packs_are_restocked_even_where_every_hold_needs_two(distributor: House, pharmacy: House) -> None:
    distributor.desk = replace(distributor.desk, holds=HoldPolicy(four_eyes=frozenset(HoldCode)))
    send_back(pharmacy, distributor, packs(1)[0])
    assert codes(distributor, packs(1)[0]) == [()]

    take_back(distributor, packs(2)[0], verdict=OPENED)
    occasion = distributor.occasion()
    refused(
        "FOUR_EYES_REQUIRED",
        lambda: distributor.write(
            lambda s: commands.release(s, named(packs(2)), occasion, reason="looks good"), packs(2)
        ),
    )


@pytest.mark.usefixtures("sold")
def test_opened_packs_go_back_for_recall_or_destruction_only(distributor: House, pharmacy: House) -> None:
    pharmacy.dispense(packs(1, 2), partial=True)

    refused("UNIT_OPENED", lambda: send_back(pharmacy, distributor, packs(1)[0]))
    send_back(pharmacy, distributor, packs(1)[0], purpose="destruction")
    (outcome,) = take_back(distributor, packs(1)[0], verdict=OPENED).values()
    assert outcome.codes == (ReturnCode.UNIT_OPENED,)
    # That is why it came: no exception.
    assert outcome.case_id == ""
    assert held(distributor, packs(1)[0])[1] == ("RETURN_UNVERIFIED: came back: UNIT_OPENED",)


# --- what comes back in its case ---

CASE = Sgtin(CASE_GTIN, "110")


@pytest.fixture
def case_sold(maker: House, distributor: House, pharmacy: House) -> None:
    maker.commission(packs(1, 2))
    maker.commission([CASE])
    maker.pack(CASE, packs(1, 2))
    sell(maker, distributor, CASE)
    sell(distributor, pharmacy, CASE)


@pytest.mark.usefixtures("case_sold")
def test_a_case_is_restocked_with_all_that_is_inside(distributor: House, pharmacy: House) -> None:
    send_back(pharmacy, distributor, CASE)

    assert codes(distributor, CASE) == [()]
    assert [held(distributor, unit) for unit in (CASE, *packs(1, 2))] == [(HoldingState.ON_HAND, ())] * 3
    said = distributor.events()[-1].statement
    assert isinstance(said, EpcisEvent)
    # What it only waited for ends, and nothing else.
    assert [(item.name, item.value) for item in said.extensions] == [
        ("reason", "return verified"),
        ("released", holds.RETURN_UNVERIFIED),
    ]


@pytest.mark.usefixtures("case_sold")
def test_an_excursion_of_one_pack_keeps_its_case_on_hold(distributor: House, pharmacy: House) -> None:
    noted = NotedExcursion(packs(1)[0], "urn:x:1", "30 °C, above 8 °C", NOW, NOW, "")
    distributor.write(lambda s: excursions.note(s.connection, [noted]))
    send_back(pharmacy, distributor, CASE)

    assert codes(distributor, CASE) == [(ReturnCode.TEMPERATURE_EXCURSION,)]
    assert "TEMPERATURE_EXCURSION: 30 °C, above 8 °C" in held(distributor, packs(1)[0])[1]
    found = distributor.read(lambda c: excursions.list_excursions(c, unit=None, before=None, limit=9))
    assert [item.release_time for item in found] == [None]
    refused("UNIT_ON_HOLD", lambda: distributor.ship([CASE], pharmacy.gln))


@pytest.mark.usefixtures("case_sold")
def test_a_lot_on_hold_keeps_a_case_of_it_on_hold_and_needs_its_two_persons(
    distributor: House, pharmacy: House
) -> None:
    distributor.desk = replace(distributor.desk, holds=HoldPolicy(four_eyes=frozenset({HoldCode.QUALITY})))
    made = distributor.write(
        lambda s: lot_holds.add(s.connection, gtin=GTIN, lot=LOT, code=HoldCode.QUALITY, reason="assay", now=s.now)
    )
    send_back(pharmacy, distributor, CASE)

    assert codes(distributor, CASE) == [(ReturnCode.HELD,)]
    assert held(distributor, packs(1)[0])[1] == (made.line, "RETURN_UNVERIFIED: return not verified: HELD")
    refused("FOUR_EYES_REQUIRED", lambda: distributor.release([CASE]))


@pytest.mark.usefixtures("case_sold")
def test_what_a_customer_put_into_our_case_is_judged_with_it(maker: House, distributor: House, pharmacy: House) -> None:
    maker.commission(packs(3))
    sell(maker, pharmacy, packs(3)[0])
    pharmacy.pack(CASE, packs(3))
    send_back(pharmacy, distributor, CASE)

    assert codes(distributor, CASE) == [(ReturnCode.NOT_SOLD_TO_CUSTOMER,)]


@pytest.mark.usefixtures("sold")
def test_what_verification_finds_takes_the_place_of_what_the_return_waited_for(
    distributor: House, pharmacy: House
) -> None:
    send_back(pharmacy, distributor, *packs(1, 2))
    distributor.receive(packs(2))
    take_back(distributor, packs(1)[0], verdict=OPENED)

    assert len(held(distributor, packs(1)[0])[1]) == 1
    # Received without being looked at: another hold says nothing of that.
    distributor.write(
        lambda s: commands.hold(s, named(packs(2)), distributor.occasion(), reason="x", code=HoldCode.RECALLED),
        packs(2),
    )
    assert held(distributor, packs(2)[0])[1] == (holds.RETURN_UNVERIFIED, "RECALLED: x")


# --- authorisations ---


def authorise(house: House, customer: Gln, *units: Unit, number: str = "", days: int = 30) -> str:
    def work(session: Session) -> str:
        given = Authorisation(
            number or returns_store.next_authorisation(session.connection),
            customer,
            units,
            "unsold",
            session.now,
            session.now + timedelta(days=days),
        )
        returns_store.add_authorisation(session.connection, given)
        return given.number

    return house.write(work)


@pytest.mark.usefixtures("sold")
def test_a_return_names_its_authorisation(distributor: House, pharmacy: House) -> None:
    distributor.desk = replace(distributor.desk, holds=HoldPolicy(require_authorisation=True))
    number = authorise(distributor, pharmacy.gln, *packs(1))
    send_back(pharmacy, distributor, *packs(1, 2), authorisation=number)
    send_back(pharmacy, distributor, packs(3)[0])

    assert codes(distributor, *packs(1, 2, 3)) == [
        (),
        (ReturnCode.AUTHORISATION_OTHER_UNIT,),
        (ReturnCode.AUTHORISATION_MISSING,),
    ]
    found = distributor.read(lambda c: returns_store.find_authorisation(c, number))
    assert found is not None
    assert (found.number, found.returned_count) == ("RMA-000001", 2)


@pytest.mark.usefixtures("sold")
def test_an_authorisation_may_be_named_where_no_despatch_tells_it(distributor: House, pharmacy: House) -> None:
    number = authorise(distributor, pharmacy.gln, number="X-1")

    assert codes(distributor, packs(1)[0], terms=Terms(authorisation=number)) == [()]
    assert codes(distributor, packs(2)[0], terms=Terms(authorisation="X-2")) == [(ReturnCode.AUTHORISATION_UNKNOWN,)]
    distributor.clock.now += timedelta(days=31)
    assert codes(distributor, packs(3)[0], terms=Terms(authorisation=number)) == [(ReturnCode.AUTHORISATION_EXPIRED,)]


def test_a_number_is_given_once(distributor: House, pharmacy: House) -> None:
    authorise(distributor, pharmacy.gln, number="RMA-000001")

    refused("AUTHORISATION_EXISTS", lambda: authorise(distributor, pharmacy.gln, number="RMA-000001"))
    assert authorise(distributor, pharmacy.gln) == "RMA-000002"
    listed = distributor.read(lambda c: returns_store.list_authorisations(c, before=None, limit=9))
    assert [item.number for item in listed] == ["RMA-000002", "RMA-000001"]
    assert distributor.read(lambda c: returns_store.list_authorisations(c, before=1, limit=9)) == []


@pytest.mark.usefixtures("sold")
def test_what_came_back_is_listed(distributor: House, pharmacy: House) -> None:
    send_back(pharmacy, distributor, packs(1)[0])
    take_back(distributor, packs(1)[0])
    take_back(distributor, packs(2)[0], verdict=OPENED)

    def listed(customer: Gln | None = None, *, only_held: bool = False) -> list[tuple[Unit, tuple[ReturnCode, ...]]]:
        found = distributor.read(
            lambda c: returns_store.list_returned(c, customer=customer, only_held=only_held, before=None, limit=9)
        )
        return [(item.unit, item.codes) for item in found]

    held_back = (packs(2)[0], (ReturnCode.UNIT_OPENED,))
    assert listed() == [held_back, (packs(1)[0], ())]
    assert listed(only_held=True) == [held_back]
    assert listed(pharmacy.gln) == [(packs(1)[0], ())]
    assert (
        distributor.read(lambda c: returns_store.list_returned(c, customer=None, only_held=False, before=1, limit=9))
        == []
    )


# --- upstream ---


@pytest.mark.usefixtures("sold")
def test_a_return_goes_on_to_its_maker_who_restocks_nothing_by_itself(
    maker: House, distributor: House, pharmacy: House
) -> None:
    send_back(pharmacy, distributor, packs(1)[0])
    take_back(distributor, packs(1)[0], verdict=OPENED)
    send_back(distributor, maker, packs(1)[0])
    assert distributor.held(packs(1)[0]).state is HoldingState.RETURNED
    (outcome,) = take_back(maker, packs(1)[0], terms=Terms(to_maker=True)).values()

    assert (outcome.codes, outcome.case_id) == ((ReturnCode.RETURNED_TO_MAKER,), "")
    assert held(maker, packs(1)[0])[1] == ("RETURNED_TO_MAKER: came back: RETURNED_TO_MAKER",)
    refused("UNIT_ON_HOLD", lambda: maker.ship(packs(1), distributor.gln))
    maker.release(packs(1))
    sell(maker, distributor, packs(1)[0])


# --- recalls ---


def recalling(*houses: House, drill: bool = False) -> None:
    found = Recall("R-1", "retail", "why", "return", NOW, (RecallScope(GTIN, LOT),), drill=drill)
    for house in houses:
        house.recalls = (KnownRecall(RECALL_ID, Gln("0300011111116"), found),)


def gather(house: House, to: House | None = None) -> recall_returns.Gathered:
    occasion = house.occasion()

    def work(session: Session) -> recall_returns.Gathered:
        known = recall_returns.require_recall(session.recalls.known, RECALL_ID)
        consignee = None if to is None else Consignee(to.gln, to.gln)
        return recall_returns.gather(session, known, occasion, consignee, authorisation="RMA-7")

    return house.write(work)


def counts(house: House) -> RecallCounts:
    return house.read(lambda c: recall_returns.count(c, house.recalls[0]))


def test_all_that_is_here_under_a_recall_goes_back_containers_whole(maker: House, distributor: House) -> None:
    maker.commission(packs(*range(1, 7)))
    maker.commission(packs(7), lot="B1")
    maker.pack(sscc(1), packs(1, 2))
    maker.pack(sscc(2), packs(3, 7))
    maker.pack(sscc(3), [sscc(1), sscc(2)])
    sell(maker, distributor, sscc(3), *packs(4, 5))
    recalling(maker, distributor)
    authorise(maker, distributor.gln, number="RMA-7")
    distributor.hold(packs(4))
    found = gather(distributor, maker)

    assert (found.unit_count, found.remaining_count) == (5, 0)
    assert [distributor.held(unit).state for unit in packs(*range(1, 6))] == [HoldingState.RETURNED] * 5
    assert distributor.held(packs(7)[0]).state is HoldingState.ON_HAND
    # The case that holds recalled packs only left as it was.
    assert distributor.held(packs(1)[0]).parent == sscc(1)
    assert (distributor.held(packs(3)[0]).parent, distributor.held(packs(7)[0]).parent) == (None, sscc(2))
    assert counts(distributor) == RecallCounts(sent_back=5)

    deliver(distributor, maker)
    outcomes = take_back(maker, *packs(1, 3, 4), terms=Terms(to_maker=True)).values()
    assert [(o.codes, o.case_id) for o in outcomes] == [((ReturnCode.RETURNED_TO_MAKER,), "")] * 3
    assert counts(maker) == RecallCounts(held=1, received_back=3, inbound=2)
    maker.write(lambda s: commands.end(s, named(packs(1)), maker.occasion(), Ending.DESTROYED), packs(1))
    assert counts(maker) == RecallCounts(held=1, received_back=2, inbound=2, ended=1)


@pytest.mark.usefixtures("sold")
def test_opened_packs_go_back_under_a_recall(distributor: House, pharmacy: House) -> None:
    recalling(distributor)
    pharmacy.dispense(packs(1), partial=True)
    recalling(pharmacy)
    found = gather(pharmacy, distributor)

    assert found.unit_count == 3
    deliver(pharmacy, distributor)
    (document,) = {
        item.id
        for event in pharmacy.events()
        if isinstance(event.statement, EpcisEvent)
        for item in event.statement.biz_transaction_list
        if item.type == "rma"
    }
    assert document == f"urn:epcglobal:cbv:bt:{distributor.gln}:RMA-7"


@pytest.mark.usefixtures("sold")
def test_refuses_to_gather_what_nothing_calls_back(distributor: House, pharmacy: House, maker: House) -> None:
    refused("RECALL_UNKNOWN", lambda: gather(pharmacy, distributor))
    recalling(pharmacy, drill=True)
    refused("RECALL_MOVES_NOTHING", lambda: gather(pharmacy, distributor))
    recalling(pharmacy, maker)
    gather(pharmacy, distributor)
    refused("NOTHING_TO_RETURN", lambda: gather(pharmacy, distributor))
    refused("FIELD_MISSING", lambda: gather(maker))


@pytest.mark.usefixtures("sold")
def test_a_recall_that_has_ended_moves_nothing_and_is_still_counted(distributor: House, pharmacy: House) -> None:
    recalling(pharmacy)
    (known,) = pharmacy.recalls
    ending = Recall("R-1/E", "retail", "over", "sell", NOW - timedelta(days=1), (), terminated_recall_id=RECALL_ID)
    pharmacy.recalls = (known, KnownRecall("urn:uuid:2", known.actor, ending))

    refused("RECALL_MOVES_NOTHING", lambda: gather(pharmacy, distributor))
    assert [pharmacy.held(unit).state for unit in packs(1, 2, 3)] == [HoldingState.ON_HAND] * 3
    assert counts(pharmacy) == RecallCounts(held=3)


@pytest.mark.usefixtures("sold")
def test_refuses_to_send_goods_to_a_regulator_unless_it_is_named(distributor: House, pharmacy: House) -> None:
    recalling(pharmacy)
    pharmacy.recalls = (replace(pharmacy.recalls[0], actor=Gln("0399999999991"), regulator=True),)

    refused("FIELD_MISSING", lambda: gather(pharmacy))
    assert gather(pharmacy, distributor).unit_count == 3


def test_a_large_container_is_looked_into_once(
    maker: House, distributor: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.commission(packs(*range(1, 41)))
    maker.pack(sscc(1), packs(*range(1, 21)))
    maker.pack(sscc(2), packs(*range(21, 41)))
    maker.pack(sscc(3), [sscc(1), sscc(2)])
    sell(maker, distributor, sscc(3))
    recalling(distributor)
    asked: list[Unit] = []
    covering = RecallIndex.covering

    def counted(self: RecallIndex, unit: Unit, *, lot: str) -> tuple[str, ...]:
        asked.append(unit)
        return covering(self, unit, lot=lot)

    monkeypatch.setattr(RecallIndex, "covering", counted)
    assert gather(distributor, maker).unit_count == 40
    assert distributor.held(packs(1)[0]).parent == sscc(1)
    # What is here and what is left, and once to see which containers go whole.
    assert max(Counter(asked).values()) <= 3
