"""What becomes of each event, in stream order: an entry, a duplicate of one, or a refusal.

Deterministic: the same messages after the same entries give the same decisions, whoever takes them. Nothing here reads
the clock or the database; what stands in the log already is asked for through :data:`Standing`.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from ledger.intake import Accepted, Candidate, OpenMessage, Unreadable, event_of, to_us
from medtrail.claims import Claims, check_moments
from medtrail.errors import DuplicateError, MedtrailError
from medtrail.event import Event, PayloadType
from medtrail.trust import Registry

EVENT_ERASED = "EVENT_ERASED"

Key = tuple[bytes, str, bool]
"""What stands in the log once: keyed hash of the event id, GLN of the signing organisation, declaration or not."""


class Chained(NamedTuple):
    """An event that becomes the entry at ``leaf_index``."""

    candidate: Accepted
    leaf_index: int
    key: Key


class Resent(NamedTuple):
    """An event whose content is the entry at ``leaf_index``."""

    candidate: Candidate
    leaf_index: int


class Refused(NamedTuple):
    """An event that is not chained, and why; ``signer_gln`` is empty where signature or key do not tell."""

    candidate: Candidate
    error: MedtrailError
    signer_gln: str


Outcome = Chained | Resent | Refused


@dataclass(frozen=True, slots=True)
class JudgedMessage:
    """A message, what became of each of its events, and the size of the tree after it."""

    opened: OpenMessage
    outcomes: tuple[Outcome, ...]
    tree_size: int


class StandingEvent(NamedTuple):
    """What stands in the log under a key; ``signed_event`` is None once it is erased."""

    leaf_index: int
    sha256: bytes
    signed_event: bytes | None


Standing = Callable[[Key], StandingEvent | None]
"""Returns what the log held under a key before the batch."""


def same_content(one: Event, other: Event) -> bool:
    """Tell whether two events say the same: equal without salt, sealed-terms hash and source_seq (ARCHITECTURE, 3)."""
    head = replace(
        other.header,
        salt=one.header.salt,
        sealed_terms_sha256=one.header.sealed_terms_sha256,
        source_seq=one.header.source_seq,
    )
    return one.header == head and one.statement == other.statement


class Judge:
    """Takes decisions for one batch of messages; trust entries act from their own index on."""

    def __init__(self, registry: Registry, *, standing: Standing, tree_size: int) -> None:
        """Start after the log's first ``tree_size`` entries.

        Args:
            registry: As of these entries; trust entries of the batch are applied to it.
            standing: What these entries hold under a key.
            tree_size: Index of the next entry.
        """
        self._registry = registry
        self._standing = standing
        self._new: dict[Key, StandingEvent] = {}
        self._allowed: set[tuple[str, Claims]] = set()
        self.tree_size = tree_size
        self.trust_changed = False

    def judge(self, messages: Iterable[OpenMessage]) -> list[JudgedMessage]:
        """Return what becomes of every event of these messages."""
        judged: list[JudgedMessage] = []
        for opened in messages:
            outcomes = tuple(self._decide(candidate, opened) for candidate in opened.candidates)
            judged.append(JudgedMessage(opened, outcomes, self.tree_size))
        return judged

    def _decide(self, candidate: Candidate, opened: OpenMessage) -> Outcome:
        if isinstance(candidate, Unreadable):
            return Refused(candidate, candidate.error, "")
        signer_gln = self._signer_gln(candidate)
        key = (candidate.event_id_hash, signer_gln, candidate.declaration)
        known = self._new.get(key) or self._standing(key)
        if known is not None and known.sha256 == candidate.sha256:
            # These very bytes were judged when they were chained; what became of the key since does not unsay them.
            return Resent(candidate, known.leaf_index)
        try:
            self._judge(candidate, opened.message.stream_time)
            if known is not None:
                return self._again(candidate, known)
            if candidate.claims.payload_type is PayloadType.TRUST:
                self._registry.apply(self.tree_size, candidate.key_id, event_of(candidate.signed_event))
                self.trust_changed = True
                self._allowed.clear()
        except MedtrailError as error:
            if error.code == EVENT_ERASED:
                # What was erased must not come back as something refused.
                candidate = candidate._replace(signed_event=b"", event_id="")
            return Refused(candidate, error, signer_gln)
        self._new[key] = StandingEvent(self.tree_size, candidate.sha256, candidate.signed_event)
        chained = Chained(candidate, self.tree_size, key)
        self.tree_size += 1
        return chained

    def _judge(self, candidate: Accepted, stream_time: datetime) -> None:
        check_moments(candidate.moments, stream_time)
        # What the registry allowed once it allows until it changes.
        said = (candidate.key_id, candidate.claims)
        if said not in self._allowed:
            self._registry.judge(candidate.claims, key_id=candidate.key_id, stream_time=stream_time)
            self._allowed.add(said)

    def _again(self, candidate: Accepted, known: StandingEvent) -> Resent:
        if known.signed_event is None:
            message = f"an event stood under this event id and signer, at entry {known.leaf_index}, and was erased"
            raise DuplicateError(message, code=EVENT_ERASED, field="header.event_id")
        if not same_content(event_of(known.signed_event), event_of(candidate.signed_event)):
            message = f"other content stands under this event id and signer, at entry {known.leaf_index}"
            raise DuplicateError(message, code="EVENT_ID_CONFLICT", field="header.event_id")
        return Resent(candidate, known.leaf_index)

    def _signer_gln(self, accepted: Accepted) -> str:
        organisation = self._registry.organisation_of_key(accepted.key_id)
        if organisation is not None:
            return str(organisation.gln)
        # The authority is enrolled nowhere: it speaks under the GLN that it writes.
        is_authority = accepted.key_id == self._registry.authority_key_id
        return str(accepted.claims.actor) if is_authority else ""


def outcome_record(outcome: Outcome) -> bytes:
    """Return what a message's record says of one event: kind, hash, and index or code."""
    digest = outcome.candidate.sha256
    if isinstance(outcome, Refused):
        return refusal_record(
            digest, event_id=outcome.candidate.event_id, error=refusal_texts(outcome.error), signer=outcome.signer_gln
        )
    return index_record(digest, outcome.leaf_index, resend=isinstance(outcome, Resent))


