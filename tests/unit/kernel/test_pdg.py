"""PDG messages: the examples of the standard byte for byte, and what is refused."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.errors import MalformedError, TooLargeError
from medtrail.pdg import (
    Alternative,
    Answer,
    ContactInformation,
    DataMisalignment,
    FollowUp,
    MissingProduct,
    MissingProductData,
    NumberError,
    ObservationSource,
    QuantityDifference,
    Report,
    ReportGroup,
    Resolution,
    Response,
    Traits,
    encode_message,
)
from medtrail.pdg_reader import MAX_ITEMS, decode_message, remarks

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "dscsa-exceptions"
EXAMPLES = sorted((DATA / "example_generators" / "examples").glob("*.json"))
with_data = pytest.mark.skipif(not EXAMPLES, reason="the schemas and examples of PDG are not beside the project")

IDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(20)]
SENDER = ContactInformation("bay@house.example", "jwt", "0300010000008", "1")


def every_item() -> Report:
    traits = Traits("00300010123455", "A", "2028-03-31", None)
    return Report(
        IDS[0],
        IDS[1],
        1712368200,
        "PO-1",
        SENDER,
        case_resolved=False,
        items=(
            (
                ReportGroup.MISSING_PRODUCT_DATA,
                MissingProductData(IDS[2], "00300010123455", ObservationSource.ASN, Resolution.SEND_NEW_DATA),
            ),
            (
                ReportGroup.MISSING_PRODUCT,
                MissingProduct(IDS[3], "file", "00300010123455", "1", Resolution.SEND_PRODUCT),
            ),
            (ReportGroup.DATA_MISALIGNMENT, DataMisalignment(IDS[4], traits, traits, Resolution.RETURN_PRODUCT)),
            (
                ReportGroup.OVERAGES,
                QuantityDifference(IDS[5], "00300010123455", 10, 11, Resolution.DEBIT_ACCOUNT),
            ),
            (
                ReportGroup.UNDERAGES,
                QuantityDifference(IDS[6], "00300010123455", 10, 9, Resolution.CREDIT_ACCOUNT),
            ),
            (ReportGroup.GLN_ERRORS, NumberError(IDS[7], "1", "2", None)),
            (ReportGroup.GTIN_ERRORS, NumberError(IDS[8], "1", None, Resolution.SEND_NEW_DATA)),
        ),
        other_errors=("wet",),
    )


def every_answer() -> Response:
    other = Alternative(Resolution.SEND_BACK_PRODUCT, FollowUp.PHONE, "in the morning")
    return Response(
        IDS[0],
        IDS[1],
        1712368200,
        SENDER,
        "PO-1",
        (Answer(IDS[2], accepted=True), Answer(IDS[3], accepted=False, comments="no", alternative=other)),
        "all looked at",
    )


@with_data
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_of_the_standard_round_trips_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    assert encode_message(decode_message(data)) == data


@with_data
@pytest.mark.parametrize(
    ("message", "schema"),
    [(every_item(), "report_schema.json"), (every_answer(), "response_schema.json")],
    ids=["report", "response"],
)
def test_messages_of_ours_are_valid_by_the_schemas(message: Report | Response, schema: str) -> None:
    validator = jsonschema_rs.validator_for(json.loads((DATA / "schemas" / schema).read_bytes()))
    validator.validate(json.loads(encode_message(message)))


@with_data
def test_what_the_schemas_refuse_is_refused() -> None:
    for message, name in ((every_item(), "report_schema.json"), (every_answer(), "response_schema.json")):
        schema = json.loads((DATA / "schemas" / name).read_bytes())
        validator = jsonschema_rs.validator_for(schema)
        for field in schema["required"]:
            document = json.loads(encode_message(message))
            del document[field]
            assert not validator.is_valid(document)
            with pytest.raises(MalformedError):
                decode_message(json.dumps(document).encode())


@pytest.mark.parametrize("message", [every_item(), every_answer()], ids=["report", "response"])
def test_every_member_comes_back(message: Report | Response) -> None:
    assert decode_message(encode_message(message)) == message


def test_absent_optional_members_read_like_null() -> None:
    document = {
        "message_uuid": IDS[0].upper(),
        "exception_case_uuid": IDS[1],
        "timestamp": 0,
        "po_number": "",
        "sender_information": {"email": "a@b"},
        "case_resolved": True,
        "unknown_member": [1],
    }
    message = decode_message(json.dumps(document).encode())
    assert message == Report(IDS[0], IDS[1], 0, "", ContactInformation("a@b"), case_resolved=True)
    document["exceptions"] = None
    assert decode_message(json.dumps(document).encode()) == message


def changed(path: str, value: Any) -> bytes:
    """Return the full report, or the full response where the path starts there, with one member changed."""
    kind, *names = path.split("/")
    document = json.loads(encode_message(every_item() if kind == "report" else every_answer()))
    place = document
    for name in names[:-1]:
        place = place[int(name)] if name.isdigit() else place[name]
    place[int(names[-1]) if names[-1].isdigit() else names[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("report/message_uuid", "no uuid"),
        ("report/message_uuid", 7),
        ("report/timestamp", -1),
        ("report/timestamp", 1.5),
        ("report/timestamp", True),
        ("report/timestamp", 10**15),
        ("report/po_number", None),
        ("report/po_number", "x" * 65),
        ("report/case_resolved", "no"),
        ("report/sender_information", []),
        ("report/sender_information/email", "nobody"),
        ("report/exceptions", []),
        ("report/exceptions/overages", {}),
        ("report/exceptions/overages/0", "text"),
        ("report/exceptions/overages/0/resolution_request", "Give it away"),
        ("report/exceptions/overages/0/quantity_received", -1),
        ("report/exceptions/missing_product_data/0/observation_source", "Nose"),
        ("report/exceptions/data_misalignment/0/received_product_lot", "a\x00b"),
        ("report/other_errors", [1]),
        ("response/response_items/0/resolution_response", "Maybe"),
        ("response/response_items/1/alternative_resolution/follow_up", "Pigeon"),
        ("response/additional_notes", "x" * 2001),
    ],
)
def test_member_of_wrong_form_is_refused_with_its_path(path: str, value: object) -> None:
    with pytest.raises(MalformedError) as caught:
        decode_message(changed(path, value))
    assert caught.value.code in {"PDG_MALFORMED", "FIELD_MISSING"}
    named = [name for name in path.split("/")[1:] if not name.isdigit()]
    assert named[-1] in (caught.value.field or "")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"\xff", b'{"a":NaN}', b'{"a":1,"a":2}', b"[" * 100_000],
    ids=["empty", "list", "no UTF-8", "NaN", "member twice", "deep"],
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        decode_message(data)
    assert caught.value.code == "PDG_MALFORMED"


@pytest.mark.parametrize("name", ["received_product_serial", "product_data_serial"])
def test_serial_of_a_misalignment_may_be_null_but_not_missing(name: str) -> None:
    document = json.loads(encode_message(every_item()))
    del document["exceptions"]["data_misalignment"][0][name]
    with pytest.raises(MalformedError) as caught:
        decode_message(json.dumps(document).encode())
    assert caught.value.code == "FIELD_MISSING"


@pytest.mark.parametrize("name", ["alternative_resolution", "follow_up"])
def test_alternative_says_both_of_its_members(name: str) -> None:
    document = json.loads(encode_message(every_answer()))
    del document["response_items"][1]["alternative_resolution"][name]
    with pytest.raises(MalformedError) as caught:
        decode_message(json.dumps(document).encode())
    assert caught.value.code == "FIELD_MISSING"


def test_item_that_stands_twice_is_refused() -> None:
    item = NumberError(IDS[2], "1")
    message = Report(IDS[0], IDS[1], 0, "", SENDER, case_resolved=False, items=((ReportGroup.GLN_ERRORS, item),) * 2)
    with pytest.raises(MalformedError) as caught:
        decode_message(encode_message(message))
    assert caught.value.code == "PDG_ITEM_TWICE"


def test_size_is_bounded() -> None:
    with pytest.raises(TooLargeError):
        decode_message(b" " * (128 * 1024 + 1))
    many = tuple((ReportGroup.GLN_ERRORS, NumberError(IDS[2], "1")) for _ in range(MAX_ITEMS + 1))
    with pytest.raises(TooLargeError):
        decode_message(encode_message(Report(IDS[0], IDS[1], 0, "", SENDER, case_resolved=False, items=many)))
    half = many[: MAX_ITEMS // 2 + 1]
    both = (*half, *((ReportGroup.GTIN_ERRORS, item) for _, item in half))
    with pytest.raises(TooLargeError):
        decode_message(encode_message(Report(IDS[0], IDS[1], 0, "", SENDER, case_resolved=False, items=both)))
    long = Report(IDS[0], IDS[1], 0, "", SENDER, case_resolved=False, other_errors=("x" * 2000,) * 70)
    with pytest.raises(TooLargeError):
        encode_message(long)


def test_wrong_check_digits_are_remarks_and_no_reason_to_refuse() -> None:
    item = QuantityDifference(IDS[2], "23456789012345", 1, 2, Resolution.DEBIT_ACCOUNT)
    message = Report(
        IDS[0],
        IDS[1],
        0,
        "",
        ContactInformation("a@b", gln="1234567890123"),
        case_resolved=False,
        items=((ReportGroup.OVERAGES, item), (ReportGroup.GLN_ERRORS, NumberError(IDS[3], "123"))),
    )
    found = remarks(decode_message(encode_message(message)))
    assert [remark.split(":")[0] for remark in found] == ["sender_information.gln", "overages"]
    assert remarks(every_answer()) == ()


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text(max_size=5), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_no_input_gets_past_our_errors(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_message(data)
