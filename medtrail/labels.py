"""Codes in pictures: read from photographs and scans, drawn for labels.

Pictures come from strangers: their format, bytes and pixels are limited before they are unpacked. What is read is given
as a scanner would send it, for :func:`medtrail.gs1.parse_scan`. What is drawn is read back before it is handed out.

Source: GS1 General Specifications, sections 5.4 (GS1-128), 5.6 (GS1 DataMatrix) and 5.12 (sizes); for the print beside
the symbol section 4.14.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from xml.sax.saxutils import escape

import zxingcpp
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1.elements import GS, Element, bracketed
from medtrail.gs1.keys import RESOLVER
from medtrail.gs1.spelling import elements_of, format_element_string, to_digital_link

MAX_IMAGE_BYTES: Final = 16 * 1024 * 1024
MAX_IMAGE_PIXELS: Final = 40_000_000
MAX_IMAGE_SIDE: Final = 20_000
# Below this many pixels a picture without codes is looked at once more, enlarged.
_SMALL_PIXELS: Final = 2_000_000
_ENLARGED: Final = 3

_FORMATS: Final = zxingcpp.BarcodeFormats(
    (
        zxingcpp.BarcodeFormat.DataMatrix,
        zxingcpp.BarcodeFormat.QRCode,
        zxingcpp.BarcodeFormat.Code128,
        zxingcpp.BarcodeFormat.DataBarOmni,
        zxingcpp.BarcodeFormat.DataBarLtd,
        zxingcpp.BarcodeFormat.DataBarExp,
        zxingcpp.BarcodeFormat.DataBarStk,
        zxingcpp.BarcodeFormat.DataBarExpStk,
        zxingcpp.BarcodeFormat.EANUPC,
        zxingcpp.BarcodeFormat.ITF14,
    )
)

_PRINTED_DPI: Final = 600
_MM_AN_INCH: Final = 25.4
_SHORTEST_MODULE_MM: Final = 0.1
_LONGEST_MODULE_MM: Final = 2.0
_LONGEST_GS1_128: Final = 48
_BAR_HEIGHT_MM: Final = 12.7
_LINE_MM: Final = 2.5


@dataclass(frozen=True, slots=True)
class FoundCode:
    """One code in a picture.

    Attributes:
        text: What a scanner would send: symbology identifier and data, GS for FNC1.
        symbol: Kind of symbol, ``Data Matrix``.
        corners: Its four corners in pixels, from the symbol's top left one clockwise.
    """

    text: str
    symbol: str
    corners: tuple[tuple[int, int], ...]


class LabelSymbol(StrEnum):
    """What a label may be drawn as."""

    DATAMATRIX = "datamatrix"
    GS1_128 = "gs1-128"
    QR = "qr"


@dataclass(frozen=True, slots=True)
class _Look:
    """How a symbol is drawn: module in mm where nothing else is wanted, and quiet zone beside and above, in modules."""

    module_mm: float
    beside: int
    above: int


_LOOKS: Final = {
    LabelSymbol.DATAMATRIX: _Look(0.38, 2, 2),
    LabelSymbol.GS1_128: _Look(0.33, 10, 2),
    LabelSymbol.QR: _Look(0.38, 4, 4),
}


# --- reading ---


def read_image(content: bytes) -> tuple[FoundCode, ...]:
    """Return the codes in a PNG or JPEG picture, turned, inverted or pale; none is an empty tuple.

    Args:
        content: At most 16 MiB that unpack to at most 40 million pixels, 20,000 a side.

    Raises:
        MalformedError: Neither PNG nor JPEG, or broken (IMAGE_UNREADABLE).
        TooLargeError: Over a limit (IMAGE_TOO_LARGE).
    """
    picture = _open(content)
    found = _codes(picture)
    if not found:
        found = _codes(ImageOps.autocontrast(picture, cutoff=1))
    if not found and picture.width * picture.height <= _SMALL_PIXELS:
        larger = picture.resize((picture.width * _ENLARGED, picture.height * _ENLARGED), Image.Resampling.BICUBIC)
        found = _codes(ImageOps.autocontrast(larger), scale=_ENLARGED)
    return found


def _open(content: bytes) -> Image.Image:
    """Return a picture in shades of grey, on white where it is transparent; refused by size before it is unpacked."""
    if len(content) > MAX_IMAGE_BYTES:
        message = f"expected a picture of at most {MAX_IMAGE_BYTES} bytes, got {len(content)}"
        raise TooLargeError(message, code="IMAGE_TOO_LARGE")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            _check_size(picture)
            if not picture.has_transparency_data:
                return picture.convert("L")
            grey = picture.convert("LA")
            white = Image.new("L", picture.size, 255)
            white.paste(grey.getchannel("L"), mask=grey.getchannel("A"))
            return white
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        message = f"expected at most {MAX_IMAGE_PIXELS} pixels: {error}"
        raise TooLargeError(message, code="IMAGE_TOO_LARGE") from error
    except UnidentifiedImageError as error:
        raise MalformedError("expected a PNG or JPEG picture", code="IMAGE_UNREADABLE") from error
    except MalformedError:
        raise
    # Broken chunks and streams surface as whatever the decoder ran into, its own assertions included.
    except Exception as error:
        raise MalformedError(f"the picture is broken: {error}", code="IMAGE_UNREADABLE") from error


def _check_size(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_IMAGE_PIXELS or max(picture.size) > MAX_IMAGE_SIDE:
        message = (
            f"expected at most {MAX_IMAGE_PIXELS} pixels and {MAX_IMAGE_SIDE} a side, "
            f"got {picture.width} x {picture.height}"
        )
        raise TooLargeError(message, code="IMAGE_TOO_LARGE")


def _codes(picture: Image.Image, *, scale: int = 1) -> tuple[FoundCode, ...]:
    found = zxingcpp.read_barcodes(picture, formats=_FORMATS)
    codes = [_code(barcode, scale) for barcode in found if barcode.valid]
    # From top to bottom, then from left to right, as they stand on a label.
    return tuple(sorted(codes, key=lambda code: min((y, x) for x, y in code.corners)))


def _code(barcode: zxingcpp.Barcode, scale: int) -> FoundCode:
    place = barcode.position
    points = (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
    return FoundCode(
        text=barcode.symbology_identifier + _decoded(barcode.bytes),
        symbol=str(barcode.format),
        corners=tuple((point.x // scale, point.y // scale) for point in points),
    )


def _decoded(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


# --- drawing ---


@dataclass(frozen=True, slots=True)
class Label:
    """A symbol ready to be drawn.

    Attributes:
        modules: Rows of modules from the top, True for dark; of bars one row.
        lines: The print beside the symbol.
        module_mm: Width of a module in mm.
        look: The quiet zone.
        bars: Whether the one row stands for bars of full height.
    """

    modules: tuple[tuple[bool, ...], ...]
    lines: tuple[str, ...]
    module_mm: float
    look: _Look
    bars: bool

    @property
    def rows(self) -> int:
        """Height of the symbol in modules."""
        return round(_BAR_HEIGHT_MM / self.module_mm) if self.bars else len(self.modules)

    @property
    def line(self) -> float:
        """Height of a line of print in modules."""
        return _LINE_MM / self.module_mm

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in modules, quiet zone and print included."""
        symbol = len(self.modules[0]) + 2 * self.look.beside
        # Digits and capitals of common faces are at most 0.62 of their size wide.
        text = max((len(line) for line in self.lines), default=0) * self.line * 0.62
        width = max(symbol, round(text) + 2 * self.look.beside)
        return width, self.rows + 2 * self.look.above + round((len(self.lines) + 0.5) * self.line)


