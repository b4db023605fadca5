"""Every process is killed outright under load, 20 times in all: nothing acknowledged is lost, nothing is doubled.

The load is the network's own: packs made, packed, shipped, received, sent on and dispensed over real processes. Each
request keeps its request id and is sent until it is acknowledged. The order of the victims and the moments (a number
of acknowledged calls, never a time) come from one seed, which is printed; MEDTRAIL_KILL_SEED repeats a run.
"""

import asyncio
import os
import random
import secrets
import shutil
import signal
import sqlite3
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import date
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from ledger.fsck import check_folder
from ledger.fsck_report import Report
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.checkpoint import Checkpoint
from medtrail.cli.answers import class_name
from medtrail.cli.embedded import EmbeddedNetwork
from medtrail.cli.session import Session, open_session
from medtrail.cli.story import CASE_GTIN, PACK_GTIN, Case, Lot, Pallet
from medtrail.cli.trace import ProvenStep, prove
from medtrail.errors import NotFoundError, UnavailableError
from medtrail.event import PayloadType
from medtrail.gs1.checks import check_digit
from medtrail.merkle import verify_consistency

MAKER, DISTRIBUTOR, PHARMACY = "gs1-pharma", "gs1-drug-distributor", "elm-street-pharmacy"
SERVICES = (MAKER, DISTRIBUTOR, PHARMACY)
VICTIMS = ("nats", "ledger", *SERVICES)
KILLS_OF_EACH = 4
MOST_CALLS_BETWEEN = 12
JOURNEYS_AT_ONCE = 3
CASES_A_PALLET, PACKS_A_CASE = 2, 4
CALL_S = 10.0
PATIENCE_S = 180.0
RETRY_S = 0.05

NETWORK = """\
[network]
origin = "log.medtrail.example/kill"

[authority]
gln = "9521000000018"

[ledger]
gln = "9521000000025"

[[organisation]]
name = "gs1-pharma"
role = "manufacturer"
gln = "0300011111116"
company_prefixes = ["030001"]

[[organisation]]
name = "gs1-drug-distributor"
role = "distributor"
gln = "0399999999991"
company_prefixes = ["039999"]

[[organisation]]
name = "elm-street-pharmacy"
role = "pharmacy"
gln = "9521002000016"
"""

State = custody_pb2.HoldingState
ON_HAND, INBOUND = State.HOLDING_STATE_ON_HAND, State.HOLDING_STATE_INBOUND
DESPATCHED, DISPENSED = State.HOLDING_STATE_DESPATCHED, State.HOLDING_STATE_DISPENSED


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds; fails after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - the condition lies in another process
            await asyncio.sleep(RETRY_S)


# --- the load ---


def make_pallet(number: int) -> Pallet:
    lot = Lot("K1", date(2035, 6, 30))
    cases = []
    for index in range(CASES_A_PALLET):
        serials = tuple(f"P{number:05d}{index}{pack}" for pack in range(PACKS_A_CASE))
        cases.append(Case(f"C{number:05d}{index}", lot, serials))
    body = f"0030001{number:010d}"
    return Pallet(body + check_digit(body), lot, tuple(cases))


@dataclass(frozen=True)
class Acknowledged:
    """An event that a service answered for: signed, and safe in its outbox."""

    service: str
    event_id: str
    sha256: bytes


