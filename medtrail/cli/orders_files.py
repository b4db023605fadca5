"""Lines of a business document from a file: JSON, or CSV with a header line."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from medtrail.api.event.v1 import document_pb2
from medtrail.errors import MalformedError, TooLargeError
from medtrail.terms import MAX_LINES

MAX_FILE_BYTES = 1024 * 1024
_TEXTS = ("gtin", "quantity", "uom", "price", "currency", "requested_date", "confirmed_date", "note")
_FIELDS = frozenset({"line_number", "lots", "status", *_TEXTS})


def read_lines(path: Path | None) -> list[document_pb2.TermsLine]:
    """Return the lines of a file; none where there is no file.

    JSON is a list of objects, or an object with such a list under ``lines``; CSV has the same names in its first line.
    Lots of a line are a list in JSON, and separated by ``;`` in CSV.

    Raises:
        MalformedError: It cannot be read, or has a field that nobody knows.
        TooLargeError: More than 1 MiB, or than 1,000 lines.
    """
    if path is None:
        return []
    if path.stat().st_size > MAX_FILE_BYTES:
        message = f"a file of lines has at most {MAX_FILE_BYTES} bytes"
        raise TooLargeError(message, code="FILE_TOO_LARGE", field=str(path))
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = "the file is not UTF-8"
        raise MalformedError(message, code="FILE_MALFORMED", field=str(path)) from error
    rows = _json_rows(text, path) if path.suffix.lower() == ".json" else _csv_rows(text, path)
    if len(rows) > MAX_LINES:
        message = f"expected at most {MAX_LINES} lines, got {len(rows)}"
        raise TooLargeError(message, code="TOO_MANY", field=str(path))
    return [_line(row, f"{path}, line {number}") for number, row in enumerate(rows, 1)]


def _json_rows(text: str, path: Path) -> list[Mapping[str, Any]]:
    try:
        # Prices are decimal numbers: what JSON writes as a number is kept as it is written.
        found = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        message = f"no JSON: {error}"
        raise MalformedError(message, code="FILE_MALFORMED", field=str(path)) from error
    rows = found.get("lines") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        message = "expected a list of lines, each an object"
        raise MalformedError(message, code="FILE_MALFORMED", field=str(path))
    return rows


def _csv_rows(text: str, path: Path) -> list[Mapping[str, Any]]:
    first = text.partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows: list[dict[Any, Any]] = [dict(row) for row in reader]
    except csv.Error as error:
        message = f"no CSV: {error}"
        raise MalformedError(message, code="FILE_MALFORMED", field=str(path)) from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            _refuse(f"expected {len(reader.fieldnames or ())} fields", f"{path}, line {number}")
        inner = str(row.get("lots") or "").strip()
        row["lots"] = [lot.strip() for lot in inner.replace("|", ";").split(";") if lot.strip()]
    return [*rows]


def _line(row: Mapping[str, Any], place: str) -> document_pb2.TermsLine:
    unknown = sorted(set(row) - _FIELDS)
    if unknown:
        _refuse(
            f"nobody knows {', '.join(repr(name) for name in unknown[:5])}; known: {', '.join(sorted(_FIELDS))}", place
        )
    lots = row.get("lots") or []
    if not isinstance(lots, list) or not all(isinstance(lot, str) for lot in lots):
        _refuse("lots are a list of texts", place)
    texts = {name: row.get(name) or "" for name in _TEXTS}
    for name, value in texts.items():
        if not isinstance(value, str):
            _refuse(f"{name} is a text", place)
    number = str(row.get("line_number") or "0").strip()
    if not (number.isascii() and number.isdigit() and len(number) <= 6):
        _refuse(f"line_number is 1 to 999999, got {number[:20]!r}", place)
    return document_pb2.TermsLine(
        line_number=int(number),
        lots=lots,
        status=status_of(str(row.get("status") or ""), field=place),
        **{name: value.strip() for name, value in texts.items()},
    )


def status_of(text: str, *, field: str) -> document_pb2.LineStatus.ValueType:
    """Return an answer to a line by its word; an empty word says nothing.

    Raises:
        MalformedError: There is none (LINE_STATUS_UNKNOWN).
    """
    word = text.strip().upper().replace("-", "_").replace(" ", "_") or "UNSPECIFIED"
    try:
        return document_pb2.LineStatus.Value(f"LINE_STATUS_{word}")
    except ValueError:
        message = f"expected accepted, changed, rejected or back_ordered; got {text[:40]!r}"
        raise MalformedError(message, code="LINE_STATUS_UNKNOWN", field=field) from None


def _refuse(message: str, place: str) -> NoReturn:
    raise MalformedError(message, code="FILE_MALFORMED", field=place)
