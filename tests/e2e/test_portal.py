"""`medtrail up` with portals: an ERP sends a document and gets it back."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from medtrail.cli.network import OrganisationAddress, read_network
from tests.e2e.conftest import PATIENCE_S, POLL_S, REPOSITORY, SHIPPED_EXAMPLE, unmeasured

NETWORK = """
[network]
origin = "log.example/portal"
[authority]
gln = "9521000000018"
[ledger]
gln = "9521000000025"
[[organisation]]
name = "gs1-pharma"
role = "manufacturer"
gln = "0300011111116"
locations = ["0300011111215"]
company_prefixes = ["030001"]
"""


def _until_there(path: Path, process: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the network did not start: {output.read_text(encoding='utf-8')}")
        time.sleep(POLL_S)


def _captured(client: httpx.Client, location: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(location).json()
        if not job["running"]:
            return job
        time.sleep(POLL_S)
    pytest.fail("the capture did not end")


def test_an_erp_sends_a_document_to_the_portal_of_a_running_network(tmp_path: Path) -> None:
    folder, output = tmp_path / "net", tmp_path / "up.log"
    folder.mkdir()
    (folder / "network.toml").write_text(NETWORK, encoding="utf-8")
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "medtrail.cli", "--dir", str(folder), "up"],
            cwd=REPOSITORY,
            env=unmeasured(),
            stdout=file,
            stderr=file,
        )
    try:
        _until_there(folder / "network.json", process, output)
        network = read_network(folder)
        assert "gs1-pharma-portal" in network.pids
        [maker] = network.organisations
        _send_and_ask(maker)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def _found(client: httpx.Client, query: dict[str, str]) -> list[dict[str, Any]]:
    # A capture does not wait for its index for ever.
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        body = client.get("/events", params=query).json()["epcisBody"]
        events: list[dict[str, Any]] = body["queryResults"]["resultsBody"]["eventList"]
        if events:
            return events
        time.sleep(POLL_S)
    pytest.fail("the index did not take in what was captured")


def _send_and_ask(maker: OrganisationAddress) -> None:
    token = Path(maker.portal_token_file).read_text(encoding="utf-8").strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=maker.portal_url, headers=headers, timeout=PATIENCE_S) as client:
        body = SHIPPED_EXAMPLE.read_bytes()
        answer = client.post("/capture", content=body, headers={"Content-Type": "application/xml"})
        assert answer.status_code == 202, answer.text
        job = _captured(client, answer.headers["Location"])
        assert job["success"], json.dumps(job)
        [shipped] = _found(client, {"EQ_bizStep": "shipping"})
        assert shipped["epcList"] == ["urn:epc:id:sscc:030001.41234567890"]
