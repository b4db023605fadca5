"""`medtrail gs1 read` and `medtrail gs1 label`: pictures in and out, without a network."""

import typing
from pathlib import Path

import pytest
from PIL import Image

from medtrail.cli.output import ExitCode
from medtrail.labels import MAX_IMAGE_BYTES

if typing.TYPE_CHECKING:
    from tests.unit.cli.conftest import Medtrail

PACK = ("--gtin", "9521321000018", "--serial", "4711", "--lot", "L1", "--expiry", "2027-12-31")
PRINTED = "(01)09521321000018(17)271231(10)L1(21)4711"


@pytest.mark.parametrize("symbol", ["datamatrix", "gs1-128", "qr"])
def test_a_label_is_drawn_and_read_again(medtrail: "Medtrail", tmp_path: Path, symbol: str) -> None:
    drawn = medtrail("gs1", "label", *PACK, "--symbol", symbol, "-o", "pack.png", "--json")
    assert drawn.code == 0
    assert drawn.document["file"] == "pack.png"
    assert drawn.document["width_mm"] > 5
    read = medtrail("gs1", "read", "pack.png", "--json")
    assert read.code == 0
    code = read.document["pictures"][0]["codes"][0]
    assert code["says"]["gtin"] == "09521321000018"
    assert code["says"]["serial"] == "4711"
    assert (tmp_path / "pack.png").read_bytes().startswith(b"\x89PNG")


def test_people_read_a_table_and_the_true_size(medtrail: "Medtrail") -> None:
    assert "mm; print it at 100 %" in medtrail("gs1", "label", *PACK, "-o", "pack.png").out
    shown = medtrail("gs1", "read", "pack.png").out
    assert "Data Matrix" in shown
    assert r"]d201095213210000181727123110L1\x1d214711" in shown
    assert PRINTED in shown


def test_draws_a_pallet_label_as_vector_drawing(medtrail: "Medtrail", tmp_path: Path) -> None:
    order = ("--sscc", "106141412345678908", "--symbol", "gs1-128", "--module", "0.5")
    assert medtrail("gs1", "label", *order, "--out", "pallet.svg").code == 0
    text = (tmp_path / "pallet.svg").read_text(encoding="utf-8")
    assert "(00)106141412345678908" in text
    assert text.startswith("<svg")


def test_tells_of_each_picture_what_is_wrong_with_it(medtrail: "Medtrail", tmp_path: Path) -> None:
    medtrail("gs1", "label", *PACK, "-o", "pack.png")
    Image.new("L", (100, 100), 255).save(tmp_path / "blank.png")
    (tmp_path / "notes.png").write_text("hello")
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(MAX_IMAGE_BYTES + 1)
    run = medtrail("gs1", "read", "pack.png", "blank.png", "notes.png", "huge.png", "--json")
    assert run.code == ExitCode.REFUSED
    codes = [picture.get("error", {}).get("code") for picture in run.document["pictures"]]
    assert codes == [None, "IMAGE_NO_CODE", "IMAGE_UNREADABLE", "IMAGE_TOO_LARGE"]
    assert "IMAGE_NO_CODE: no code was found" in medtrail("gs1", "read", "blank.png").out


def test_tells_of_a_code_that_is_not_of_gs1_what_to_do(medtrail: "Medtrail", tmp_path: Path) -> None:
    zxingcpp = pytest.importorskip("zxingcpp")
    barcode = zxingcpp.create_barcode("[bold]HELLO", zxingcpp.BarcodeFormat.DataMatrix)
    Image.fromarray(zxingcpp.write_barcode_to_image(barcode, scale=6)).save(tmp_path / "plain.png")
    run = medtrail("gs1", "read", "plain.png", "--json")
    assert run.code == ExitCode.REFUSED
    assert run.document["pictures"][0]["codes"][0]["error"]["code"] == "SCAN_NOT_GS1"
    shown = medtrail("gs1", "read", "plain.png").out
    assert "]d1[bold]HELLO" in shown
    assert "tell the supplier" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "field"),
    [
        (("--gtin", "9521321000018", "-o", "pack.gif"), "LABEL_IMPOSSIBLE", "--out"),
        (("-o", "pack.png"), "LABEL_IMPOSSIBLE", "--gtin"),
        (("--gtin", "9521321000018", "--sscc", "106141412345678908", "-o", "a.png"), "LABEL_IMPOSSIBLE", "--gtin"),
        (("--gtin", "9521321000018", "--symbol", "aztec", "-o", "a.png"), "LABEL_IMPOSSIBLE", "--symbol"),
        (("--gtin", "9521321000018", "--expiry", "tomorrow", "-o", "a.png"), "DATE_WRONG", "--expiry"),
        (("--gtin", "9521321000019", "-o", "a.png"), "CHECK_DIGIT_WRONG", None),
        (("--gtin", "9521321000018", "--symbol", "qr", "--stem", "mailto:x", "-o", "a.png"), "LINK_IMPOSSIBLE", None),
    ],
)
def test_refuses_a_label_order_that_is_wrong(
    medtrail: "Medtrail", arguments: tuple[str, ...], code: str, field: str | None
) -> None:
    run = medtrail("gs1", "label", *arguments, "--json")
    assert (run.code, run.error["code"], run.error["field"]) == (ExitCode.WRONG_USE, code, field)


def test_takes_a_scan_apart_with_the_separator_that_the_scanner_sends(medtrail: "Medtrail") -> None:
    text = "]d201095213210000181727123110L1|214711"
    refused = medtrail("gs1", "parse", text, "--json")
    assert (refused.code, refused.error["facts"]["fault"]) == (ExitCode.WRONG_USE, "SEPARATOR_REPLACED")
    assert refused.error["facts"]["suggestion"] == PRINTED
    assert medtrail("gs1", "parse", text, "--separator", "|", "--json").document["serial"] == "4711"
