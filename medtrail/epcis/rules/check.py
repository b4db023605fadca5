"""Checking a document against the rules, from its first byte to its last."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Final

from medtrail.epcis.build import build_event
from medtrail.epcis.model import EpcisDocument
from medtrail.epcis.reading import MAX_EVENT_BYTES, MAX_HEAD_BYTES
from medtrail.epcis.rules.catalogue import RULE_OF
from medtrail.epcis.rules.dscsa import Dscsa, Spot
from medtrail.epcis.rules.finding import Fault, Finding, Profile, Severity, fault_of, is_within, pointer_of
from medtrail.epcis.rules.json_walk import JsonWalk
from medtrail.epcis.rules.loose import LooseEvent
from medtrail.epcis.rules.meaning import meaning_faults
from medtrail.epcis.rules.shape import Shaper
from medtrail.epcis.rules.xml_walk import XmlWalk
from medtrail.epcis.validation import faults as capture_faults
from medtrail.errors import MalformedError

_VERSIONS: Final = frozenset({"", "1", "1.0", "1.1", "1.2", "2", "2.0", "2.0.0", "2.0.1"})
_HEADS: Final = {"json": "", "xml": "/EPCISDocument"}
_HEADER_NAMES: Final = {"json": "epcisHeader", "xml": "EPCISHeader"}


def check_document(
    stream: BinaryIO,
    *,
    format: str,  # noqa: A002  # the word that callers expect
    now: datetime,
    profiles: Collection[Profile] = (),
    max_event: int = MAX_EVENT_BYTES,
    max_head: int = MAX_HEAD_BYTES,
) -> Iterator[Finding]:
    """Yield every finding of a document, in its order; those about the whole document last.

    Args:
        stream: The file, seekable, from its beginning; of any size, since one event at a time is kept.
        format: ``json`` or ``xml``; file endings with or without the dot (``.jsonld``) mean their format.
        now: Clock by which events are in the future; aware.
        profiles: ``Profile.DSCSA`` adds its rules; those of the standards always hold.
        max_event: Bytes of an event that is still read.
        max_head: Bytes of all but the events that are still read.

    Raises:
        MalformedError: An unknown format.
    """
    ending = {"jsonld": "json"}.get(format.lower().lstrip("."), format.lower().lstrip("."))
    if ending not in _HEADS:
        message = f"expected json, jsonld or xml, got {format[:20]!r}"
        raise MalformedError(message, code="FORMAT_UNKNOWN")
    walk = JsonWalk if ending == "json" else XmlWalk
    checker = _Checker(ending, now, Dscsa() if Profile.DSCSA in profiles else None)
    for part in walk(stream, max_event=max_event, max_head=max_head):
        yield from checker.part(part)
    yield from checker.end()


def severity_of(finding: Finding | Fault) -> Severity:
    """Return the severity of a finding's rule; a code without a rule is an error."""
    rule = RULE_OF.get(finding.code)
    return Severity.ERROR if rule is None else rule.severity


@dataclass(slots=True)
class _Checker:
    format: str
    now: datetime
    dscsa: Dscsa | None
    head: EpcisDocument = field(default_factory=lambda: EpcisDocument(events=()))

    def part(self, part: EpcisDocument | LooseEvent | Finding) -> Iterator[Finding]:
        if isinstance(part, Finding):
            if part.code == "DOCUMENT_IS_QUERY":
                # No profile says what a query must ask.
                self.dscsa = None
            yield part
        elif isinstance(part, LooseEvent):
            for fault in self._event(part):
                yield part.finding(fault)
        else:
            self.head = part

    def _event(self, loose: LooseEvent) -> Iterator[Fault]:
        faults = list(loose.faults)
        yield from faults
        if loose.raw is None:
            return
        shaper = Shaper()
        raw = shaper.event(loose.raw)
        faults += shaper.faults
        yield from shaper.faults
        if raw is None:
            return
        sound = all(severity_of(fault) is Severity.WARNING for fault in faults)
        try:
            # What the readers refuse is refused here, even where the table of fields would let it pass.
            event = loose.read() if sound else build_event(raw, field="event")
        except MalformedError as error:
            yield fault_of(error)
            return
        replaced = shaper.replaced | {fault.path for fault in faults}
        for refused in capture_faults(event):
            fault = fault_of(refused)
            if not is_within(fault.path, replaced):
                yield fault
        for fault in meaning_faults(event, now=self.now, ignored=self.head.ignored_fields):
            if not is_within(fault.path, replaced):
                yield fault
        if self.dscsa is not None:
            yield from self.dscsa.event(event, Spot(loose.index, *loose.locate(())))

    def end(self) -> Iterator[Finding]:
        if self.head.schema_version not in _VERSIONS:
            message = f"expected 1.2 or 2.0, got {self.head.schema_version[:20]!r}"
            yield Finding("SCHEMA_VERSION_UNKNOWN", f"{_HEADS[self.format]}/schemaVersion", message)
        if self.dscsa is None:
            return
        for spot, fault in self.dscsa.end(self.head):
            if spot is None:
                names = [_HEADER_NAMES[self.format] if step == "epcisHeader" else step for step in fault.path]
                yield Finding(fault.code, _HEADS[self.format] + pointer_of(tuple(names)), fault.message)
            else:
                yield Finding(fault.code, spot.place, fault.message, spot.index, spot.line)
