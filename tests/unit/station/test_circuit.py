import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from medtrail.errors import NotFoundError, UnavailableError
from services.custody.circuit import Circuit

if TYPE_CHECKING:
    from tests.conftest import Eventually


class Neighbour:
    """Answers, stays silent, is unreachable, or refuses."""

    def __init__(self) -> None:
        self.mood = "answers"
        self.asked = 0
        self.probed = 0

    async def ask(self) -> str:
        self.asked += 1
        return await self._answer()

    async def probe(self) -> None:
        self.probed += 1
        await self._answer()

    async def _answer(self) -> str:
        if self.mood == "silent":
            await asyncio.Event().wait()
        if self.mood == "gone":
            raise UnavailableError("connection refused")
        if self.mood == "refuses":
            raise NotFoundError("no such thing")
        return "yes"


def circuit(neighbour: Neighbour, *, bound_s: float = 30.0) -> Circuit:
    return Circuit("ledger", neighbour.probe, bound_s=bound_s, first_pause_s=0.001, longest_pause_s=0.002)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await story()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("mood", "bound_s", "code"), [("gone", 30.0, "UNAVAILABLE"), ("silent", 0.001, "DEADLINE_EXCEEDED")]
)
def test_asks_a_neighbour_that_is_away_once(mood: str, bound_s: float, code: str) -> None:
    async def story() -> None:
        neighbour = Neighbour()
        guarded = circuit(neighbour, bound_s=bound_s)
        neighbour.mood = mood
        with pytest.raises(UnavailableError) as first:
            await guarded.ask(neighbour.ask)
        assert first.value.code == code
        for _ in range(3):
            with pytest.raises(UnavailableError) as caught:
                await guarded.ask(neighbour.ask)
            assert caught.value.code == "NEIGHBOUR_AWAY"
        assert (neighbour.asked, guarded.is_open) == (1, True)
        await guarded.end()

    run(story)


@pytest.mark.parametrize("back", ["answers", "refuses"])
def test_asks_again_once_a_probe_was_answered(back: str, eventually: "Eventually") -> None:
    async def story() -> None:
        neighbour = Neighbour()
        guarded = circuit(neighbour)
        neighbour.mood = "gone"
        with pytest.raises(UnavailableError):
            await guarded.ask(neighbour.ask)
        await eventually(lambda: neighbour.probed >= 3)
        assert guarded.is_open
        neighbour.mood = back
        await eventually(lambda: not guarded.is_open)
        neighbour.mood = "answers"
        assert await guarded.ask(neighbour.ask) == "yes"
        await guarded.end()

    run(story)


def test_a_refusal_is_an_answer() -> None:
    async def story() -> None:
        neighbour = Neighbour()
        guarded = circuit(neighbour)
        neighbour.mood = "refuses"
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await guarded.ask(neighbour.ask)
        assert (neighbour.asked, guarded.is_open) == (2, False)

    run(story)


def test_many_that_wait_at_one_time_open_it_once() -> None:
    async def story() -> None:
        neighbour = Neighbour()
        guarded = circuit(neighbour)
        neighbour.mood = "gone"
        answers = await asyncio.gather(*(guarded.ask(neighbour.ask) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(answer, UnavailableError) for answer in answers)
        assert guarded.is_open
        await guarded.end()
        assert not guarded.is_open

    run(story)
