"""``medtrail epcis``: hash and convert EPCIS files, offline."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from medtrail.cli.output import Output
from medtrail.epcis import (
    EpcisDocument,
    EpcisEvent,
    EventStream,
    event_hash,
    open_events,
    read_document,
    write_json,
    write_json_events,
    write_xml,
    write_xml_events,
)
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
    """Print the event hash of each event, as they are read."""
    file_format = format_of(path)
    hashes: list[str] = []
    with path.open("rb") as file:
        stream = open_events(file, format=file_format)
        ignored = stream.head.ignored_fields
        for _, event in stream:
            found = event_hash(event, ignored=ignored)
            if output.as_json:
                hashes.append(found)
            else:
                output.console.print(found, markup=False, soft_wrap=True)
    output.answer({"event_hashes": hashes}, lambda _console: None)


def run_convert(output: Output, source: Path, target: Path, *, xml_version: str) -> None:
    """Write a document in another format; one of more than 16 MiB event by event."""
    count = 0
    to_json = format_of(target) == "json"
    # Whole or not at all: a reader of the target sees no half of it.
    temporary = target.with_name(f".{target.name}.{os.getpid()}")

    def counted(stream: EventStream) -> Iterator[EpcisEvent]:
        nonlocal count
        for _, event in stream:
            count += 1
            yield event

    try:
        with source.open("rb") as file:
            stream = open_events(file, format=format_of(source))
            if stream.size <= MAX_DOCUMENT_BYTES:
                events = tuple(counted(stream))
                document = replace(stream.head, events=events, namespaces=stream.namespaces)
                pieces = iter([write_json(document) if to_json else write_xml(document, version=xml_version)])
            elif to_json:
                pieces = write_json_events(stream.head, counted(stream))
            else:
                pieces = write_xml_events(stream.head, counted(stream), version=xml_version)
            with temporary.open("xb") as out:
                out.writelines(pieces)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    size = target.stat().st_size
    output.answer(
        {"events": count, "bytes": size, "file": str(target)},
        lambda console: console.print(f"{count} events, {size} bytes: {target}", markup=False),
    )
