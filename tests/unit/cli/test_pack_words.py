"""What the commands about one pack say to a person."""

import json

from medtrail.cli.vrs import answer_words, record_line


def test_a_response_is_told_in_few_words() -> None:
    def words(**data: object) -> str:
        return answer_words(json.dumps({"data": data}))

    assert words(verified=True) == "verified"
    assert words(verified=True, additionalInfo="Recalled") == "verified, Recalled"
    assert words(verified=False, verificationFailureReason="No_match_GTIN_Serial", additionalInfo="Suspect") == (
        "not verified, No_match_GTIN_Serial, Suspect"
    )
    for other in ("REQUESTER_UNKNOWN", "active NMVS_SUCCESS", "[]", '{"data": {}}', '{"responderGLN": "1"}'):
        assert answer_words(other) == other


def test_a_record_is_one_line_with_its_separators_shown() -> None:
    document = {
        "number": 7,
        "time": "2026-06-01T12:00:00Z",
        "requester": "0399999999991",
        "responder": "0300011111116",
        "question": "0100300010123455\x1d10A1",
        "context": "dscsaSaleableReturn",
        "http_status": 401,
        "answer": "REQUESTER_UNKNOWN",
    }
    assert record_line(document) == (
        "     7  2026-06-01T12:00:00Z  0399999999991 asked 0300011111116: 0100300010123455<GS>10A1"
        " (dscsaSaleableReturn) → 401 REQUESTER_UNKNOWN"
    )
    assert record_line({**document, "http_status": None}).endswith("→ REQUESTER_UNKNOWN")
