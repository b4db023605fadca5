"""Who signs here, and one transaction of theirs: events judged, applied to the books, signed, stored, put on the way.

A crash before the commit leaves nothing; after it the holdings, the signed events, the outbox rows and the answer are
all there. The event is signed inside the transaction, because its number at this source is taken there, without gaps.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from medtrail.claims import claims_of
from medtrail.codec import encode_payload, encode_signed_event
from medtrail.envelope import SigningKey, sign, sign_together
from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import AuthorizationError, DuplicateError, TooLargeError
from medtrail.event import (
    Capture,
    ErasureOrder,
    Event,
    Header,
    PayloadType,
    Product,
    Recall,
    Statement,
    new_event_id,
    new_salt,
)
from medtrail.gs1 import Gln, Gtin
from medtrail.runtime import outbox
from medtrail.terms import SaltedTerms
from medtrail.trust import Organisation, Registry
from services.custody import advice, alerts, cold_chain, events_store, holdings_store, standing
from services.custody.events_store import Stored
from services.custody.hold_policy import NO_POLICY, HoldPolicy
from services.custody.holding import Books
from services.custody.orders import book, goods
from services.custody.origin import Origin
from services.custody.parties import organisation_gln, place_of
from services.custody.recalls import KnownRecall, RecallIndex
from services.custody.steps import Step, StepKind, apply_step, is_despatch, offset_of, step_of
from services.custody.units import Unit

if TYPE_CHECKING:
    from services.custody.rules import Received

SOURCE = "main"


def no_sealing_key(_sealed: bytes) -> SaltedTerms:
    """Refuse to open sealed terms: the key is not here.

    Raises:
        AuthorizationError: SEALING_KEY_MISSING.
    """
    message = "the key to which partners seal terms is not here"
    raise AuthorizationError(message, code="SEALING_KEY_MISSING")


def now_utc() -> datetime:
    """Return the clock's time, aware UTC, to the millisecond: the event hash knows nothing finer."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class Desk:
    """Who signs here, and what is known of the network.

    Attributes:
        gln: Party GLN of the organisation.
        locations: Its further GLNs.
        key: Its signing key.
        registry: Gives the trust registry as of now.
        recalls: Gives the recalls in the log as of now.
        clock: Aware UTC, to the millisecond.
        source: Station at which events are recorded.
        unseal: Opens what partners seal to the organisation (:func:`medtrail.terms.unseal`).
        products: Gives the products in the log as of now.
        holds: The organisation's own rules for holds and returns.
        zone: In which its days end.
    """

    gln: Gln
    locations: tuple[Gln, ...]
    key: SigningKey
    registry: Callable[[], Registry]
    recalls: Callable[[], tuple[KnownRecall, ...]]
    clock: Callable[[], datetime] = now_utc
    source: str = SOURCE
    unseal: Callable[[bytes], SaltedTerms] = no_sealing_key
    products: Callable[[], Mapping[Gtin, Product]] = dict
    holds: HoldPolicy = NO_POLICY
    zone: tzinfo = UTC

    @property
    def glns(self) -> frozenset[Gln]:
        """All GLNs for which its key speaks, as enrolled; as in its folder before the enrolment is known."""
        organisation = self.organisation
        return frozenset({self.gln, *self.locations}) if organisation is None else organisation.glns

    @property
    def organisation(self) -> Organisation | None:
        """The organisation as enrolled; None before that is known."""
        return self.registry().organisation_of_gln(self.gln)

    @property
    def default_location(self) -> Gln:
        """Its first location, else its party GLN."""
        return self.locations[0] if self.locations else self.gln


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that was signed and is safe in the outbox; ``resend``: the same content had been accepted before."""

    event_id: str
    signed_event_sha256: bytes
    source_seq: int
    resend: bool = False


Effect = Callable[[Books, Origin], None]


@dataclass(frozen=True, slots=True)
class _Signed:
    """An event signed before it is judged: its bytes count only if it is recorded under the number that it has."""

    statement: EpcisEvent
    event: Event
    signed_event: bytes


class Session:
    """One write transaction of an organisation."""

    def __init__(self, connection: Connection, desk: Desk, units: Iterable[Unit] = ()) -> None:
        """Load the books that decisions on some units can touch."""
        self.connection = connection
        self.desk = desk
        self.now = desk.clock()
        self._units = tuple(units)
        self.books = holdings_store.load_books(connection, self._units)
        self.recalls = known_recalls(connection, desk)
        self.received: list[Received] = []
        # That two persons agreed on what is released here.
        self.approved = False
        self.happened = False
        """Whether what is recorded is reported as fact: what is wrong with it is an alert then, and not refused."""
        self.brought = cold_chain.Brought(connection, desk.gln)
        self._prepared: dict[int, _Signed] = {}

    def prepare(self, statements: Sequence[tuple[EpcisEvent, Gln | None]]) -> None:
        """Sign statements together before they are recorded one by one: one signature serves up to 64 of them.

        What is not recorded after all, or under another number, because one before it was said already, is forgotten
        with the session, or signed by itself.

        Args:
            statements: In the order in which they will be recorded, each with its actor as for :meth:`record`.
        """
        first = events_store.peek_number(self.connection, self._counter)
        events: list[Event] = []
        for seq, (statement, actor) in enumerate(statements, first):
            event_id = statement.event_id or event_hash(statement)
            draft = self._draft(replace(statement, event_id=None), event_id, actor)
            events.append(replace(draft, header=replace(draft.header, source_seq=seq)))
        payloads = [(event.payload_type, encode_payload(event)) for event in events]
        for (statement, _), event, signed in zip(
            statements, events, sign_together(payloads, self.desk.key), strict=True
        ):
            try:
                self._prepared[id(statement)] = _Signed(statement, event, encode_signed_event(signed))
            except TooLargeError:
                # By itself it may still fit; recording it tells.
                continue

    @property
    def _counter(self) -> str:
        return f"source_seq/{self.desk.source}"

    def load(self, units: Iterable[Unit]) -> None:
        """Read the books of further units, before anything is recorded of them."""
        self._units = (*self._units, *units)
        self.reload()

    def turn_to(self, units: Iterable[Unit]) -> None:
        """Read the books of some units instead of those before: for work on many, a few at a time."""
        self._units = tuple(units)
        self.reload()

    def reload(self) -> None:
        """Read the books anew, after something else in the transaction has written to them."""
        self.books = holdings_store.load_books(self.connection, self._units)

    def record(
        self,
        statement: EpcisEvent,
        *,
        field: str = "event",
        fields: Mapping[Unit, str] | None = None,
        actor: Gln | None = None,
        effect: Effect | None = None,
    ) -> Accepted:
        """Judge an event, apply it to the books, sign and store it; the same content again changes nothing.

        Args:
            statement: Valid EPCIS; without event_id it gets its content's hash.
            field: Path of the event, for errors.
            fields: Fields that named the units, where the event was made from a request.
            actor: Another party that did it: then we are its witness, and our books do not change.
            effect: What it does to the books instead of its rule, where the rule was applied long ago: it says anew
                what was said before.

        Raises:
            DuplicateError: Other content stands under its id (EVENT_ID_CONFLICT).
            AuthorizationError: We may not say this.
            ConflictError: The rules of the books forbid it.
        """
        prepared = self._prepared.get(id(statement))
        if prepared is not None and prepared.statement is statement:
            draft = prepared.event
        else:
            event_id = statement.event_id or event_hash(statement)
            draft = self._draft(replace(statement, event_id=None), event_id, actor)
        event_id, statement = draft.header.event_id, replace(statement, event_id=None)
        before = self._same(draft, field)
        if before is not None:
            return before
        self.desk.registry().judge(claims_of(draft), key_id=self.desk.key.key_id, stream_time=self.now)
        step = step_of(statement, field=field).with_fields(fields or {})
        own = actor is None
        known = len(self.received)
        if own:
            standing.check(self, step, statement)
        if own and statement.error_declaration is None:
            self._apply(step, statement, event_id, effect)
        named = {named.unit for named in step.named} | cold_chain.named_units(statement)
        stored = self._sign(draft, named, prepared)
        if own and statement.error_declaration is None:
            holdings_store.save_changes(self.connection, self.books, event_number=stored.number)
            self._note_goods(stored, step, came=len(self.received) > known)
            alerts.raise_all(self.connection, self.books.take_notices(), event_id=event_id, now=self.now)
            if step.kind in {StepKind.SHIP, StepKind.SEND_BACK}:
                self._advise(stored, step)
        standing.follow(self, step, stored)
        return _accepted(stored)

    def take(self, event: Event, signed_event: bytes, *, effect: Effect) -> None:
        """Store an event that another key of ours has signed, and put it on its way; known content changes nothing.

        Args:
            event: As in the bytes, judged by the caller.
            signed_event: Its bytes.
            effect: What it does to the books.

        Raises:
            DuplicateError: Other content stands under its id (EVENT_ID_CONFLICT).
        """
        statement = event.statement
        if not isinstance(statement, EpcisEvent) or self._same(event, "event") is not None:
            return
        step = step_of(statement, field="event")
        known = len(self.received)
        self._apply(step, statement, event.header.event_id, effect)
        sha256 = hashlib.sha256(signed_event).digest()
        stored = self._keep(event, signed_event, sha256, {named.unit for named in step.named})
        holdings_store.save_changes(self.connection, self.books, event_number=stored.number)
        self._note_goods(stored, step, came=len(self.received) > known)
        notices = self.books.take_notices()
        alerts.raise_all(self.connection, notices, event_id=event.header.event_id, now=self.now)
        standing.follow(self, step, stored)

    def state(self, statement: Product | Recall | ErasureOrder) -> Accepted:
        """Judge, sign and store a product, a recall, or the order to erase an event.

        Raises:
            AuthorizationError: It is not ours to say.
        """
        return _accepted(self.say(statement, new_event_id()))

    def say(self, statement: Statement, event_id: str, *, sealed_terms_sha256: bytes = b"") -> Stored:
        """Judge, sign and store what is no EPCIS event, under an id of its own.

        Raises:
            AuthorizationError: It is not ours to say.
        """
        draft = self._draft(statement, event_id, None)
        draft = replace(draft, header=replace(draft.header, sealed_terms_sha256=sealed_terms_sha256))
        self.desk.registry().judge(claims_of(draft), key_id=self.desk.key.key_id, stream_time=self.now)
        return self._sign(draft, set())

    def _draft(self, statement: Statement, event_id: str, actor: Gln | None) -> Event:
        header = Header(
            salt=new_salt(),
            actor=self.desk.gln if actor is None else actor,
            source=self.desk.source,
            source_seq=1,
            event_id=event_id,
            capture=Capture.FIRST_HAND if actor is None else Capture.SECOND_HAND,
        )
        return Event(header, statement)

    def _same(self, draft: Event, field: str) -> Accepted | None:
        found = events_store.find_event(
            self.connection,
            signer=self.desk.gln,
            event_id=draft.header.event_id,
            declaration=draft.is_declaration,
        )
        if found is None:
            return None
        if found.refusal:
            # A refused event took no key in the log; here it makes room for the next attempt as well.
            events_store.forget(self.connection, found.number)
            return None
        known, wanted = found.event, draft
        if (known.statement, known.header.actor, known.header.capture) != (
            wanted.statement,
            wanted.header.actor,
            wanted.header.capture,
        ):
            message = f"other content was signed under {draft.header.event_id}"
            raise DuplicateError(message, code="EVENT_ID_CONFLICT", field=f"{field}.eventID")
        return replace(_accepted(found), resend=True)

    def _apply(self, step: Step, statement: EpcisEvent, event_id: str, effect: Effect | None) -> None:
        place = place_of(statement)
        location = place if place in self.desk.glns else None
        origin = Origin(event_id, statement.event_time, offset_of(statement), location, happened=self.happened)
        if effect is not None:
            effect(self.books, origin)
            return
        received = apply_step(self.books, step, origin, recalls=self.recalls)
        if received is not None:
            self.received.append(received)

    def _sign(self, draft: Event, units: set[Unit], prepared: _Signed | None = None) -> Stored:
        seq = events_store.next_number(self.connection, self._counter)
        if prepared is not None and prepared.event.header.source_seq == seq:
            event, signed_event = prepared.event, prepared.signed_event
            sha256 = hashlib.sha256(signed_event).digest()
        else:
            event = replace(draft, header=replace(draft.header, source_seq=seq))
            signed_event, sha256 = signed_bytes(event, self.desk.key)
        return self._keep(event, signed_event, sha256, units)

    def _keep(self, event: Event, signed_event: bytes, sha256: bytes, units: set[Unit]) -> Stored:
        number = events_store.insert_event(
            self.connection,
            event,
            signer=self.desk.gln,
            own=True,
            sha256=sha256,
            signed_event=signed_event,
            units=units,
        )
        outbox.enqueue_event(
            self.connection,
            signed_event,
            event_id=event.header.event_id,
            declaration=event.is_declaration,
            now=self.now,
        )
        return Stored(number, self.desk.gln, own=True, sha256=sha256, signed_event=signed_event, event=event)

    def _note_goods(self, stored: Stored, step: Step, *, came: bool) -> None:
        """Keep what a despatch holds, or what came by an event, and bring its orders up to date."""
        if step.kind is StepKind.SHIP:
            note = goods.note_own_despatch
        elif came and step.kind is not StepKind.TAKE_BACK:
            note = goods.note_receiving
        else:
            return
        units = [named.unit for named in step.units]
        note(self.connection, stored.number, stored.event.header.event_id, self.desk.gln, books=self.books, units=units)
        book.settle_event(self.connection, stored.number, gln=self.desk.gln, now=self.now)

    def _advise(self, despatch: Stored, step: Step) -> None:
        partner = self._inbox_of(step)
        if partner is None:
            return
        for part in advice.parts_of(self.connection, despatch, {named.unit for named in step.units}, self.books):
            advice.enqueue(self.connection, part, to=partner)

    def advise_withdrawn(self, despatch: Stored, declaration: Accepted) -> None:
        """Tell whoever awaits the goods of a despatch that it was declared an error; other events concern nobody.

        What corrects it may have been advised already: it is signed first where one unit is taken out of several.
        """
        stored = events_store.find_by_hash(self.connection, declaration.signed_event_sha256)
        statement = None if stored is None else stored.event.statement
        if stored is None or not isinstance(statement, EpcisEvent) or not is_despatch(statement):
            return
        error = statement.error_declaration
        partner = self._inbox_of(step_of(statement, field="event"))
        if partner is None or error is None:
            return
        said = (despatch.signed_event, stored.signed_event)
        for part in advice.split_advice(despatch.event.header.event_id, said):
            advice.enqueue(self.connection, part, to=partner)

    def _inbox_of(self, step: Step) -> Gln | None:
        """Return the partner that hears of a despatch; None where it has no inbox.

        Whoever is not enrolled has none: the goods leave the network, and the despatch says to whom.
        """
        partner = None if step.partner is None else organisation_gln(step.partner, self.desk.registry())
        if partner is None or partner == self.desk.gln or self.desk.registry().organisation_of_gln(partner) is None:
            return None
        return partner


def signed_bytes(event: Event, key: SigningKey) -> tuple[bytes, bytes]:
    """Return a SignedEvent's bytes and their SHA-256.

    Raises:
        TooLargeError: More than 256 KiB.
    """
    signed_event = encode_signed_event(sign(event.payload_type, encode_payload(event), key))
    return signed_event, hashlib.sha256(signed_event).digest()


def _accepted(stored: Stored) -> Accepted:
    return Accepted(stored.event.header.event_id, stored.sha256, stored.event.header.source_seq)


def known_recalls(connection: Connection, desk: Desk) -> RecallIndex:
    """Return the recalls in the log and, after them, our own that are not there yet."""
    logged = desk.recalls()
    seen = {item.recall_id for item in logged}
    own = [
        KnownRecall(stored.event.header.event_id, desk.gln, stored.event.statement)
        for stored in events_store.own_of_type(connection, PayloadType.RECALL)
        if isinstance(stored.event.statement, Recall) and stored.event.header.event_id not in seen
    ]
    return RecallIndex((*logged, *own), now=desk.clock())
