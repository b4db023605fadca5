"""What is fuzzed: each target takes any bytes, and either reads them or refuses them with an error of ours.

A target that reads says more than that it did not crash: what was read is written, and read again as the same. Whatever
else comes out of a target (another exception, a difference, too much time or memory) is a finding.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

from medtrail.checkpoint import parse_checkpoint_text
from medtrail.codec import decode_batch, decode_payload, decode_signed_event, encode_payload
from medtrail.epcis import EpcisDocument, check_event, event_hash, read_document, write_json, write_xml
from medtrail.epcis.rules import check_document
from medtrail.errors import MalformedError, MedtrailError
from medtrail.event import PayloadType
from medtrail.gs1 import elements_of, format_element_string, parse_epc, parse_scan
from medtrail.gs1.scanner import diagnose
from medtrail.note import open_note, parse_vkey
from medtrail.note_format import format_note, split_note
from medtrail.policy import parse_policy
from medtrail.tlog_proof import format_proof, parse_proof

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TODAY = date(2026, 1, 1)


class DifferenceError(AssertionError):
    """What was read is not what was written."""


def _same(one: object, other: object, what: str) -> None:
    if one != other:
        raise DifferenceError(f"{what}: {one!r:.2000} came back as {other!r:.2000}")


def _refused(read: Callable[[], object]) -> bool:
    try:
        read()
    except MedtrailError:
        return True
    return False


def _document(data: bytes, file_format: str) -> None:
    # Both read all there is: neither may fail in a way of its own.
    for _finding in check_document(io.BytesIO(data), format=file_format, now=NOW):
        pass
    document = read_document(data, format=file_format)
    for event in document.events:
        if _refused(lambda event=event: check_event(event)):  # type: ignore[misc]  # a default argument
            return
        event_hash(event, ignored=document.ignored_fields)
    _same_again(document, "json", write_json)
    if file_format == "xml":
        _same_again(document, "xml", lambda found: write_xml(found, version=document.schema_version))


def _same_again(document: EpcisDocument, file_format: str, write: Callable[[EpcisDocument], bytes]) -> None:
    try:
        written = write(document)
    except MedtrailError:
        # Some of what XML says has no form in JSON, and is refused rather than lost.
        return
    again = read_document(written, format=file_format)
    one, other = (replace(found, namespaces=(), schema_version="") for found in (document, again))
    _same(one, other, f"through {file_format}")


def epcis_xml(data: bytes) -> None:
    """EPCIS XML, 1.2 and 2.0, and the rules over it."""
    _document(data, "xml")


def epcis_json(data: bytes) -> None:
    """EPCIS JSON-LD, and the rules over it."""
    _document(data, "json")


def element_string(data: bytes) -> None:
    """What a scanner sends: element strings, Digital Links, and what is neither."""
    text = data.decode("utf-8", "replace")
    _refused(lambda: parse_epc(text))
    try:
        scan = parse_scan(text, today=TODAY)
    except MalformedError as error:
        diagnose(text, error)
        return
    # A day 00 is read, and not written.
    written = format_element_string(elements_of(scan))
    _same(set(scan.ais), set(parse_scan(written, today=TODAY).ais), "element string")


def signed_note(data: bytes) -> None:
    """Signed notes, checkpoints, offline proofs, keys and policies."""
    text = data.decode("utf-8", "replace")
    _refused(lambda: parse_vkey(text.strip()))
    _refused(lambda: parse_policy(text))
    _refused(lambda: parse_checkpoint_text(text))
    _refused(lambda: open_note(data, []))
    try:
        proof = parse_proof(data)
    except MedtrailError:
        pass
    else:
        _same(format_proof(proof), data, "proof")
    head, signatures = split_note(data)
    _same(split_note(format_note(head, signatures)), (head, signatures), "note")


def payload(data: bytes) -> None:
    """What the exchange carries: batches, signed events, payloads of each type."""
    _refused(lambda: decode_batch(data))
    _refused(lambda: decode_signed_event(data))
    for kind in PayloadType:
        try:
            event = decode_payload(kind, data)
        except MedtrailError:
            continue
        again = decode_payload(kind, encode_payload(event))
        _same(event, again, kind)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "epcis_xml": epcis_xml,
    "epcis_json": epcis_json,
    "element_string": element_string,
    "signed_note": signed_note,
    "payload": payload,
}


def run(name: str, data: bytes) -> None:
    """Give data to a target; being refused with an error of ours is as good as being read."""
    try:
        TARGETS[name](data)
    except MedtrailError:
        return
