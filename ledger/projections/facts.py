"""What an entry states, reduced to what belief needs; and which units it names, in which part.

Facts are raw: they hold GLNs and keys as the event spells them. Who those belong to is asked of the directory at the
size for which a question is answered, so that an enrolment that comes late is no different from one that came early.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum

from ledger.projections.sensing import sensing_of
from medtrail.document import Document
from medtrail.epcis.cbv import expiry_of, lot_of
from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import Action, EpcisEvent, EventType, Extension, QuantityElement, SourceDest
from medtrail.errors import MalformedError
from medtrail.event import Capture, Event, Recall
from medtrail.gs1 import OtherKey, Sgln, parse_epc
from medtrail.item_map import identifiers

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARTY_AI = "417"
_HASH_URI = "ni:///sha-256;"
# CBV has no words for why goods are held or taken out of use, nor for how much of a pack was handed out.
_OUR_NAMESPACE = "urn:medtrail:epcis"
_QUANTITY = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_OFFSET = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")


class Part(IntEnum):
    """In which part an event names a unit."""

    OBJECT = 0
    PARENT = 1
    CHILD = 2
    INPUT = 3
    OUTPUT = 4
    SUBJECT = 5
    """Of what is no EPCIS event: a product, a recall, a trust statement."""


class Kind(StrEnum):
    """Which type of event a fact is of; ``OTHER`` is no EPCIS event."""

    OBJECT = "object"
    AGGREGATION = "aggregation"
    TRANSACTION = "transaction"
    TRANSFORMATION = "transformation"
    ASSOCIATION = "association"
    OTHER = "other"


_KIND_OF = {
    EventType.OBJECT: Kind.OBJECT,
    EventType.AGGREGATION: Kind.AGGREGATION,
    EventType.TRANSACTION: Kind.TRANSACTION,
    EventType.TRANSFORMATION: Kind.TRANSFORMATION,
    EventType.ASSOCIATION: Kind.ASSOCIATION,
}


@dataclass(frozen=True, slots=True)
class EventFact:
    """What one entry states.

    Attributes:
        leaf_index: Its index in the log.
        event_id: As its producer wrote it.
        content_hash: CBV event hash URI recomputed from the content; empty where it is no EPCIS event.
        time_us: Event time, microseconds since 1970-01-01T00:00:00Z.
        key_id: did:key that signed it.
        second_hand: The signer passes on what the actor did.
        declaration: It declares the event of the same id or content to be in error.
        actor: GLN of the party that did it.
        action: ``ADD``, ``OBSERVE``, ``DELETE``; empty on transformations.
        place: GLN, or URI where it is none, of business location, else read point; may be empty.
        source_owner: Party (GLN or URI) that owned it before; may be empty.
        source_holder: Party or location that had it before; may be empty.
        target_owner: Party that owns it from then on; may be empty.
        target_holder: Party that has it from then on; may be empty.
        target_place: Location to which it goes; may be empty.
        lot: Of instance or lot master data; may be empty.
        expiry: Likewise, YYYY-MM-DD; may be empty.
        parent: Path of the container of an aggregation; may be empty.
        empties: An aggregation DELETE that names no content: everything comes out.
        corrects: Event ids that a declaration names as corrective.
        set_dispositions: Persistent dispositions set.
        unset_dispositions: Persistent dispositions unset.
        offset_s: UTC offset in force where it happened, seconds.
        declared_us: When a declaration says that it was declared, as ``time_us``; 0 where it is none.
        reason: Why, as the extension of a hold or an end says; may be empty.
        released: Reasons for which goods are held no more, as a release of some reasons says.
        quantity: Taken of each pack that it names, decimal text; empty where it does not say.
        remainder: Left in each after it, likewise.
        uom: UN/ECE Rec 20 unit code of both; empty means a count.
        sensing: What its sensors say (:mod:`ledger.projections.sensing`); empty where nothing.
    """

    leaf_index: int
    event_id: str
    kind: Kind
    time_us: int
    actor: str
    source: str
    source_seq: int
    key_id: str
    content_hash: str = ""
    second_hand: bool = False
    declaration: bool = False
    action: str = ""
    biz_step: str = ""
    disposition: str = ""
    place: str = ""
    source_owner: str = ""
    source_holder: str = ""
    target_owner: str = ""
    target_holder: str = ""
    target_place: str = ""
    lot: str = ""
    expiry: str = ""
    parent: str = ""
    empties: bool = False
    corrects: tuple[str, ...] = ()
    set_dispositions: tuple[str, ...] = ()
    unset_dispositions: tuple[str, ...] = ()
    offset_s: int = 0
    declared_us: int = 0
    reason: str = ""
    released: tuple[str, ...] = ()
    quantity: str = ""
    remainder: str = ""
    uom: str = ""
    sensing: str = ""

    @property
    def order(self) -> tuple[int, str, str, int, str]:
        """Where it comes among a unit's events: event time, then the source's own numbers, then event id."""
        return (self.time_us, self.key_id, self.source, self.source_seq, self.event_id)

    @property
    def time(self) -> datetime:
        """Event time, aware UTC."""
        return from_us(self.time_us)

    @property
    def id_is_wrong(self) -> bool:
        """Whether its event id claims to be its content's hash, and is not."""
        return bool(self.content_hash) and self.event_id.startswith(_HASH_URI) and self.event_id != self.content_hash

    @property
    def parties(self) -> tuple[str, ...]:
        """Who it names as party to the goods: actor, sources and destinations; GLNs or URIs."""
        named = (
            self.actor,
            self.source_owner,
            self.source_holder,
            self.target_owner,
            self.target_holder,
            self.target_place,
        )
        return tuple(party for party in named if party)


