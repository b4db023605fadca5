"""The messages of verification requests: what is refused, and what a response must be."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.errors import MalformedError
from medtrail.gs1 import Gln, Gtin, Sgtin
from medtrail.vrs import (
    AdditionalInfo,
    FailureReason,
    SpelledRequest,
    VrsAnswer,
    VrsRequest,
    VrsResponse,
    response_from_document,
    verdict_of,
)

TODAY = date(2026, 6, 1)
NOW = datetime(2026, 6, 1, 12, 30, 0, 123456, tzinfo=UTC)
CORR = "123e4567-e89b-12d3-a456-426614174000"
GOOD = SpelledRequest(
    gtin="00300010123455",
    lot="A123",
    serial="1",
    exp="280331",
    link_type="verificationService",
    context="dscsaSaleableReturn",
    req_gln="0399999999991",
    corr_uuid=CORR,
)
REQUEST = GOOD.parse(today=TODAY)


def test_reads_a_question() -> None:
    expected = VrsRequest(
        Sgtin(Gtin("00300010123455"), "1"),
        "A123",
        date(2028, 3, 31),
        "dscsaSaleableReturn",
        Gln("0399999999991"),
        CORR,
    )
    assert expected == REQUEST
    assert replace(GOOD, link_type="").parse(today=TODAY) == REQUEST
    assert replace(GOOD, exp="280300").parse(today=TODAY) == REQUEST
    assert replace(GOOD, corr_uuid=CORR.upper()).parse(today=TODAY).corr_uuid == CORR.upper()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gtin": "0300010123455"}, "gtin"),
        ({"gtin": "00300010123456"}, "gtin"),
        ({"gtin": ""}, "gtin"),
        ({"lot": ""}, "lot"),
        ({"lot": "x" * 21}, "lot"),
        ({"lot": "ä"}, "lot"),
        ({"serial": ""}, "ser"),
        ({"serial": "x" * 21}, "ser"),
        ({"exp": ""}, "exp"),
        ({"exp": "2803"}, "exp"),
        ({"exp": "281301"}, "exp"),
        ({"exp": "2028-03-31"}, "exp"),
        ({"link_type": "gs1:pip"}, "linkType"),
        ({"context": ""}, "context"),
        ({"context": "a b"}, "context"),
        ({"context": "x" * 65}, "context"),
        ({"req_gln": "039999999999"}, "reqGLN"),
        ({"req_gln": "0399999999992"}, "reqGLN"),
        ({"corr_uuid": ""}, "corrUUID"),
        ({"corr_uuid": CORR.replace("-", "")}, "corrUUID"),
        ({"corr_uuid": CORR + "0"}, "corrUUID"),
    ],
)
def test_refuses_a_question_with_a_part_that_is_none(change: dict[str, str], field: str) -> None:
    with pytest.raises(MalformedError) as caught:
        replace(GOOD, **change).parse(today=TODAY)
    assert caught.value.field == field


_CHARACTERS = st.text(st.sampled_from("abcXYZ019!\"%&'()*+,-./_:;<=>?"), min_size=1, max_size=20)


@given(_CHARACTERS, _CHARACTERS)
def test_any_lot_and_serial_come_through_the_target(lot: str, serial: str) -> None:
    request = replace(GOOD, lot=lot, serial=serial).parse(today=TODAY)
    path, _, query = request.target().partition("?")
    assert [unquote(part) for part in path.split("/")] == [
        "",
        "verify",
        "gtin",
        GOOD.gtin,
        "lot",
        lot,
        "ser",
        serial,
    ]
    assert dict(parse_qsl(query, strict_parsing=True)) == {
        "exp": GOOD.exp,
        "linkType": GOOD.link_type,
        "context": GOOD.context,
        "reqGLN": GOOD.req_gln,
        "corrUUID": CORR,
    }


@pytest.mark.parametrize("reason", [None, *FailureReason])
@pytest.mark.parametrize("info", [None, *AdditionalInfo])
@pytest.mark.parametrize("verified", [True, False])
def test_body_gives_back_the_response(
    reason: FailureReason | None, info: AdditionalInfo | None, *, verified: bool
) -> None:
    moment = NOW.astimezone(timezone(timedelta(hours=2)))
    response = VrsResponse(moment, Gln("0300011111116"), CORR, VrsAnswer(verified, reason, info))
    document = response.to_document()
    assert document["verificationTimestamp"] == "2026-06-01T12:30:00.123Z"
    assert ("verificationFailureReason" in document["data"]) is (reason is not None)
    read = response_from_document(document, corr_uuid=CORR)
    assert read == replace(response, timestamp=NOW.replace(microsecond=123000))


BODY: dict[str, Any] = VrsResponse(NOW, Gln("0300011111116"), CORR, VrsAnswer(verified=True)).to_document()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "data"),
        ({}, "data"),
        ({**BODY, "data": True}, "data"),
        ({**BODY, "data": {}}, "data.verified"),
        # A text that says false is true in many languages.
        ({**BODY, "data": {"verified": "false"}}, "data.verified"),
        ({**BODY, "data": {"verified": 1}}, "data.verified"),
        ({**BODY, "corrUUID": "other"}, "corrUUID"),
        ({**BODY, "data": {"verified": True, "additionalInfo": "Fine"}}, "data.additionalInfo"),
        ({**BODY, "data": {"verified": True, "additionalInfo": ["Recalled"]}}, "data.additionalInfo"),
        (
            {**BODY, "data": {"verified": False, "verificationFailureReason": "none"}},
            "data.verificationFailureReason",
        ),
        ({**BODY, "responderGLN": "1"}, "responderGLN"),
        ({**BODY, "verificationTimestamp": "now"}, "verificationTimestamp"),
        ({**BODY, "verificationTimestamp": "2026-06-01T12:30:00"}, "verificationTimestamp"),
        ({**BODY, "verificationTimestamp": 1}, "verificationTimestamp"),
    ],
)
def test_refuses_what_is_no_response_to_our_question(document: object, field: str) -> None:
    with pytest.raises(MalformedError) as caught:
        response_from_document(document, corr_uuid=CORR)
    assert (caught.value.code if field != "responderGLN" else "VRS_RESPONSE") == "VRS_RESPONSE"
    assert caught.value.field == field


def test_empty_words_say_nothing() -> None:
    data = {"verified": True, "verificationFailureReason": "", "additionalInfo": None}
    assert response_from_document({**BODY, "data": data}, corr_uuid=CORR).answer.plain


def test_bare_refusal_and_extended_expiry_are_held_for_a_person() -> None:
    def verdict(answer: VrsAnswer, expiry: date = date(2028, 3, 31)) -> tuple[str, str, str]:
        response = VrsResponse(NOW, Gln("0300011111116"), CORR, answer)
        found = verdict_of(replace(REQUEST, expiry=expiry), response, judge_time=NOW)
        return found.code.value, found.action.value, found.reason

    assert verdict(VrsAnswer(verified=False)) == ("held", "hold", "NOT_VERIFIED")
    extended = VrsAnswer(verified=True, info=AdditionalInfo.EXPIRATION_EXTENDED)
    assert verdict(extended) == ("genuine", "accept", "")
    assert verdict(extended, date(2026, 5, 31)) == ("expired", "hold", "EXPIRATION_EXTENDED")
    assert verdict(VrsAnswer(verified=True), date(2026, 5, 31)) == ("expired", "reject", "")
    assert verdict(VrsAnswer(False, FailureReason.NO_MATCH_LOT_EXPIRY)) == (
        "expiry_mismatch",
        "hold",
        "NO_MATCH_LOT_EXPIRY",
    )
