"""Measures medtrail's speeds in one run and states each beside a ceiling measured in the same run.

The ceiling is how many Ed25519 signatures this machine verifies a second with all cores: no event is chained without
one verification. Ratios to it compare machines and days; the figures themselves belong to one machine.

What is measured and how: docs/benchmarks.md.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey as NaclKey
from nacl.signing import VerifyKey
from rich.console import Console
from rich.table import Table

from ledger.fsck import check_folder
from medtrail import codec
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.cli.embedded import EmbeddedNetwork
from medtrail.cli.session import Session, open_session
from medtrail.cli.story import PACK_GTIN, in_chunks, pack_link
from medtrail.cli.trace import trace_whole_lot
from medtrail.envelope import SigningKey, sign
from medtrail.epcis import Action, EpcisEvent, EventType, event_hash
from medtrail.errors import NotFoundError, VerificationError
from medtrail.event import Event, Header, new_salt
from medtrail.gs1 import Gln
from medtrail.merkle import CompactRange
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.folder import OrganisationFolder
from medtrail.runtime.logging import configure_logging
from medtrail.subjects import events_subject
from tests.bench.epcis_bench import measure_epcis
from tests.bench.gs1_bench import measure_gs1
from tests.bench.log_bench import LogFigures, LogSizes, measure_log
from tests.bench.station_bench import measure_stations
from tests.bench.verify_bench import measure_verifications

FORMAT = 1
CEILING = "ceiling: Ed25519 verifications, all cores"
ROOT = Path(__file__).resolve().parents[2]
MAKER, WITNESS = "bench-maker", "bench-pharmacy"
LOT, EXPIRY = "BENCH1", "2035-06-30"
BATCH_EVENTS = 500
CALLERS = 8
STATION_PACE_S = 1.0
HASHED_EPCS = 12
MESSAGE_BYTES = 300
CEILING_ROUNDS = 5
MOST_SPREAD = 1.5
WAIT_S = 120.0
POLL_S = 0.01

NETWORK = f"""\
[network]
origin = "log.medtrail.example/bench"

[authority]
gln = "9521000000018"

[ledger]
gln = "9521000000025"

[[organisation]]
name = "{MAKER}"
role = "manufacturer"
gln = "0300011111116"
company_prefixes = ["030001"]

