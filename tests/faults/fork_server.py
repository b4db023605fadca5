"""One integration and one publication of a log, in a process that a test may stop at any of its system calls.

Starting an interpreter takes a second, and there are hundreds of calls to stop at: this process imports everything once
and then forks a child a case. Protocol, a JSON document a line: ``{"root", "database_url", "public", "messages",
"attempts"}`` comes in; the child's pid goes out once it is connected to its database; the child waits for SIGUSR1, so
that a tracer can be put on it; when it has ended, its wait status, how far it came and its error go out.

The child runs the ledger's own classes on one thread, since a tracer counts calls by thread.
"""

import asyncio
import json
import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from ledger.feed import CheckpointFeed
from ledger.intake import StreamMessage, examine_message
from ledger.mirror import Mirror
from ledger.sequencer import integrate
from ledger.signer import Signer
from ledger.storage import checkpoint_store, log_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.open import open_storage
from ledger.tile_files import TileFiles
from ledger.trust_state import load_registry
from medtrail.errors import UnavailableError
from medtrail.note import Cosigner, NoteSigner
from medtrail.runtime.database import Database
from medtrail.runtime.folder import OrganisationFolder
from medtrail.runtime.logging import configure_logging

T = TypeVar("T")

COSIGNER = Cosigner("witness.example/w1", bytes(range(32)))
COSIGN_TIME_S = 1_767_000_000
SUBJECT = "medtrail.v1.events.0300011111116"

INTEGRATED, SIGNED, PUBLISHED, TOLD = range(1, 5)
"""How far a child came; what it came to, it was told is durable."""


class Inline(ThreadPoolExecutor):
    """Runs what it is handed at once, on the caller's own thread."""

    def submit(self, function: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(function(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            done.set_exception(error)
        return done


class Child:
    """The work of one case."""

    def __init__(self, case: dict[str, Any], progress: mmap.mmap) -> None:
        self._case = case
        self._progress = progress
        self._root = Path(case["root"])
        self._folder = OrganisationFolder(self._root / "org")
        self._database: Database | None = None

    def connect(self) -> None:
        """Open the database: what a driver asks of a new connection is not what is tested."""
        for run in (self._open().read_now, self._open().write_now):
            run(log_store.require_state)

    async def run(self) -> None:
        """Do everything; after a fault that passes, try again as the running ledger does."""
        asyncio.get_running_loop().set_default_executor(Inline())
        for left in reversed(range(self._case["attempts"])):
            try:
                await self._once()
                return
            except (UnavailableError, OSError):
                if not left:
                    raise

    def _open(self) -> Database:
        if self._database is None:
            self._database = open_storage(self._root, self._case["database_url"])
            self._database._writer = self._database._readers = Inline()
        return self._database

    async def _once(self) -> None:
        database = self._open()
        state = await database.read(log_store.require_state)
        signer = NoteSigner(state.origin, self._folder.log_seed())
        fence = await database.write(log_store.take_fence)
        for given in self._case["messages"]:
            await database.write(partial(self._integrate, given=given, fence=fence))
        self._reached(INTEGRATED)
        await Signer(database, signer, interval_s=1).sign_once(fence)
        self._reached(SIGNED)
        files = TileFiles(self._root / self._case["public"])
        mirror = Mirror(database, files, verifier=signer.verifier, feed=CheckpointFeed())
        mirror.cosign = self._cosign
        if await mirror.repair():
            await mirror.publish_once()
        self._reached(PUBLISHED)
        await database.write(partial(log_store.move_follower, name="receipts", position=state.next_seq))
        self._reached(TOLD)

    def _integrate(self, connection: Connection, *, given: dict[str, Any], fence: int) -> None:
        state = log_store.require_fence(connection, fence)
        if state.next_seq > given["seq"]:
            # The cursor tells that it is done, whatever this process remembers.
            return
        moment = datetime.fromisoformat(given["time"]).replace(tzinfo=UTC)
        data = (self._root / given["file"]).read_bytes()
        message = StreamMessage(given["seq"], SUBJECT, f"{given['time']}Z", moment, data)
        opened = [examine_message(message, map_salt=self._folder.map_salt())]
        registry = load_registry(connection, authority_key_id=given["authority"], tree_size=state.tree.size)
        integrate(connection, opened=opened, registry=registry, fence=fence, created="then")

    async def _cosign(self, stored: StoredCheckpoint) -> None:
        text = stored.note.partition(b"\n\n")[0].decode() + "\n"
        line = COSIGNER.cosign(text, timestamp=COSIGN_TIME_S).line
        put = partial(
            checkpoint_store.put_cosignature,
            tree_size=stored.tree.size,
            witness=COSIGNER.name,
            line=line,
            time_s=COSIGN_TIME_S,
        )
        await self._open().write(put)

    def _reached(self, step: int) -> None:
        # Shared memory: to tell takes no system call.
        self._progress[0] = step


def _serve(case: dict[str, Any]) -> None:
    progress = mmap.mmap(-1, 4096)
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_child(case, progress, tell)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    print(json.dumps(pid), flush=True)  # noqa: T201 - the protocol
    _, status = os.waitpid(pid, 0)
    size = int.from_bytes(progress[1:5], "big")
    error = progress[5 : 5 + size].decode(errors="replace")
    print(json.dumps({"status": status, "progress": progress[0], "error": error}), flush=True)  # noqa: T201 - the same


def _become_child(case: dict[str, Any], progress: mmap.mmap, tell: int) -> None:
    # Not asyncio.run: at its end it starts a thread of its own.
    loop = asyncio.new_event_loop()
    try:
        child = Child(case, progress)
        child.connect()
        os.close(tell)
        signal.sigwait({signal.SIGUSR1})
        loop.run_until_complete(child.run())
    except BaseException:  # noqa: BLE001 - told to the test
        text = traceback.format_exc().encode()[-4000:]
        progress[1 : 5 + len(text)] = len(text).to_bytes(4, "big") + text
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Serve until standard input ends."""
    configure_logging(process="fault", level="critical")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    for line in sys.stdin:
        _serve(json.loads(line))


if __name__ == "__main__":
    main()
