"""The connection to PostgreSQL ends at each message of one integration and one publication, and so does the process."""

from typing import TYPE_CHECKING

import pytest

from tests.faults.fork_server import TOLD

if TYPE_CHECKING:
    from tests.faults.conftest import Prepared
    from tests.faults.tracing import ForkServer
    from tests.support.log_check import CheckLog

ATTEMPTS = 3
STEP = 5
"""Every fifth message: each transaction has messages of the same kinds."""


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """Here each statement is a message to a server."""
    return postgres_url


def test_connection_cut_at_an_answer_loses_and_doubles_nothing(
    server: "ForkServer", prepared: "Prepared", check_log: "CheckLog"
) -> None:
    # What was asked may have been done: of a COMMIT whose answer is lost nobody knows the outcome.
    call = "recvfrom"
    for number in range(1, prepared.calls(server, call), STEP):
        case = prepared.case(attempts=ATTEMPTS)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:error=ECONNRESET:when={number}"]
        ended = server.run(case, arguments=inject)
        assert (ended.signal, ended.code, ended.progress) == (0, 0, TOLD), (number, ended.error)
        # How many pieces an answer comes in differs from run to run: the last may be missing.
        assert ended.injected == (number <= ended.calls[call]), (number, ended)
        prepared.check(case, ended, check_log)


def test_process_killed_at_any_statement_is_followed_by_one_that_ends_the_work(
    server: "ForkServer", prepared: "Prepared", check_log: "CheckLog"
) -> None:
    for number in range(2, prepared.calls(server, "sendto"), STEP):
        case = prepared.case()
        inject = ["-e", "trace=sendto", "-e", f"inject=sendto:signal=SIGKILL:when={number}"]
        killed = server.run(case, arguments=inject)
        assert killed.signal == (9 if killed.injected else 0)
        prepared.check(case, killed, check_log)
        again = server.run(case)
        assert (again.signal, again.code, again.progress) == (0, 0, TOLD), (number, again.error)
        prepared.check(case, again, check_log)
