"""Release by two persons: one asks, another one decides; the release names both, by pseudonym."""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.errors import AuthorizationError, ConflictError, NotFoundError
from services.custody import commands, events, lot_holds
from services.custody.conditions import require_here, with_inside
from services.custody.desk import Accepted, Session
from services.custody.events import Agreement, Occasion
from services.custody.holding import Books
from services.custody.holdings_store import from_us, to_us
from services.custody.holds import HoldCode, lines_of
from services.custody.holds_tables import ReleaseRequestRow
from services.custody.lot_holds import LotHold
from services.custody.persons import pseudonym
from services.custody.standing import freeing, sign_hold
from services.custody.units import Named, Unit, unit_of_path

_TABLE = ReleaseRequestRow.__table__  # type: ignore[attr-defined]
LOT_BATCH = 1000


class RequestState(StrEnum):
    """State of a request for release."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A request for release.

    Attributes:
        number: In order of asking.
        codes: Of the holds that are to end; empty: all.
        lot_hold_id: Of the lot; empty where units are named.
        reasons: By unit the reasons that are to end: those that stood when it was asked for. Empty for a lot, and where
            an earlier version did not keep them: then those end that stand.
        decider: Who approved or rejected it; empty while it is open.
    """

    number: int
    release_request_id: str
    state: RequestState
    units: tuple[Unit, ...]
    lot_hold_id: str
    codes: tuple[HoldCode, ...]
    reason: str
    requester: str
    request_time: datetime
    reasons: Mapping[Unit, tuple[str, ...]] = field(default_factory=dict)
    decider: str = ""
    decision_time: datetime | None = None
    decision_reason: str = ""


def ask(session: Session, units: Sequence[Named], codes: Collection[HoldCode], *, reason: str, person: str) -> str:
    """Ask that units be released from what they are on hold for now; return the request's id.

    Raises:
        ConflictError: One is not in the house, or not on hold for that (NOT_ON_HOLD).
    """
    for named in units:
        require_here(session.books, named)
    commands.require_on_hold(session, units, codes)
    paths = "\n".join(named.unit.path for named in units)
    reasons = {named.unit.path: commands.standing_reasons(session.books, named.unit, codes) for named in units}
    return _insert(
        session,
        units=paths,
        codes="\n".join(sorted(set(codes))),
        reasons=json.dumps(reasons, ensure_ascii=False, separators=(",", ":")),
        reason=reason,
        requester=person,
    )


def ask_for_lot(session: Session, lot_hold_id: str, *, reason: str, person: str) -> str:
    """Ask that a lot be released; return the request's id.

    Raises:
        NotFoundError: LOT_HOLD_UNKNOWN.
        ConflictError: NOT_ON_HOLD.
    """
    lot_holds.require_standing(session.connection, lot_hold_id)
    return _insert(session, lot_hold_id=lot_hold_id, reason=reason, requester=person)


def _insert(session: Session, **columns: str) -> str:
    request_id = str(uuid.uuid4())
    row = {"units": "", "codes": "", "lot_hold_id": "", "state": RequestState.OPEN.value, **columns}
    session.connection.execute(
        insert(ReleaseRequestRow).values(release_request_id=request_id, request_us=to_us(session.now), **row)
    )
    return request_id


def approve(session: Session, request_id: str, occasion: Occasion, *, person: str, reason: str) -> list[Accepted]:
    """Approve a request, and end the holds that stood when it was asked for; what came since holds on.

    Raises:
        NotFoundError: RELEASE_REQUEST_UNKNOWN.
        AuthorizationError: The person who asked approves (SAME_PERSON).
        ConflictError: It was decided before (RELEASE_REQUEST_DECIDED), or a unit is on hold no more (NOT_ON_HOLD).
    """
    request = require_open(session.connection, request_id)
    if request.requester == person:
        message = f"{person} asked for this release: another person approves it"
        raise AuthorizationError(message, code="SAME_PERSON", field="release_request_id")
    agreement = Agreement(pseudonym(session.connection, request.requester), pseudonym(session.connection, person))
    session.approved = True
    if request.lot_hold_id:
        hold = lot_holds.require_standing(session.connection, request.lot_hold_id)
        made, _ = release_lot(session, hold, occasion, reason=request.reason, agreement=agreement)
    else:
        session.load(request.units)
        units = [Named(unit, f"epcs[{number}]") for number, unit in enumerate(request.units)]
        made = commands.release(
            session,
            units,
            occasion,
            reason=request.reason,
            codes=request.codes,
            reasons=request.reasons or None,
            agreement=agreement,
        )
    _decide(session, request_id, RequestState.APPROVED, person=person, reason=reason)
    return made


