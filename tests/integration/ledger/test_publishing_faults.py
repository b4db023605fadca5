import asyncio
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from ledger.bootstrap import Ledger
from ledger.signer import Signer
from ledger.storage import log_store
from ledger.storage.log_store import MustReach
from ledger.tile_files import TileFiles
from medtrail.codec import encode_batch
from medtrail.errors import (
    ConflictError,
    MedtrailError,
    RootMismatchError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)
from medtrail.note import NoteSigner
from medtrail.note_format import NoteSignature
from medtrail.tiles import TileEdge

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Eventually
    from tests.integration.ledger.conftest import CheckLog, Events, NewLog, OfflineLog


ORIGIN = "ledger.example/test"


@pytest.fixture
def log(new_log: "NewLog", events: "Events") -> "OfflineLog":
    """A log with 8 published entries and 3 that wait."""
    made = new_log()
    made.enrol(events)
    made.publish()
    made.commission(events)
    return made


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE signed_event SET data = zeroblob(100) WHERE leaf_index = 9",
        "UPDATE entry SET entry = x'01' || zeroblob(64) WHERE leaf_index = 9",
        "UPDATE entry SET map_keys = zeroblob(32) WHERE leaf_index = 9",
        "DELETE FROM signed_event WHERE leaf_index = 10",
    ],
)
def test_changed_entry_is_not_signed_and_fsck_tells(statement: str, log: "OfflineLog") -> None:
    log.change(statement)
    with pytest.raises(VerificationError, match=r"entry (9|10)"):
        log.publish()
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(8,)]
    assert log.fsck().findings


def test_tree_that_does_not_follow_from_the_entries_is_not_signed(log: "OfflineLog") -> None:
    (tree_range,) = log.rows("SELECT tree_range FROM log_state")[0]
    log.change("UPDATE log_state SET tree_range = ?", tree_range[:-1] + bytes((tree_range[-1] ^ 1,)))
    with pytest.raises(RootMismatchError):
        log.publish()
    assert "ROOT_MISMATCH" in {finding.code for finding in log.fsck().findings}


@dataclass(frozen=True)
class SlowSigner(NoteSigner):
    """Signs, and lets something happen before the signature is stored."""

    meanwhile: Callable[[], None]

    def sign(self, text: str) -> NoteSignature:
        self.meanwhile()
        return super().sign(text)


@pytest.mark.parametrize("reached_before", [False, True])
def test_what_a_witness_shows_while_a_checkpoint_is_being_signed_counts(
    log: "OfflineLog", *, reached_before: bool
) -> None:
    later = MustReach(40, bytes(32))
    if reached_before:
        # The log has come to the tree that it knew of; a larger one is shown just now.
        state = log.database.read_now(log_store.require_state)
        reach = MustReach(11, state.tree.root())
        log.database.write_now(partial(log_store.freeze, reason="one is shown", must_reach=reach))
    shown = partial(log_store.freeze, reason="another is shown", must_reach=later)
    asked: list[int] = []

    def meanwhile() -> None:
        asked.append(1)
        log.database.write_now(shown)

    signer = Signer(log.database, SlowSigner(ORIGIN, log.home.folder.log_seed(), meanwhile), interval_s=0.05)
    assert not asyncio.run(signer.sign_once(log.fence))
    assert asked == [1]
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(8,)]
    assert log.database.read_now(log_store.require_state).must_reach == later
    assert not asyncio.run(signer.sign_once(log.fence))


class FailingFiles(TileFiles):
    """Fails as a full disk does, after some writes."""

    def __init__(self, files: TileFiles, *, after: int) -> None:
        super().__init__(files.folder)
        self.left = after

    def _write(self, *arguments: object) -> "Path":
        self._count()
        return super()._write(*arguments)  # type: ignore[arg-type]

    def write_checkpoint(self, note: bytes) -> None:
        self._count()
        super().write_checkpoint(note)

    def _count(self) -> None:
        if self.left == 0:
            raise OSError(28, "No space left on device")
        self.left -= 1


@pytest.mark.parametrize("after", range(3))
def test_crash_between_signature_and_files_is_mended_at_the_start(
    after: int, log: "OfflineLog", check_log: "CheckLog"
) -> None:
    whole, log.files = log.files, FailingFiles(log.files, after=after)
    with pytest.raises(OSError, match="No space"):
        log.publish()
    # The row is ahead; what is served is the older checkpoint, with all its tiles.
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(11,)]
    check_log(log.home.root)
    log.files = whole
    log.publish()
    assert b"\n11\n" in (log.home.root / "public" / "checkpoint").read_bytes()
    check_log(log.home.root)


