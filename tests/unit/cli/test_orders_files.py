"""Lines of documents from files: JSON and CSV say the same, and what nobody understands is refused."""

from pathlib import Path

import pytest

from medtrail.api.event.v1 import document_pb2
from medtrail.api.orders.v1 import orders_pb2
from medtrail.cli.orders import state_of
from medtrail.cli.orders_files import MAX_FILE_BYTES, read_lines
from medtrail.errors import MalformedError, MedtrailError, TooLargeError

LINE = document_pb2.TermsLine(
    line_number=2,
    gtin="00300010123455",
    quantity="10",
    price="12.30",
    currency="EUR",
    lots=["A1", "B2"],
    status=document_pb2.LINE_STATUS_BACK_ORDERED,
)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


JSON = """[{"line_number": 2, "gtin": "00300010123455", "quantity": 10, "price": 12.30, "currency": "EUR",
"lots": ["A1", "B2"], "status": "back-ordered"}]"""
JSON_TEXTS = """{"lines": [{"line_number": "2", "gtin": "00300010123455", "quantity": "10", "price": "12.30",
"currency": "EUR", "lots": ["A1", "B2"], "status": "BACK_ORDERED", "note": null}]}"""
HEAD = "line_number,gtin,quantity,price,currency,lots,status"
CSV = f"{HEAD}\r\n2,00300010123455,10,12.30,EUR,A1; B2,back_ordered\r\n"
EXCEL = f"\ufeff{HEAD.replace(',', ';')}\n2;00300010123455;10;12.30;EUR;A1|B2;back ordered\n"


@pytest.mark.parametrize(("name", "text"), [("a.json", JSON), ("b.json", JSON_TEXTS), ("c.csv", CSV), ("d.csv", EXCEL)])
def test_json_and_csv_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert read_lines(written(tmp_path, name, text)) == [LINE]


def test_no_file_means_no_lines() -> None:
    assert read_lines(None) == []


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.json", "{", "FILE_MALFORMED"),
        ("a.json", "[" * 100_000, "FILE_MALFORMED"),
        ("a.json", '{"line": []}', "FILE_MALFORMED"),
        ("a.json", "[1]", "FILE_MALFORMED"),
        ("a.json", '[{"colour": "red"}]', "FILE_MALFORMED"),
        ("a.json", '[{"lots": "A1"}]', "FILE_MALFORMED"),
        ("a.json", '[{"gtin": []}, {"gtin": ["x"]}]', "FILE_MALFORMED"),
        ("a.json", '[{"line_number": -1}]', "FILE_MALFORMED"),
        ("a.json", '[{"status": "perhaps"}]', "LINE_STATUS_UNKNOWN"),
        ("a.json", "[" + ",".join(["{}"] * 1001) + "]", "TOO_MANY"),
        ("a.csv", "gtin,quantity\n1\n", "FILE_MALFORMED"),
        ("a.csv", "gtin,quantity\n1,2,3\n", "FILE_MALFORMED"),
        ("a.csv", 'gtin,quantity\n"1,2\n', "FILE_MALFORMED"),
    ],
)
def test_refuses_a_file_that_says_nothing_clear(tmp_path: Path, name: str, text: str, code: str) -> None:
    with pytest.raises(MedtrailError) as caught:
        read_lines(written(tmp_path, name, text))
    assert caught.value.code == code
    assert str(tmp_path / name) in (caught.value.field or "")


def test_refuses_a_file_that_is_too_large_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError):
        read_lines(written(tmp_path, "a.csv", "x" * (MAX_FILE_BYTES + 1)))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(MalformedError) as caught:
        read_lines(tmp_path / "b.csv")
    assert caught.value.code == "FILE_MALFORMED"


def test_states_are_named_in_words() -> None:
    assert state_of("partly-shipped") == orders_pb2.ORDER_STATE_PARTLY_SHIPPED
    with pytest.raises(MalformedError) as caught:
        state_of("gone")
    assert "partly_shipped" in caught.value.message
