"""A small network and its story, told event by event."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from ledger.projections.belief import UnitBelief
from ledger.projections.directory import Directory
from ledger.projections.facts import EventFact, UnitRef, fact_of, refs_of
from ledger.projections.recalls import RecallEntry
from ledger.projections.replay import Replay
from ledger.projections.world import World
from medtrail.codec import encode_payload, encode_signed_event
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.cbv import ilmd_lot_expiry
from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import (
    Action,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    Extension,
    Place,
    QuantityElement,
    SensorElement,
    SensorReport,
    SourceDest,
)
from medtrail.event import (
    Capture,
    Enrolment,
    Event,
    Genesis,
    Header,
    KeyRevocation,
    PackLevel,
    PayloadType,
    Product,
    Recall,
    RecallScope,
    Role,
    Statement,
    StorageLimits,
    StorageRange,
)
from medtrail.gs1 import Gln, Gtin
from medtrail.trust import Registry

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
MAKER, WHOLESALER, PHARMACY, OTHER = "0300011111116", "0399999999991", "0614141000005", "0614141000012"
OUTSIDE = "4012345000009"
GTIN = "00300010123455"
CASE_GTIN = "10300010123452"
LOT, EXPIRY = "A123", date(2027, 3, 27)
AUTHORITY = SigningKey.from_seed(bytes(32))
KEYS = {
    gln: SigningKey.from_seed(bytes([number]) * 32)
    for number, gln in enumerate((MAKER, WHOLESALER, PHARMACY, OTHER), 1)
}
ROLES = {MAKER: Role.MANUFACTURER, WHOLESALER: Role.DISTRIBUTOR, PHARMACY: Role.PHARMACY, OTHER: Role.PHARMACY}
LOCATIONS = {MAKER: (Gln("0300011111215"),)}
PREFIXES = {MAKER: "030001", WHOLESALER: "039999"}


def pack(serial: str) -> str:
    return f"https://id.gs1.org/01/{GTIN}/21/{serial}"


def path(epc: str) -> str:
    return epc.removeprefix("https://id.gs1.org")


CASE = "https://id.gs1.org/00/003000112345678903"
PALLET = "https://id.gs1.org/00/003000141234567899"
TOTE = "https://id.gs1.org/8003/00300010000015A"
CASE_UNIT = f"https://id.gs1.org/01/{CASE_GTIN}/21/110"
OURS = "urn:medtrail:epcis"
LGTIN = f"https://id.gs1.org/01/{GTIN}/10/{LOT}"


def place(gln: str) -> str:
    return f"https://id.gs1.org/414/{gln}"


def trust_statements() -> list[Statement]:
    return [
        Genesis("test.example/log", AUTHORITY.key_id, bytes(32)),
        *(
            Enrolment(
                organisation=f"org-{gln}",
                display_name=gln,
                gln=Gln(gln),
                locations=LOCATIONS.get(gln, ()),
                company_prefixes=(PREFIXES[gln],) if gln in PREFIXES else (),
                roles=frozenset({ROLES[gln]}),
                signing_key_ids=(key.key_id,),
                sealing_key=bytes(32),
                nats_user_key="U" + "A" * 55,
            )
            for gln, key in KEYS.items()
        ),
    ]


def trust_event(statement: Statement, number: int) -> Event:
    header = Header(bytes(32), Gln(MAKER), "authority", number + 1, f"urn:uuid:{number:032x}")
    return Event(header, statement)


def registry(*further: Statement) -> Registry:
    made = Registry(authority_key_id=AUTHORITY.key_id)
    for index, statement in enumerate([*trust_statements(), *further]):
        made.apply(index, AUTHORITY.key_id, trust_event(statement, index))
    return made


@dataclass
class Story:
    """Events in the order in which they arrived; times run by the minute unless they are said."""

    told: list[tuple[Event, str]] = field(default_factory=list)
    further_trust: list[Statement] = field(default_factory=list)
    clock: datetime = START

    # --- telling ---

    def tell(self, actor: str, *, signer: str | None = None, at: float | None = None, **fields: Any) -> Event:
        """Append an event; ``at`` is in minutes after the start."""
        self.clock = self.clock + timedelta(minutes=1) if at is None else START + timedelta(minutes=at)
        values = {"type": EventType.OBJECT, "action": Action.OBSERVE, "read_point": Place(place(actor)), **fields}
        statement = EpcisEvent(event_time=self.clock, event_time_zone_offset="+00:00", **values)
        return self.sign(actor, statement, signer=signer)

    def sign(self, actor: str, statement: Statement, *, signer: str | None = None, event_id: str = "") -> Event:
        number = len(self.told) + 1
        speaker = signer or actor
        capture = Capture.FIRST_HAND if speaker == actor else Capture.SECOND_HAND
        if not event_id:
            event_id = event_hash(statement) if isinstance(statement, EpcisEvent) else f"urn:uuid:{number:032x}"
        header = Header(number.to_bytes(32, "big"), Gln(actor), "line-1", number, event_id, capture)
        event = Event(header, statement)
        self.told.append((event, KEYS[speaker].key_id))
        return event

    def commission(self, *epcs: str, actor: str = MAKER, lot: str = LOT, expiry: date = EXPIRY, **fields: Any) -> Event:
        return self.tell(
            actor,
            action=Action.ADD,
            epc_list=epcs,
            biz_step="commissioning",
            disposition="active",
            ilmd=ilmd_lot_expiry(lot, expiry) if lot else (),
            **fields,
        )

    def put(self, parent: str, *epcs: str, actor: str = MAKER, **fields: Any) -> Event:
        values = {"action": Action.ADD, "biz_step": "packing", "disposition": "in_progress", **fields}
        return self.tell(actor, type=EventType.AGGREGATION, parent_id=parent, child_epcs=epcs, **values)

    def take_out(self, parent: str, *epcs: str, actor: str, **fields: Any) -> Event:
        return self.put(parent, *epcs, actor=actor, action=Action.DELETE, biz_step="unpacking", **fields)

    def miss(self, parent: str, *epcs: str, actor: str, **fields: Any) -> Event:
        """Say that units are not in a container."""
        return self.take_out(parent, *epcs, actor=actor, disposition="unknown", **fields)

    def ship(self, *epcs: str, actor: str = MAKER, to: str = WHOLESALER, **fields: Any) -> Event:
        values = {
            "biz_step": "shipping",
            "disposition": "in_transit",
            "source_list": (SourceDest("possessing_party", place(actor)),),
            "destination_list": (SourceDest("possessing_party", place(to)),),
            **fields,
        }
        return self.tell(actor, epc_list=epcs, **values)

    def receive(self, *epcs: str, actor: str = WHOLESALER, **fields: Any) -> Event:
        values = {"biz_step": "receiving", "disposition": "in_progress", **fields}
        return self.tell(actor, epc_list=epcs, **values)

    def dispense(self, *epcs: str, actor: str = PHARMACY, **fields: Any) -> Event:
        values = {"biz_step": "dispensing", "disposition": "dispensed", "action": Action.DELETE, **fields}
        return self.tell(actor, epc_list=epcs, **values)

    def hold(self, *epcs: str, actor: str = PHARMACY, reason: str = "", **fields: Any) -> Event:
        said = (Extension(OURS, "reason", reason),) if reason else ()
        values = {"biz_step": "holding", "disposition": "non_sellable_other", "extensions": said, **fields}
        return self.tell(actor, epc_list=epcs, **values)

    def release(self, *epcs: str, actor: str = PHARMACY, **fields: Any) -> Event:
        return self.tell(actor, epc_list=epcs, biz_step="storing", disposition="sellable_accessible", **fields)

    def open(self, *epcs: str, actor: str = PHARMACY, taken: str = "", left: str = "", **fields: Any) -> Event:
        """Hand out a part of each pack; how much is said where ``taken`` is."""
        said = tuple(Extension(OURS, name, text) for name, text in (("quantity", taken), ("remainder", left)) if text)
        values = {"disposition": "partially_dispensed", "action": Action.OBSERVE, "extensions": said, **fields}
        return self.dispense(*epcs, actor=actor, **values)

    def end(
        self, *epcs: str, actor: str, step: str = "decommissioning", word: str = "inactive", **fields: Any
    ) -> Event:
        return self.tell(actor, epc_list=epcs, action=Action.DELETE, biz_step=step, disposition=word, **fields)

    def recall(self, *, at: float, ends: Event | None = None, signer: str = MAKER, **fields: Any) -> Event:
        """Recall the lot from a moment on, or end a recall; ``at`` is in minutes after the start."""
        values = {"scopes": (RecallScope(Gtin(GTIN), LOT),), **fields}
        ended = "" if ends is None else ends.header.event_id
        start = START + timedelta(minutes=at)
        statement = Recall("R-1", "retail", "why", "what", start, terminated_recall_id=ended, **values)
        return self.sign(signer, statement)

    def limit(self, highest: str = "8", gtin: str = GTIN) -> Event:
        """Say up to how many degrees Celsius a product is to be kept."""
        limits = StorageLimits(temperature=StorageRange(highest=Decimal(highest)))
        return self.sign(MAKER, Product(Gtin(gtin), PackLevel.PACK, "Epcistra", storage=limits))

    def sense(self, *epcs: str, actor: str = MAKER, degrees: str, **fields: Any) -> Event:
        element = SensorElement(reports=(SensorReport(type="Temperature", value=Decimal(degrees), uom="CEL"),))
        values = {"biz_step": "sensor_reporting", "sensor_element_list": (element,), **fields}
        return self.tell(actor, epc_list=epcs, **values)

    def declare(
        self, event: Event, *, signer: str | None = None, after: timedelta = timedelta(), **fields: Any
    ) -> Event:
        """Declare an earlier event to be in error; its signer does unless another is named."""
        assert isinstance(event.statement, EpcisEvent)
        actor = signer or str(event.header.actor)
        declaration = ErrorDeclaration(self.clock + after, "did_not_occur", fields.pop("corrects", ()))
        declared = replace(event.statement, error_declaration=declaration, **fields)
        return self.sign(actor, declared, event_id=event.header.event_id)

    # --- asking ---

    def entries(self, order: Sequence[int] | None = None) -> list[tuple[EventFact, list[UnitRef]]]:
        told = self.told if order is None else [self.told[number] for number in order]
        return [
            (fact_of(index, event, key_id=key_id), list(refs_of(index, event)))
            for index, (event, key_id) in enumerate(told)
        ]

    def chained(self) -> list[bytes]:
        """Return the signed bytes of the log: trust entries first, then what was told."""
        trust = [
            sign(PayloadType.TRUST, encode_payload(trust_event(statement, index)), AUTHORITY)
            for index, statement in enumerate([*trust_statements(), *self.further_trust])
        ]
        keys = {key.key_id: key for key in KEYS.values()}
        told = [sign(event.payload_type, encode_payload(event), keys[key_id]) for event, key_id in self.told]
        return [encode_signed_event(signed) for signed in (*trust, *told)]

    def world(self, order: Sequence[int] | None = None, *, size: int | None = None) -> World:
        entries = self.entries(order)[:size]
        units: dict[str, list[Any]] = {}
        lots: dict[str, list[UnitRef]] = {}
        for _, refs in entries:
            for ref in refs:
                if ref.quantity is None:
                    units.setdefault(ref.unit, []).append((ref.leaf_index, ref.part))
                else:
                    lots.setdefault(ref.unit, []).append(ref)
        return World(
            facts={fact.leaf_index: fact for fact, _ in entries},
            units={unit: tuple(refs) for unit, refs in units.items()},
            lots={unit: tuple(refs) for unit, refs in lots.items()},
            declarations=tuple(fact for fact, _ in entries if fact.declaration),
            limits={
                event.statement.gtin.path: event.statement.storage
                for event, _ in self._known(order, size)
                if isinstance(event.statement, Product) and event.statement.storage is not None
            },
        )

    def _known(self, order: Sequence[int] | None, size: int | None) -> list[tuple[Event, str]]:
        told = self.told if order is None else [self.told[number] for number in order]
        return told[:size]

    def recalls(self, order: Sequence[int] | None = None, *, size: int | None = None) -> list[RecallEntry]:
        return [
            RecallEntry(fact_of(index, event, key_id=key_id), event.statement)
            for index, (event, key_id) in enumerate(self._known(order, size))
            if isinstance(event.statement, Recall)
        ]

    def directory(self) -> Directory:
        return Directory(registry(*self.further_trust))

    def replay(self, order: Sequence[int] | None = None, *, size: int | None = None, **how: Any) -> Replay:
        recalls = self.recalls(order, size=size)
        return Replay(self.world(order, size=size), self.directory(), recalls=recalls, **how).run()

    def belief(self, epc: str, **how: Any) -> UnitBelief:
        found = self.replay(**how).belief(path(epc))
        assert found is not None
        return found

    def codes(self, epc: str, **how: Any) -> set[str]:
        return {alert.code.value for alert in self.belief(epc, **how).alerts}

    def revoke(self, gln: str, *, since: datetime) -> None:
        self.further_trust.append(KeyRevocation(KEYS[gln].key_id, since))


def quantity(amount: str) -> QuantityElement:
    return QuantityElement(LGTIN, Decimal(amount))