def test_lost_and_damaged_files_are_written_anew(log: "OfflineLog", events: "Events", check_log: "CheckLog") -> None:
    log.publish()
    for damage in ("tile/0/000.p/11", "tile/entries/000.p/11", "tile", "checkpoint"):
        path = log.home.root / "public" / damage
        if path.is_dir():
            shutil.rmtree(path)
        elif damage == "checkpoint":
            path.unlink()
        else:
            path.write_bytes(b"damaged")
        assert log.fsck().findings
        log.publish()
        check_log(log.home.root)


def test_partial_tiles_go_when_the_full_one_is_published(
    log: "OfflineLog", events: "Events", check_log: "CheckLog"
) -> None:
    log.publish()
    log.commission(events, range(100, 400))
    log.publish()
    tiles = log.home.root / "public" / "tile"
    assert not (tiles / "0" / "000.p").exists()
    assert (tiles / "0" / "000").stat().st_size == 8192
    assert {path.name for path in (tiles / "0" / "001.p").iterdir()} == {"55"}
    check_log(log.home.root)


class CountingFiles(TileFiles):
    """Counts the trees that are written."""

    def __init__(self, files: TileFiles) -> None:
        super().__init__(files.folder)
        self.sizes: list[int] = []

    def grow(self, edge: TileEdge, entries: Iterable[list[bytes]], *, new_size: int) -> TileEdge:
        self.sizes.append(new_size)
        return super().grow(edge, entries, new_size=new_size)


def test_log_that_is_published_anew_gets_those_partial_tiles_that_stay(
    log: "OfflineLog", events: "Events", check_log: "CheckLog"
) -> None:
    for serial in range(100, 500, 10):
        log.commission(events, range(serial, serial + 10))
        asyncio.run(log.signer().sign_once(log.fence))
    shutil.rmtree(log.home.root / "public")
    counting = CountingFiles(log.files)
    log.files = counting
    log.publish()
    # Those of the trees from 256 entries on: what is smaller is completed by the newest tree's full tiles.
    assert counting.sizes == list(range(261, 412, 10))
    assert {path.name for path in (log.home.root / "public" / "tile" / "1" / "000.p").iterdir()} == {"1"}
    check_log(log.home.root)


def test_database_older_than_the_published_checkpoint_signs_that_tree_again_first(
    log: "OfflineLog", events: "Events", check_log: "CheckLog"
) -> None:
    log.publish()
    (note,) = log.rows("SELECT note FROM checkpoint WHERE tree_size = 11")
    log.commission(events, [99])
    log.change("DELETE FROM checkpoint WHERE tree_size = 11")
    assert "LOG_ROLLED_BACK" in {finding.code for finding in log.fsck().findings}
    log.publish()
    assert log.rows("SELECT note FROM checkpoint WHERE tree_size = 11") == [note]
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(11,)]
    log.publish()
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(12,)]
    assert log.rows("SELECT frozen, must_reach_size FROM log_state") == [("", 0)]
    check_log(log.home.root)


def test_database_that_lost_entries_signs_nothing_before_it_has_them_again(
    log: "OfflineLog", events: "Events", check_log: "CheckLog"
) -> None:
    older = log.home.root / "older.db"
    log.copy_database(older)
    message = log.message(encode_batch([events.sign(events.commission(99))]))
    log.integrate(message)
    log.publish()
    published = (log.home.root / "public" / "checkpoint").read_bytes()
    log.restore_database(older)
    other = log.message(encode_batch([events.sign(events.commission(100))]))
    log.publish()
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(8,)]
    assert log.rows("SELECT must_reach_size FROM log_state") == [(12,)]
    assert (log.home.root / "public" / "checkpoint").read_bytes() == published
    log.integrate(message, other)
    log.publish()
    log.publish()
    assert b"\n13\n" in (log.home.root / "public" / "checkpoint").read_bytes()
    check_log(log.home.root)


def test_other_history_than_the_published_one_is_never_signed(log: "OfflineLog", events: "Events") -> None:
    older = log.home.root / "older.db"
    log.copy_database(older)
    log.commission(events, [99])
    log.publish()
    log.restore_database(older)
    log.next_seq -= 1
    log.commission(events, [100])
    for _ in range(2):
        with pytest.raises(ConflictError) as caught:
            log.publish()
        assert caught.value.code == "LOG_FORKED"
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(8,)]


def test_fork_that_one_instance_sees_in_its_files_stops_the_signing_of_all(log: "OfflineLog", events: "Events") -> None:
    older = log.home.root / "older.db"
    log.copy_database(older)
    log.commission(events, [99])
    log.publish()
    log.restore_database(older)
    log.next_seq -= 1
    log.commission(events, [100, 101])
    # Another instance leads, whose own files know nothing of the 12 entries that were published here.
    assert asyncio.run(log.signer().sign_once(log.fence))
    with pytest.raises(ConflictError, match="12 is not one that this database signed"):
        asyncio.run(log.mirror().repair())
    log.commission(events, [102])
    with pytest.raises(ConflictError) as caught:
        asyncio.run(log.signer().sign_once(log.fence))
    assert caught.value.code == "LOG_FORKED"


