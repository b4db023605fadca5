"""Codes in pictures: what is drawn is read back, in pictures as people take them; broken pictures are refused."""

import io
import re
import struct
import zlib
from datetime import date

import pytest
import zxingcpp
from lxml import etree
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1 import Expiry, Gtin, Sgtin, Sscc, elements_of, format_element_string, parse_scan, require_pack
from medtrail.labels import (
    MAX_IMAGE_BYTES,
    LabelSymbol,
    draw_png,
    draw_svg,
    make_label,
    read_image,
    shown_scan,
)

TODAY = date(2026, 6, 1)
PACK = Sgtin(Gtin("09521321000018"), "4711<&>/_\"'(1)")
ELEMENTS = elements_of(PACK, lot="L%1", expiry=Expiry(date(2027, 12, 31)))
# More than any QR code holds, percent-encoded.
PAGE = (
    ("01", "09521321000018"),
    *((ai, "%%a" * 6) for ai in ("10", "21")),
    *((ai, "%%a" * 10) for ai in ("240", "241", "250", "251", "90")),
    *((str(ai), "%%a" * 30) for ai in range(91, 100)),
)
SENT = "]d2" + format_element_string(ELEMENTS)


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def drawn(*, symbol: LabelSymbol = LabelSymbol.DATAMATRIX) -> Image.Image:
    return Image.open(io.BytesIO(draw_png(make_label(ELEMENTS, symbol=symbol)))).convert("L")


def texts(content: bytes) -> list[str]:
    return [code.text for code in read_image(content)]


@pytest.mark.parametrize(
    ("symbol", "sent"),
    [
        (LabelSymbol.DATAMATRIX, SENT),
        (LabelSymbol.GS1_128, SENT.replace("]d2", "]C1")),
        (
            LabelSymbol.QR,
            "]Q1https://example.com/a/01/09521321000018/10/L%251/21/4711%3C%26%3E%2F_%22%27%281%29?17=271231",
        ),
    ],
)
def test_what_is_drawn_is_read_as_a_scanner_sends_it(symbol: LabelSymbol, sent: str) -> None:
    content = draw_png(make_label(ELEMENTS, symbol=symbol, stem="https://example.com/a"))
    assert texts(content) == [sent]
    scan = parse_scan(texts(content)[0], today=TODAY)
    assert require_pack(scan) == PACK
    assert dict(scan.ais) == dict(ELEMENTS)


@pytest.mark.parametrize("symbol", list(LabelSymbol))
def test_the_picture_states_its_true_size(symbol: LabelSymbol) -> None:
    label = make_label(ELEMENTS, symbol=symbol, module_mm=0.5)
    with Image.open(io.BytesIO(draw_png(label))) as picture:
        width_mm = picture.width / picture.info["dpi"][0] * 25.4
    assert width_mm == pytest.approx(label.size[0] * 0.5, rel=0.001)
    root = etree.fromstring(draw_svg(label))
    assert root.get("width") == f"{label.size[0] * 0.5:.3f}mm"
    assert root.get("viewBox") == f"0 0 {label.size[0]} {label.size[1]}"


@pytest.mark.parametrize("symbol", list(LabelSymbol))
def test_the_vector_drawing_is_the_same_symbol_with_its_quiet_zone(symbol: LabelSymbol) -> None:
    label = make_label(ELEMENTS, symbol=symbol)
    root = etree.fromstring(draw_svg(label))
    path = root.find("{*}path")
    assert path is not None
    picture = Image.new("L", (label.size[0] * 4, label.size[1] * 4), 255)
    brush = ImageDraw.Draw(picture)
    for x, y, width, height in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\3z", str(path.get("d"))):
        left, top = int(x), int(y)
        assert left >= label.look.beside
        assert top >= label.look.above
        box = (left * 4, top * 4, (left + int(width)) * 4 - 1, (top + int(height)) * 4 - 1)
        brush.rectangle(box, fill=0)
    assert texts(png(picture)) == texts(draw_png(label))
    print_beside = [str(element.text) for element in root.iter("{*}text")]
    assert "".join(print_beside).replace(" ", "") == "(01)09521321000018(17)271231(10)L%1(21)4711<&>/_\"'(1)".replace(
        "'(1)", r"'\(1)" if symbol is LabelSymbol.GS1_128 else "'(1)"
    )


def _noisy(picture: Image.Image) -> Image.Image:
    noise = Image.effect_noise(picture.size, 60)
    return Image.blend(picture, noise, 0.35)


