"""What a scan means from the books and the ledger's word; and answers in the order of the scans."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from medtrail.epcis.model import (
    Action,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    PersistentDisposition,
    Place,
)
from medtrail.errors import MalformedError, UnavailableError
from medtrail.event import Recall, RecallScope
from medtrail.verdict import Finding, KnownPack, Verdict, VerdictAction, VerdictCode, conclude
from services.custody import messages, undoing, verdicts
from services.custody.holding import Ending, Holding, HoldingState
from services.custody.recalls import KnownRecall
from services.custody.scan import Scanner, in_order
from services.custody.verdicts import Occasion, Own, Seen
from tests.unit.custody.conftest import EXPIRY, GTIN, LOT, START, packs

if TYPE_CHECKING:
    from medtrail.gs1 import Sgtin
    from tests.unit.custody.conftest import House

T0 = datetime(2026, 3, 1, tzinfo=UTC)
(PACK,) = packs(1)
SEEN = Seen(PACK, LOT, EXPIRY)
HELD = Holding(PACK, HoldingState.ON_HAND, "urn:x:1", T0, lot=LOT, expiry=EXPIRY)


def ledger(*codes: VerdictCode, provisional: bool = False) -> Verdict:
    return conclude(
        [Finding(code, f"ledger says {code}", provisional=provisional) for code in codes],
        judge_time=T0,
        known=KnownPack(PACK.digital_link, LOT, EXPIRY, "0399999999991"),
        tree_size=7,
    )


def judged(own: Own, word: Verdict | None, seen: Seen = SEEN, when: datetime = T0) -> Verdict:
    return verdicts.judge(seen, own, Occasion(when), word)


GENUINE = ledger(VerdictCode.GENUINE)


def test_a_genuine_pack_on_hand_is_accepted() -> None:
    verdict = judged(Own(HELD, logged=True), GENUINE)
    assert (verdict.code, verdict.action, verdict.tree_size) == (VerdictCode.GENUINE, VerdictAction.ACCEPT, 7)
    assert not verdict.provisional


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": HoldingState.DESPATCHED}, VerdictCode.ELSEWHERE),
        ({"state": HoldingState.RETURNED}, VerdictCode.ELSEWHERE),
        ({"state": HoldingState.PARTIALLY_DISPENSED}, VerdictCode.PARTIALLY_DISPENSED),
        ({"state": HoldingState.DISPENSED}, VerdictCode.ALREADY_DISPENSED),
        ({"state": HoldingState.CONSUMED}, VerdictCode.CONSUMED),
        ({"state": HoldingState.ENDED, "ending": Ending.DESTROYED}, VerdictCode.DECOMMISSIONED),
        ({"state": HoldingState.ENDED, "ending": Ending.LOST}, VerdictCode.STOLEN),
        ({"state": HoldingState.EXCEPTION, "exception": "UNADVISED"}, VerdictCode.HELD),
        ({"hold_reason": "leaking"}, VerdictCode.HELD),
        ({"hold_reason": "leaking\nSUSPECT: blurred print"}, VerdictCode.SUSPECT),
        ({"provisional": True}, VerdictCode.UNCONFIRMED),
        ({"lot": "B9"}, VerdictCode.LOT_MISMATCH),
        ({"expiry": date(2029, 1, 1)}, VerdictCode.EXPIRY_MISMATCH),
    ],
)
def test_the_books_speak_before_a_genuine_ledger(changes: dict[str, object], code: VerdictCode) -> None:
    verdict = judged(Own(replace(HELD, **changes), logged=True), GENUINE)  # type: ignore[arg-type]
    assert verdict.code is code
    assert verdict.action is not VerdictAction.ACCEPT


@pytest.mark.parametrize("code", [code for code in VerdictCode if code is not VerdictCode.UNREADABLE])
def test_the_ledgers_word_is_never_softened_for_goods_long_logged(code: VerdictCode) -> None:
    verdict = judged(Own(HELD, logged=True), ledger(code))
    assert verdict.code is code


def test_what_only_the_ledger_has_not_heard_yet_is_unconfirmed() -> None:
    inbound = replace(HELD, state=HoldingState.INBOUND, provisional=True)
    verdict = judged(Own(inbound), ledger(VerdictCode.UNKNOWN))
    assert (verdict.code, verdict.action, verdict.provisional) == (
        VerdictCode.UNCONFIRMED,
        VerdictAction.HOLD,
        True,
    )
    assert judged(Own(HELD), ledger(VerdictCode.ELSEWHERE)).code is VerdictCode.UNCONFIRMED
    assert judged(Own(None), ledger(VerdictCode.UNKNOWN)).action is VerdictAction.REJECT


def test_without_the_ledger_nothing_is_accepted_and_nobody_accused() -> None:
    known = judged(Own(HELD, logged=True), None)
    assert (known.code, known.action, known.reason) == (
        VerdictCode.UNCONFIRMED,
        VerdictAction.HOLD,
        "LEDGER_UNREACHABLE",
    )
    unknown = judged(Own(None), None)
    assert (unknown.code, unknown.action, unknown.provisional) == (VerdictCode.UNKNOWN, VerdictAction.HOLD, True)
    dispensed = judged(Own(replace(HELD, state=HoldingState.DISPENSED)), None)
    assert (dispensed.code, dispensed.action) == (VerdictCode.ALREADY_DISPENSED, VerdictAction.REJECT)


def test_a_recall_goes_before_all_that_the_books_hold() -> None:
    own = Own(replace(HELD, state=HoldingState.DISPENSED, hold_reason="x"), ("urn:uuid:1",), logged=True)
    verdict = judged(own, GENUINE)
    assert (verdict.code, verdict.recall_ids) == (VerdictCode.RECALLED, ("urn:uuid:1",))
    assert VerdictCode.ALREADY_DISPENSED in verdict.further_codes


def test_expiry_is_judged_for_the_moment_and_the_place() -> None:
    last_hour = datetime(2028, 3, 31, 23, 30, tzinfo=UTC)
    assert judged(Own(HELD, logged=True), GENUINE, when=last_hour).code is VerdictCode.GENUINE
    east = verdicts.judge(SEEN, Own(HELD, logged=True), Occasion(last_hour, timedelta(hours=2)), GENUINE)
    assert east.code is VerdictCode.EXPIRED


@pytest.mark.parametrize("text", ["2028-3-31", "20280331", "2028-02-30", ""])
def test_refuses_what_is_no_day(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        messages.parse_day(text, field="expiry")
    assert (caught.value.code, caught.value.field) == ("DATE_WRONG", "expiry")


# --- scanning ---


class FakeLedger:
    """A ledger that answers one way."""

    def __init__(self, word: Verdict | None) -> None:
        self.word = word
        self.asked: list[tuple[str, str, date]] = []

    async def verify_pack(self, sgtin: "Sgtin", *, lot: str, expiry: date, judge_time: datetime) -> Verdict:
        assert judge_time.tzinfo is not None
        self.asked.append((sgtin.path, lot, expiry))
        if self.word is None:
            raise UnavailableError("gone")
        return self.word


def scanner(house: "House", word: Verdict | None) -> tuple[Scanner, FakeLedger]:
    fake = FakeLedger(word)
    return Scanner(house.database, house.desk, fake, ZoneInfo("UTC")), fake  # type: ignore[arg-type]


SCAN = f"]d201{GTIN}21{1}\x1d17{EXPIRY:%y%m%d}10{LOT}"


def test_reads_a_scan_and_asks_books_and_ledger(maker: "House") -> None:
    maker.commission(packs(1))
    judge, fake = scanner(maker, GENUINE)
    verdict = asyncio.run(judge.judge(SCAN, START))
    assert verdict.code is VerdictCode.GENUINE
    assert fake.asked == [(PACK.path, LOT, EXPIRY)]


def test_a_ledger_that_cannot_be_reached_leaves_a_provisional_answer(maker: "House") -> None:
    maker.commission(packs(1))
    judge, _ = scanner(maker, None)
    verdict = asyncio.run(judge.judge(SCAN, None))
    assert (verdict.code, verdict.provisional) == (VerdictCode.UNCONFIRMED, True)
    alone = Scanner(maker.database, maker.desk, None, ZoneInfo("UTC"))
    assert asyncio.run(alone.judge(SCAN, None)).reason == "LEDGER_UNREACHABLE"


def test_a_recall_speaks_from_its_first_moment(maker: "House") -> None:
    recall = Recall("R1", "retail", "why", "", START, (RecallScope(GTIN, LOT),))
    maker.write(lambda s: s.state(recall))
    judge, _ = scanner(maker, GENUINE)
    assert asyncio.run(judge.judge(SCAN, START)).code is VerdictCode.RECALLED
    known = maker.events()[0].header.event_id
    # In the log it is the same recall, known once.
    maker.recalls = (KnownRecall(known, maker.gln, recall),)
    assert asyncio.run(judge.judge(SCAN, START)).recall_ids == (known,)


@pytest.mark.parametrize(
    ("scan", "reason"),
    [
        ("", "SCAN_EMPTY"),
        (f"01{GTIN}211234567890123456789012345678901234", "SCANNER_NOT_CONFIGURED"),
        ("0300010123455", "SCAN_LINEAR_ONLY"),
        ("x" * 9000, "TOO_LARGE"),
        ("(00)003000100000000015", "SCAN_NOT_PACK"),
    ],
)
def test_a_scan_that_cannot_be_read_is_a_verdict_too(maker: "House", scan: str, reason: str) -> None:
    judge, fake = scanner(maker, GENUINE)
    verdict = asyncio.run(judge.judge(scan, None))
    assert (verdict.code, verdict.action, verdict.reason) == (
        VerdictCode.UNREADABLE,
        VerdictAction.RESCAN,
        reason,
    )
    assert fake.asked == []


async def _questions(numbers: range) -> AsyncIterator[int]:
    for number in numbers:
        yield number


def test_answers_come_in_order_however_long_each_takes() -> None:
    async def run() -> tuple[list[int], int]:
        gates = {number: asyncio.Event() for number in range(40)}
        running = 0
        most = 0

        async def answer(number: int) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            # Each is let go by the one behind it, the last of a window by nobody: they end back to front.
            if number % 4 != 3:
                await gates[number].wait()
            if number > 0:
                gates[number - 1].set()
            running -= 1
            return number

        found = [number async for number in in_order(_questions(range(40)), answer, at_once=4)]
        return found, most

    found, most = asyncio.run(run())
    assert found == list(range(40))
    assert most <= 6


def test_a_broken_stream_of_questions_ends_the_answers() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("line lost")

    async def answer(number: int) -> int:
        return number

    async def run() -> list[int]:
        answers = in_order(broken(), answer)
        found = [await anext(answers)]
        with pytest.raises(RuntimeError, match="line lost"):
            await anext(answers)
        return found

    assert asyncio.run(run()) == [1]


def test_a_reader_that_leaves_stops_the_work() -> None:
    async def run() -> None:
        forever = asyncio.Event()

        async def answer(number: int) -> int:
            if number:
                await forever.wait()
            return number

        answers = in_order(_questions(range(100)), answer, at_once=2)
        assert await anext(answers) == 0
        await answers.aclose()  # type: ignore[attr-defined]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def marked(house: "House", disposition: str, *, at: int, **persistent: tuple[str, ...]) -> EpcisEvent:
    """Let a house say a disposition of the scanned pack, at minutes after the start, in an event that ends nothing."""
    statement = EpcisEvent(
        type=EventType.OBJECT,
        event_time=START + timedelta(minutes=at),
        event_time_zone_offset="+00:00",
        action=Action.OBSERVE,
        epc_list=(PACK.digital_link,),
        biz_step="inspecting",
        disposition=disposition,
        read_point=Place(f"https://id.gs1.org/414/{house.desk.default_location}"),
        persistent_disposition=PersistentDisposition(**persistent) if persistent else None,
    )
    house.write(lambda s: s.record(statement), packs(1))
    return statement


def test_what_we_said_of_a_pack_speaks_before_the_ledger_has_heard_it(maker: "House") -> None:
    maker.commission(packs(1))
    judge, _ = scanner(maker, GENUINE)

    def code() -> VerdictCode:
        return asyncio.run(judge.judge(SCAN, START)).code

    marked(maker, "damaged", at=1)
    assert code() is VerdictCode.HELD
    # The last in time counts, not the last that was said.
    marked(maker, "sellable_not_accessible", at=-1)
    assert code() is VerdictCode.HELD
    marked(maker, "conformant", at=2, set=("recalled",))
    assert code() is VerdictCode.RECALLED
    marked(maker, "conformant", at=3, unset=("recalled",))
    assert code() is VerdictCode.GENUINE
    wrong = marked(maker, "expired", at=4)
    assert code() is VerdictCode.EXPIRED
    error = ErrorDeclaration(START + timedelta(minutes=5), "did_not_occur")
    declared = replace(wrong, error_declaration=error)
    maker.write(lambda s: undoing.declare(s, declared, error, field="event"), packs(1))
    assert code() is VerdictCode.GENUINE