[[organisation]]
name = "{WITNESS}"
role = "pharmacy"
gln = "9521002000016"
"""


@dataclass(frozen=True)
class Sizes:
    """How much of each is done.

    Attributes:
        signatures: Verified in each of the ceiling's rounds.
        hashes: Events hashed.
        leaves: Appended to a compact range.
        scans: Of packs, read.
        imported: Events of the larger EPCIS documents; the smaller ones have a tenth.
        calls: Commission calls of one pack each; the same number of packs is verified.
        packs: Commissioned in large calls, and traced as one lot.
        packs_a_call: In those calls, at most 5,000.
        chained: Events sent past the services straight to the ledger.
        stations: That scan at one time, at most; each a whole station, all in one process.
        station_scans: That each of them makes.
    """

    signatures: int = 8_000
    hashes: int = 5_000
    leaves: int = 500_000
    scans: int = 20_000
    imported: int = 100_000
    calls: int = 500
    packs: int = 10_000
    packs_a_call: int = 1_000
    chained: int = 20_000
    stations: int = 100
    station_scans: int = 20


SMALL_LOG = LogSizes(warm_up=10, chained=100, single=3, takeovers=1)
SMALL = Sizes(
    signatures=400,
    hashes=50,
    leaves=2_000,
    scans=50,
    imported=200,
    calls=10,
    packs=40,
    packs_a_call=20,
    chained=600,
    stations=3,
    station_scans=2,
)


@dataclass(frozen=True)
class Figure:
    """A measured speed (unit 1/s or MB/s), time (unit s or ms), size (unit B), multiple (unit x) or share (unit %)."""

    name: str
    value: float
    unit: str


@dataclass
class Figures:
    """The figures of one run, in order, and the ceiling's rounds, verifications a second."""

    rounds: list[float] = field(default_factory=list)
    found: list[Figure] = field(default_factory=list)
    logs: list[LogFigures] = field(default_factory=list)

    @property
    def ceiling(self) -> float:
        """The most that the machine did in any round: what else ran meanwhile can only lower a round."""
        return max(self.rounds)

    @property
    def spread(self) -> float:
        """Highest round by lowest; far above 1, the machine was not ours alone."""
        return max(self.rounds) / min(self.rounds)

    def ratio(self, figure: Figure) -> float | None:
        """Return a speed's part of the ceiling, None for a time or a size."""
        return figure.value / self.ceiling if figure.unit == "1/s" else None

    def measure_ceiling(self, count: int) -> None:
        """Add rounds of so many verifications each."""
        self.rounds += [count / verify_on_all_cores(count) for _ in range(CEILING_ROUNDS)]

    def speed(self, name: str, count: int, seconds: float) -> None:
        """Add so many things a second."""
        self.found.append(Figure(name, count / seconds, "1/s"))

    def take_log(self, log: LogFigures) -> None:
        """Add what was measured of the ledger by itself on one database."""
        self.logs.append(log)
        for kind, speed in log.chain_events_per_s.items():
            name = f"chain_events_per_s, {log.database}: events of {kind}, stream to provable"
            self.found.append(Figure(name, speed, "1/s"))
        middle, last = len(log.latencies_s) // 2, int(len(log.latencies_s) * 0.99)
        self.duration(f"checkpoint latency, {log.database}: p50", log.latencies_s[middle])
        self.duration(f"checkpoint latency, {log.database}: p99", log.latencies_s[last])
        self.duration(f"takeover, {log.database}: longest of {len(log.takeovers_s)}", max(log.takeovers_s))
        self.found.append(Figure(f"audit over HTTP, {log.database}: entries", log.audit_entries_per_s, "1/s"))
        self.found.append(Figure(f"fsck, {log.database}: entries", log.fsck_entries_per_s, "1/s"))
        self.found.append(Figure(f"on disk, {log.database}: an event", sum(log.bytes_an_event.values()), "B"))

    def duration(self, name: str, seconds: float) -> None:
        """Add a time."""
        self.found.append(Figure(name, seconds, "s"))


# --- without a network ---


