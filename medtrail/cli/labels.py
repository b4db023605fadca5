"""``medtrail gs1 read`` and ``medtrail gs1 label``: codes in pictures."""

import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medtrail.cli.output import ExitCode, Output
from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1 import Expiry, Gtin, Sgtin, Sscc, describe, elements_of, parse_scan
from medtrail.gs1.elements import Element
from medtrail.labels import (
    MAX_IMAGE_BYTES,
    FoundCode,
    LabelSymbol,
    draw_png,
    draw_svg,
    make_label,
    read_image,
    shown_scan,
)


def run_read(output: Output, files: list[Path]) -> None:
    """Read the codes in pictures; end with 0, or with 1 where a picture has no code or a code cannot be understood."""
    today = datetime.now(UTC).date()
    pictures = [_picture_document(file, today) for file in files]
    output.answer({"pictures": pictures}, lambda console: _draw_pictures(console, pictures))
    codes = [code for picture in pictures for code in picture["codes"]]
    if any("error" in item for item in (*pictures, *codes)):
        sys.exit(ExitCode.REFUSED)


def _picture_document(file: Path, today: date) -> dict[str, Any]:
    try:
        found = _codes(file)
    except MalformedError as error:
        return {"file": str(file), "codes": [], "error": _error_document(error)}
    return {"file": str(file), "codes": [_code_document(code, today) for code in found]}


def _codes(file: Path) -> tuple[FoundCode, ...]:
    with file.open("rb") as stream:
        content = stream.read(MAX_IMAGE_BYTES + 1)
    if len(content) > MAX_IMAGE_BYTES:
        message = f"expected a picture of at most {MAX_IMAGE_BYTES} bytes"
        raise TooLargeError(message, code="IMAGE_TOO_LARGE")
    found = read_image(content)
    if not found:
        raise MalformedError("no code was found; take it nearer, sharper, with more light", code="IMAGE_NO_CODE")
    return found


def _code_document(code: FoundCode, today: date) -> dict[str, Any]:
    document: dict[str, Any] = {"symbol": code.symbol, "text": code.text, "corners": [list(at) for at in code.corners]}
    try:
        return document | {"says": describe(parse_scan(code.text, today=today))}
    except MalformedError as error:
        return document | {"error": _error_document(error)}


def _error_document(error: MalformedError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "facts": error.facts}


def _draw_pictures(console: Console, pictures: list[dict[str, Any]]) -> None:
    table = Table("picture", "symbol", "text", "says", box=None, pad_edge=False)
    for picture in pictures:
        for code in picture["codes"]:
            says = code["says"]["element_string"] if "says" in code else _told(code["error"])
            table.add_row(_plain(picture["file"]), code["symbol"], _plain(shown_scan(code["text"])), _plain(says))
        if "error" in picture:
            table.add_row(_plain(picture["file"]), "", "", _plain(_told(picture["error"])))
    console.print(table)


def _told(error: dict[str, Any]) -> str:
    return f"{error['code']}: {error['message']}"


def _plain(text: str) -> str:
    # Text of strangers is not markup.
    return text.replace("[", "\\[")


@dataclass(frozen=True, slots=True)
class LabelOrder:
    """What a label shall carry and look like, as typed.

    Attributes:
        gtin: 8, 12, 13 or 14 digits.
        sscc: 18 digits; instead of a GTIN.
        serial: Of a pack.
        lot: Of a pack or trade item.
        expiry: YYYY-MM-DD.
        symbol: Kind of symbol, as a ``LabelSymbol`` spells it.
        module_mm: Width of a module; the symbol's usual one when None.
        stem: Scheme, host and leading path of the link of a QR code; GS1's resolver when None.
    """

    gtin: str | None
    sscc: str | None
    serial: str | None
    lot: str | None
    expiry: str | None
    symbol: str
    module_mm: float | None
    stem: str | None

    def elements(self) -> tuple[Element, ...]:
        """Return the elements of the label.

        Raises:
            MalformedError: Neither or both of GTIN and SSCC, or one of them is wrong.
        """
        if (self.gtin is None) == (self.sscc is None):
            raise MalformedError("a label carries a GTIN or an SSCC", code="LABEL_IMPOSSIBLE", field="--gtin")
        expiry = None if self.expiry is None else Expiry(_day(self.expiry))
        if self.sscc is not None:
            return elements_of(Sscc(self.sscc), lot=self.lot, expiry=expiry)
        gtin = Gtin.parse(self.gtin or "")
        return elements_of(gtin if self.serial is None else Sgtin(gtin, self.serial), lot=self.lot, expiry=expiry)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise MalformedError(f"expected YYYY-MM-DD, got {text!r}", code="DATE_WRONG", field="--expiry") from error


def _symbol(text: str) -> LabelSymbol:
    try:
        return LabelSymbol(text)
    except ValueError as error:
        message = f"expected {', '.join(LabelSymbol)}, got {text!r}"
        raise MalformedError(message, code="LABEL_IMPOSSIBLE", field="--symbol") from error


def run_label(output: Output, order: LabelOrder, out: Path) -> None:
    """Draw a label into a PNG or SVG file."""
    draw = {".png": draw_png, ".svg": draw_svg}.get(out.suffix.lower())
    if draw is None:
        message = f"expected a name ending in .png or .svg, got {out.name}"
        raise MalformedError(message, code="LABEL_IMPOSSIBLE", field="--out")
    elements = order.elements()
    stem = {} if order.stem is None else {"stem": order.stem}
    label = make_label(elements, symbol=_symbol(order.symbol), module_mm=order.module_mm, **stem)
    out.write_bytes(draw(label))
    width, height = (round(modules * label.module_mm, 1) for modules in label.size)
    document = {
        "file": str(out),
        "symbol": order.symbol,
        "elements": [list(element) for element in elements],
        "width_mm": width,
        "height_mm": height,
        "module_mm": label.module_mm,
    }
    output.answer(
        document,
        lambda console: console.print(f"{out}  {width} x {height} mm; print it at 100 %", markup=False, soft_wrap=True),
    )
