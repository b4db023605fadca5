"""An event is erased from the command line: by its owner, with the authority's consent, and nobody is left in doubt."""

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medtrail.epcis import Action, EpcisDocument, EpcisEvent, EventType, write_json
from tests.e2e.conftest import Net, believed
from tests.support.command import Run

MAKER, DISTRIBUTOR = "gs1-pharma", "gs1-drug-distributor"
MAKER_GLN = "0300011111116"
REASON = "commissioned by mistake"


def imported(net: Net, folder: Path) -> tuple[str, str]:
    """Import a commissioning of one new pack; return the pack and the event id."""
    pack = f"https://id.gs1.org/01/00300010123455/21/{uuid.uuid4().hex[:12]}"
    event = EpcisEvent(
        EventType.OBJECT,
        datetime.now(UTC),
        "+00:00",
        action=Action.ADD,
        epc_list=(pack,),
        biz_step="commissioning",
        disposition="active",
    )
    path = folder / "one.json"
    path.write_bytes(write_json(EpcisDocument((event,), creation_date=datetime.now(UTC))))
    run = net.medtrail("import", str(path), "--json", who=MAKER)
    assert run.code == 0
    return pack, run.document["event_ids"][0]


async def is_believed(net: Net, event_id: str) -> None:
    async with net.session(MAKER) as session:
        await believed(session, event_id)


def erase(net: Net, event: str, *, who: str = MAKER) -> Run:
    return net.medtrail("erase", event, "--reason", REASON, "--json", who=who)


def test_event_is_erased_with_consent_and_told_as_erased(net: Net, example: dict[str, Any], tmp_path: Path) -> None:
    assert example["accepted"]
    pack, event_id = imported(net, tmp_path)
    asyncio.run(is_believed(net, event_id))
    consent = net.medtrail("consent", event_id, "--reason", "agreed", "--json", who=MAKER)
    assert consent.code == 0, consent.errors
    index = consent.document["leaf_index"]
    young = erase(net, str(consent.document["consent_index"]))
    assert (young.code != 0, "ERASURE_NOT_OWNER" in young.errors) == (True, True)
    erased = erase(net, str(index))
    assert erased.code == 0, erased.errors
    assert erased.document["order_index"] > consent.document["consent_index"] > index
    told = net.medtrail("trace", "pack", pack, "--json", who=DISTRIBUTOR)
    assert told.document["events"] == []
    (step,) = told.document["erased"]
    assert (step["leaf_index"], step["erased_by"], step["reason"]) == (index, MAKER_GLN, REASON)
    assert (step["order_index"], step["proven"]) == (erased.document["order_index"], True)
    words = " ".join(net.medtrail("trace", "pack", pack, who=DISTRIBUTOR).out.split())
    assert f"erased by {MAKER_GLN}, {REASON} (order: entry {step['order_index']}), proven" in words
    again = erase(net, event_id)
    assert again.code != 0
    assert "EVENT_ERASED" in again.errors
    proof = net.medtrail("proof", str(index), "--json", who=DISTRIBUTOR)
    assert proof.code != 0
    assert "EVENT_ERASED" in proof.errors


def test_young_event_is_not_erased_without_consent(net: Net, example: dict[str, Any]) -> None:
    run = erase(net, example["event_ids"][0])
    assert run.code != 0
    assert "RETENTION_NOT_OVER" in run.errors