def index_record(sha256: bytes, leaf_index: int, *, resend: bool) -> bytes:
    """Return the record of an event that is an entry, or a duplicate of one."""
    return (b"D" if resend else b"E") + sha256 + struct.pack(">Q", leaf_index)


def refusal_texts(error: MedtrailError) -> tuple[str, str, str]:
    """Return code, field and message of a refusal, as they are stored."""
    # PostgreSQL's texts hold no NUL; what a refused event says may.
    field, message = (
        text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in ((error.field or "")[:500], error.message[:500])
    )
    return error.code, field, message


def refusal_record(sha256: bytes, *, event_id: str, error: tuple[str, str, str], signer: str) -> bytes:
    """Return the record of a refused event."""
    texts = [text.encode("utf-8", "replace") for text in (event_id, *error, signer)]
    return b"R" + sha256 + b"".join(struct.pack(">I", len(text)) + text for text in texts)


def outcomes_sha256(
    *,
    epoch: int,
    stream_seq: int,
    stream_time_us: int,
    subject: str,
    message_sha256: bytes,
    tree_size: int,
    records: Iterable[bytes],
) -> bytes:
    """Return the hash over a message and what became of its events, 32 bytes: a changed row does not fit it."""
    name = subject.encode()
    head = struct.pack(">QQqQI", epoch, stream_seq, stream_time_us, tree_size, len(name)) + name + message_sha256
    return hashlib.sha256(head + b"".join(hashlib.sha256(record).digest() for record in records)).digest()


def outcomes_of(judged: JudgedMessage, *, epoch: int) -> bytes:
    """Return the hash over a judged message and its outcomes."""
    message = judged.opened.message
    return outcomes_sha256(
        epoch=epoch,
        stream_seq=message.stream_seq,
        stream_time_us=to_us(message.stream_time),
        subject=message.subject,
        message_sha256=judged.opened.sha256,
        tree_size=judged.tree_size,
        records=map(outcome_record, judged.outcomes),
    )
