import asyncio
import os
import signal

import pytest

from medtrail.runtime.server import wait_for_signal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_ends_the_wait_and_a_second_does_no_harm(number: signal.Signals) -> None:
    async def main() -> str:
        waiting = asyncio.create_task(wait_for_signal())
        # The task takes the signals over in its first step.
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        return await waiting

    assert asyncio.run(main()) == number.name
