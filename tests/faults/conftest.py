"""Fixtures of the fault tests: those of the ledger's integration tests, over the same real parts.

Fixtures:
    server: forks processes that strace may trace; skips where it may not.
    prepared: a log with a message that waits; each case gets a copy of its own, of the database too.
"""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from medtrail.codec import encode_batch
from tests.conftest import psycopg_url
from tests.faults.fork_server import INTEGRATED, PUBLISHED, SIGNED, TOLD
from tests.faults.tracing import Ended, ForkServer, why_not
from tests.integration.ledger.conftest import database_url, events, log_home, new_log, producer, run_ledger
from tests.support.log_check import URL_NAME, CheckLog

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Events, NewLog

__all__ = ["database_url", "events", "log_home", "new_log", "producer", "run_ledger"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    server = ForkServer(tmp_path_factory.mktemp("traces"))
    yield server
    server.close()


class Prepared:
    """A log with a published checkpoint of 8 entries, a message that makes it 10, and one that makes it 11."""

    def __init__(self, new_log: "NewLog", events: "Events", cases: Path) -> None:
        log = new_log()
        log.enrol(events)
        log.publish()
        one, two, three = (events.sign(events.commission(serial)) for serial in range(3))
        forged = events.sign(events.commission(4), by="pharmacy")
        self.chained, self.later = [one, two], [three]
        # Every kind of outcome: entries, a duplicate, a refusal.
        self._messages = []
        for batch in ([one, forged, two, one], [three]):
            message = log.message(encode_batch(batch))
            name = f"message-{message.stream_seq}"
            (log.home.root / name).write_bytes(message.data)
            time = message.stored_time.removesuffix("Z")
            given = {"seq": message.stream_seq, "time": time, "file": name, "authority": log.home.authority_key_id}
            self._messages.append(given)
        self.served = (log.home.root / "public" / "checkpoint").read_bytes()
        log.close()
        self._root, self._url, self._cases = log.home.root, log.home.database_url, cases
        self._made: list[str] = []

    def case(self, *, attempts: int = 1) -> dict[str, Any]:
        """Copy the log; return a case that integrates and publishes the first message."""
        root = self._cases / uuid.uuid4().hex
        shutil.copytree(self._root, root)
        url = self._copied_database()
        (root / URL_NAME).write_text(url, encoding="utf-8")
        return {
            "root": str(root),
            "database_url": url,
            "public": "public",
            "messages": self._messages[:1],
            "attempts": attempts,
        }

    def takeover(self, case: dict[str, Any]) -> dict[str, Any]:
        """Return the case of another instance on the same database, with files of its own: it takes both messages."""
        return case | {"public": "public-2", "messages": self._messages}

    def _copied_database(self) -> str:
        if not self._url:
            return ""
        name = f"case_{uuid.uuid4().hex}"
        self._made.append(name)
        original = self._url.partition("?")[0].rpartition("/")[2]
        self._admin(f'CREATE DATABASE "{name}" TEMPLATE "{original}"')
        return psycopg_url(self._url, name)

    def _admin(self, statement: str) -> None:
        with psycopg.connect(psycopg_url(self._url, "postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def calls(self, server: ForkServer, call: str) -> int:
        """Return how often a clean run makes a system call."""
        clean = server.run(self.case(), arguments=["-e", f"trace={call}"])
        assert (clean.signal, clean.code, clean.progress) == (0, 0, TOLD), clean.error
        return clean.calls[call]

    def check(self, case: dict[str, Any], ended: Ended, check_log: CheckLog) -> None:
        """Whatever a process was told is durable stands, before anything is mended."""
        root = Path(case["root"])
        acknowledged = self.chained if ended.progress >= INTEGRATED else []
        report = check_log(root, acknowledged=acknowledged, observed=[self.served])
        assert report.checkpoint_count >= (2 if ended.progress >= SIGNED else 1)
        if ended.progress >= PUBLISHED:
            assert b"\n10\n" in (root / "public" / "checkpoint").read_bytes()

    def close(self) -> None:
        for name in self._made:
            self._admin(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def prepared(new_log: "NewLog", events: "Events", tmp_path: Path) -> Iterator[Prepared]:
    made = Prepared(new_log, events, tmp_path / "cases")
    yield made
    made.close()
