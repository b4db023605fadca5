"""Sets the stage for a simulation: a network of its own, its trade items, and who disturbs it."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from medtrail.api.event.v1 import payload_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.cli.embedded import EmbeddedNetwork
from medtrail.cli.setup import ensure_description, ensure_folders
from medtrail.simulation.disturbance import Disturber
from medtrail.simulation.driver import Driver, insist
from medtrail.simulation.network import MANUFACTURERS, holds_toml, members, network_toml
from medtrail.simulation.report import Report
from medtrail.simulation.run import Simulation, calendar_of, start_of, zone_hours
from medtrail.simulation.world import make_world

NETWORK_FOLDER = "network"
ZONE_VARIABLE = "MEDTRAIL_TIME_ZONE"

Tell = Callable[[str, int, int], None]
"""Told of a phase, what is done of it, and how much there is."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to simulate.

    Attributes:
        packs: At least so many.
        seed: Decides everything.
        kill: Kill processes at random meanwhile.
        late: Let data come late and in any order.
    """

    packs: int
    seed: int
    kill: bool = False
    late: bool = False


@asynccontextmanager
async def network(folder: Path, *, seed: int, now: datetime) -> AsyncIterator[tuple[EmbeddedNetwork, Driver]]:
    """Start a network with its trade items, and open it for driving; it is stopped at the end."""
    root = folder / NETWORK_FOLDER
    root.mkdir(parents=True, exist_ok=True)
    (root / "network.toml").write_text(network_toml(), encoding="utf-8")
    _write_rules(root)
    embedded = EmbeddedNetwork(root, report=lambda _text: None)
    zone = os.environ.get(ZONE_VARIABLE)
    # Processes that are started again read it anew: it stays as long as the network runs.
    os.environ[ZONE_VARIABLE] = f"Etc/GMT+{zone_hours(now)}"
    try:
        running = await embedded.start()
        async with Driver.open(
            running, start=start_of(now), seed=seed, parties=members(), pids=embedded.pids
        ) as driver:
            await _register(driver)
            yield embedded, driver
    finally:
        await embedded.stop()
        if zone is None:
            del os.environ[ZONE_VARIABLE]
        else:
            os.environ[ZONE_VARIABLE] = zone


def _write_rules(root: Path) -> None:
    """Put rules of their own into the folders of those who have some: services read them when they start."""
    folders = ensure_folders(root, ensure_description(root))
    for name, member in members().items():
        rules = holds_toml(member.party)
        if rules:
            (folders.organisations[name].path / "holds.toml").write_text(rules, encoding="utf-8")


async def _register(driver: Driver) -> None:
    for name in MANUFACTURERS:
        member = driver.parties[name]
        kept = payload_pb2.StorageLimits(temperature=payload_pb2.StorageRange(lowest="2", highest="25"))
        pack = payload_pb2.Product(
            gtin=member.pack_gtin, level=payload_pb2.PACK_LEVEL_PACK, name="Simulin", storage=kept
        )
        case = payload_pb2.Product(gtin=member.case_gtin, level=payload_pb2.PACK_LEVEL_CASE, name="Simulin, case")
        for product in (pack, case):
            request = manufacturer_pb2.RegisterProductRequest(request_id=str(uuid.uuid4()), product=product)
            stub = driver.stubs(name).manufacturer
            await insist(lambda stub=stub, request=request: stub.RegisterProduct(request))  # type: ignore[misc]


async def simulate(folder: Path, options: Options, *, tell: Tell) -> Report:
    """Play a world on a network of its own, and compare.

    Raises:
        MedtrailError: The network did not start, or got stuck.
    """
    now = datetime.now(UTC)
    calendar = calendar_of(now)
    world = make_world(options.packs, seed=options.seed, members=members(), calendar=calendar, late=options.late)
    async with network(folder, seed=options.seed, now=now) as (embedded, driver):
        disturber = Disturber(embedded.pids, seed=options.seed, kill=options.kill, still=options.late)
        disturbing = asyncio.create_task(disturber.run())
        simulation = Simulation(world, driver, calendar=calendar, progress=tell, calm=disturber.calm)
        try:
            await simulation.play()
        finally:
            disturbing.cancel()
            with suppress(asyncio.CancelledError):
                await disturbing
        await simulation.compare()
    return Report(
        world,
        simulation.comparison,
        options.seed,
        simulation.acts,
        simulation.seconds,
        dict(disturber.kills),
        dict(disturber.stops),
    )
