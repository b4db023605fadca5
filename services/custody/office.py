"""One organisation at work: its books, its signature, and the way in and out of its requests."""

import hashlib
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from medtrail.api.custody.v1 import custody_pb2
from medtrail.claims import MAX_AHEAD
from medtrail.codec import from_timestamp
from medtrail.errors import AuthorizationError, MalformedError, UnavailableError, VerificationError
from medtrail.gs1 import Gln
from medtrail.runtime.database import Database
from medtrail.runtime.overdue import OverdueWatch
from medtrail.runtime.paging import PageTokens
from medtrail.runtime.replica import RegistryReplica
from services.custody import events_store
from services.custody.changes import ChangeBell
from services.custody.desk import Desk, Session
from services.custody.events import Occasion
from services.custody.holds import HoldCode
from services.custody.scan import Scanner
from services.custody.units import Named, Unit, parse_unit, parse_units

M = TypeVar("M", bound=Message)

MAX_UNITS = 5000
MAX_REASON = 500
MAX_NUMBER = 64
_OFFSET = re.compile(r"[+-](?:0[0-9]|1[0-4]):[0-5][0-9]\Z")


@dataclass(frozen=True, slots=True)
class DispensingPolicy:
    """How dispensing is recorded here.

    Attributes:
        recorded: Whether it is: where not, what was received may be gone, and nothing is said to be on hand.
        decommission_at_opening: The first opening of a pack takes its serial number out of use (EU).
    """

    recorded: bool = True
    decommission_at_opening: bool = False


DISPENSING_RECORDED = DispensingPolicy()


@dataclass(frozen=True, slots=True)
class Office:
    """What every servicer of an organisation works with.

    Attributes:
        desk: Who signs.
        database: The books.
        tokens: For pages.
        scanner: Judges scans.
        after_write: Called on the event loop after a write: something may wait in the outbox.
        replica: What is known of the log.
        watch: Tells what waits, and the alarms.
        bell: Wakes those who follow the events, after a write.
        dispensing: How dispensing is recorded.
        parties_file: Addresses and products for partners outside the network; None: none.
    """

    desk: Desk
    database: Database
    tokens: PageTokens
    scanner: Scanner
    after_write: Callable[[], None]
    replica: RegistryReplica
    watch: OverdueWatch
    bell: ChangeBell = field(default_factory=ChangeBell)
    parties_file: Path | None = None
    dispensing: DispensingPolicy = DISPENSING_RECORDED

    async def write(
        self,
        request: Message,
        answer: type[M],
        work: Callable[[Session], M],
        *,
        units: Sequence[Unit] = (),
        before: Sequence[Message] = (),
    ) -> M:
        """Answer a write once: the same request id with the same content gets its first answer again.

        Args:
            request: With a field request_id, a UUID.
            answer: Class of the answer.
            work: Does it, inside one transaction.
            units: Those whose books the work touches.
            before: Requests that came before this one and belong to it.

        Raises:
            DuplicateError: The id was used for another request (REQUEST_ID_REUSED).
        """
        request_id = check_request_id(getattr(request, "request_id", ""))
        method = type(request).__name__
        digest = _digest((*before, request))
        self.check_ready()

        def run(connection: Connection) -> bytes:
            known = events_store.answered(connection, request_id, method=method, request_sha256=digest)
            if known is not None:
                return known
            made = work(Session(connection, self.desk, units)).SerializeToString(deterministic=True)
            events_store.keep_answer(connection, request_id, method=method, request_sha256=digest, answer=made)
            return made

        made = await self.database.write(run)
        self.after_write()
        self.bell.ring()
        return answer.FromString(made)

    def check_ready(self) -> None:
        """Refuse to sign before it is known whose key this is.

        Raises:
            UnavailableError: The registry has not come from the ledger yet (REGISTRY_NOT_READY).
        """
        if self.desk.organisation is None:
            message = "the registry of organisations has not come from the ledger yet"
            raise UnavailableError(message, code="REGISTRY_NOT_READY")

    def units(self, texts: Sequence[str], *, field: str, most: int = MAX_UNITS) -> tuple[Named, ...]:
        """Return the units that a request names (:func:`services.custody.units.parse_units`)."""
        return parse_units(texts, field=field, today=self._today(), most=most)

    def unit(self, text: str, *, field: str) -> Named:
        """Return the unit that a request names."""
        return Named(parse_unit(text, field=field, today=self._today()), field)

    def _today(self) -> date:
        return self.desk.clock().date()

    def occasion(self, message: custody_pb2.Occasion) -> Occasion:
        """Return when and where a thing was done; now and the first location where the request does not say.

        Raises:
            MalformedError: A time, an offset or a GLN is none.
            VerificationError: More than 5 minutes ahead (EVENT_IN_FUTURE).
            AuthorizationError: Not a location of this organisation (LOCATION_NOT_OWN).
        """
        now = self.desk.clock()
        moment = now
        if message.HasField("event_time"):
            moment = from_timestamp(message.event_time, field="occasion.event_time")
            # The event hash knows milliseconds: two events that differ in less would be taken for one.
            moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        if moment > now + MAX_AHEAD:
            text = f"dated {moment.isoformat()}, more than 5 minutes ahead of {now.isoformat()}"
            raise VerificationError(text, code="EVENT_IN_FUTURE", field="occasion.event_time")
        offset = message.event_time_zone_offset or "+00:00"
        if not _OFFSET.match(offset):
            text = f"expected +hh:mm or -hh:mm, got {offset[:20]!r}"
            raise MalformedError(text, code="OFFSET_MALFORMED", field="occasion.event_time_zone_offset")
        return Occasion(moment, offset, self._location(message.location))

    def _location(self, text: str) -> Gln:
        if not text:
            return self.desk.default_location
        location = parse_gln(text, field="occasion.location")
        if location not in self.desk.glns:
            message = f"{location} is no location of {self.desk.gln}"
            raise AuthorizationError(message, code="LOCATION_NOT_OWN", field="occasion.location")
        return location


