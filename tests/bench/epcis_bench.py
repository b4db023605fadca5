"""Measures reading EPCIS documents of any size, and the event hash beside the reference implementation's.

Each document is read by a process of its own, which tells its most memory: `python epcis_bench.py FILE`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from epcis_event_hash_generator.events_from_file_reader import event_list_from_file  # type: ignore[import-untyped]
from epcis_event_hash_generator.hash_generator import epcis_hashes_from_events  # type: ignore[import-untyped]

from medtrail.epcis import (
    Action,
    BizTransaction,
    EpcisDocument,
    EpcisEvent,
    EventType,
    Extension,
    Place,
    event_hash,
    open_events,
    write_json_events,
    write_xml_events,
)
from medtrail.errors import VerificationError

FORMS = {"json": ("JSON-LD", write_json_events), "xml": ("XML", write_xml_events)}
MDA = "urn:epcglobal:cbv:mda"
PLACE = "urn:epc:id:sgln:030001.111111.0"
EPCS = 5
# Of the memory that a document of a tenth of the events took.
MOST_GROWTH = 1.25
START = datetime(2026, 5, 4, 10, tzinfo=UTC)

Tell = Callable[[str, float, str], None]


def make_events(count: int) -> Iterator[EpcisEvent]:
    """Yield commissionings as a manufacturer sends them: five packs each, lot and expiry, an order."""
    for number in range(count):
        yield EpcisEvent(
            type=EventType.OBJECT,
            event_time=START + timedelta(seconds=number),
            event_time_zone_offset="+02:00",
            action=Action.ADD,
            epc_list=tuple(f"urn:epc:id:sgtin:030001.0012345.{number * EPCS + epc}" for epc in range(EPCS)),
            biz_step="commissioning",
            disposition="active",
            read_point=Place(PLACE),
            biz_location=Place(PLACE),
            biz_transaction_list=(BizTransaction("urn:epcglobal:cbv:bt:0399999999991:XYZPO189", "po"),),
            ilmd=(Extension(MDA, "lotNumber", "A123"), Extension(MDA, "itemExpirationDate", "2027-01-01")),
        )


def measure_epcis(folder: Path, events: int, hashes: int, tell: Tell) -> None:
    """Measure reading and hashing.

    Args:
        folder: For the documents; they are removed.
        events: Of the large document; a small one has a tenth.
        hashes: Events hashed by us and by the reference implementation.
        tell: Called with name, value and unit of each figure.

    Raises:
        VerificationError: A hash differs from the reference's, an event is missing, or memory grew with the document.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for ending in FORMS:
        _measure_reading(folder, ending, events, tell)
    _measure_hashes(folder / "hashes.xml", hashes, tell)


def _measure_reading(folder: Path, ending: str, events: int, tell: Tell) -> None:
    name, write = FORMS[ending]
    peaks = []
    for count in (events // 10, events):
        path = folder / f"events.{ending}"
        with path.open("wb") as file:
            file.writelines(write(EpcisDocument((), creation_date=START), make_events(count)))
        done = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        path.unlink()
        if found["events"] != count:
            message = f"{found['events']} of {count} events of {name} were read"
            raise VerificationError(message, code="BENCH_FAILED")
        peaks.append(found["peak_bytes"])
    tell(f"EPCIS reading, {name}: events", events / found["seconds"], "1/s")
    tell(f"EPCIS reading, {name}: size", found["bytes"] / found["seconds"] / 1e6, "MB/s")
    for count, peak in zip((events // 10, events), peaks, strict=True):
        tell(f"EPCIS reading, {name}: memory, {count} events", peak, "B")
    if peaks[1] > MOST_GROWTH * peaks[0]:
        message = f"{peaks[1]} bytes for {events} events, {peaks[0]} for a tenth"
        raise VerificationError(message, code="BENCH_FAILED")


def _measure_hashes(path: Path, count: int, tell: Tell) -> None:
    events = list(make_events(count))
    path.write_bytes(b"".join(write_xml_events(EpcisDocument((), creation_date=START), events)))
    theirs = event_list_from_file(str(path))
    path.unlink()
    began = time.perf_counter()
    wanted = epcis_hashes_from_events(theirs)
    their_s = time.perf_counter() - began
    began = time.perf_counter()
    found = [event_hash(event) for event in events]
    our_s = time.perf_counter() - began
    if found != wanted:
        message = "an event hash differs from the reference implementation's"
        raise VerificationError(message, code="BENCH_FAILED")
    tell("event_hash: commissionings", count / our_s, "1/s")
    tell("event_hash of the reference: commissionings", count / their_s, "1/s")
    tell("event_hash: multiple of the reference", their_s / our_s, "x")


def _peak_bytes() -> int:
    # getrusage would also count what the process was before it began this program.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def read(path: Path) -> None:
    """Read a document, and tell how long it took and how much memory."""
    began = time.perf_counter()
    with path.open("rb") as file:
        count = sum(1 for _ in open_events(file, format=path.suffix))
    found = {
        "events": count,
        "seconds": time.perf_counter() - began,
        "bytes": path.stat().st_size,
        "peak_bytes": _peak_bytes(),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    read(Path(sys.argv[1]))
