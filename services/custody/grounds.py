"""What holdings rest on, as it stands today: partners' despatches, and the events that made them what they are.

An undo brings back what was known before an event. What that rested on may have been confirmed since, or not hold any
more: that came as news and not as an event of the unit, so that no earlier knowledge tells of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from medtrail.gs1 import Gln
from services.custody import events_store, holdings_store, inbound_store
from services.custody.exceptions import store as case_store
from services.custody.exceptions.case import NewCase
from services.custody.exceptions.codes import ExceptionCode, rule_of
from services.custody.holding import Holding, HoldingState
from services.custody.inbound_store import InboundShipment, InboundState
from services.custody.receiving import arrivals_store
from services.custody.receiving.arrivals_store import Waiting
from services.custody.units import Unit

DECLARED = "DECLARED_ERROR"
"""Exception of what rests on an event that was declared an error."""


class Grounds:
    """What holdings of one organisation rest on; each despatch and event is looked up once."""

    def __init__(self, connection: Connection, gln: Gln) -> None:
        """Look into the books of the organisation of a GLN."""
        self._connection = connection
        self._gln = gln
        self._shipments: dict[str, InboundShipment | None] = {}
        self._codes: dict[tuple[Gln, str], str] = {}

    def judge(self, holding: Holding) -> Holding | None:
        """Return a holding as it must be by what it rests on; None: nothing is known of the unit any more."""
        shipment = self._shipment(holding.despatch_id)
        if shipment is not None:
            holding = replace(holding, provisional=shipment.provisional)
        if holding.state is HoldingState.INBOUND and not self.holds(holding):
            return self._before_despatch(holding)
        if not holding.here or holding.state is HoldingState.EXCEPTION:
            return holding
        code = self._code_of_shipment(shipment) or self._code_of_event(self._gln, holding.event_id)
        return replace(holding, state=HoldingState.EXCEPTION, exception=code) if code else holding

    def holds(self, holding: Holding) -> bool:
        """Tell whether the despatch that brings or brought a unit, if any did, holds still."""
        shipment = self._shipment(holding.despatch_id)
        return shipment is None or shipment.state not in inbound_store.WITHOUT_DATA

    def _shipment(self, despatch_id: str) -> InboundShipment | None:
        if despatch_id and despatch_id not in self._shipments:
            self._shipments[despatch_id] = inbound_store.find(self._connection, despatch_id)
        return self._shipments.get(despatch_id)

    def _before_despatch(self, holding: Holding) -> Holding | None:
        shipment = self._shipment(holding.despatch_id)
        if shipment is None:
            return holding
        despatch = events_store.find_event(
            self._connection, signer=shipment.signer, event_id=shipment.despatch_id, declaration=False
        )
        known = {} if despatch is None else holdings_store.befores(self._connection, despatch.number)
        return known.get(holding.unit.path)

    def _code_of_shipment(self, shipment: InboundShipment | None) -> str:
        if shipment is None or shipment.state not in inbound_store.WITHOUT_DATA:
            return ""
        if shipment.state is InboundState.WITHDRAWN:
            return DECLARED
        return self._code_of_event(shipment.signer, shipment.despatch_id) or shipment.state.name

    def _code_of_event(self, signer: Gln, event_id: str) -> str:
        """Return why an event does not hold; empty where it does, or where the signer said none of that id."""
        key = (signer, event_id)
        if key not in self._codes:
            self._codes[key] = self._find_code(signer, event_id)
        return self._codes[key]

    def _find_code(self, signer: Gln, event_id: str) -> str:
        said = events_store.find_event(self._connection, signer=signer, event_id=event_id, declaration=False)
        if said is None or said.refusal:
            return "" if said is None else said.refusal
        declared = events_store.find_event(self._connection, signer=signer, event_id=event_id, declaration=True)
        return "" if declared is None or declared.refusal else DECLARED


def with_data_since(before: Holding, known: Holding, event_id: str, *, waits: bool) -> Holding:
    """Return what was known of a unit before an event, with the data of it that have come since, or do not hold since.

    Args:
        before: Before the event.
        known: Today; by that event still.
        event_id: Of the event.
        waits: It is here and waits for data.
    """
    # Suspicion is a case's to end: it is neither undone with an event nor does it come back with one.
    before = replace(before, suspect=known.suspect)
    if waits and before.here and before.state is not HoldingState.EXCEPTION is known.state:
        # No event of ours takes the data away of what is here: that came as news.
        return replace(before, state=known.state, exception=known.exception, despatch_id=known.despatch_id)
    if known.despatch_id in {"", event_id}:
        return before
    found = replace(before, lot=known.lot, expiry=known.expiry)
    if known.despatch_id != before.despatch_id:
        found = replace(
            found,
            despatch_id=known.despatch_id,
            smallest=known.smallest,
            partner=known.partner,
            parent=known.parent,
        )
    if before.state is known.state is HoldingState.EXCEPTION:
        # They may not fit what is here.
        found = replace(found, exception=known.exception)
    return found


def wait_for_data(connection: Connection, gln: Gln, restored: Sequence[Holding], *, now: datetime) -> None:
    """Keep in mind what is here again, put aside for its despatch: it is received when corrected data come."""
    grounds = Grounds(connection, gln)
    aside = [item for item in restored if item.state is HoldingState.EXCEPTION and not grounds.holds(item)]
    waiting = arrivals_store.of_paths(connection, [item.unit.path for item in aside])
    fresh = [item for item in aside if item.unit.path not in waiting]
    arrivals_store.keep(connection, [Waiting(item.unit.path, location=item.location) for item in fresh], now=now)
    by_despatch: dict[str, list[Holding]] = {}
    for item in fresh:
        by_despatch.setdefault(item.despatch_id, []).append(item)
    for despatch_id, goods in by_despatch.items():
        open_cases(connection, gln, despatch_id, [item for item in goods if item.smallest], now=now)


def open_cases(
    connection: Connection, gln: Gln, despatch_id: str, goods: Sequence[Holding], *, now: datetime
) -> dict[str, list[Unit]]:
    """Open cases for goods here whose despatch does not hold any more; return each one's id with its units."""
    if not goods:
        return {}
    code = ExceptionCode.DESPATCH_REFUSED
    detail = f"{len(goods)} units rest on a despatch that does not hold: {rule_of(code).instruction}"
    new = NewCase(code, detail, [item.unit for item in goods], despatch_id=despatch_id)
    return case_store.open_cases(connection, gln, new, now=now)