def _digest(requests: Sequence[Message]) -> bytes:
    # The hash of the only request, or of the hashes of all.
    hashes = [hashlib.sha256(request.SerializeToString(deterministic=True)).digest() for request in requests]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(b"".join(hashes)).digest()


def check_request_id(text: str) -> str:
    """Return a request id in its canonical spelling.

    Raises:
        MalformedError: It is no UUID (REQUEST_ID_MALFORMED).
    """
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text.lower():
        message = f"expected a UUID such as 123e4567-e89b-12d3-a456-426614174000, got {text[:50]!r}"
        raise MalformedError(message, code="REQUEST_ID_MALFORMED", field="request_id")
    return str(parsed)


def parse_gln(text: str, *, field: str) -> Gln:
    """Return a GLN from 13 digits.

    Raises:
        MalformedError: It is none.
    """
    try:
        return Gln(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field=field) from error


def check_reason(text: str) -> str:
    """Return a reason of 1 to 500 characters.

    Raises:
        MalformedError: Shorter or longer (TEXT_LENGTH).
    """
    if not 1 <= len(text) <= MAX_REASON:
        message = f"expected 1 to {MAX_REASON} characters, got {len(text)}"
        raise MalformedError(message, code="TEXT_LENGTH", field="reason")
    return text


def hold_text(text: str, code: HoldCode) -> str:
    """Return why units are put on hold; a code alone may say it.

    Raises:
        MalformedError: It says nothing, or more than 500 characters (TEXT_LENGTH).
    """
    return "" if code is not HoldCode.OTHER and not text else check_reason(text)


def check_number(text: str, *, field: str) -> str:
    """Return the number of a business document; it may be empty.

    Raises:
        MalformedError: It has more than 64 characters, or such as cannot stand in a number (TEXT_MALFORMED).
    """
    if len(text) > MAX_NUMBER or not text.isprintable() or " " in text:
        message = f"expected at most {MAX_NUMBER} printable characters without spaces"
        raise MalformedError(message, code="TEXT_MALFORMED", field=field)
    return text


def judge_time_of(message: custody_pb2.ScanIncomingRequest) -> datetime | None:
    """Return the moment for which to judge a scan, or None for now.

    Raises:
        MalformedError: It is no moment.
    """
    if not message.HasField("judge_time"):
        return None
    return from_timestamp(message.judge_time, field="judge_time").astimezone(UTC)
