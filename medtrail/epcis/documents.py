"""Reading a whole document at once: the stream's head and events as one value."""

import io
from dataclasses import replace

from medtrail.epcis.build import MAX_DOCUMENT_BYTES
from medtrail.epcis.model import EpcisDocument
from medtrail.epcis.stream import open_events
from medtrail.errors import TooLargeError


def read_document(data: bytes, *, format: str) -> EpcisDocument:  # noqa: A002  # the word that callers expect
    """Read an EPCISDocument, an EPCISQueryDocument, or one bare event.

    Args:
        data: The file's bytes, at most 16 MiB; :func:`~medtrail.epcis.stream.open_events` reads larger ones.
        format: ``json`` or ``xml``; file endings with or without the dot (``.jsonld``) mean their format.

    Raises:
        TooLargeError: More than 16 MiB.
        MalformedError: An unknown format, or not EPCIS of it: a field is missing, unknown or of wrong form, or the XML
            has a document type or entities.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        message = f"expected at most {MAX_DOCUMENT_BYTES} bytes, got {len(data)}"
        raise TooLargeError(message, code="DOCUMENT_TOO_LARGE")
    stream = open_events(io.BytesIO(data), format=format)
    events = tuple(event for _, event in stream)
    return replace(stream.head, events=events, namespaces=stream.namespaces)


def read_json(data: bytes) -> EpcisDocument:
    """Read JSON-LD, versions 2.0; see :func:`read_document`."""
    return read_document(data, format="json")


def read_xml(data: bytes) -> EpcisDocument:
    """Read XML, version 1.2 or 2.0; see :func:`read_document`."""
    return read_document(data, format="xml")
