"""A leader stops at a system call, another instance takes the log over, and the first one goes on as if it led."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.faults.fork_server import TOLD
from tests.faults.tracing import ForkServer

if TYPE_CHECKING:
    from tests.faults.conftest import Prepared
    from tests.support.log_check import CheckLog


@pytest.fixture(scope="module")
def second(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    made = ForkServer(tmp_path_factory.mktemp("traces"))
    yield made
    made.close()
    del server


def can_be_taken(case: dict[str, Any]) -> bool:
    """Tell whether the paused process is outside of a write transaction: inside, nobody else writes before it ends."""
    if case["database_url"]:
        with psycopg.connect(case["database_url"]) as connection:
            try:
                connection.execute("SELECT * FROM log_state FOR UPDATE NOWAIT")
            except psycopg.errors.LockNotAvailable:
                return False
            # Whoever has written and not ended holds more than that row.
            writers = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
            ).fetchone()
            return writers == (0,)
    path = Path(case["root"]) / "ledger.db"
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
    return True


def outcomes_of_pauses(
    call: str, *, step: int, servers: tuple[ForkServer, ForkServer], prepared: "Prepared", check_log: "CheckLog"
) -> set[str]:
    """Pause at each call in turn; return how the paused leaders ended that were overtaken."""
    server, second = servers
    found = set()
    for number in range(1, prepared.calls(server, call) + 1, step):
        case = prepared.case()
        root = Path(case["root"])
        server.begin(case, arguments=["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGSTOP:when={number}"])
        overtaken = server.stopped() and can_be_taken(case)
        if overtaken:
            other = second.run(prepared.takeover(case))
            assert (other.signal, other.code, other.progress) == (0, 0, TOLD), (number, other.error)
            assert b"\n11\n" in (root / "public-2" / "checkpoint").read_bytes()
        server.resume()
        ended = server.ended()
        assert ended.signal == 0
        if overtaken:
            # It ends its own transaction and its own files, or it is told that it leads no more: nothing else.
            code = ended.error.rstrip().splitlines()[-1].partition(":")[0].rpartition(".")[2] if ended.code else ""
            found.add(code)
        else:
            assert ended.code == 0, (number, ended.error)
        public = [root / "public-2"] if overtaken else []
        acknowledged = [*prepared.chained, *(prepared.later if overtaken else [])]
        report = check_log(root, acknowledged=acknowledged, observed=[prepared.served], public=public)
        assert report.tree_size == (11 if overtaken else 10)
    return found


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


# Where the database is a file, its calls are the process's own, and fcntl takes its locks; else each statement is a
# message to its server.
@pytest.mark.parametrize(
    ("database_url", "call", "step"),
    [
        ("sqlite", "fdatasync", 1),
        ("sqlite", "fcntl", 3),
        ("sqlite", "rename", 1),
        ("postgresql", "rename", 1),
        ("postgresql", "sendto", 4),
    ],
    indirect=["database_url"],
)
def test_leader_paused_at_a_call_and_overtaken_leaves_one_history(  # noqa: PLR0917 - fixtures
    call: str, step: int, server: ForkServer, second: ForkServer, prepared: "Prepared", check_log: "CheckLog"
) -> None:
    found = outcomes_of_pauses(call, step=step, servers=(server, second), prepared=prepared, check_log=check_log)
    assert found <= {"", "FenceLostError"}
    # Between two transactions of its own it is told; at its files it only ends them.
    assert ("FenceLostError" in found) is (call in {"fcntl", "sendto"}), found
