"""The drill: a log is backed up while it runs, lost, restored, and goes on as the log that it was."""

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.bootstrap import Ledger
from ledger.commands import main
from ledger.sequencer import SequencerStatus
from ledger.web import WebServer
from ledger.witness.app import witness_app
from ledger.witness.service import Witness
from medtrail.checkpoint import open_checkpoint
from medtrail.note import Cosigner, format_vkey, parse_vkey
from medtrail.policy import parse_policy
from medtrail.runtime.database import Database

if TYPE_CHECKING:
    from tests.conftest import Eventually, NatsServer
    from tests.integration.ledger.conftest import CheckLog, LogHome, Producer

COSIGNER = Cosigner("witness.example/w1", bytes(range(32)))


class Site:
    """A ledger's home whose database can be lost and brought back."""

    def __init__(self, home: "LogHome", rules: Path) -> None:
        self.home = home
        self.rules = rules

    async def run(self, scenario: Callable[[Ledger], Awaitable[None]]) -> None:
        ledger = Ledger(self.home.settings(policy_file=self.rules))
        stop = asyncio.Event()
        task = asyncio.create_task(ledger.run(stop.wait()))
        try:
            await scenario(ledger)
        finally:
            stop.set()
            await task

    def command(self, name: str, *arguments: str) -> int:
        return main([name, "--dir", str(self.home.root), "--database", self.home.database_url, *arguments])

    def published(self) -> tuple[int, bytes]:
        path = self.home.root / "public" / "checkpoint"
        if not path.is_file():
            return 0, b""
        verifier = parse_vkey(self.home.vkey)
        found = open_checkpoint(path.read_bytes(), origin=verifier.name, verifiers=[verifier]).checkpoint
        return found.size, found.root_hash

    def lose(self) -> None:
        """Lose the database and all public files; the keys are elsewhere."""
        for path in self.home.root.glob("*"):
            if path.name in {"org", "database.url"}:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.home.database_url:
            import psycopg

            with psycopg.connect(self.home.database_url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")


async def with_witness(home: "LogHome", tmp_path: Path, scenario: Callable[[Site], Awaitable[None]]) -> None:
    """Run a scenario beside a witness that remembers."""
    database = Database(tmp_path / "witness.db")
    known = parse_policy(f"log {home.vkey}\nquorum none\n")
    server = WebServer(witness_app(Witness(database, COSIGNER, known, clock_s=time.time)), listen="127.0.0.1:0")
    serving = asyncio.create_task(server.run())
    rules = tmp_path / "policy.txt"
    url = f"http://{server.address}"
    rules.write_text(f"log {home.vkey}\nwitness w1 {format_vkey(COSIGNER.verifier)} {url}\nquorum w1\n")
    try:
        await scenario(Site(home, rules))
    finally:
        server.stop()
        await serving
        database.close()


def test_lost_log_comes_back_as_the_log_that_it_was(
    log_home: "LogHome", producer: "Producer", tmp_path: Path, eventually: "Eventually", check_log: "CheckLog"
) -> None:
    backup = tmp_path / "backup"

    async def scenario(site: Site) -> None:
        async def before(ledger: Ledger) -> None:
            await eventually(ledger.operator.ready.is_set)
            await producer.enrol()
            await producer.send(40)
            await eventually(lambda: site.published()[0] >= 20)
            # Online, with more on its way.
            sending = asyncio.create_task(producer.send(200))
            assert await asyncio.to_thread(site.command, "backup", "--to", str(backup)) == 0
            await sending
            await eventually(lambda: site.published()[0] == producer.size)

        await site.run(before)
        lost = site.published()
        site.lose()
        # In threads: the witness that is asked answers on this loop.
        arguments = ("--from", str(backup), "--policy", str(site.rules))
        assert await asyncio.to_thread(site.command, "restore", *arguments) == 0

        async def after(ledger: Ledger) -> None:
            await eventually(lambda: site.published()[0] >= lost[0])
            assert site.published() == lost
            await producer.send(5)
            await eventually(lambda: site.published()[0] == producer.size)

        await site.run(after)

    asyncio.run(with_witness(log_home, tmp_path, scenario))
    check_log(log_home.root, acknowledged=producer.sent)


def test_restored_log_whose_stream_is_gone_never_signs_beside_what_it_signed(  # noqa: PLR0917 - fixtures
    log_home: "LogHome",
    producer: "Producer",
    nats_server: "NatsServer",
    tmp_path: Path,
    eventually: "Eventually",
    capsys: pytest.CaptureFixture[str],
) -> None:
    backup = tmp_path / "backup"

    async def scenario(site: Site) -> None:
        async def before(ledger: Ledger) -> None:
            await eventually(ledger.operator.ready.is_set)
            await producer.enrol()
            await eventually(lambda: site.published()[0] == producer.size)
            assert await asyncio.to_thread(site.command, "backup", "--to", str(backup)) == 0
            await producer.send(30)
            await eventually(lambda: site.published()[0] == producer.size)

        await site.run(before)
        signed = json.loads((backup / "manifest.json").read_text())["signed_size"]
        published = tmp_path / "published"
        shutil.copy(log_home.root / "public" / "checkpoint", published)
        site.lose()
        nats_server.kill()
        shutil.rmtree(nats_server.store)
        nats_server.start()
        arguments = ("--from", str(backup), "--checkpoint", str(published))
        assert await asyncio.to_thread(site.command, "restore", *arguments) == 0
        assert "begin a successor log" in capsys.readouterr().out

        async def after(ledger: Ledger) -> None:
            await eventually(lambda: ledger.sequencer.status is SequencerStatus.HALTED)
            await eventually(lambda: site.published()[0] == signed)
            state = (await ledger.database.read(lambda connection: connection.exec_driver_sql(
                "SELECT must_reach_size, frozen FROM log_state").one()))  # fmt: skip
            assert state[0] == producer.size
            assert "restored from a backup" in state[1]

        await site.run(after)

    asyncio.run(with_witness(log_home, tmp_path, scenario))
