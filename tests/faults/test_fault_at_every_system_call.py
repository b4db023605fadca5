"""Each write, fsync, rename … of one integration and one publication fails once, and is the last one once."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.codec import encode_batch
from tests.faults.fork_server import INTEGRATED, PUBLISHED, SIGNED, TOLD
from tests.faults.tracing import Ended, ForkServer, why_not

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Events, NewLog
    from tests.support.log_check import CheckLog

CALLS = ("write", "pwrite64", "fsync", "fdatasync", "rename", "ftruncate", "unlink", "mkdir")
ATTEMPTS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    server = ForkServer(tmp_path_factory.mktemp("traces"))
    yield server
    server.close()


@pytest.fixture
def database_url() -> str:
    """Here the database is a file, and its calls are the process's own."""
    return ""


class Prepared:
    """A log with a published checkpoint and a message that waits; each case gets its own copy."""

    def __init__(self, new_log: "NewLog", events: "Events", cases: Path) -> None:
        log = new_log()
        log.enrol(events)
        log.publish()
        one, two = events.sign(events.commission(1)), events.sign(events.commission(2))
        forged = events.sign(events.commission(3), by="pharmacy")
        self.chained = [one, two]
        # Every kind of outcome: entries, a duplicate, a refusal.
        message = log.message(encode_batch([one, forged, two, one]))
        (log.home.root / "message").write_bytes(message.data)
        self._message = {
            "seq": message.stream_seq,
            "time": message.stored_time.removesuffix("Z"),
            "file": "message",
            "authority": log.home.authority_key_id,
        }
        self.served = (log.home.root / "public" / "checkpoint").read_bytes()
        log.close()
        self._root, self._cases, self._number = log.home.root, cases, 0

    def case(self, *, attempts: int) -> dict[str, Any]:
        self._number += 1
        root = self._cases / f"case-{self._number}"
        shutil.copytree(self._root, root)
        return {"root": str(root), "database_url": "", "message": self._message, "attempts": attempts}


@pytest.fixture
def prepared(new_log: "NewLog", events: "Events", tmp_path: Path) -> Prepared:
    return Prepared(new_log, events, tmp_path / "cases")


def check_told(case: dict[str, Any], ended: Ended, prepared: Prepared, check_log: "CheckLog") -> None:
    """Whatever the process was told is durable stands, before anything is mended."""
    root = Path(case["root"])
    report = check_log(
        root,
        acknowledged=prepared.chained if ended.progress >= INTEGRATED else [],
        observed=[prepared.served],
    )
    assert report.checkpoint_count >= (2 if ended.progress >= SIGNED else 1)
    if ended.progress >= PUBLISHED:
        assert b"\n10\n" in (root / "public" / "checkpoint").read_bytes()


def counted(server: ForkServer, prepared: Prepared, call: str) -> int:
    clean = server.run(prepared.case(attempts=1), arguments=["-e", f"trace={call}"])
    assert (clean.signal, clean.code, clean.progress) == (0, 0, TOLD), clean.error
    return clean.calls[call]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_process_goes_on_after_a_call_failed(
    fault: str, call: str, server: ForkServer, prepared: Prepared, check_log: "CheckLog"
) -> None:
    for number in range(1, counted(server, prepared, call) + 1):
        case = prepared.case(attempts=ATTEMPTS)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={fault}:when={number}"]
        ended = server.run(case, arguments=inject)
        assert ended.injected == 1
        assert (ended.signal, ended.code, ended.progress) == (0, 0, TOLD), (number, ended.error)
        check_told(case, ended, prepared, check_log)


@pytest.mark.parametrize("call", CALLS)
def test_process_killed_at_a_call_is_followed_by_one_that_ends_the_work(
    call: str, server: ForkServer, prepared: Prepared, check_log: "CheckLog"
) -> None:
    for number in range(1, counted(server, prepared, call) + 1):
        case = prepared.case(attempts=1)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
        killed = server.run(case, arguments=inject)
        assert killed.signal == 9
        check_told(case, killed, prepared, check_log)
        again = server.run(case)
        assert (again.signal, again.code, again.progress) == (0, 0, TOLD), (number, again.error)
        check_told(case, again, prepared, check_log)
