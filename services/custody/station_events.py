"""What stations have signed while they were alone, taken into the books in the order of their numbers.

An event that fits is applied as if it had been done here. One that the books contradict was said and signed all the
same: it goes to the log, and its units become exceptions for a person to look at. Taking an event in again changes
nothing and gives the first answer.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Connection, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Field, col

from medtrail.claims import claims_of
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import (
    AuthorizationError,
    ConflictError,
    DuplicateError,
    MalformedError,
)
from medtrail.event import RESERVED_SOURCES, Capture, Event, is_station_name
from medtrail.trust import Registry
from services.custody import commands, verifications
from services.custody.conditions import with_inside
from services.custody.desk import Desk, Session
from services.custody.exceptions.case import CaseScan, NewCase
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.store import open_case
from services.custody.holding import HoldingState
from services.custody.parties import place_of
from services.custody.receiving import arrivals_store, cases, settle
from services.custody.receiving.arrivals_store import Waiting
from services.custody.station_effects import Objection, StationEffect
from services.custody.station_feed import newest_number
from services.custody.steps import Step, StepKind, step_of
from services.custody.tables import CustodyTable
from services.custody.units import Unit, unit_of_path

MAX_UNITS = 1000
INACTIVE = "inactive"
"""CBV's word for a pack whose serial number is out of use."""

STATION_STEPS = frozenset(
    {
        StepKind.UNPACK,
        StepKind.RECEIVE,
        StepKind.TAKE_BACK,
        StepKind.ARRIVE,
        StepKind.HOLD,
        StepKind.DISPENSE,
        StepKind.DISPENSE_PART,
        StepKind.OBSERVE,
    }
)
"""What a station may say: a key that stands at a till neither ships nor commissions."""


class StationRow(CustodyTable, table=True):
    """A station: its key (did:key), and the number of its newest event here."""

    __tablename__: ClassVar[str] = "station"

    name: str = Field(primary_key=True)
    key_id: str
    last_seq: int = Field(sa_type=BigInteger)


class StationEventRow(CustodyTable, table=True):
    """What became of a station's event; ``conflicts``: JSON list of (path, code, message, case id)."""

    __tablename__: ClassVar[str] = "station_event"

    station: str = Field(primary_key=True)
    source_seq: int = Field(primary_key=True, sa_type=BigInteger)
    signed_event_sha256: bytes
    conflicts: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A unit of which an event says what the books contradict: by which rule, for a person, and the case's id."""

    unit: Unit
    code: str
    message: str
    case_id: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a station's event.

    Attributes:
        station: Its source.
        source_seq: Its number there.
        sha256: Of the SignedEvent.
        conflicts: Units that the books contradict; empty when it fits.
        change_number: Number in the feed up to which its effects are told.
        resend: It had been taken in before.
    """

    station: str
    source_seq: int
    sha256: bytes
    conflicts: tuple[Conflict, ...]
    change_number: int
    resend: bool = False


def check_station_name(name: str, *, field: str) -> str:
    """Return a station's name.

    Raises:
        MalformedError: Not 1 to 20 of a-z, 0-9 and -, or reserved (STATION_NAME).
    """
    if not is_station_name(name):
        reserved = ", ".join(sorted(RESERVED_SOURCES))
        message = f"expected 1 to 20 of a-z, 0-9 and - inside, not {reserved}; got {name[:40]!r}"
        raise MalformedError(message, code="STATION_NAME", field=field)
    return name


def last_number(connection: Connection, name: str) -> int:
    """Return the number of a station's newest event here, 0 when there is none."""
    return (
        connection.execute(select(col(StationRow.last_seq)).where(col(StationRow.name) == name)).scalar_one_or_none()
        or 0
    )


