"""``medtrail epcis``: hash and convert EPCIS files, offline."""

from pathlib import Path

from rich.console import Console

from medtrail.cli.output import Output
from medtrail.epcis import EpcisDocument, event_hash, read_document, write_json, write_xml
from medtrail.epcis.build import MAX_DOCUMENT_BYTES
from medtrail.errors import MalformedError, TooLargeError

_FORMATS = {".json": "json", ".jsonld": "json", ".xml": "xml"}


def format_of(path: Path) -> str:
    """Return ``json`` or ``xml`` by a file's ending.

    Raises:
        MalformedError: Another ending.
    """
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        message = f"expected a file ending in {', '.join(_FORMATS)}, got {path.name!r}"
        raise MalformedError(message, code="FORMAT_UNKNOWN")
    return found


def read_file(path: Path) -> EpcisDocument:
    """Read an EPCIS document of at most 16 MiB.

    Raises:
        TooLargeError: The file is larger; it is not read then.
        MalformedError: It is no EPCIS document.
    """
    file_format = format_of(path)
    size = path.stat().st_size
    if size > MAX_DOCUMENT_BYTES:
        message = f"expected at most {MAX_DOCUMENT_BYTES} bytes, got {size}: split the document"
        raise TooLargeError(message, field=str(path))
    return read_document(path.read_bytes(), format=file_format)


def run_hash(output: Output, path: Path) -> None:
    """Print the event hash of each event."""
    document = read_file(path)
    hashes = [event_hash(event, ignored=document.ignored_fields) for event in document.events]

    def draw(console: Console) -> None:
        for found in hashes:
            console.print(found, markup=False, soft_wrap=True)

    output.answer({"event_hashes": hashes}, draw)


def run_convert(output: Output, source: Path, target: Path, *, xml_version: str) -> None:
    """Write a document in another format."""
    document = read_file(source)
    data = write_json(document) if format_of(target) == "json" else write_xml(document, version=xml_version)
    target.write_bytes(data)
    count = len(document.events)
    output.answer(
        {"events": count, "bytes": len(data), "file": str(target)},
        lambda console: console.print(f"{count} events, {len(data)} bytes: {target}", markup=False),
    )
