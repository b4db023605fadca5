"""An outsider audits the running network with nothing but its address, its key and its policy."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from medtrail.monitor import AuditState
from medtrail.note import parse_vkey
from medtrail.policy import parse_policy
from tests.e2e.conftest import PATIENCE_S
from tests.support.go_program import built_verifier

if TYPE_CHECKING:
    from tests.e2e.conftest import Net

BUNDLE = 256


@pytest.fixture(scope="session")
def go_verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_verifier(tmp_path_factory.getbasetemp())


def test_audit_follows_the_log_with_the_quorum_of_its_policy(
    net: "Net", example: dict[str, Any], tmp_path: Path
) -> None:
    running, state = net.running, tmp_path / "state.json"
    (key,) = running.verifier_keys
    options = ("--key", key, "--policy", running.policy, "--state", str(state), "--once", "--json")
    first = net.process("audit", running.log_url, *options)
    assert first.code == 0, first.errors
    answer = json.loads(first.out)
    assert answer["consistent"] is True
    assert answer["entries_read"] == answer["tree_size"] > len(example["event_ids"])
    (witness,) = parse_policy(Path(running.policy).read_text()).witnesses
    assert answer["witnesses"] == [witness.verifier.name]
    kept = AuditState.decode(state.read_bytes(), parse_vkey(key))
    assert kept.read is not None
    assert kept.read.root().hex() == answer["root_hash"]
    again = net.process("audit", running.log_url, *options)
    assert again.code == 0, again.errors
    assert json.loads(again.out)["entries_read"] == json.loads(again.out)["tree_size"] - answer["tree_size"]


def test_go_verifies_the_running_log_and_its_witness(
    net: "Net", example: dict[str, Any], go_verifier: Path, tmp_path: Path
) -> None:
    assert example["event_ids"]
    running, older = net.running, tmp_path / "older"
    (witness,) = [line.split()[2] for line in Path(running.policy).read_text().splitlines() if "witness " in line]
    older.write_bytes(httpx.get(f"{running.log_url}/checkpoint", timeout=PATIENCE_S).content)

    async def verify() -> tuple[int | None, bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            go_verifier, running.log_url, running.verifier_keys[0], older, witness,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, errors = await process.communicate()
        return process.returncode, out, errors

    code, out, errors = asyncio.run(verify())
    assert (code, errors) == (0, b"")
    assert out.startswith(b"verified ")
