"""A replica reads the stream and judges by itself; it adopts what it derives, and nothing else."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.adopter import Adopter
from ledger.bootstrap import Ledger
from ledger.storage import log_store
from ledger.storage.log_store import MustReach
from medtrail.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from medtrail.errors import MalformedError, MedtrailError, RootMismatchError, UnavailableError
from medtrail.note import NoteSigner

if TYPE_CHECKING:
    from tests.conftest import Eventually
    from tests.integration.ledger.conftest import Events, LogHome, NewLog, OfflineLog, Producer

ORIGIN = "ledger.example/test"


@asynccontextmanager
async def running(ledger: Ledger) -> AsyncIterator[Ledger]:
    stop = asyncio.Event()
    task = asyncio.create_task(ledger.run(stop.wait()))
    try:
        yield ledger
    finally:
        stop.set()
        await task


@pytest.fixture
def database_url() -> str:
    """Two databases are at work: both are files."""
    return ""


def test_replica_publishes_the_same_log_without_its_key(
    log_home: "LogHome", producer: "Producer", tmp_path: Path, eventually: "Eventually"
) -> None:
    folder = tmp_path / "replica-org"
    shutil.copytree(log_home.folder.path, folder)
    (folder / "log.key").unlink()

    async def scenario() -> None:
        async with running(Ledger(log_home.settings())) as first:
            await eventually(first.operator.ready.is_set)
            await producer.enrol()
            url = f"http://{first.public_address}"
            data_dir = tmp_path / "replica"
            settings = log_home.settings(org_dir=folder, data_dir=data_dir, replica_of=url)
            async with running(Ledger(settings)):
                await producer.send(30)
                path = data_dir / "public" / "checkpoint"
                verifier = NoteSigner(ORIGIN, log_home.folder.log_seed()).verifier

                def published() -> int:
                    if not path.is_file():
                        return 0
                    return open_checkpoint(path.read_bytes(), origin=ORIGIN, verifiers=[verifier]).checkpoint.size

                await eventually(lambda: published() == producer.size)
                assert path.read_bytes() == first.feed.newest.note

    asyncio.run(scenario())


def test_replica_needs_the_log_s_key_to_verify_with(log_home: "LogHome") -> None:
    with pytest.raises(MalformedError) as caught:
        Ledger(log_home.settings(replica_of="http://127.0.0.1:1", log_vkey=""))
    assert caught.value.field == "MEDTRAIL_LOG_VKEY"


@pytest.fixture
def log(new_log: "NewLog", events: "Events") -> "OfflineLog":
    made = new_log()
    made.enrol(events)
    made.commission(events)
    return made


def adopter(log: "OfflineLog", note: bytes) -> Adopter:
    async def fetch() -> bytes:
        if not note:
            raise UnavailableError("nobody answers", code="LOG_UNREACHABLE")
        return note

    verifier = NoteSigner(ORIGIN, log.home.folder.log_seed()).verifier
    return Adopter(log.database, fetch, verifier=verifier, interval_s=0.01)


def signed(log: "OfflineLog", size: int, root: bytes) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), NoteSigner(ORIGIN, log.home.folder.log_seed()))


def test_adopts_only_what_it_derives(log: "OfflineLog") -> None:
    state = log.database.read_now(log_store.require_state)
    note = signed(log, 11, state.tree.root())

    async def scenario() -> None:
        assert not await adopter(log, signed(log, 12, bytes(32))).adopt_once(log.fence)
        for size in (8, 11):
            with pytest.raises(RootMismatchError):
                await adopter(log, signed(log, size, bytes(32))).adopt_once(log.fence)
        assert await adopter(log, note).adopt_once(log.fence)
        assert not await adopter(log, note).adopt_once(log.fence)
        # Also what is older than that, as a cache may hand it out, must be of this history.
        with pytest.raises(RootMismatchError):
            await adopter(log, signed(log, 5, bytes(32))).adopt_once(log.fence)
        with pytest.raises(MedtrailError):
            await adopter(log, b"nonsense").adopt_once(log.fence)

    asyncio.run(scenario())
    assert log.rows("SELECT tree_size, note FROM checkpoint") == [(11, note)]


@pytest.mark.parametrize("same", [True, False])
def test_replica_that_was_rolled_back_compares_with_what_it_had_published(
    log: "OfflineLog", events: "Events", *, same: bool
) -> None:
    before = log.database.read_now(log_store.require_state).tree
    reach = MustReach(before.size, before.root() if same else bytes(32))
    log.database.write_now(partial(log_store.freeze, reason="11 entries are published here", must_reach=reach))
    log.commission(events, [9])
    after = log.database.read_now(log_store.require_state).tree
    adopting = adopter(log, signed(log, after.size, after.root()))
    if same:
        assert asyncio.run(adopting.adopt_once(log.fence))
        state = log.database.read_now(log_store.require_state)
        assert (state.frozen, state.must_reach) == ("", None)
    else:
        with pytest.raises(RootMismatchError):
            asyncio.run(adopting.adopt_once(log.fence))
        assert log.rows("SELECT count(*) FROM checkpoint") == [(0,)]


def test_replica_that_meets_another_history_says_so_and_stops(log: "OfflineLog") -> None:
    told: list[MedtrailError] = []
    halting = adopter(log, signed(log, 11, bytes(32)))
    halting._on_halt = told.append
    asyncio.run(halting.run(log.fence))
    assert halting.error is not None
    assert [error.code for error in told] == [halting.error.code] == ["ROOT_MISMATCH"]


def test_replica_waits_while_the_log_is_away(log: "OfflineLog") -> None:
    async def scenario() -> None:
        waiting = adopter(log, b"")
        task = asyncio.create_task(waiting.run(log.fence))
        await asyncio.wait([task], timeout=0.1)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert waiting.error is None

    asyncio.run(scenario())
