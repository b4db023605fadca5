"""Each write, fsync, rename … of one integration and one publication fails once, and is the last one once."""

from typing import TYPE_CHECKING

import pytest

from tests.faults.fork_server import TOLD

if TYPE_CHECKING:
    from tests.faults.conftest import Prepared
    from tests.faults.tracing import ForkServer
    from tests.support.log_check import CheckLog

CALLS = ("write", "pwrite64", "fsync", "fdatasync", "rename", "ftruncate", "unlink", "mkdir")
ATTEMPTS = 3


@pytest.fixture
def database_url() -> str:
    """Here the database is a file, and its calls are the process's own."""
    return ""


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_process_goes_on_after_a_call_failed(
    fault: str, call: str, server: "ForkServer", prepared: "Prepared", check_log: "CheckLog"
) -> None:
    for number in range(1, prepared.calls(server, call) + 1):
        case = prepared.case(attempts=ATTEMPTS)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={fault}:when={number}"]
        ended = server.run(case, arguments=inject)
        assert ended.injected == 1
        assert (ended.signal, ended.code, ended.progress) == (0, 0, TOLD), (number, ended.error)
        prepared.check(case, ended, check_log)


@pytest.mark.parametrize("call", CALLS)
def test_process_killed_at_a_call_is_followed_by_one_that_ends_the_work(
    call: str, server: "ForkServer", prepared: "Prepared", check_log: "CheckLog"
) -> None:
    for number in range(1, prepared.calls(server, call) + 1):
        case = prepared.case(attempts=1)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
        killed = server.run(case, arguments=inject)
        assert killed.signal == 9
        prepared.check(case, killed, check_log)
        again = server.run(case)
        assert (again.signal, again.code, again.progress) == (0, 0, TOLD), (number, again.error)
        prepared.check(case, again, check_log)
