"""Which instance leads: one at a time tries, and what makes two of them safe is not here.

The leader counts up the beat of the lease. A standby that sees the same beat for some seconds of its own monotonic
clock takes the log with a new fence; from then on every write of the old leader fails. No two clocks are compared. A
leader that ends in good order gives the lease up, and one that is seen to be dead (same machine, its process gone) is
replaced at once.

Source: ARCHITECTURE, section 5; docs/adr/0008-leadership.md.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection, text

from ledger.storage import log_store
from ledger.storage.log_store import FenceLostError, LeaseState
from medtrail.errors import MedtrailError, UnavailableError
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger

log = get_logger(__name__)

BEAT_S = 1.0
PATIENCE_S = 3.0
"""Without a beat for so long, the leader is taken for gone."""

POLL_S = 0.25


class InstanceRole(StrEnum):
    """What an instance does now."""

    STANDBY = "standby"
    LEADER = "leader"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class Times:
    """How long leadership waits, in seconds."""

    beat: float = BEAT_S
    patience: float = PATIENCE_S
    poll: float = POLL_S


class Leadership:
    """Stands by until nobody leads, leads until it loses the fence, and so on until it is cancelled."""

    def __init__(
        self,
        database: Database,
        *,
        name: str,
        lead: Callable[[int], Awaitable[None]],
        check: Callable[[], Awaitable[None]],
        on_role: Callable[[InstanceRole], None] = lambda _role: None,
        times: Times | None = None,
    ) -> None:
        """Hold the parts.

        Args:
            database: The log's.
            name: Of this instance, for people.
            lead: Does what a leader does under a fence; ends only by an error or by being cancelled.
            check: Follows the log while standing by, and raises when it does not add up: such a log is not taken over.
            on_role: Is told each change.
            times: Waiting times.
        """
        self._database = database
        self._holder = f"{name or 'ledger'} {_process(os.getpid())}"
        self._lead = lead
        self._check = check
        self._on_role = on_role
        self._times = times or Times()
        self.role = InstanceRole.STANDBY
        self.fence = 0

    async def run(self) -> None:
        """Stand by and lead until cancelled.

        Raises:
            MedtrailError: What is stored does not add up: nothing here may lead (role UNFIT). Or what the leader's
                part failed with.
        """
        while True:
            try:
                await self._stand_by()
                self.fence = await self._take()
            except UnavailableError as error:
                log.warning("standby waits", code=error.code, reason=error.message)
                await asyncio.sleep(self._times.poll)
                continue
            except MedtrailError:
                self._set_role(InstanceRole.UNFIT)
                raise
            self._set_role(InstanceRole.LEADER)
            log.info("instance leads", fence=self.fence, holder=self._holder)
            try:
                await self._lead_until_lost(self.fence)
            except FenceLostError as error:
                log.warning("instance leads no more", fence=self.fence, reason=error.message)
            self._set_role(InstanceRole.STANDBY)

    async def _stand_by(self) -> None:
        """Return when nobody leads and the log adds up."""
        seen: LeaseState | None = None
        seen_at = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            lease = await self._database.read(log_store.read_lease)
            now = clock()
            if seen is None or (lease.fence, lease.beat) != (seen.fence, seen.beat):
                seen, seen_at = lease, now
            await self._check()
            if not lease.holder or is_dead(lease.holder) or clock() - seen_at >= self._times.patience:
                return
            await asyncio.sleep(self._times.poll)

    async def _take(self) -> int:
        if self._database.dialect == "postgresql":
            # A leader that stopped in the middle of a transaction still holds the row that is to be changed.
            await self._database.write(_end_other_writers)
        return await self._database.write(partial(log_store.take_fence, holder=self._holder))

    async def _lead_until_lost(self, fence: int) -> None:
        leading = asyncio.ensure_future(self._lead(fence))
        beating = asyncio.create_task(self._beat(fence), name="beat")
        try:
            done, _ = await asyncio.wait({leading, beating}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            leading.cancel()
            beating.cancel()
            await asyncio.gather(leading, beating, return_exceptions=True)
            with suppress(MedtrailError):
                await self._database.write(partial(log_store.give_up_lease, fence=fence))

    async def _beat(self, fence: int) -> None:
        while True:
            await asyncio.sleep(self._times.beat)
            try:
                await self._database.write(partial(log_store.beat, fence=fence))
            except UnavailableError as error:
                log.warning("leader cannot tell that it leads", code=error.code, reason=error.message)

    def _set_role(self, role: InstanceRole) -> None:
        if role is not self.role:
            self.role = role
            self._on_role(role)


def _end_other_writers(connection: Connection) -> None:
    """End the server's side of whoever holds the log's row for writing; its transaction is rolled back."""
    connection.execute(
        text(
            "SELECT pg_terminate_backend(holder.pid) FROM pg_locks AS holder"
            " WHERE holder.relation = 'log_state'::regclass AND holder.granted AND holder.pid <> pg_backend_pid()"
            " AND holder.mode IN ('RowShareLock', 'RowExclusiveLock')"
        )
    )


# --- is the holder's process alive? ---


def _process(pid: int) -> str:
    """Return what names a process for good: machine and its process table, number, and start."""
    return f"{_machine()}:{pid}:{_start_of(pid)}"


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    table = Path("/proc/self/ns/pid")
    try:
        return sha256(f"{boot.read_text()}{table.readlink()}".encode()).hexdigest()[:12]
    except OSError:
        return "unknown"


def _start_of(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "gone"
    # The name in parentheses may hold anything; the 22nd field of all is the 20th after it.
    fields = stat.rpartition(")")[2].split()
    return "gone" if fields[0] == "Z" else fields[19]


def is_dead(holder: str) -> bool:
    """Tell whether a lease's holder is a process of this machine that is no more; False where that is unknown."""
    machine, _, rest = holder.rpartition(" ")[2].partition(":")
    pid, _, start = rest.partition(":")
    if machine != _machine() or machine == "unknown" or not pid.isdecimal():
        return False
    return _start_of(int(pid)) != start