@dataclass(frozen=True, slots=True)
class UnitRef:
    """That an entry names a unit.

    Attributes:
        unit: Canonical path, or the URI where it is no GS1 identifier.
        part: In which part.
        quantity: Decimal text of a quantity element; empty means unspecified; None means an instance.
        uom: UN/ECE Rec 20 unit code of a quantity; empty means a count.
    """

    unit: str
    leaf_index: int
    part: Part
    quantity: str | None = None
    uom: str = ""


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970-01-01T00:00:00Z of an aware moment."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """Return the moment, aware UTC, of microseconds since 1970-01-01T00:00:00Z."""
    return _EPOCH + timedelta(microseconds=microseconds)


def fact_of(leaf_index: int, event: Event, *, key_id: str) -> EventFact:
    """Return what an entry states.

    Args:
        leaf_index: Its index in the log.
        event: Its event.
        key_id: did:key that signed it.
    """
    header = event.header
    fact = EventFact(
        leaf_index=leaf_index,
        event_id=header.event_id,
        kind=Kind.OTHER,
        time_us=0,
        actor=str(header.actor),
        source=header.source,
        source_seq=header.source_seq,
        key_id=key_id,
        second_hand=header.capture is Capture.SECOND_HAND,
    )
    statement = event.statement
    if isinstance(statement, EpcisEvent):
        return _with_epcis(fact, statement)
    if isinstance(statement, Recall):
        return replace(fact, time_us=to_us(statement.start_time))
    if isinstance(statement, Document):
        # Its counterparty is party to it, as whoever gets goods is.
        return replace(fact, time_us=to_us(statement.issue_time), target_owner=str(statement.counterparty))
    return fact


def _with_epcis(fact: EventFact, event: EpcisEvent) -> EventFact:
    declaration = event.error_declaration
    persistent = event.persistent_disposition
    place = event.biz_location or event.read_point
    expiry = expiry_of(event)
    emptied = event.action is Action.DELETE and not event.child_epcs and not event.child_quantity_list
    said = {item.name: str(item.value) for item in event.extensions if _is_word(item)}
    return replace(
        fact,
        content_hash=event_hash(event),
        kind=_KIND_OF[event.type],
        time_us=to_us(event.event_time),
        declaration=declaration is not None,
        corrects=() if declaration is None else declaration.corrective_event_ids,
        action="" if event.action is None else event.action.value,
        biz_step=event.biz_step or "",
        disposition=event.disposition or "",
        place="" if place is None else party_of_uri(place.id),
        source_owner=_party(event.source_list, "owning_party"),
        source_holder=_party(event.source_list, "possessing_party"),
        target_owner=_party(event.destination_list, "owning_party"),
        target_holder=_party(event.destination_list, "possessing_party"),
        target_place=_party(event.destination_list, "location"),
        lot=(lot_of(event) or "").strip(),
        expiry="" if expiry is None else expiry.isoformat(),
        parent="" if event.parent_id is None else path_of(event.parent_id),
        empties=event.type is EventType.AGGREGATION and emptied,
        set_dispositions=() if persistent is None else persistent.set,
        unset_dispositions=() if persistent is None else persistent.unset,
        offset_s=_offset_s(event.event_time_zone_offset),
        declared_us=0 if declaration is None else to_us(declaration.declaration_time),
        reason=said.get("reason", ""),
        released=tuple(said.get("released", "").splitlines()),
        quantity=_positive(said.get("quantity", "")),
        remainder=_positive(said.get("remainder", "")),
        uom=said.get("uom", ""),
        sensing=sensing_of(event),
    )


def _is_word(extension: Extension) -> bool:
    return extension.namespace == _OUR_NAMESPACE and isinstance(extension.value, str | Decimal)


def _positive(text: str) -> str:
    """Return a decimal of at most 12 digits before and 6 after the point, 0 or more; else nothing: it cannot count."""
    return text if _QUANTITY.fullmatch(text) else ""


def _offset_s(offset: str) -> int:
    """Return the seconds of ``+hh:mm``; 0 where it is none."""
    found = _OFFSET.fullmatch(offset)
    if found is None:
        return 0
    seconds = int(found[2]) * 3600 + int(found[3]) * 60
    return -seconds if found[1] == "-" else seconds


def refs_of(leaf_index: int, event: Event) -> Iterator[UnitRef]:
    """Yield which units an entry names; a unit named twice in one part is yielded once."""
    statement = event.statement
    if not isinstance(statement, EpcisEvent):
        for path in identifiers(event):
            yield UnitRef(path, leaf_index, Part.SUBJECT)
        return
    parents = () if statement.parent_id is None else (statement.parent_id,)
    for part, epcs in (
        (Part.OBJECT, statement.epc_list),
        (Part.PARENT, parents),
        (Part.CHILD, statement.child_epcs),
        (Part.INPUT, statement.input_epc_list),
        (Part.OUTPUT, statement.output_epc_list),
    ):
        for path in dict.fromkeys(path_of(epc) for epc in epcs):
            yield UnitRef(path, leaf_index, part)
    for part, elements in (
        (Part.OBJECT, statement.quantity_list),
        (Part.CHILD, statement.child_quantity_list),
        (Part.INPUT, statement.input_quantity_list),
        (Part.OUTPUT, statement.output_quantity_list),
    ):
        yield from _quantity_refs(leaf_index, part, elements)


def _quantity_refs(leaf_index: int, part: Part, elements: Iterable[QuantityElement]) -> Iterator[UnitRef]:
    # One class may stand in several elements (two pallets of one lot): what counts is the sum in a unit of measure.
    summed: dict[tuple[str, str], QuantityElement] = {}
    for element in elements:
        key = (path_of(element.epc_class), element.uom or "")
        before = summed.get(key)
        if before is None or before.quantity is None or element.quantity is None:
            quantity = element.quantity if before is None else None
        else:
            quantity = before.quantity + element.quantity
        summed[key] = QuantityElement(key[0], quantity, element.uom)
    for (path, uom), element in summed.items():
        text = "" if element.quantity is None else format(element.quantity, "f")
        yield UnitRef(path, leaf_index, part, text, uom)


def path_of(epc: str) -> str:
    """Return the canonical path of an identifier, or the text itself where it is no GS1 identifier."""
    try:
        return parse_epc(epc).path
    except MalformedError:
        return epc


def party_of_uri(uri: str) -> str:
    """Return the GLN of a party or place, 13 digits, or the URI itself where it names none."""
    try:
        key = parse_epc(uri)
    except MalformedError:
        return uri
    if isinstance(key, Sgln):
        return key.gln.digits
    if isinstance(key, OtherKey) and key.ai == _PARTY_AI:
        return key.value
    return uri


def _party(named: Iterable[SourceDest], role: str) -> str:
    return next((party_of_uri(item.id) for item in named if item.type == role), "")


# asdict copies every value deeply, and dumps makes an encoder each time: half of what an event cost the projector.
_NAMES = tuple(field.name for field in fields(EventFact))
_encode = json.JSONEncoder(separators=(",", ":")).encode


def fact_to_json(fact: EventFact) -> str:
    """Return a fact as compact JSON, without what is empty."""
    return _encode({name: value for name in _NAMES if (value := getattr(fact, name))})


def fact_from_json(text: str) -> EventFact:
    """Return the fact that :func:`fact_to_json` wrote."""
    values = json.loads(text)
    for name in ("corrects", "set_dispositions", "unset_dispositions", "released"):
        values[name] = tuple(values.get(name, ()))
    values["kind"] = Kind(values["kind"])
    return EventFact(**{"leaf_index": 0, "time_us": 0, "source_seq": 0, **values})
