"""Examining in processes of their own gives what examining here gives, and no process is left behind."""

import asyncio
import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.examiners import Examiners
from ledger.intake import (
    EVENTS_TOGETHER,
    Candidate,
    OpenMessage,
    StreamMessage,
    Unreadable,
    examine,
    examine_batch,
    examine_message,
)
from medtrail.codec import encode_batch
from medtrail.errors import UnavailableError
from medtrail.event import PackLevel, Product
from medtrail.gs1 import Gtin
from tests.support.processes import runs

if TYPE_CHECKING:
    from tests.conftest import Eventually
    from tests.integration.ledger.conftest import Events

SALT = bytes(range(32))


@pytest.fixture
def examiners() -> Iterator[Callable[..., Examiners]]:
    made: list[Examiners] = []

    def make(*, bytes_inline: int) -> Examiners:
        made.append(Examiners(map_salt=SALT, processes=2, bytes_inline=bytes_inline))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.close()


def messages_of(*batches: bytes) -> list[StreamMessage]:
    moment = datetime(2026, 2, 1, tzinfo=UTC)
    return [
        StreamMessage(number, "medtrail.v1.events.0300011111116", "2026-02-01T00:00:00Z", moment, data)
        for number, data in enumerate(batches, 1)
    ]


def plain(opened: OpenMessage) -> list[object]:
    """Return a message's candidates so that errors compare by what they say."""
    return comparable(opened.candidates)


def comparable(candidates: Iterable[Candidate]) -> list[object]:
    return [
        (*candidate[:3], type(candidate.error), vars(candidate.error))
        if isinstance(candidate, Unreadable)
        else candidate
        for candidate in candidates
    ]


def mixed(events: "Events") -> list[StreamMessage]:
    good = events.sign(events.commission(1, count=5))
    forged = good[:-1] + bytes([good[-1] ^ 1])
    product = events.sign(Product(Gtin("00300010123455"), PackLevel.PACK, "Trailomycin"))
    unsound = events.sign(events.observe(2), event_id="urn:x:y")
    return messages_of(encode_batch([good, forged, product]), b"poison", encode_batch([unsound, b"no event"]))


def test_processes_find_what_this_one_finds(events: "Events", examiners: Callable[..., Examiners]) -> None:
    messages = mixed(events)
    here = [examine_message(message, map_salt=SALT) for message in messages]

    by_processes = asyncio.run(examiners(bytes_inline=0).examine(messages))
    by_thread = asyncio.run(examiners(bytes_inline=1 << 20).examine(messages))

    for found in (by_processes, by_thread):
        assert [plain(each) for each in found] == [plain(each) for each in here]
        assert [each.message for each in found] == messages


def test_an_event_is_found_what_it_is_whatever_stands_beside_it(events: "Events") -> None:
    batch = [events.sign(events.observe(number)) for number in range(2 * EVENTS_TOGETHER + 2)]
    unsound = events.sign(replace(events.observe(2), biz_step="no such step"), event_id="urn:x:y")
    forged = batch[1][:-1] + bytes([batch[1][-1] ^ 1])
    for place, bad in ((0, forged), (EVENTS_TOGETHER - 1, unsound), (EVENTS_TOGETHER, b"no event"), (-1, unsound)):
        batch[place] = bad

    found = examine_batch(encode_batch(batch), map_salt=SALT)

    assert comparable(found) == comparable(examine(one, map_salt=SALT) for one in batch)
    assert [place for place, one in enumerate(found) if isinstance(one, Unreadable)] == [
        0,
        EVENTS_TOGETHER - 1,
        EVENTS_TOGETHER,
        len(batch) - 1,
    ]
    assert [one.event_id for one in found if isinstance(one, Unreadable)] == ["", "urn:x:y", "", "urn:x:y"]


def test_a_small_read_starts_no_process(events: "Events", examiners: Callable[..., Examiners]) -> None:
    before = set(multiprocessing.active_children())

    asyncio.run(examiners(bytes_inline=1 << 20).examine(mixed(events)))

    assert set(multiprocessing.active_children()) == before


def test_a_killed_process_is_replaced_and_nothing_is_lost(
    events: "Events", examiners: Callable[..., Examiners]
) -> None:
    messages = mixed(events)
    found = examiners(bytes_inline=0)

    async def run() -> list[OpenMessage]:
        before = set(multiprocessing.active_children())
        await found.examine(messages)
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
        with pytest.raises(UnavailableError) as caught:
            await until_it_fails(found, messages)
        assert caught.value.code == "EXAMINER_DIED"
        return await found.examine(messages)

    assert [len(each.candidates) for each in asyncio.run(run())] == [3, 1, 2]


async def until_it_fails(examiners: Examiners, messages: list[StreamMessage]) -> None:
    # The pool may take a moment to notice.
    while True:
        await examiners.examine(messages)


PARENT = """
import asyncio, multiprocessing, sys, time
from datetime import UTC, datetime
from ledger.examiners import Examiners
from ledger.intake import StreamMessage

async def run():
    examiners = Examiners(map_salt=bytes(32), processes=2, bytes_inline=0)
    await examiners.examine([StreamMessage(n, "s", "t", datetime.now(UTC), b"x") for n in (1, 2, 3, 4)])
    print("pids", *(child.pid for child in multiprocessing.active_children()), flush=True)
    await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(run())
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path, eventually: "Eventually") -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        told = next(line for line in parent.stdout if line.startswith("pids"))
        pids = [int(word) for word in told.split()[1:]]
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    assert pids

    async def ended() -> None:
        await eventually(lambda: not any(runs(pid) for pid in pids))

    asyncio.run(ended())
