"""Drives the real services: every act is told until it is answered, by whatever process serves by then.

A write carries a request id that follows from the seed and the act's number, so that telling it again changes nothing.
"""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import grpc.aio

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.holds.v1 import holds_pb2_grpc
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.cli.network import OrganisationAddress, RunningNetwork
from medtrail.errors import MedtrailError, UnavailableError, VerificationError
from medtrail.gs1 import Gln
from medtrail.runtime.client import connect, connect_desk
from medtrail.runtime.folder import OrganisationFolder, StationFolder
from medtrail.simulation.acts import Act, Verb
from medtrail.simulation.calls import Answer, Calls, Stubs
from medtrail.simulation.calls_cases import case_calls
from medtrail.simulation.calls_oversight import oversight_calls
from medtrail.simulation.calls_trade import trade_calls
from medtrail.simulation.network import Member

T = TypeVar("T")

PATIENCE_S = 180.0
PAUSE_S = 0.2
POLL_S = 0.1
DEADLINE_S = 60.0
AT_ONCE = 4
PAGE = 500
DESPATCHES = frozenset({Verb.SHIP, Verb.SEND_BACK, Verb.TELL_SHIPPED})


@dataclass(slots=True)
class Station:
    """A party at work: its stubs, and how many of its calls may be under way."""

    stubs: Stubs
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer: a process that was killed is started again.

    Raises:
        UnavailableError: There is none for three minutes.
        MedtrailError: The answer is a refusal.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while True:
        try:
            return await ask()
        except UnavailableError as error:
            if error.code == "METHOD_UNIMPLEMENTED" or loop.time() > deadline:
                raise
        await asyncio.sleep(PAUSE_S)


def _connect_person(item: OrganisationAddress, person: str) -> grpc.aio.Channel:
    return connect(
        item.address,
        folder=OrganisationFolder(Path(item.folder)),
        audience=Gln(item.gln),
        server=item.name,
        deadline_s=DEADLINE_S,
        person=person,
    )


