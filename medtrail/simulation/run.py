"""One simulation: the world is played on the network and on the truth, and then both are asked."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from medtrail.simulation.acts import Act
from medtrail.simulation.comparison import Comparer, Comparison
from medtrail.simulation.comparison_oversight import OversightComparer
from medtrail.simulation.driver import Driver
from medtrail.simulation.script import LENGTH_DAYS, Goods, Wave
from medtrail.simulation.troubles import PLAIN
from medtrail.simulation.truth.model import Truth
from medtrail.simulation.world import Calendar, Chain, World

COMPARED_AT_ONCE = 4
PLAIN_SCANNED = 50
"""Plain deliveries of which packs are scanned in the end; of those with trouble all are."""
SCANNED_TOGETHER = 25

Progress = Callable[[str, int, int], None]
"""Told of a phase, what is done of it, and how much there is."""

Numbered = tuple[tuple[int, Act, str], ...]
"""Acts with their numbers and the answers that they must get."""


def start_of(now: datetime) -> datetime:
    """Return second 0 of a simulation that ends by now: midnight, UTC."""
    return datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=LENGTH_DAYS)


def zone_hours(now: datetime) -> int:
    """Return how far the network's clocks are behind UTC, in hours: so that its day does not end while it runs."""
    return 11 if now.hour == 11 else 12


def calendar_of(now: datetime) -> Calendar:
    """Return the days of a simulation that ends by now."""
    start = start_of(now)
    last_day = (now - timedelta(hours=zone_hours(now))).date()
    return Calendar(start.date(), int((now - start).total_seconds()), last_day)


class Player:
    """Tells acts to the truth and to the network.

    Args:
        driver: Of the network.
        calendar: The days.
        progress: Told how far it is.
    """

    def __init__(self, driver: Driver, *, calendar: Calendar, progress: Progress) -> None:
        self.driver = driver
        self.progress = progress
        parties = [member.party for member in driver.parties.values()]
        self.truth = Truth(parties, start=calendar.start, today=calendar.now)
        self.comparison = Comparison()
        self.acts = 0
        self._number = 0

    async def play_wave(self, wave: Wave, chains: Sequence[Chain], *, calm: asyncio.Lock) -> None:
        """Play a wave; that in which stations are cut off is disturbed by nothing else."""
        phase = wave.name.lower().replace("_", " ")
        if wave is Wave.ALONE and chains:
            async with calm:
                await self.driver.quiet()
                async with self.driver.alone():
                    await self.tell(phase, chains)
        else:
            await self.tell(phase, chains)
        if chains:
            await self.driver.quiet()

    async def tell(self, phase: str, chains: Iterable[Chain]) -> None:
        """Tell chains side by side, each act after the one before it."""
        numbered = [tuple(self._numbered(chain)) for chain in chains]
        total = sum(map(len, numbered))
        if not total:
            return
        first = self.acts

        async def follow(chain: Numbered) -> None:
            for number, act, so in chain:
                answered = await self.driver.do(act, number)
                asked = f"{act.who}: {act.verb}"
                self.comparison.note("acts", asked, (*act.units, act.parent, act.name)[0], so=so, answered=answered)
                self.acts += 1
                self.progress(phase, self.acts - first, total)

        async with asyncio.TaskGroup() as group:
            for chain in numbered:
                group.create_task(follow(chain))

    def _numbered(self, chain: Chain) -> Iterator[tuple[int, Act, str]]:
        for act in chain:
            self._number += 1
            # The truth is told when the act is planned: nothing that the network answers can change what is so.
            yield self._number, act, self.truth.do(act)

    async def compare(self, lots: Sequence[tuple[str, str]], scanned: Sequence[tuple[str, Sequence[Goods]]]) -> None:
        """Ask the network about everything, and compare with the truth.

        Args:
            lots: (GTIN, lot) of all that was made.
            scanned: Who scans packs of which deliveries.
        """
        comparer = Comparer(self.driver, self.truth, self.comparison)
        oversight = OversightComparer(self.driver, self.truth, self.comparison)
        names = list(self.driver.stations)
        work: list[Awaitable[None]] = []
        for name in names:
            work += [comparer.books(name), comparer.alerts(name), comparer.cases(name)]
            work += [oversight.lot_holds(name), oversight.requests(name)]
        work += [comparer.lot(gtin, lot, who=names[number % len(names)]) for number, (gtin, lot) in enumerate(lots)]
        work += [comparer.unit(unit, who=names[0]) for unit in comparer.others()]
        work += [comparer.orders(), oversight.talks()]
        work += [comparer.scans(who, goods) for who, goods in scanned]
        turns = asyncio.Semaphore(COMPARED_AT_ONCE)
        done = 0

        async def one(item: Awaitable[None]) -> None:
            nonlocal done
            async with turns:
                await item
            done += 1
            self.progress("compare", done, len(work))

        await asyncio.gather(*map(one, work))


def scanned_of(world: World) -> list[tuple[str, list[Goods]]]:
    """Return who scans packs of which deliveries in the end, in parts."""
    found: dict[str, list[Goods]] = {}
    plain = 0
    for script in world.scripts:
        plain += script.trouble == PLAIN
        if script.trouble != PLAIN or plain <= PLAIN_SCANNED:
            for who in (script.goods.pharmacy, script.goods.neighbour):
                found.setdefault(who, []).extend(script.all_goods)
    return [
        (who, goods[first : first + SCANNED_TOGETHER])
        for who, goods in found.items()
        for first in range(0, len(goods), SCANNED_TOGETHER)
    ]


class Simulation:
    """Plays a world, wave by wave.

    Args:
        world: The plan.
        driver: Of the network.
        calendar: The days.
        progress: Told how far it is.
        calm: Held while nothing may disturb.
    """

    def __init__(
        self, world: World, driver: Driver, *, calendar: Calendar, progress: Progress, calm: asyncio.Lock
    ) -> None:
        self._world = world
        self._calm = calm
        self._player = Player(driver, calendar=calendar, progress=progress)
        self.seconds: dict[str, float] = {}

    @property
    def comparison(self) -> Comparison:
        """What was compared so far."""
        return self._player.comparison

    @property
    def acts(self) -> int:
        """How many acts were told."""
        return self._player.acts

    async def play(self) -> None:
        """Play every wave."""
        for wave, chains in zip(Wave, self._world.waves, strict=True):
            phase = wave.name.lower().replace("_", " ")
            await self._timed(phase, self._player.play_wave(wave, chains, calm=self._calm))

    async def compare(self) -> None:
        """Compare everything."""
        await self._timed("compare", self._player.compare(self._world.lots, scanned_of(self._world)))

    async def _timed(self, phase: str, work: Awaitable[None]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await work
        self.seconds[phase] = loop.time() - began