def reject(session: Session, request_id: str, *, person: str, reason: str) -> None:
    """End a request without release; who asked may withdraw it so.

    Raises:
        NotFoundError: RELEASE_REQUEST_UNKNOWN.
        ConflictError: RELEASE_REQUEST_DECIDED.
    """
    require_open(session.connection, request_id)
    _decide(session, request_id, RequestState.REJECTED, person=person, reason=reason)


def _decide(session: Session, request_id: str, state: RequestState, *, person: str, reason: str) -> None:
    session.connection.execute(
        update(ReleaseRequestRow)
        .where(col(ReleaseRequestRow.release_request_id) == request_id)
        .values(state=state.value, decider=person, decision_reason=reason, decision_us=to_us(session.now))
    )


def get(connection: Connection, request_id: str) -> ReleaseRequest:
    """Return a request.

    Raises:
        NotFoundError: There is none (RELEASE_REQUEST_UNKNOWN).
    """
    row = connection.execute(select(_TABLE).where(_TABLE.c.release_request_id == request_id)).mappings().first()
    if row is None:
        message = f"no request for release {request_id[:40]!r} is known here"
        raise NotFoundError(message, code="RELEASE_REQUEST_UNKNOWN", field="release_request_id")
    return _from_row(row)


def require_open(connection: Connection, request_id: str) -> ReleaseRequest:
    """Return a request that waits for a decision.

    Raises:
        NotFoundError: RELEASE_REQUEST_UNKNOWN.
        ConflictError: RELEASE_REQUEST_DECIDED.
    """
    found = get(connection, request_id)
    if found.state is not RequestState.OPEN:
        message = f"the request was {found.state} by {found.decider}"
        raise ConflictError(message, code="RELEASE_REQUEST_DECIDED", field="release_request_id", state=found.state)
    return found


def list_requests(
    connection: Connection, *, state: RequestState | None, before: int | None, limit: int
) -> list[ReleaseRequest]:
    """Return requests, newest first, those before a number."""
    query = select(_TABLE).order_by(_TABLE.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(_TABLE.c.number < before)
    if state is not None:
        query = query.where(_TABLE.c.state == state.value)
    return [_from_row(row) for row in connection.execute(query).mappings()]


def _from_row(row: Any) -> ReleaseRequest:  # noqa: ANN401  # a row of release_request
    return ReleaseRequest(
        number=row["number"],
        release_request_id=row["release_request_id"],
        state=RequestState(row["state"]),
        units=tuple(unit_of_path(path) for path in row["units"].splitlines()),
        lot_hold_id=row["lot_hold_id"],
        codes=tuple(HoldCode(code) for code in row["codes"].splitlines()),
        reason=row["reason"],
        requester=row["requester"],
        request_time=from_us(row["request_us"]),
        reasons={unit_of_path(path): tuple(said) for path, said in json.loads(row["reasons"] or "{}").items()},
        decider=row["decider"],
        decision_time=None if row["decision_us"] is None else from_us(row["decision_us"]),
        decision_reason=row["decision_reason"],
    )


# --- lots ---


def hold_lot(session: Session, hold: LotHold, occasion: Occasion) -> tuple[list[Accepted], int]:
    """Sign that the packs of a lot here are on hold by it; return events and packs. Those to come will follow."""
    made: list[Accepted] = []
    count = 0
    for units in lot_holds.batches(session.connection, hold, held=False, size=LOT_BATCH):
        session.turn_to(units)
        made += sign_hold(session, units, occasion, hold.line)
        count += len(units)
    return made, count


def release_lot(
    session: Session, hold: LotHold, occasion: Occasion, *, reason: str, agreement: Agreement | None = None
) -> tuple[list[Accepted], int]:
    """End the hold of a lot, and of the packs on hold by it; other reasons hold them on. Return events and packs.

    Its reason alone ends, and every event names it: so nothing else that holds a unit, or what is inside of it, ends by
    it, and no two lot holds are ended by the same event.

    Raises:
        ConflictError: FOUR_EYES_REQUIRED.
    """
    made: list[Accepted] = []
    count = 0
    lot_holds.note_released(session.connection, hold.lot_hold_id, now=session.now)
    for units in lot_holds.batches(session.connection, hold, held=True, size=LOT_BATCH):
        session.turn_to(units)
        groups: dict[bool, list[Unit]] = {}
        for unit in units:
            groups.setdefault(_held_otherwise(session.books, unit, hold.line), []).append(unit)
        for held, members in groups.items():
            made += [
                session.record(
                    events.releasing(
                        group, occasion, reason=reason, ended=(hold.line,), held=held, agreement=agreement
                    ),
                    effect=freeing(group, hold.line),
                )
                for group in events.split(members)
            ]
        count += len(units)
    return made, count


def _held_otherwise(books: Books, unit: Unit, reason: str) -> bool:
    """Tell whether a unit, or anything inside of it, is on hold for another reason."""
    return any(set(lines_of(part.hold_reason)) - {reason} for part in with_inside(books, unit))