def take_event(connection: Connection, desk: Desk, data: bytes, *, key_id: str) -> Taken:
    """Take a station's event in, or find that it was.

    Args:
        connection: In a write transaction.
        desk: Of the organisation.
        data: SignedEvent.
        key_id: did:key of who hands it in: a station speaks for itself.

    Raises:
        MalformedError: It is no event that a station may sign.
        AuthorizationError: Not signed by the caller, not with the key of the station that it names (STATION_KEY), or
            with a key that may not say it (any more).
        VerificationError: Dated more than five minutes ahead (EVENT_IN_FUTURE).
        ConflictError: Out of turn (SOURCE_SEQ_GAP), or another event has its number (SOURCE_SEQ_REUSED).
    """
    said = _read(data, key_id)
    _check_key(desk.registry(), said.event.header.source, key_id)
    sha256 = hashlib.sha256(data).digest()
    name, seq = said.event.header.source, said.event.header.source_seq
    before = _find(connection, name, seq)
    if before is not None:
        if before.sha256 != sha256:
            message = f"another event of {name} has the number {seq}: is its key at work in two places?"
            raise DuplicateError(message, code="SOURCE_SEQ_REUSED", field="header.source_seq", source=name)
        return before
    _check_turn(connection, desk.registry(), name, seq, key_id)
    organisation = desk.registry().judge(claims_of(said.event), key_id=key_id, stream_time=desk.clock())
    if organisation is None or organisation.gln != desk.gln:
        message = f"the key does not speak for {desk.gln}"
        raise AuthorizationError(message, code="KEY_NOT_OWN", field="signatures[0].key_id")
    conflicts = _record(connection, desk, said)
    _keep(connection, name, seq, key_id=key_id, sha256=sha256, conflicts=conflicts)
    return Taken(name, seq, sha256, conflicts, newest_number(connection))


@dataclass(frozen=True, slots=True)
class _Said:
    """A station's event: its bytes, and what they say."""

    data: bytes
    event: Event
    statement: EpcisEvent
    step: Step


def _read(data: bytes, key_id: str) -> _Said:
    signed = decode_signed_event(data)
    signer = verify_signatures(signed)
    if signer != key_id:
        message = f"signed with {signer}, handed in by {key_id}"
        raise AuthorizationError(message, code="STATION_KEY", field="signatures[0].key_id")
    event = decode_payload(signed.payload_type, signed.payload)
    check_station_name(event.header.source, field="header.source")
    statement = event.statement
    if (
        not isinstance(statement, EpcisEvent)
        or statement.error_declaration is not None
        or event.header.capture is not Capture.FIRST_HAND
    ):
        message = "a station signs EPCIS events of its own organisation only, and no error declarations"
        raise MalformedError(message, code="EVENT_NOT_FOR_STATION", field="payload")
    step = step_of(statement, field="event")
    if step.kind not in STATION_STEPS or len(step.named) > MAX_UNITS + 1:
        message = f"a station does not {step.kind.replace('_', ' ')}, nor name more than {MAX_UNITS} units at a time"
        raise MalformedError(message, code="EVENT_NOT_FOR_STATION", field="event.bizStep")
    return _Said(data, event, statement, step)


def _find(connection: Connection, name: str, seq: int) -> Taken | None:
    row = connection.execute(
        select(col(StationEventRow.signed_event_sha256), col(StationEventRow.conflicts)).where(
            col(StationEventRow.station) == name, col(StationEventRow.source_seq) == seq
        )
    ).first()
    if row is None:
        return None
    conflicts = tuple(
        Conflict(unit_of_path(path), code, message, case_id) for path, code, message, case_id in json.loads(row[1])
    )
    return Taken(name, seq, row[0], conflicts, newest_number(connection), resend=True)


def _check_key(registry: Registry, name: str, key_id: str) -> None:
    """Check that a key was given to the station in whose name it speaks; whoever has none yet is told so later."""
    record = registry.key(key_id)
    if record is not None and record.station != name:
        whose = f"the station {record.station}" if record.station else "the organisation"
        message = f"the key is that of {whose}, not of the station {name}"
        raise AuthorizationError(message, code="STATION_KEY", field="header.source")