def make_label(
    elements: Sequence[Element],
    *,
    symbol: LabelSymbol = LabelSymbol.DATAMATRIX,
    module_mm: float | None = None,
    stem: str = RESOLVER,
) -> Label:
    """Return a label that carries elements, read back as a scanner would.

    Args:
        elements: Checked alone and together.
        symbol: GS1 DataMatrix, GS1-128, or a QR code with a GS1 Digital Link.
        module_mm: Width of a module, 0.1 to 2 mm; the symbol's usual one when None.
        stem: Scheme, host and leading path of the link of a QR code.

    Raises:
        MalformedError: An element is wrong, has no place in a link (LINK_IMPOSSIBLE), or the symbol cannot carry them
            in that size (LABEL_IMPOSSIBLE).
    """
    checked = elements_of(elements)
    look = _LOOKS[symbol]
    width_mm = look.module_mm if module_mm is None else module_mm
    if not _SHORTEST_MODULE_MM <= width_mm <= _LONGEST_MODULE_MM:
        message = f"expected modules of {_SHORTEST_MODULE_MM} to {_LONGEST_MODULE_MM} mm, got {width_mm}"
        raise MalformedError(message, code="LABEL_IMPOSSIBLE")
    _check_length(checked, symbol)
    if symbol is LabelSymbol.QR:
        meant = "]Q1" + to_digital_link(checked, stem=stem)
        barcode = _barcode(meant[3:], zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    elif symbol is LabelSymbol.GS1_128:
        meant = "]C1" + format_element_string(checked)
        barcode = _barcode(_in_square_brackets(checked), zxingcpp.BarcodeFormat.Code128, gs1=True)
    else:
        meant = "]d2" + format_element_string(checked)
        barcode = _barcode(_in_square_brackets(checked), zxingcpp.BarcodeFormat.DataMatrix, gs1=True, force_square=True)
    bars = symbol is LabelSymbol.GS1_128
    modules = _modules(barcode)[: 1 if bars else None]
    lines = (bracketed(checked),) if bars else tuple(f"({ai}) {value}" for ai, value in checked)
    label = Label(modules, lines, width_mm, look, bars)
    _check_drawn(label, meant)
    return label


def _check_length(elements: Sequence[Element], symbol: LabelSymbol) -> None:
    length = len(format_element_string(elements))
    if symbol is LabelSymbol.GS1_128 and length > _LONGEST_GS1_128:
        message = f"a GS1-128 holds at most {_LONGEST_GS1_128} characters, separators included; these are {length}"
        raise MalformedError(message, code="LABEL_IMPOSSIBLE")


def _in_square_brackets(elements: Iterable[Element]) -> str:
    # No value can hold a square bracket, so that those around AIs are never taken for data.
    return "".join(f"[{ai}]{value}" for ai, value in elements)


def _barcode(text: str, form: zxingcpp.BarcodeFormat, **options: object) -> zxingcpp.Barcode:
    try:
        return zxingcpp.create_barcode(text, form, **options)
    except ValueError as error:
        raise MalformedError(f"the symbol cannot carry that: {error}", code="LABEL_IMPOSSIBLE") from error


def _modules(barcode: zxingcpp.Barcode) -> tuple[tuple[bool, ...], ...]:
    drawn = memoryview(zxingcpp.write_barcode_to_image(barcode, scale=1, add_quiet_zones=False))  # type: ignore[arg-type]
    shades: list[list[int]] = drawn.tolist()  # type: ignore[assignment]  # two dimensions
    return tuple(tuple(shade == 0 for shade in row) for row in shades)


def _check_drawn(label: Label, meant: str) -> None:
    plain = Label(label.modules, (), label.module_mm, label.look, label.bars)
    found = [code.text for code in _codes(_raster(plain, 4))]
    if found != [meant]:
        message = f"the drawn symbol reads {found}, not {meant!r}"
        raise MalformedError(message, code="LABEL_IMPOSSIBLE")


def _raster(label: Label, pixels: int) -> Image.Image:
    """Return a label in shades of grey, so many pixels a module."""
    width, height = label.size
    picture = Image.new("L", (width * pixels, height * pixels), 255)
    rows = label.modules * label.rows if label.bars else label.modules
    left, top = (width - len(rows[0])) // 2, label.look.above
    symbol = Image.new("L", (len(rows[0]), len(rows)))
    symbol.putdata([0 if dark else 255 for row in rows for dark in row])
    symbol = symbol.resize((symbol.width * pixels, symbol.height * pixels), Image.Resampling.NEAREST)
    picture.paste(symbol, (left * pixels, top * pixels))
    if label.lines:
        font = ImageFont.load_default(label.line * pixels * 0.85)
        brush = ImageDraw.Draw(picture)
        for number, line in enumerate(label.lines):
            middle = (top + len(rows) + (number + 1) * label.line) * pixels
            brush.text((picture.width / 2, middle), line, fill=0, font=font, anchor="mm")
    return picture


def draw_png(label: Label) -> bytes:
    """Return a label as PNG of about 600 dots an inch, which states its true size."""
    pixels = max(2, round(label.module_mm / _MM_AN_INCH * _PRINTED_DPI))
    dpi = pixels / label.module_mm * _MM_AN_INCH
    out = io.BytesIO()
    _raster(label, pixels).save(out, "PNG", dpi=(dpi, dpi), optimize=True)
    return out.getvalue()


def draw_svg(label: Label) -> bytes:
    """Return a label as SVG in millimetres; the print is text in a face of the reader's."""
    width, height = label.size
    left, top = (width - len(label.modules[0])) // 2, label.look.above
    tall = label.rows if label.bars else 1
    runs = "".join(
        f"M{left + start} {top + at}h{length}v{tall}h-{length}z"
        for at, row in enumerate(label.modules)
        for start, length in _runs(row)
    )
    text = "".join(
        f'<text x="{width / 2:g}" y="{top + label.rows + (number + 1) * label.line:.2f}">{escape(line)}</text>'
        for number, line in enumerate(label.lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * label.module_mm:.3f}mm" '
        f'height="{height * label.module_mm:.3f}mm" viewBox="0 0 {width} {height}">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<path d="{runs}" fill="#000" shape-rendering="crispEdges"/>'
        f'<g font-family="Arial, Helvetica, sans-serif" font-size="{label.line * 0.85:.2f}" text-anchor="middle" '
        f'dominant-baseline="middle">{text}</g></svg>\n'
    ).encode()


def _runs(row: Sequence[bool]) -> list[tuple[int, int]]:
    """Return start and length of each run of dark modules."""
    found: list[tuple[int, int]] = []
    for at, dark in enumerate(row):
        if dark and found and sum(found[-1]) == at:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        elif dark:
            found.append((at, 1))
    return found


def shown_scan(text: str) -> str:
    r"""Return a scan as it may be printed and typed in again: the group separator as ``\x1d``."""
    return text.replace(GS, "\\x1d")
