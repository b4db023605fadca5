"""Writes one shipment as an EPCIS 1.2 file that closes, and finds what it would lack.

Everything is found and written in one read transaction, into a file of the caller's, of which nothing is handed out
before all gaps are known.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import BinaryIO

from sqlalchemy import Connection

from medtrail.epcis import write_xml_events
from medtrail.epcis.export import (
    TradeItem,
    TradingParty,
    UrnSpeller,
    cut_event,
    describe_item,
    describe_party,
    identifiers_of,
    in_version_12,
    shipment_head,
    transaction_statement,
)
from medtrail.epcis.model import EpcisDocument, EpcisEvent, EventType, SourceDest, VocabularyElement
from medtrail.epcis.rules import Profile, Severity, check_document, severity_of
from medtrail.errors import ConflictError, MalformedError, NotFoundError
from medtrail.event import PackLevel
from medtrail.gs1 import Gln, Gtin, Sgln, Sgtin, parse_epc
from services.custody import events_store
from services.custody.dossier import units_of
from services.custody.events_store import Stored
from services.custody.master_data import Known
from services.custody.parties import gln_of_uri, party_of
from services.custody.shipment import Content, Contents, contents_of, read_events
from services.custody.steps import is_despatch
from services.custody.units import Unit, unit_of_path

MAX_LISTED = 10_000
"""Gaps that are told one by one; all are counted."""

_GROUPINGS = frozenset({PackLevel.BUNDLE, PackLevel.CASE, PackLevel.PALLET})

# Rules of the profile that the gaps found here say already, in words of the network.
_COVERED = frozenset(
    {
        "DSCSA_LOT_MISSING", "DSCSA_EXPIRY_MISSING", "DSCSA_CONTENTS_UNKNOWN", "DSCSA_PRODUCT_MISSING",
        "DSCSA_PRODUCT_NAME_MISSING", "DSCSA_STRENGTH_MISSING", "DSCSA_DOSAGE_FORM_MISSING",
        "DSCSA_CONTAINER_SIZE_MISSING", "DSCSA_PARTY_MISSING", "DSCSA_PARTY_NAME_MISSING",
        "DSCSA_PARTY_ADDRESS_MISSING",
    }
)  # fmt: skip

_PRODUCT_TEXTS: tuple[tuple[str, Callable[[TradeItem], object], str], ...] = (
    ("PRODUCT_NAME_MISSING", lambda item: item.product.name, "regulated product name"),
    ("STRENGTH_MISSING", lambda item: item.product.strength, "strength"),
    ("DOSAGE_FORM_MISSING", lambda item: item.product.dosage_form, "dosage form"),
    ("CONTAINER_SIZE_MISSING", lambda item: item.product.net_content, "container size (net content)"),
    ("NATIONAL_NUMBER_MISSING", lambda item: item.product.national_numbers, "national number (NDC)"),
    ("MANUFACTURER_MISSING", lambda item: item.manufacturer, "manufacturer's name"),
)


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that the receiver of a file would miss in it: stable code, what it concerns, and words."""

    code: str
    subject: str
    message: str