def _check_turn(connection: Connection, registry: Registry, name: str, seq: int, key_id: str) -> None:
    row: Any = connection.execute(
        select(col(StationRow.key_id), col(StationRow.last_seq)).where(col(StationRow.name) == name)
    ).first()
    last_seq = 0 if row is None else row.last_seq
    if row is not None and row.key_id != key_id:
        known = registry.key(row.key_id)
        if known is not None and known.end_index is None:
            message = f"the station {name} has another key; retire that before it gets a new one"
            raise AuthorizationError(message, code="STATION_KEY", field="signatures[0].key_id")
    if seq != last_seq + 1:
        message = f"expected event {last_seq + 1} of {name}, got {seq}"
        raise ConflictError(
            message, code="SOURCE_SEQ_GAP", field="header.source_seq", expected=last_seq + 1, source=name
        )


def _keep(
    connection: Connection, name: str, seq: int, *, key_id: str, sha256: bytes, conflicts: Iterable[Conflict]
) -> None:
    told = [(item.unit.path, item.code, item.message, item.case_id) for item in conflicts]
    connection.execute(
        insert(StationRow)
        .values(name=name, key_id=key_id, last_seq=seq)
        .on_conflict_do_update(index_elements=["name"], set_={"key_id": key_id, "last_seq": seq})
    )
    connection.execute(
        insert(StationEventRow).values(
            station=name, source_seq=seq, signed_event_sha256=sha256, conflicts=json.dumps(told)
        )
    )


def _record(connection: Connection, desk: Desk, said: _Said) -> tuple[Conflict, ...]:
    session = Session(connection, desk, [named.unit for named in said.step.named])
    effect = StationEffect(session, said.step, disposition=said.statement.disposition or "")
    opening = _opening(session, said)
    session.take(said.event, said.data, effect=effect.apply)
    commands.count_received(session)
    conflicts = tuple(_open_case(session, said, objection) for objection in effect.objections)
    _follow(session, said, effect, opening)
    return conflicts


def _opening(session: Session, said: _Said) -> list[Unit]:
    """Return the packs that an event takes out of use by opening them, those that were not opened before."""
    persistent = said.statement.persistent_disposition
    if said.step.kind is not StepKind.DISPENSE_PART or persistent is None or INACTIVE not in persistent.set:
        return []
    found = ((named.unit, session.books.get(named.unit)) for named in said.step.units)
    return [unit for unit, holding in found if holding is None or not holding.opened]


def _follow(session: Session, said: _Said, effect: StationEffect, opening: Sequence[Unit]) -> None:
    """Do what the verbs of the service do beyond an event, once that is in the books."""
    if said.step.kind is StepKind.RECEIVE:
        came = (part for named in said.step.units for part in with_inside(session.books, named.unit))
        cases.note_found(session, [part.unit for part in came if part.state is HoldingState.ON_HAND])
    for unit in opening:
        verifications.keep_opening(session.connection, unit, gln=session.desk.gln, now=session.now)
    if effect.without_data:
        place = place_of(said.statement)
        location = place if place in session.desk.glns else None
        paths = [unit.path for unit in effect.without_data]
        waiting = [Waiting(path, location=location) for path in paths]
        arrivals_store.keep(session.connection, waiting, now=session.now)
        settle.settle(session.connection, session.desk, paths)


def _open_case(session: Session, said: _Said, objection: Objection) -> Conflict:
    station, unit, error = said.event.header.source, objection.unit, objection.error
    what = said.statement.biz_step or said.statement.type.value
    new = NewCase(
        ExceptionCode.OFFLINE_CONFLICT,
        f"{station} recorded {what} of {unit.path}: {error.code}, {error.message}",
        (unit,),
        despatch_id=objection.despatch_id,
        scan=CaseScan(unit.digital_link, said.statement.event_time, station),
    )
    case_id = open_case(session.connection, session.desk.gln, new, now=session.now)
    return Conflict(unit, error.code, error.message, case_id)