class Driver:
    """Tells a network what happens.

    Args:
        stations: By party.
        calls: Makes the calls.
        seed: Of the request ids.
        parties: Numbers of the parties by name.
        pids: Gives the processes by name as of now.
    """

    def __init__(
        self,
        stations: dict[str, Station],
        calls: Calls,
        *,
        seed: int,
        parties: dict[str, Member],
        pids: Callable[[], dict[str, int]],
    ) -> None:
        self.stations = stations
        self.calls = calls
        self.parties = parties
        self.told = 0
        self._seed = seed
        self._pids = pids
        self._despatched: dict[str, set[str]] = {}
        self._recalls: set[str] = set()
        self._last_event: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        running: RunningNetwork,
        *,
        start: datetime,
        seed: int,
        parties: dict[str, Member],
        pids: Callable[[], dict[str, int]],
    ) -> AsyncIterator["Driver"]:
        """Open channels for every party; they close at the end."""
        async with AsyncExitStack() as stack:
            stations = {}
            for item in running.organisations:
                folder = OrganisationFolder(Path(item.folder))
                own = connect(
                    item.address, folder=folder, audience=Gln(item.gln), server=item.name, deadline_s=DEADLINE_S
                )
                ledger = connect(
                    running.ledger_address,
                    folder=folder,
                    audience=Gln(running.ledger_gln),
                    server="ledger",
                    deadline_s=DEADLINE_S,
                )
                await stack.enter_async_context(own)
                await stack.enter_async_context(ledger)
                stations[item.name] = Station(Stubs(own, ledger))
                for person in parties[item.name].party.persons:
                    theirs = await stack.enter_async_context(_connect_person(item, person))
                    stations[item.name].stubs.persons[person] = holds_pb2_grpc.HoldServiceStub(theirs)
            for station in running.stations:
                desk = connect_desk(station.address, folder=StationFolder(Path(station.folder)), deadline_s=DEADLINE_S)
                await stack.enter_async_context(desk)
                stub = station_pb2_grpc.StationDeskServiceStub(desk)
                stations[station.organisation].stubs.stations[station.name] = stub
            calls = Calls(start, parties)
            calls.learn(trade_calls(calls))
            calls.learn(oversight_calls(calls))
            calls.learn(case_calls(calls))
            yield cls(stations, calls, seed=seed, parties=parties, pids=pids)

    def stubs(self, who: str) -> Stubs:
        """Return what a party can ask."""
        return self.stations[who].stubs

    # --- telling ---

    async def do(self, act: Act, number: int) -> str:
        """Tell a party's service of an act; return the code with which it was refused, or nothing."""
        station = self.stations[act.who]
        request_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._seed}/{number}"))
        async with station.turns:
            try:
                answer = await insist(lambda: self.calls.make(station.stubs, act, request_id))
            except UnavailableError as error:
                if error.code != "METHOD_UNIMPLEMENTED":
                    raise
                return error.code
            except MedtrailError as error:
                return error.code
        self.told += 1
        self._note(act, answer)
        return answer.code

    def _note(self, act: Act, answer: Answer) -> None:
        if answer.event_ids:
            self._last_event[act.who] = answer.event_ids[-1]
        if act.verb in DESPATCHES and act.to in self.stations:
            self._despatched.setdefault(act.to, set()).update(answer.event_ids)
        if act.verb is Verb.RECALL:
            self._recalls.update(answer.event_ids)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Let the services of those who have stations stand still: their stations go on alone."""
        cut = [name for name, station in self.stations.items() if station.stubs.stations]
        await asyncio.gather(*(self._handed_in(name) for name in cut))
        pids = [self._pids()[name] for name in cut]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*(self._handed_in(name) for name in cut))

    async def _handed_in(self, name: str) -> None:
        """Wait until a party's stations have told all, and know all."""
        for desk in self.stations[name].stubs.stations.values():

            async def left(desk: "station_pb2_grpc.StationDeskServiceAsyncStub" = desk) -> int:
                answer = await desk.Sync(station_pb2.SyncRequest(timeout_seconds=5))
                return 0 if answer.complete else 1 + answer.queued_count

            await self._until(left, f"the stations of {name} have told everything")

    # --- waiting ---

    async def quiet(self) -> None:
        """Wait until everyone has heard everything: the ledger all events, the partners all advice, all recalls."""
        await asyncio.gather(*(self._heard(name) for name in self.stations))
        await self._believed()
        self._despatched.clear()
        self._recalls.clear()

    async def _heard(self, name: str) -> None:
        station = self.stations[name]
        await self._until(lambda: self._waiting(station), f"{name} has told everyone everything")
        due = self._despatched.get(name, set())
        if due:
            await self._until(lambda: self._not_advised(station, due), f"{name} has all advice, confirmed")
        if self._recalls:
            await self._until(lambda: self._unknown_recalls(station), f"{name} knows the recalls")

    async def _until(self, left: Callable[[], Awaitable[int]], what: str) -> None:
        """Wait until nothing is left.

        Raises:
            VerificationError: As much was left for three minutes.
        """
        loop = asyncio.get_running_loop()
        deadline, before = loop.time() + PATIENCE_S, -1
        while now := await insist(left):
            if now != before:
                deadline, before = loop.time() + PATIENCE_S, now
            elif loop.time() > deadline:
                message = f"waited {PATIENCE_S:.0f} s in vain: {what}"
                raise VerificationError(message, code="SIMULATION_STUCK")
            await asyncio.sleep(POLL_S)

    @staticmethod
    async def _waiting(station: Station) -> int:
        status = await station.stubs.custody.GetStatus(custody_pb2.GetStatusRequest())
        return int(status.events.count + status.messages.count)

    @staticmethod
    async def _not_advised(station: Station, due: set[str]) -> int:
        missing = set(due)
        request = custody_pb2.ListInboundRequest(page_size=PAGE, include_received=True)
        while missing:
            answer = await station.stubs.custody.ListInbound(request)
            missing -= {item.despatch_event_id for item in answer.shipments if not item.provisional and item.epcs}
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        return len(missing)

    async def _unknown_recalls(self, station: Station) -> int:
        answer = await station.stubs.recall.ListRecalls(recall_pb2.ListRecallsRequest(page_size=PAGE))
        return len(self._recalls - {item.recall_id for item in answer.recalls})

    async def _believed(self) -> None:
        station = next(iter(self.stations.values()))

        async def unread() -> int:
            status = await station.stubs.ledger.GetStatus(ledger_pb2.GetStatusRequest())
            positions = [item.position for item in status.followers if item.name == "projector"]
            return max(1, status.tree_size) if not positions else status.tree_size - min(positions)

        await self._until(unread, "the ledger has read all that is in the log")