def verify_on_all_cores(count: int) -> float:
    """Return the seconds that all cores take to verify so many signatures, each of its own message."""
    cores = os.cpu_count() or 1
    key = NaclKey.generate()
    distinct = [key.sign(os.urandom(MESSAGE_BYTES)) for _ in range(min(count, 1000))]
    signed = [distinct[number % len(distinct)] for number in range(count)]
    share = -(-count // cores)
    shares = [signed[start : start + share] for start in range(0, count, share)]

    def verify_all(messages: Sequence[bytes]) -> None:
        verifier = VerifyKey(bytes(key.verify_key))
        for message in messages:
            verifier.verify(message)

    with ThreadPoolExecutor(cores) as threads:
        began = time.perf_counter()
        list(threads.map(verify_all, shares))
        return time.perf_counter() - began


def hash_events(count: int) -> float:
    """Return the seconds to hash so many object events of twelve EPCs each."""
    events = [_observation([pack_link(f"H{number}X{epc}") for epc in range(HASHED_EPCS)]) for number in range(count)]
    began = time.perf_counter()
    for event in events:
        event_hash(event)
    return time.perf_counter() - began


def append_leaves(count: int) -> float:
    """Return the seconds to append so many leaf hashes to a compact range, 500 at a time, as the ledger does."""
    leaves = [hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(count)]
    began = time.perf_counter()
    tree = CompactRange()
    for start in range(0, count, BATCH_EVENTS):
        tree = tree.extend(leaves[start : start + BATCH_EVENTS])
    tree.root()
    return time.perf_counter() - began


def _observation(epcs: Sequence[str]) -> EpcisEvent:
    return EpcisEvent(
        type=EventType.OBJECT,
        event_time=datetime.now(UTC),
        event_time_zone_offset="+00:00",
        action=Action.OBSERVE,
        epc_list=tuple(epcs),
        biz_step="storing",
        disposition="in_progress",
    )


# --- with a network ---


async def each(callers: int, items: Iterable[Any], call: Callable[[Any], Awaitable[None]]) -> float:
    """Return the seconds that so many callers at a time take to do all."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await call(item)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(work())
    return time.perf_counter() - began


class NetworkBench:
    """Measurements on a running network of one maker and one pharmacy."""

    def __init__(self, sessions: dict[str, Session], sizes: Sizes, figures: Figures) -> None:
        self._maker = sessions[MAKER]
        self._witness = sessions[WITNESS]
        self._sizes = sizes
        self._figures = figures

    async def run(self) -> None:
        """Measure everything, one after the other."""
        await self._register()
        calls, packs = self._sizes.calls, self._sizes.packs
        singles = [(f"A{number:06d}",) for number in range(calls)]
        seconds = await each(CALLERS, singles, lambda serials: self._commission("SINGLE", serials))
        self._figures.speed("Commission, one pack a call: calls", calls, seconds)
        serials = tuple(f"B{number:06d}" for number in range(packs))
        chunks = list(in_chunks(serials, self._sizes.packs_a_call))
        seconds = await each(1, chunks, lambda chunk: self._commission(LOT, chunk))
        self._figures.speed(f"Commission, {self._sizes.packs_a_call} packs a call: packs", packs, seconds)
        await self._until_believed(packs)
        seconds = await each(CALLERS, serials[:calls], self._verify_pack)
        self._figures.speed("VerifyPack: calls", min(calls, packs), seconds)
        await measure_verifications(
            self._maker.organisation,
            Path(self._maker.organisation.folder).parent.parent / "verify-bench",
            serials[:calls],
            gtin=PACK_GTIN,
            lot=LOT,
            expiry=date.fromisoformat(EXPIRY),
            speed=self._figures.speed,
        )
        await self._trace_lot(packs)
        await self._chain(self._sizes.chained)
        await measure_stations(
            self._maker,
            self._witness,
            Path(self._maker.organisation.folder).parent.parent / "station-bench",
            [serial for (serial,) in singles],
            gtin=PACK_GTIN,
            label=f"\x1d17{date.fromisoformat(EXPIRY):%y%m%d}10SINGLE",
            stations=self._sizes.stations,
            scans=self._sizes.station_scans,
            pace_s=STATION_PACE_S,
            tell=lambda name, value, unit: self._figures.found.append(Figure(name, value, unit)),
        )

    async def _register(self) -> None:
        product = payload_pb2.Product(gtin=str(PACK_GTIN), level=payload_pb2.PACK_LEVEL_PACK, name="Trailomycin")
        await self._maker.manufacturer.RegisterProduct(
            manufacturer_pb2.RegisterProductRequest(request_id=str(uuid.uuid4()), product=product)
        )

    async def _commission(self, lot: str, serials: Sequence[str]) -> None:
        await self._maker.manufacturer.Commission(
            manufacturer_pb2.CommissionRequest(
                request_id=str(uuid.uuid4()), gtin=str(PACK_GTIN), lot=lot, expiry=EXPIRY, serials=serials
            )
        )

    async def _until_believed(self, packs: int) -> None:
        request = ledger_pb2.TraceLotRequest(gtin=str(PACK_GTIN), lot=LOT, page_size=1)
        commissioned = 0
        async with asyncio.timeout(WAIT_S):
            while commissioned < packs:
                # A lot that no event in the log names yet is unknown.
                with contextlib.suppress(NotFoundError):
                    commissioned = (await self._maker.ledger.TraceLot(request)).commissioned_count
                await asyncio.sleep(POLL_S)

    async def _verify_pack(self, serial: str) -> None:
        answer = await self._maker.ledger.VerifyPack(ledger_pb2.VerifyPackRequest(epc=pack_link(serial), lot=LOT))
        if answer.state.lot != LOT:
            raise VerificationError(f"the ledger does not know {serial}", code="BENCH_FAILED")

    async def _trace_lot(self, packs: int) -> None:
        began = time.perf_counter()
        trace = await trace_whole_lot(self._maker, str(PACK_GTIN), LOT, units=True)
        seconds = time.perf_counter() - began
        if len(trace.units) != packs:
            raise VerificationError(f"expected {packs} packs, the lot has {len(trace.units)}", code="BENCH_FAILED")
        self._figures.duration(f"TraceLot of {packs} packs, every pack listed", seconds)

    async def _chain(self, count: int) -> None:
        """Send events in another's stead past its service, and wait until a checkpoint covers them all."""
        folder = OrganisationFolder(Path(self._witness.organisation.folder))
        key = folder.signing_key()
        events = [_signed(key, folder.gln, number) for number in range(count)]
        batches = [codec.encode_batch(list(chunk)) for chunk in _batches(events)]
        size = await self._settled()
        url = self._witness.network.nats_url
        bus = await connect_bus(url, seed=folder.nats_seed(), gln=folder.gln, name=WITNESS, timeout_s=WAIT_S)
        try:
            began = time.perf_counter()
            watch = asyncio.create_task(self._covered(size + count))
            for batch in batches:
                await bus.publish(events_subject(folder.gln), batch)
            await watch
            self._figures.speed("ledger: events from stream to checkpoint", count, time.perf_counter() - began)
        finally:
            await bus.close()

    async def _covered(self, size: int) -> None:
        async with asyncio.timeout(WAIT_S):
            async for answer in self._witness.ledger.WatchCheckpoints(ledger_pb2.WatchCheckpointsRequest()):
                if self._witness.open_checkpoint(answer.checkpoint).checkpoint.size >= size:
                    return

    async def _settled(self) -> int:
        """Return the size of the tree; the lot's events, the last ones sent, are in it."""
        answer = await self._witness.ledger.GetCheckpoint(ledger_pb2.GetCheckpointRequest())
        return self._witness.open_checkpoint(answer.checkpoint).checkpoint.size


def _batches(events: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (events[start : start + BATCH_EVENTS] for start in range(0, len(events), BATCH_EVENTS))


def _signed(key: SigningKey, actor: Gln, number: int) -> bytes:
    statement = _observation([pack_link(f"A{number:06d}")])
    event = Event(Header(new_salt(), actor, "bench", number + 1, event_hash(statement)), statement)
    return codec.encode_signed_event(sign(event.payload_type, codec.encode_payload(event), key))


async def measure_network(folder: Path, sizes: Sizes, figures: Figures, *, tell: Callable[[str], None]) -> None:
    """Measure a network that is started in a folder, which holds its network.toml, and stopped again."""
    network = EmbeddedNetwork(folder, report=tell)
    running = await network.start()
    try:
        async with AsyncExitStack() as stack:
            sessions = {
                item.name: await stack.enter_async_context(open_session(running, item))
                for item in running.organisations
            }
            tell("measuring")
            await NetworkBench(sessions, sizes, figures).run()
    finally:
        await network.stop()


# --- all of it ---


def measure(folder: Path, sizes: Sizes, *, tell: Callable[[str], None]) -> Figures:
    """Measure everything; the folder is emptied first.

    Raises:
        VerificationError: Something was fast and wrong.
    """
    figures = Figures()
    tell("measuring the ceiling")
    figures.measure_ceiling(sizes.signatures)
    figures.speed(f"event_hash: object events of {HASHED_EPCS} EPCs", sizes.hashes, hash_events(sizes.hashes))
    figures.speed("CompactRange: leaves", sizes.leaves, append_leaves(sizes.leaves))
    measure_gs1(sizes.scans, figures.speed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tell("reading EPCIS documents")
    measure_epcis(
        folder / "epcis",
        sizes.imported,
        sizes.hashes,
        lambda name, value, unit: figures.found.append(Figure(name, value, unit)),
    )
    (folder / "network.toml").write_text(NETWORK, encoding="utf-8")
    asyncio.run(measure_network(folder, sizes, figures, tell=tell))
    tell("checking the log")
    began = time.perf_counter()
    report = check_folder(folder / "ledger")
    figures.speed("fsck: entries", report.tree_size, time.perf_counter() - began)
    small = sizes.chained <= SMALL.chained
    for database in ("sqlite", "postgresql"):
        tell(f"measuring the ledger by itself on {database}")
        log_sizes = SMALL_LOG if small else LogSizes(chained=2 * sizes.chained)
        figures.take_log(measure_log(folder / database, log_sizes, postgres=database == "postgresql"))
    # Again at the end: the machine may have been busier, or less so, than at the beginning.
    figures.measure_ceiling(sizes.signatures)
    if report.findings:
        raise VerificationError(f"the log is damaged: {report.findings[0]}", code="BENCH_FAILED")
    return figures


def document(figures: Figures, sizes: Sizes) -> dict[str, Any]:
    """Return what bench.json holds."""
    return {
        "format": FORMAT,
        "measured_time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "sizes": asdict(sizes),
        "ceiling": {"name": CEILING, "value": figures.ceiling, "unit": "1/s", "rounds": figures.rounds},
        "spread": figures.spread,
        "logs": [asdict(log) for log in figures.logs],
        "figures": [asdict(figure) | {"ratio": figures.ratio(figure)} for figure in figures.found],
    }


def draw(console: Console, figures: Figures) -> None:
    """Print the figures as a table."""
    table = Table(title=f"medtrail on {os.cpu_count()} cores, Python {platform.python_version()}")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("of the ceiling", justify="right")
    table.add_row(CEILING, f"{figures.ceiling:,.0f} /s", "1")
    for figure in figures.found:
        value = {
            "1/s": f"{figure.value:,.0f} /s",
            "s": f"{figure.value:.2f} s",
            "ms": f"{figure.value:,.1f} ms",
            "%": f"{figure.value:.1f} %",
            "B": f"{figure.value:,.0f} B",
            "MB/s": f"{figure.value:,.1f} MB/s",
            "x": f"{figure.value:.1f} times",
        }[figure.unit]
        ratio = figures.ratio(figure)
        table.add_row(figure.name, value, "" if ratio is None else f"{ratio:.4f}")
    console.print(table)
    if figures.spread > MOST_SPREAD:
        text = f"the ceiling's rounds differ by a factor of {figures.spread:.1f}: something else kept the machine busy"
        console.print(text, style="yellow", soft_wrap=True)


def _sizes(arguments: argparse.Namespace) -> Sizes:
    start = SMALL if arguments.small else Sizes()
    return Sizes(**{name: getattr(arguments, name) or value for name, value in asdict(start).items()})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure medtrail's speeds beside a ceiling of the same run.")
    parser.add_argument("--small", action="store_true", help="sizes that only show that everything runs")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="of the network; emptied first")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json", help="the figures as JSON")
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=f"default {value}")
    parsed = parser.parse_args(arguments)
    sizes = _sizes(parsed)
    configure_logging(process="bench", level="error")
    progress = Console(stderr=True)
    figures = measure(parsed.folder, sizes, tell=lambda text: progress.print(text, style="dim", markup=False))
    parsed.output.parent.mkdir(parents=True, exist_ok=True)
    parsed.output.write_text(json.dumps(document(figures, sizes), indent=2) + "\n", encoding="utf-8")
    draw(Console(), figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
