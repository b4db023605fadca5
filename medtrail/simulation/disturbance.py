"""What disturbs a network while it is simulated: processes that are killed, or stand still for a while.

Whom it hits follows from the seed; when, from the clock. Nothing that the network answers may depend on either.
"""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable

FIRST_S = 1.0
LEAST_S = 3.0
MOST_S = 7.0
STILL_S = 4.0


class Disturber:
    """Disturbs the processes of one network until it is cancelled.

    Args:
        pids: Gives the processes by name as of now.
        seed: Decides whom.
        kill: Kill processes (SIGKILL); whoever supervises them starts them again.
        still: Let processes stand still (SIGSTOP) for some seconds: what they have to tell comes late.
    """

    def __init__(self, pids: Callable[[], dict[str, int]], *, seed: int, kill: bool, still: bool) -> None:
        self._pids = pids
        self._chance = random.Random(seed)  # noqa: S311 - a repeatable choice, no secret
        self._ways = [way for way, wanted in ((self._kill, kill), (self._stand_still, still)) if wanted]
        self.calm = asyncio.Lock()
        """Whoever holds it is not disturbed."""
        self.kills: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()

    async def run(self) -> None:
        """Go on until cancelled."""
        await asyncio.sleep(FIRST_S)
        while self._ways:
            names = sorted(self._pids())
            name = self._chance.choice(names)
            way = self._chance.choice(self._ways)
            pid = self._pids().get(name)
            if pid is not None:
                async with self.calm:
                    # It may have ended by itself just now.
                    with contextlib.suppress(ProcessLookupError):
                        await way(name, pid)
            await asyncio.sleep(self._chance.uniform(LEAST_S, MOST_S))

    async def _kill(self, name: str, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.kills[name] += 1

    async def _stand_still(self, name: str, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self.stops[name] += 1
        try:
            await asyncio.sleep(STILL_S)
        finally:
            os.kill(pid, signal.SIGCONT)