@pytest.mark.parametrize(
    "damage",
    [
        lambda picture: picture.rotate(90, expand=True, fillcolor=255),
        lambda picture: picture.rotate(180),
        lambda picture: picture.rotate(23, expand=True, fillcolor=255, resample=Image.Resampling.BICUBIC),
        ImageOps.invert,
        lambda picture: picture.point(lambda shade: 120 + shade // 16),
        lambda picture: picture.point(lambda shade: 128 + shade // 60),
        lambda picture: picture.filter(ImageFilter.GaussianBlur(2)),
        _noisy,
        lambda picture: picture.resize((picture.width // 6, picture.height // 6), Image.Resampling.BOX),
        lambda picture: ImageOps.expand(picture, 300, 90),
    ],
    ids=[
        "quarter",
        "upside down",
        "turned",
        "inverted",
        "pale",
        "faint",
        "blurred",
        "noisy",
        "small",
        "on a dark table",
    ],
)
def test_reads_pictures_as_people_take_them(damage: object) -> None:
    assert callable(damage)
    assert texts(png(damage(drawn()))) == [SENT]


def test_reads_jpeg_and_transparent_png() -> None:
    out = io.BytesIO()
    drawn().convert("RGB").save(out, "JPEG", quality=40)
    assert texts(out.getvalue()) == [SENT]
    clear = Image.new("RGBA", drawn().size, (0, 0, 0, 0))
    clear.putalpha(ImageOps.invert(drawn()))
    assert texts(png(clear)) == [SENT]


def test_finds_all_codes_of_a_picture_in_the_order_of_a_label() -> None:
    parts = [drawn(), drawn(symbol=LabelSymbol.QR), drawn(symbol=LabelSymbol.GS1_128)]
    retail = zxingcpp.create_barcode("9521321000018", zxingcpp.BarcodeFormat.EAN13)
    parts.append(Image.fromarray(zxingcpp.write_barcode_to_image(retail, scale=4)))
    sheet = Image.new("L", (max(part.width for part in parts) + 40, sum(part.height + 60 for part in parts)), 255)
    at = 0
    for part in parts:
        sheet.paste(part, (20, at))
        at += part.height + 60
    found = read_image(png(sheet))
    assert [code.text[:3] for code in found] == ["]d2", "]Q1", "]C1", "]E0"]
    assert found[0].symbol == "Data Matrix"
    assert all(0 <= x < sheet.width and 0 <= y < sheet.height for code in found for x, y in code.corners)


def test_tells_nothing_of_a_picture_without_codes() -> None:
    assert read_image(png(Image.new("L", (300, 300), 200))) == ()
    assert read_image(png(Image.new("L", (2000, 1200), 200))) == ()


def test_reads_text_of_a_code_that_is_not_utf8() -> None:
    barcode = zxingcpp.create_barcode(b"\xe9\xff", zxingcpp.BarcodeFormat.DataMatrix)
    picture = Image.fromarray(zxingcpp.write_barcode_to_image(barcode, scale=6))
    assert texts(png(picture)) == ["]d1éÿ"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"GIF89a" + b"\0" * 40,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0broken",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["empty", "text", "GIF", "PNG head", "JPEG head", "SVG"],
)
def test_refuses_what_is_no_picture_of_ours(content: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        read_image(content)
    assert caught.value.code == "IMAGE_UNREADABLE"


def test_refuses_a_picture_cut_off_anywhere() -> None:
    content = png(drawn())
    for end in range(8, len(content) - 12, max(1, len(content) // 40)):
        with pytest.raises(MalformedError):
            read_image(content[:end])


def _bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_refuses_a_picture_whose_damage_only_the_decoder_finds() -> None:
    out = io.BytesIO()
    drawn().save(out, "PNG")
    # A grey picture that says it has a palette, and brings none.
    content = bytearray(out.getvalue())
    content[25] = 3
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    with pytest.raises(MalformedError) as caught:
        read_image(bytes(content))
    assert caught.value.code == "IMAGE_UNREADABLE"


@pytest.mark.parametrize(("width", "height"), [(8_000, 8_000), (12_000, 12_000), (60_000, 60_000), (30_000, 10)])
def test_refuses_a_decompression_bomb_before_it_is_unpacked(width: int, height: int) -> None:
    with pytest.raises(TooLargeError) as caught:
        read_image(_bomb(width, height))
    assert caught.value.code == "IMAGE_TOO_LARGE"


def test_refuses_a_picture_of_too_many_bytes() -> None:
    with pytest.raises(TooLargeError) as caught:
        read_image(b"\x89PNG\r\n\x1a\n" + b"\0" * MAX_IMAGE_BYTES)
    assert caught.value.code == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize(
    ("elements", "symbol", "module_mm"),
    [
        (ELEMENTS, LabelSymbol.DATAMATRIX, 0.05),
        (ELEMENTS, LabelSymbol.QR, 2.5),
        (ELEMENTS, LabelSymbol.DATAMATRIX, float("nan")),
        ((("01", "09521321000018"), ("10", "L" * 20), ("21", "S" * 20)), LabelSymbol.GS1_128, None),
        (tuple((str(ai), "X" * 90) for ai in range(91, 100)), LabelSymbol.GS1_128, None),
        (PAGE, LabelSymbol.QR, None),
    ],
    ids=["too fine", "too coarse", "not a number", "over 48 characters", "far over", "a whole page"],
)
def test_refuses_a_label_that_cannot_be(
    elements: tuple[tuple[str, str], ...], symbol: LabelSymbol, module_mm: float | None
) -> None:
    with pytest.raises(MalformedError) as caught:
        make_label(elements, symbol=symbol, module_mm=module_mm)
    assert caught.value.code == "LABEL_IMPOSSIBLE"


def test_refuses_a_label_whose_elements_are_wrong() -> None:
    with pytest.raises(MalformedError) as caught:
        make_label((("21", "4711"),))
    assert caught.value.code == "AI_MISSING"


def test_draws_a_pallet_label() -> None:
    content = draw_png(make_label(elements_of(Sscc("106141412345678908")), symbol=LabelSymbol.GS1_128))
    assert texts(content) == ["]C100106141412345678908"]


def test_shows_the_separator_as_it_may_be_typed() -> None:
    assert shown_scan("10A\x1d21B") == r"10A\x1d21B"
