"""Asking a neighbour that may be away: one question within a bound, and then none that anybody waits for.

The first question that is not answered in time opens the circuit. While it is open questions fail at once, and the
neighbour is probed beside, at growing intervals, until it answers. So whoever stands with a scanner in hand waits once,
not at every pack.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from medtrail.errors import MedtrailError, UnavailableError
from medtrail.runtime.logging import get_logger

T = TypeVar("T")

log = get_logger(__name__)

BOUND_S = 1.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


class Circuit:
    """Guards the questions to one neighbour; for one event loop."""

    def __init__(
        self,
        neighbour: str,
        probe: Callable[[], Awaitable[object]],
        *,
        bound_s: float | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        """Begin closed: the neighbour is believed to be there.

        Args:
            neighbour: For messages.
            probe: Asks the neighbour something that changes nothing; raises UnavailableError while it is away.
            bound_s: Longest that anybody waits for an answer; a second unless given.
            first_pause_s: Before the first probe.
            longest_pause_s: The pause doubles up to this.
        """
        self._neighbour = neighbour
        self._probe = probe
        self._bound_s = BOUND_S if bound_s is None else bound_s
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether questions fail at once."""
        return self._probing is not None

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a question.

        Args:
            question: Asks; not called while the circuit is open.

        Raises:
            UnavailableError: NEIGHBOUR_AWAY: the circuit is open; DEADLINE_EXCEEDED; or what the question raised.
        """
        if self._probing is not None:
            message = f"the {self._neighbour} does not answer; it is asked again from time to time"
            raise UnavailableError(message, code="NEIGHBOUR_AWAY")
        try:
            return await self._bounded(question)
        except UnavailableError as error:
            self._open(error)
            raise

    async def end(self) -> None:
        """Probe no more; for the end of a process."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)

    async def _bounded(self, question: Callable[[], Awaitable[T]]) -> T:
        try:
            # Around all attempts that the channel makes: their deadlines and pauses add up.
            async with asyncio.timeout(self._bound_s):
                return await question()
        except TimeoutError as error:
            message = f"the {self._neighbour} did not answer within {self._bound_s:g} s"
            raise UnavailableError(message, code="DEADLINE_EXCEEDED") from error

    def _open(self, error: UnavailableError) -> None:
        # Several may have been waiting for their answers.
        if self._probing is None:
            log.warning("neighbour is away", neighbour=self._neighbour, code=error.code)
            self._probing = asyncio.create_task(self._close_when_back(), name=f"probe of the {self._neighbour}")

    async def _close_when_back(self) -> None:
        pause_s = self._first_pause_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._longest_pause_s)
            try:
                await self._bounded(self._probe)
            except UnavailableError:
                continue
            except MedtrailError as error:
                # A refusal is an answer.
                log.debug("probe refused", neighbour=self._neighbour, code=error.code)
            log.info("neighbour is back", neighbour=self._neighbour)
            self._probing = None
            return