def test_nothing_is_signed_before_the_published_files_were_looked_at(
    log: "OfflineLog", eventually: "Eventually"
) -> None:
    (log.home.root / "public" / "checkpoint").write_bytes(b"of nobody\n")
    ledger = Ledger(log.home.settings())

    async def beats() -> bool:
        # The instance leads, and has done all that a leader does at first.
        return await ledger.database.read(lambda connection: log_store.read_lease(connection).beat) >= 3

    async def run() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(ledger.run(stop.wait()))
        await eventually(lambda: ledger.mirror.error is not None)
        await eventually(beats)
        stop.set()
        await task

    asyncio.run(run())
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(8,)]


class FailingChecks(TileFiles):
    """Of which the newest checkpoint cannot be read, once it is told of."""

    broken = False

    def checkpoint(self) -> bytes | None:
        if self.broken:
            raise TooLargeError("too large")
        return super().checkpoint()


def test_mirror_whose_teller_fails_says_so_and_stops(log: "OfflineLog") -> None:
    files = FailingChecks(log.files.folder)
    log.files = files
    mirror = log.mirror()

    async def meanwhile(_stored: object) -> None:
        files.broken = True

    mirror.cosign = meanwhile

    async def run() -> None:
        await log.signer().sign_once(log.fence)
        async with asyncio.timeout(60):
            await mirror.run()

    asyncio.run(run())
    assert mirror.error is not None
    assert mirror.error.code == "TOO_LARGE"


def test_tree_smaller_than_the_last_signed_does_not_sign(log: "OfflineLog") -> None:
    (state,) = log.rows("SELECT tree_size, tree_range FROM log_state")
    log.publish()
    (older,) = log.rows("SELECT tree_range FROM checkpoint WHERE tree_size = 8")
    log.change("UPDATE log_state SET tree_size = 8, tree_range = ?", older[0])
    with pytest.raises(ConflictError) as caught:
        log.publish()
    assert caught.value.code == "LOG_ROLLED_BACK"
    assert state[0] == 11


def test_two_signers_cannot_sign_two_histories(log: "OfflineLog", check_log: "CheckLog") -> None:
    async def race() -> list[object]:
        one, two = log.signer(), log.signer()
        return list(await asyncio.gather(one.sign_once(log.fence), two.sign_once(log.fence), return_exceptions=True))

    found = asyncio.run(race())
    assert True in found
    lost = [item for item in found if isinstance(item, MedtrailError)]
    assert [item.code for item in lost] in ([], ["CHECKPOINT_MOVED"])
    log.publish()
    check_log(log.home.root)


def test_signer_without_the_fence_signs_nothing(log: "OfflineLog") -> None:
    old = log.fence
    log.database.write_now(log_store.take_fence)
    with pytest.raises(ConflictError) as caught:
        asyncio.run(log.signer().sign_once(old))
    assert caught.value.code == "FENCE_LOST"
    assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(8,)]


def test_mirror_waits_while_the_disk_is_full_and_goes_on(
    log: "OfflineLog", check_log: "CheckLog", eventually: "Eventually"
) -> None:
    async def run() -> None:
        failing = FailingFiles(log.files, after=1)
        log.files = failing
        await log.signer().sign_once(log.fence)
        mirror = log.mirror()
        task = asyncio.create_task(mirror.run())
        async with asyncio.timeout(60):
            await eventually(lambda: failing.left == 0)
            # The disk has room again once the mirror has met the full one.
            failing.left = 1000
            async for checkpoint in log.feed.watch():
                if checkpoint.tree.size == 11:
                    break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert mirror.error is None

    asyncio.run(run())
    check_log(log.home.root)


def test_nothing_is_published_before_the_first_checkpoint(new_log: "NewLog") -> None:
    log = new_log()
    with pytest.raises(UnavailableError) as caught:
        _ = log.feed.newest
    assert caught.value.code == "CHECKPOINT_MISSING"


def test_sequencer_without_the_fence_stores_nothing(log: "OfflineLog", events: "Events", check_log: "CheckLog") -> None:
    log.database.write_now(log_store.take_fence)
    message = log.message(encode_batch([events.sign(events.commission(77))]))
    with pytest.raises(ConflictError) as caught:
        log.integrate(message)
    assert caught.value.code == "FENCE_LOST"
    assert log.rows("SELECT count(*) FROM entry") == [(11,)]


def test_message_integrated_twice_is_refused_by_the_cursor(log: "OfflineLog", events: "Events") -> None:
    message = log.message(encode_batch([events.sign(events.commission(78))]))
    log.integrate(message)
    with pytest.raises(ConflictError) as caught:
        log.integrate(message)
    assert caught.value.code == "CURSOR_MISMATCH"
    assert log.rows("SELECT count(*) FROM entry") == [(12,)]