class Load:
    """Goods on their way, from making to dispensing, and everything that was acknowledged of it."""

    def __init__(self, sessions: dict[str, Session]) -> None:
        self.sessions = sessions
        self.events: list[Acknowledged] = []
        self.calls = 0
        self.repeated = 0
        self.ending = False
        # What each organisation's books must say of every pack in the end.
        self.books: dict[str, dict[str, int]] = {name: {} for name in SERVICES}
        self._numbers = count()
        self._called = asyncio.Condition()
        self._last: dict[str, tuple[Callable[..., Awaitable[Any]], Any, Any]] = {}

    async def call(self, service: str, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Send a request under one id until it is acknowledged; only 'unavailable' is a reason to try again."""
        request.request_id = str(uuid.uuid4())
        answer = await self.insist(method, request)
        events = [answer.event] if hasattr(answer, "event") else answer.events
        async with self._called:
            self.events += [Acknowledged(service, event.event_id, event.signed_event_sha256) for event in events]
            self.calls += 1
            self._last[service] = (method, request, answer)
            self._called.notify_all()
        return answer

    async def insist(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Send a request until it is answered."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await method(request, timeout=CALL_S)
                except UnavailableError:
                    self.repeated += 1
                    await asyncio.sleep(RETRY_S)

    async def reached(self, calls: int) -> None:
        """Wait until so many calls are acknowledged."""
        async with asyncio.timeout(PATIENCE_S), self._called:
            await self._called.wait_for(lambda: self.calls >= calls)

    async def gives_last_answer_again(self, service: str) -> None:
        """Repeat the last acknowledged request of a service: the answer names the very same events."""
        method, request, answer = self._last[service]
        again = await self.insist(method, request)
        assert identities(again) == identities(answer)

    async def travel(self) -> None:
        """Send one pallet after another on its way, until told to end; the last one's journey is finished."""
        while not self.ending:
            number = next(self._numbers)
            await self._journey(number, make_pallet(number))

    async def _journey(self, number: int, pallet: Pallet) -> None:
        await self._make(pallet)
        if number % 6 == 0:
            # One in six stays where it was made, the next one stays on the road.
            return self._note(MAKER, pallet.cases, ON_HAND)
        await self._ship(MAKER, pallet.link, to=DISTRIBUTOR)
        self._note(MAKER, pallet.cases, DESPATCHED)
        await self._arrives(DISTRIBUTOR, pallet.link)
        if number % 6 == 1:
            return self._note(DISTRIBUTOR, pallet.cases, INBOUND)
        await self._receive(DISTRIBUTOR, pallet.link, packs=pallet.pack_count)
        custody = self.sessions[DISTRIBUTOR].custody
        await self.call(DISTRIBUTOR, custody.Unpack, custody_pb2.UnpackRequest(parent=pallet.link))
        await self._to_pharmacy(pallet.cases[0])
        self._note(DISTRIBUTOR, pallet.cases[:1], DESPATCHED)
        return self._note(DISTRIBUTOR, pallet.cases[1:], ON_HAND)

    async def _make(self, pallet: Pallet) -> None:
        session = self.sessions[MAKER]
        packs = [serial for case in pallet.cases for serial in case.pack_serials]
        for gtin, serials in ((PACK_GTIN, packs), (CASE_GTIN, [case.serial for case in pallet.cases])):
            request = manufacturer_pb2.CommissionRequest(
                gtin=str(gtin), lot=pallet.lot.number, expiry=pallet.lot.expiry.isoformat(), serials=serials
            )
            await self.call(MAKER, session.manufacturer.Commission, request)
        pallets = manufacturer_pb2.CommissionRequest(ssccs=[pallet.sscc])
        await self.call(MAKER, session.manufacturer.Commission, pallets)
        packings = [(case.link, case.pack_links) for case in pallet.cases]
        packings.append((pallet.link, tuple(case.link for case in pallet.cases)))
        for parent, children in packings:
            await self.call(MAKER, session.custody.Pack, custody_pb2.PackRequest(parent=parent, children=children))

    async def _to_pharmacy(self, case: Case) -> None:
        await self._ship(DISTRIBUTOR, case.link, to=PHARMACY)
        await self._arrives(PHARMACY, case.link)
        await self._receive(PHARMACY, case.link, packs=len(case.pack_serials))
        first = case.pack_links[0]
        request = pharmacy_pb2.DispenseRequest(epcs=[first])
        await self.call(PHARMACY, self.sessions[PHARMACY].pharmacy.Dispense, request)
        self._note(PHARMACY, [case], ON_HAND)
        self.books[PHARMACY][first] = DISPENSED

    async def _ship(self, service: str, link: str, *, to: str) -> None:
        party = self.sessions[to].organisation.gln
        request = custody_pb2.ShipRequest(epcs=[link], destination_party=party)
        await self.call(service, self.sessions[service].custody.Ship, request)

    async def _arrives(self, service: str, link: str) -> None:
        await until(lambda: self._holds(service, link, lambda found: found.state == INBOUND))

    async def _receive(self, service: str, link: str, *, packs: int) -> None:
        """Take delivery, and wait for the ledger's word that makes the goods saleable."""
        request = custody_pb2.ReceiveRequest(epcs=[link])
        answer = await self.call(service, self.sessions[service].custody.Receive, request)
        assert answer.unit_count == packs
        assert not answer.unadvised_epcs
        assert not answer.missing_epcs
        await until(lambda: self._holds(service, link, lambda found: not found.provisional))

    async def _holds(self, service: str, link: str, told: Callable[[custody_pb2.Holding], bool]) -> bool:
        request = custody_pb2.GetHoldingRequest(epc=link)
        try:
            return told((await self.insist(self.sessions[service].custody.GetHolding, request)).holding)
        except NotFoundError:
            return False

    def _note(self, service: str, cases: "tuple[Case, ...] | list[Case]", state: int) -> None:
        self.books[service] |= {link: state for case in cases for link in case.pack_links}


def identities(answer: Any) -> list[tuple[str, bytes]]:
    events = [answer.event] if hasattr(answer, "event") else answer.events
    return [(event.event_id, event.signed_event_sha256) for event in events]


# --- the checks ---


def fsck_copy(ledger: Path, copy: Path) -> Report:
    """Check a copy of a running ledger's folder that is one the ledger could have left by dying.

    The ledger commits entries and the signed checkpoint, writes tiles, replaces the published checkpoint, and only then
    drops partial tiles that full ones replace. So the files are copied first and the database last: whatever a copied
    file names, the database has. Files that are needed at the copied checkpoint may vanish while they are copied only
    after a newer checkpoint is published: if one was, the files are copied anew. The database is copied by SQLite's own
    backup, in one step: one snapshot, its write-ahead log included.
    """
    public = ledger / "public"
    while True:
        shutil.rmtree(copy, ignore_errors=True)
        (copy / "public").mkdir(parents=True)
        note = (public / "checkpoint").read_bytes()
        for path in sorted((public / "tile").rglob("*")):
            target = copy / path.relative_to(ledger)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if path.is_file():
                    shutil.copyfile(path, target)
            except FileNotFoundError:
                # A partial tile that was dropped, or a file renamed into its place.
                continue
        if (public / "checkpoint").read_bytes() == note:
            break
    (copy / "public" / "checkpoint").write_bytes(note)
    source = f"{(ledger / 'ledger.db').as_uri()}?mode=ro"
    with closing(sqlite3.connect(source, uri=True)) as live, closing(sqlite3.connect(copy / "ledger.db")) as kept:
        live.backup(kept)
    (copy / "org").symlink_to(ledger / "org")
    return check_folder(copy)


class Checks:
    """What must hold after each kill, and when the load is done."""

    def __init__(self, network: EmbeddedNetwork, load: Load, scratch: Path) -> None:
        self._network = network
        self._load = load
        self._scratch = scratch
        self._auditor = load.sessions[MAKER]
        self.checkpoints: list[Checkpoint] = []

    async def checkpoint(self) -> Checkpoint:
        answer = await self._load.insist(self._auditor.ledger.GetCheckpoint, ledger_pb2.GetCheckpointRequest())
        return self._auditor.open_checkpoint(answer.checkpoint).checkpoint

    async def is_logged(self, event: Acknowledged) -> bool:
        request = ledger_pb2.GetInclusionProofRequest(signed_event_sha256=event.sha256)
        try:
            await self._load.insist(self._auditor.ledger.GetInclusionProof, request)
        except NotFoundError:
            return False
        return True

    async def kill(self, name: str) -> None:
        """Kill a process outright, wait until it serves again, and check the log."""
        killed = self._network.pids()[name]
        os.kill(killed, signal.SIGKILL)

        async def is_restarted() -> bool:
            return self._network.pids().get(name, killed) != killed

        await until(is_restarted)
        if name in SERVICES:
            await self._load.gives_last_answer_again(name)
        # An event that nobody had made when the process was back goes all the way.
        made = len(self._load.events)
        await self._load.reached(self._load.calls + 1)
        await until(lambda: self.is_logged(self._load.events[made]))
        report = await asyncio.to_thread(fsck_copy, self._network.root / "ledger", self._scratch)
        assert report.findings == []
        assert report.refusal_count == 0
        self.checkpoints.append(await self.checkpoint())

    async def tree_never_shrank(self) -> None:
        """Prove each noted checkpoint a prefix of the next."""
        for old, new in pairwise([*self.checkpoints, await self.checkpoint()]):
            request = ledger_pb2.GetConsistencyProofRequest(old_size=old.size, new_size=new.size)
            answer = await self._auditor.ledger.GetConsistencyProof(request)
            verify_consistency(
                answer.consistency_proof, size1=old.size, size2=new.size, root1=old.root_hash, root2=new.root_hash
            )

    async def log_is_what_was_acknowledged(self) -> None:
        """Compare the whole log, every entry proven, with the acknowledged events: each once, and nothing else."""
        # The genesis and the enrolments of the ledger and the services come before all else.
        expected = 2 + len(SERVICES) + len(self._load.events)

        async def covers_all() -> bool:
            return (await self.checkpoint()).size >= expected

        await until(covers_all)
        steps: list[ProvenStep] = []
        request = ledger_pb2.ListEventsRequest(page_size=500)
        while not steps or request.page_token:
            answer = await self._auditor.ledger.ListEvents(request)
            checkpoint = self._auditor.open_checkpoint(answer.checkpoint).checkpoint
            steps += [prove(item, checkpoint) for item in answer.events]
            request.page_token = answer.next_page_token
        signed = Counter((step.key_id, step.event.header.event_id) for step in steps)
        assert [key for key, times in signed.items() if times > 1] == []
        glns = {name: session.organisation.gln for name, session in self._load.sessions.items()}
        acknowledged = Counter((glns[event.service], event.event_id) for event in self._load.events)
        logged = Counter(
            (str(step.event.header.actor), step.event.header.event_id)
            for step in steps
            if step.event.payload_type != PayloadType.TRUST
        )
        assert logged == acknowledged

    async def books_agree(self) -> None:
        """Compare each organisation's books, and the ledger's belief, with what was acknowledged."""
        for name in SERVICES:
            assert await self._books(name) == self._load.books[name]
        expected = self._places()

        async def is_believed() -> bool:
            request = ledger_pb2.TraceLotRequest(gtin=str(PACK_GTIN), lot="K1")
            answer = await self._auditor.ledger.TraceLot(request)
            found: Counter[tuple[str, str]] = Counter()
            for group in answer.groups:
                found[class_name(group.unit_class), group.holder] += group.unit_count
            return found == expected and answer.commissioned_count == expected.total()

        await until(is_believed)

    async def _books(self, name: str) -> dict[str, int]:
        found: dict[str, int] = {}
        request = custody_pb2.ListHoldingsRequest(gtin=str(PACK_GTIN), page_size=1000)
        while not found or request.page_token:
            answer = await self._load.sessions[name].custody.ListHoldings(request)
            for holding in answer.holdings:
                assert holding.epc not in found
                assert not holding.provisional or holding.state == INBOUND
                found[holding.epc] = holding.state
            request.page_token = answer.next_page_token
        return found

    def _places(self) -> Counter[tuple[str, str]]:
        """Return how many packs are where: each pack is in exactly one place."""
        classes: dict[tuple[str, int], str] = {
            (MAKER, ON_HAND): "at_maker",
            (DISTRIBUTOR, ON_HAND): "on_hand",
            (PHARMACY, ON_HAND): "on_hand",
            (PHARMACY, DISPENSED): "dispensed",
        }
        glns = {name: session.organisation.gln for name, session in self._load.sessions.items()}
        places: dict[str, tuple[str, str]] = {}
        for name, books in self._load.books.items():
            for link, state in books.items():
                if state == INBOUND:
                    place = "in_transit", glns[MAKER]
                elif state != DESPATCHED:
                    place = classes[name, state], glns[name]
                else:
                    continue
                assert link not in places
                places[link] = place
        return Counter(places.values())


# --- the test ---


async def register(load: Load) -> None:
    products = (
        payload_pb2.Product(gtin=str(PACK_GTIN), level=payload_pb2.PACK_LEVEL_PACK, name="Trailomycin"),
        payload_pb2.Product(gtin=str(CASE_GTIN), level=payload_pb2.PACK_LEVEL_CASE, name="Trailomycin, case"),
    )
    for product in products:
        request = manufacturer_pb2.RegisterProductRequest(product=product)
        await load.call(MAKER, load.sessions[MAKER].manufacturer.RegisterProduct, request)


async def kill_all_in_turn(load: Load, checks: Checks, chance: random.Random) -> None:
    victims = list(VICTIMS) * KILLS_OF_EACH
    chance.shuffle(victims)
    # Everyone has worked before anyone dies.
    await until(lambda: has_worked(load, PHARMACY))
    for name in victims:
        await load.reached(load.calls + chance.randint(1, MOST_CALLS_BETWEEN))
        await checks.kill(name)
    load.ending = True


async def has_worked(load: Load, name: str) -> bool:
    return any(event.service == name for event in load.events)


async def scenario(root: Path, chance: random.Random) -> str:
    network = EmbeddedNetwork(root, report=lambda _text: None)
    running = await network.start()
    try:
        async with AsyncExitStack() as stack:
            sessions = {
                item.name: await stack.enter_async_context(open_session(running, item))
                for item in running.organisations
            }
            load = Load(sessions)
            await register(load)
            checks = Checks(network, load, root.with_name("copy"))
            async with asyncio.TaskGroup() as tasks:
                for _ in range(JOURNEYS_AT_ONCE):
                    tasks.create_task(load.travel())
                tasks.create_task(kill_all_in_turn(load, checks, chance))
            await checks.log_is_what_was_acknowledged()
            await checks.tree_never_shrank()
            await checks.books_agree()
    finally:
        await network.stop()
    report = check_folder(root / "ledger")
    assert report.findings == []
    return (
        f"{len(checks.checkpoints)} kills, {load.calls} calls acknowledged, {load.repeated} sent again, "
        f"{len(load.events)} events, {report.tree_size} entries, {report.duplicate_count} duplicates put aside"
    )


@pytest.mark.timeout(900)
def test_kill_9_of_any_process_under_load_loses_and_doubles_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A killed process writes no coverage; measuring it only slows each of its starts.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    seed = int(os.environ.get("MEDTRAIL_KILL_SEED") or secrets.randbelow(2**32))
    # Said before the run, so that also a run that hangs can be repeated.
    with capsys.disabled():
        print(f"\nMEDTRAIL_KILL_SEED={seed}")  # noqa: T201 - whoever repeats a failure needs it
    root = tmp_path / "network"
    root.mkdir()
    (root / "network.toml").write_text(NETWORK, encoding="utf-8")
    told = asyncio.run(scenario(root, random.Random(seed)))
    with capsys.disabled():
        print(told)  # noqa: T201
