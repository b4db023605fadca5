"""Every code of a return, named after it: when a pack is not restocked for it, and what comes close and is."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from medtrail.gs1 import Gln
from medtrail.verdict import Finding, Verdict, VerdictCode, conclude
from services.custody.holding import Holding, HoldingState
from services.custody.holds import RETURN_UNVERIFIED
from services.custody.return_codes import ReturnCode, ReturnFacts, judge_authorisation, judge_return
from tests.unit.custody.conftest import packs

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CUSTOMER, OTHER = Gln("0399999999991"), Gln("0300011111116")
EXPIRY = date(2028, 3, 31)


def verdict(*codes: VerdictCode, provisional: bool = False) -> Verdict:
    return conclude([Finding(code, code, provisional=provisional) for code in codes], judge_time=NOW)


GOOD = ReturnFacts(
    before=Holding(packs(1)[0], HoldingState.INBOUND, "ni:1", NOW, sold_to=CUSTOMER, lot="A1", expiry=EXPIRY),
    sold_to=CUSTOMER,
    customer=CUSTOMER,
    verdict=verdict(VerdictCode.GENUINE, VerdictCode.ELSEWHERE),
    expiry=EXPIRY,
    today=date(2026, 3, 1),
    margin=timedelta(),
    hold_reasons=RETURN_UNVERIFIED,
)


def judged(**changes: object) -> list[ReturnCode]:
    return list(judge_return(replace(GOOD, **changes)))  # type: ignore[arg-type]


def before(**changes: object) -> Holding:
    return replace(GOOD.before, **changes)  # type: ignore[arg-type]


def test_a_pack_against_which_nothing_speaks_is_restocked() -> None:
    assert judged() == []
    assert judged(verdict=verdict(VerdictCode.GENUINE)) == []


def test_not_sold_to_customer_when_sold_to_another_or_never() -> None:
    assert judged(sold_to=OTHER) == [ReturnCode.NOT_SOLD_TO_CUSTOMER]
    assert judged(sold_to=None) == [ReturnCode.NOT_SOLD_TO_CUSTOMER]
    assert judged(sold_to=None, customer=None) == [ReturnCode.NOT_SOLD_TO_CUSTOMER]


def test_no_not_sold_to_customer_where_nobody_says_who_returns_or_the_maker_takes_back() -> None:
    assert judged(customer=None) == []
    assert judged(sold_to=OTHER, to_maker=True) == [ReturnCode.RETURNED_TO_MAKER]


def test_unit_opened_by_books_or_by_the_log() -> None:
    assert judged(before=before(remainder=Decimal(4))) == [ReturnCode.UNIT_OPENED]
    assert judged(before=before(opened=True)) == [ReturnCode.UNIT_OPENED]
    opened = verdict(VerdictCode.GENUINE, VerdictCode.PARTIALLY_DISPENSED)
    assert judged(verdict=opened) == [ReturnCode.UNIT_OPENED]


def test_no_unit_opened_for_a_whole_pack() -> None:
    assert judged(before=before(remainder=None)) == []


def test_recalled_by_the_log_or_by_a_hold() -> None:
    assert judged(verdict=verdict(VerdictCode.GENUINE, VerdictCode.RECALLED)) == [ReturnCode.RECALLED]
    assert judged(hold_reasons="RECALLED: R-1") == [ReturnCode.RECALLED]


def test_no_recalled_for_what_its_maker_merely_asks_for() -> None:
    assert judged(hold_reasons="PARTNER: R-1") == [ReturnCode.HELD]


def test_suspect_by_the_log_the_books_or_a_hold() -> None:
    assert judged(verdict=verdict(VerdictCode.GENUINE, VerdictCode.SUSPECT)) == [ReturnCode.SUSPECT]
    assert judged(before=before(suspect="case")) == [ReturnCode.SUSPECT]
    assert judged(hold_reasons=f"{RETURN_UNVERIFIED}\nSUSPECT") == [ReturnCode.SUSPECT]


def test_no_suspect_for_a_pack_that_was_cleared() -> None:
    assert judged(before=before(suspect="")) == []


def test_temperature_excursion_noted_or_held() -> None:
    assert judged(excursion=True) == [ReturnCode.TEMPERATURE_EXCURSION]
    assert judged(hold_reasons="TEMPERATURE_EXCURSION: 9 °C") == [ReturnCode.TEMPERATURE_EXCURSION]


def test_no_temperature_excursion_when_none_is_open() -> None:
    assert judged(excursion=False) == []


def test_expired_after_its_last_day() -> None:
    assert judged(today=date(2028, 4, 1)) == [ReturnCode.EXPIRED]
    assert judged(verdict=verdict(VerdictCode.GENUINE, VerdictCode.EXPIRED)) == [ReturnCode.EXPIRED]


def test_no_expired_on_its_last_day() -> None:
    assert judged(today=EXPIRY) == []
    assert judged(expiry=None) == []


def test_expiry_margin_not_kept() -> None:
    assert judged(margin=timedelta(days=90), today=date(2028, 1, 2)) == [ReturnCode.EXPIRY_MARGIN]


def test_no_expiry_margin_on_the_last_day_that_keeps_it() -> None:
    assert judged(margin=timedelta(days=90), today=date(2028, 1, 1)) == []


def test_held_for_another_reason() -> None:
    assert judged(hold_reasons=f"{RETURN_UNVERIFIED}\nleaking") == [ReturnCode.HELD]
    assert judged(verdict=verdict(VerdictCode.GENUINE, VerdictCode.HELD)) == [ReturnCode.HELD]


def test_no_held_by_the_return_itself() -> None:
    assert judged(hold_reasons=RETURN_UNVERIFIED) == []


@pytest.mark.parametrize(
    "found",
    [
        verdict(VerdictCode.UNKNOWN),
        verdict(VerdictCode.GENUINE, VerdictCode.LOT_MISMATCH),
        verdict(VerdictCode.ELSEWHERE),
        verdict(VerdictCode.GENUINE, VerdictCode.ELSEWHERE, provisional=True),
    ],
)
def test_not_verified_by_the_log(found: Verdict) -> None:
    assert judged(verdict=found) == [ReturnCode.NOT_VERIFIED]


def test_no_not_verified_because_it_comes_from_somebody_else() -> None:
    assert judged(verdict=verdict(VerdictCode.ELSEWHERE, VerdictCode.GENUINE)) == []


def test_unconfirmed_despatch() -> None:
    assert judged(before=before(provisional=True)) == [ReturnCode.UNCONFIRMED]


def test_no_unconfirmed_once_the_log_has_the_despatch() -> None:
    assert judged(before=before(provisional=False)) == []


def test_returned_to_maker_is_never_restocked_by_itself() -> None:
    assert judged(to_maker=True) == [ReturnCode.RETURNED_TO_MAKER]


def test_no_returned_to_maker_elsewhere() -> None:
    assert judged(to_maker=False) == []


def test_the_gravest_reason_goes_first() -> None:
    found = judged(
        verdict=verdict(VerdictCode.RECALLED, VerdictCode.GENUINE),
        before=before(suspect="case"),
        sold_to=OTHER,
        authorisation=ReturnCode.AUTHORISATION_MISSING,
        excursion=True,
    )
    assert found == [
        ReturnCode.RECALLED,
        ReturnCode.SUSPECT,
        ReturnCode.NOT_SOLD_TO_CUSTOMER,
        ReturnCode.TEMPERATURE_EXCURSION,
        ReturnCode.AUTHORISATION_MISSING,
    ]


def authorised(
    *,
    named: str = "RMA-1",
    required: bool = True,
    customer: Gln | None = CUSTOMER,
    given: Gln | None = CUSTOMER,
    covers: bool = True,
    expire_time: datetime | None = NOW,
    sent_time: datetime = NOW,
) -> ReturnCode | None:
    return judge_authorisation(
        named=named,
        required=required,
        customer=customer,
        authorised=given,
        covers=covers,
        expire_time=expire_time,
        sent_time=sent_time,
    )


def test_authorisation_missing_where_it_is_required() -> None:
    assert authorised(named="") is ReturnCode.AUTHORISATION_MISSING


def test_no_authorisation_missing_where_it_is_not_required_or_named() -> None:
    assert authorised(named="", required=False) is None
    assert authorised() is None


def test_authorisation_unknown_or_given_to_another() -> None:
    assert authorised(given=None) is ReturnCode.AUTHORISATION_UNKNOWN
    assert authorised(given=OTHER) is ReturnCode.AUTHORISATION_UNKNOWN
    assert authorised(given=None, required=False) is ReturnCode.AUTHORISATION_UNKNOWN


def test_no_authorisation_unknown_where_nobody_says_who_returns() -> None:
    assert authorised(customer=None) is None


def test_authorisation_expired_when_the_goods_were_sent() -> None:
    assert authorised(sent_time=NOW + timedelta(seconds=1)) is ReturnCode.AUTHORISATION_EXPIRED


def test_no_authorisation_expired_at_its_last_moment() -> None:
    assert authorised(sent_time=NOW) is None
    assert authorised(expire_time=None, sent_time=NOW + timedelta(days=999)) is None


def test_authorisation_other_unit_than_it_names() -> None:
    assert authorised(covers=False) is ReturnCode.AUTHORISATION_OTHER_UNIT


def test_no_authorisation_other_unit_where_it_names_the_pack() -> None:
    assert authorised(covers=True) is None


def test_every_return_code_has_its_tests_and_its_line_in_the_docs() -> None:
    folder = Path(__file__).parent
    source = Path(__file__).read_text() + (folder / "test_returns_verified.py").read_text()
    docs = (folder.parents[2] / "docs" / "returns.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", docs, flags=re.MULTILINE)) == {code.value for code in ReturnCode}
    for code in ReturnCode:
        assert f"def test_{code.lower()}_" in source, code
        assert f"def test_no_{code.lower()}_" in source, code
