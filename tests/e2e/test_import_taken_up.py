"""An import that was killed goes on where it was: every event once, with its first receipt."""

import asyncio
import fcntl
import json
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from medtrail.api.custody.v1 import custody_pb2
from medtrail.cli.capture import CHUNK_EVENTS
from medtrail.epcis import Action, EpcisDocument, EpcisEvent, EventType, write_json, write_xml
from tests.e2e.conftest import PATIENCE_S, POLL_S, REPOSITORY, Net, unmeasured

MAKER = "gs1-pharma"
CHUNKS = 4


def write_commissions(path: Path, count: int) -> None:
    tag = uuid.uuid4().hex[:8]
    now = datetime.now(UTC) - timedelta(hours=1)
    events = tuple(
        EpcisEvent(
            EventType.OBJECT,
            now + timedelta(milliseconds=number),
            "+00:00",
            action=Action.ADD,
            epc_list=(f"https://id.gs1.org/01/00300010123455/21/{tag}{number}",),
            biz_step="commissioning",
            disposition="active",
        )
        for number in range(count)
    )
    document = EpcisDocument(events, creation_date=now)
    path.write_bytes(write_json(document) if path.suffix == ".json" else write_xml(document))


def journal_of(net: Net) -> Path:
    (newest,) = sorted((net.folder / "imports").glob(f"{MAKER}-*"), key=lambda path: path.stat().st_mtime_ns)[-1:]
    return newest


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def kept(net: Net) -> list[str]:
    """SHA-256 of each event of its own that the maker's service ever took in, once each time it did."""
    found: list[str] = []
    async with net.session(MAKER) as session:
        async for answer in session.custody.WatchEvents(custody_pb2.WatchEventsRequest()):
            found += [
                change.signed_event_sha256.hex()
                for change in answer.changes
                if change.kind == custody_pb2.EVENT_CHANGE_KIND_KEPT and change.signer == net.gln(MAKER)
            ]
            if not answer.changes or answer.changes[-1].number == answer.newest_change_number:
                break
    return found


def test_killed_import_goes_on_and_records_every_event_once(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    write_commissions(path, CHUNKS * CHUNK_EVENTS)
    before = len(asyncio.run(kept(net)))
    folder = net.folder / "imports"
    known = set(folder.glob("*")) if folder.exists() else set()
    process = subprocess.Popen(
        [sys.executable, "-m", "medtrail.cli", "--dir", str(net.folder), "--as", MAKER, "import", str(path)],
        cwd=REPOSITORY,
        env=unmeasured(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not any(found.read_bytes().count(b"\n") >= 3 for found in set(folder.glob("*")) - known):
            assert time.monotonic() < deadline
            time.sleep(POLL_S)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    journal = journal_of(net)
    noted = journal.read_bytes()
    assert b'"done"' not in noted
    # The last answer was not noted whole: its chunk is sent again, and answered again.
    journal.write_bytes(noted[:-1])

    run = net.medtrail("import", str(path), "--json", who=MAKER)

    assert run.code == 0, run.errors
    assert run.document["resumed_from"] >= CHUNK_EVENTS
    assert (run.document["events"], run.document["accepted"], run.document["resends"]) == (
        CHUNKS * CHUNK_EVENTS,
        CHUNKS * CHUNK_EVENTS,
        0,
    )
    answered = [line for line in lines(journal) if "first" in line]
    assert answered[0] == json.loads(noted.splitlines()[1]), "the first receipts stand"
    receipts = [text for line in answered for text in line["signed_event_sha256s"]]
    assert len(set(receipts)) == len(receipts) == CHUNKS * CHUNK_EVENTS
    after = asyncio.run(kept(net))
    assert len(after) - before == CHUNKS * CHUNK_EVENTS
    assert set(receipts) <= set(after)
    assert run.document["event_ids"] == [text for line in answered for text in line["event_ids"]][:10_000]


def test_import_without_its_journal_gives_the_first_receipts(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    write_commissions(path, 3)
    first = net.medtrail("import", str(path), "--json", who=MAKER).document
    receipts = lines(Path(first["journal"]))[1]
    Path(first["journal"]).unlink()

    again = net.medtrail("import", str(path), "--json", who=MAKER).document

    assert again == first
    assert lines(Path(first["journal"]))[1] == receipts

    resent = net.medtrail("import", str(path), "--json", who=MAKER).document

    assert (resent["accepted"], resent["resends"]) == (0, 3)
    assert lines(Path(first["journal"]))[1]["signed_event_sha256s"] == receipts["signed_event_sha256s"]


def test_two_imports_of_one_file_at_a_time_are_one_too_many(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    write_commissions(path, 1)
    first = net.medtrail("import", str(path), "--json", who=MAKER).document
    with Path(first["journal"]).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run = net.medtrail("import", str(path), "--json", who=MAKER)

    assert (run.code, run.error["code"]) == (1, "IMPORT_RUNNING")


def test_nothing_of_a_malformed_document_is_sent(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    write_commissions(path, CHUNK_EVENTS + 1)
    path.write_bytes(path.read_bytes()[: -len(b"  }\n}\n") - 40])
    before = len(asyncio.run(kept(net)))

    run = net.medtrail("import", str(path), "--json", who=MAKER)

    assert (run.code, run.error["code"]) == (2, "JSON_MALFORMED")
    assert len(asyncio.run(kept(net))) == before