@dataclass(slots=True)
class Gaps:
    """Gaps found so far; the first 10,000 are kept, all are counted."""

    listed: list[Gap] = field(default_factory=list)
    count: int = 0

    def add(self, code: str, subject: str, message: str) -> None:
        """Note a gap."""
        self.count += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(Gap(code, subject, message))


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: numbers of units, smallest units, events and bytes; and what is missing."""

    unit_count: int
    pack_count: int
    event_count: int
    size: int
    gaps: Gaps


def find_despatch(connection: Connection, event_id: str, *, glns: frozenset[Gln]) -> tuple[Stored, EpcisEvent]:
    """Return a despatch of our own by its event id.

    Raises:
        NotFoundError: DESPATCH_UNKNOWN: no event of that id is known here.
        ConflictError: DESPATCH_NOT_OWN, NOT_A_DESPATCH, DESPATCH_REFUSED (by the ledger), DESPATCH_WITHDRAWN (declared
            wrong).
    """
    found = events_store.find_by_id(connection, event_id)
    if not found:
        message = f"no event {event_id[:200]} is known here"
        raise NotFoundError(message, code="DESPATCH_UNKNOWN", field="despatch_event_id")
    own = [item for item in found if item.own and item.event.header.actor in glns]
    plain = [item for item in own if not item.event.is_declaration]
    if not plain:
        raise _not_exportable("DESPATCH_NOT_OWN", "another organisation despatched it: it is not ours to hand on")
    despatch = plain[0]
    statement = despatch.event.statement
    if not isinstance(statement, EpcisEvent) or not is_despatch(statement):
        raise _not_exportable("NOT_A_DESPATCH", "the event is no despatch: business step shipping")
    if despatch.refusal:
        raise _not_exportable("DESPATCH_REFUSED", f"the ledger refused it: {despatch.refusal}")
    if any(item.event.is_declaration and not item.refusal for item in own):
        raise _not_exportable("DESPATCH_WITHDRAWN", "it was declared wrong")
    return despatch, statement


def _not_exportable(code: str, message: str) -> ConflictError:
    return ConflictError(message, code=code, field="despatch_event_id")


def export_shipment(
    connection: Connection,
    event_id: str,
    *,
    glns: frozenset[Gln],
    known: Known,
    profile: Profile | None,
    now: datetime,
    out: BinaryIO,
) -> Exported:
    """Write the file of a shipment, and tell what it lacks.

    Args:
        connection: In a read transaction.
        event_id: Of the despatch.
        glns: Our own.
        known: Products and parties.
        profile: ``Profile.DSCSA`` adds the transaction statement and holds the file to its rules.
        now: Aware UTC: when the file is made.
        out: Empty, readable, seekable.

    Raises:
        NotFoundError: As :func:`find_despatch`.
        ConflictError: Likewise.
        MalformedError: An event holds what XML cannot carry (NOT_IN_XML).
    """
    despatch, statement = find_despatch(connection, event_id, glns=glns)
    export = _Export(connection, despatch, statement, known, now)
    export.open_containers()
    export.check_units()
    head = export.head(profile)
    size = 0
    for piece in write_xml_events(head, export.events(), version="1.2"):
        size += out.write(piece)
    export.check_spelling()
    out.seek(0)
    profiles = () if profile is None else (profile,)
    for finding in check_document(out, format="xml", now=now, profiles=profiles):
        if severity_of(finding) is Severity.ERROR and finding.code not in _COVERED:
            export.gaps.add(finding.code, finding.place, finding.message)
    units = export.contents.units
    packs = sum(1 for path, content in units.items() if _is_pack(path, content))
    return Exported(len(units), packs, export.event_count, size, export.gaps)


def _is_pack(path: str, content: Content) -> bool:
    return path.startswith("/01/") and not content.holds


class _Export:
    """One file while it is made."""

    def __init__(
        self, connection: Connection, despatch: Stored, statement: EpcisEvent, known: Known, now: datetime
    ) -> None:
        self._connection = connection
        self._despatch = despatch
        self._statement = statement
        self._known = known
        self._now = now
        self._lengths = known.prefix_lengths()
        self._speller = UrnSpeller(self._lengths)
        self._places: dict[str, None] = {}
        self.contents = Contents({}, {})
        self.gaps = Gaps()
        self.event_count = 0

    # --- what is inside ---

    def open_containers(self) -> None:
        """Find all units of the shipment, and the company prefixes that its events show."""
        statement = self._statement
        named = statement.epc_list if statement.parent_id is None else (*statement.epc_list, statement.parent_id)
        self._learn(statement)
        self.contents = contents_of(self._connection, statement, units_of(named), look=self._learn)
        if statement.quantity_list:
            message = "goods shipped by class and count cannot be told one by one"
            self.gaps.add("NOT_SERIALISED", self._despatch.event.header.event_id, message)

    def _learn(self, event: EpcisEvent) -> None:
        for text in identifiers_of(event):
            if text.startswith("urn:epc:"):
                try:
                    self._lengths.learn(text)
                except MalformedError:
                    continue

    def check_units(self) -> None:
        """Note what is not known of units."""
        for path, content in self.contents.units.items():
            if not path.startswith("/01/"):
                if not content.holds:
                    self.gaps.add("CONTENTS_UNKNOWN", path, "no event known here says what is inside of it")
                continue
            if not content.made_by:
                self.gaps.add("UNIT_NOT_COMMISSIONED", path, "no event known here gave life to it")
            else:
                if not content.lot:
                    self.gaps.add("LOT_MISSING", path, "its commissioning names no lot")
                if content.expiry is None:
                    self.gaps.add("EXPIRY_MISSING", path, "its commissioning names no expiry")
            if not content.holds and self._is_grouping(unit_of_path(path)):
                self.gaps.add("CONTENTS_UNKNOWN", path, "no event known here says what is inside of it")

    def _is_grouping(self, unit: Unit) -> bool:
        if not isinstance(unit, Sgtin):
            return True
        product = self._known.products.get(unit.gtin)
        if product is not None and product.level is not PackLevel.UNKNOWN:
            return product.level in _GROUPINGS
        # Indicators 1 to 8 are those of groupings (GS1 General Specifications, section 2.1.1).
        return unit.gtin.digits[0] in "12345678"

    # --- the head ---

    def head(self, profile: Profile | None) -> EpcisDocument:
        """Return the document without its events."""
        return shipment_head(
            sender=self._side(self._statement.source_list, "SENDER_MISSING"),
            receiver=self._side(self._statement.destination_list, "RECEIVER_MISSING"),
            instance_identifier=str(uuid.uuid4()),
            creation_date=self._now,
            items=tuple(self._items()),
            parties=tuple(self._parties()),
            statement=() if profile is None else transaction_statement(self._known.file.legal_notice),
        )

    def _side(self, items: tuple[SourceDest, ...], code: str) -> str:
        gln = party_of(items)
        if gln is None:
            self.gaps.add(code, self._despatch.event.header.event_id, "the despatch names no such party by its GLN")
            return ""
        return self._speller.text(Sgln(gln).digital_link)

    def _items(self) -> Iterator[VocabularyElement]:
        gtins = {path[4:18]: None for path in self.contents.units if path.startswith("/01/")}
        for gtin in map(Gtin, sorted(gtins)):
            item = self._known.item(gtin)
            if item is None:
                message = "no master data: neither its maker nor parties.toml describe it"
                self.gaps.add("PRODUCT_UNKNOWN", gtin.digits, message)
                continue
            for code, text, words in _PRODUCT_TEXTS:
                if not text(item):
                    self.gaps.add(code, gtin.digits, f"master data name no {words}")
            yield describe_item(self._speller.text(gtin.digital_link), item)

    def _parties(self) -> Iterator[VocabularyElement]:
        statement = self._statement
        sides = [item.id for item in (*statement.source_list, *statement.destination_list)]
        for uri in [] if statement.read_point is None else [statement.read_point.id]:
            self._places[uri] = None
        seen: set[str] = set()
        for uri in (*sides, *self._places):
            gln = gln_of_uri(uri)
            link = uri if gln is None else _place_link(uri, gln)
            if link in seen:
                continue
            seen.add(link)
            party = None if gln is None else self._known.party(gln)
            if uri in sides:
                self._check_party(uri if gln is None else gln.digits, party)
            if party is not None:
                yield describe_party(self._speller.text(link), party)

    def _check_party(self, subject: str, party: TradingParty | None) -> None:
        if party is None:
            message = "no master data: it is neither enrolled nor described in parties.toml"
            self.gaps.add("PARTY_UNKNOWN", subject, message)
            return
        if not party.name:
            self.gaps.add("PARTY_NAME_MISSING", subject, "parties.toml gives no name")
        if party.address is None:
            self.gaps.add("PARTY_ADDRESS_MISSING", subject, "parties.toml gives no address")

    # --- events ---

    def events(self) -> Iterator[EpcisEvent]:
        """Yield the events of the file: what gave life and packed, by event time, and the despatch."""
        units = self.contents.units
        for item in read_events(self._connection, self.contents.numbers()):
            statement = item.event.statement
            assert isinstance(statement, EpcisEvent)  # noqa: S101  # only EPCIS events name units
            whole = replace(statement, event_id=item.event.header.event_id)
            cut = cut_event(whole, _keeper(units, item.number, packs=statement.type is EventType.AGGREGATION))
            if cut is not None:
                yield self._written(cut)
        yield self._written(replace(self._statement, event_id=self._despatch.event.header.event_id))

    def _written(self, event: EpcisEvent) -> EpcisEvent:
        self.event_count += 1
        speakable, lost = in_version_12(event)
        for name in lost:
            message = "EPCIS 1.2 cannot say it: it would be left out"
            self.gaps.add("NOT_IN_VERSION", f"{event.event_id or f'event {self.event_count}'} {name}", message)
        return self._speller.event(speakable)

    def check_spelling(self) -> None:
        """Note identifiers that stayed Digital Links, which EPCIS 1.2 does not know."""
        for path in self._speller.unspelled:
            message = "its GS1 company prefix is not known, so it has no EPC URN: give company_prefix in parties.toml"
            self.gaps.add("PREFIX_UNKNOWN", path, message)


def _keeper(units: Mapping[str, Content], number: int, *, packs: bool) -> Callable[[str], bool]:
    """Return the test whether an event is the one that packed a unit, or that made it."""

    def keep(epc: str) -> bool:
        for unit in units_of((epc,)):
            content = units.get(unit.path)
            if content is not None:
                return (content.packed_by if packs else content.made_by) == number
        return False

    return keep


def _place_link(uri: str, gln: Gln) -> str:
    """Return the Digital Link under which a party or place is described: one for all spellings of a GLN."""
    key = parse_epc(uri)
    return (key if isinstance(key, Sgln) else Sgln(gln)).digital_link
