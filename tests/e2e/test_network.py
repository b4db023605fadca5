"""The network as its users see it: the GS1 US example goes in, and every answer about it is true and proven.

The tests go on in the order of the file: up to the import the goods are on their way, behind it they are received.
"""

import asyncio
import uuid
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.checkpoint import Checkpoint, open_checkpoint
from medtrail.cli.capture import CHUNK_EVENTS
from medtrail.cli.session import Session
from medtrail.cli.trace import ProvenStep, prove
from medtrail.epcis import Action, EpcisDocument, EpcisEvent, EventType, write_json
from medtrail.errors import MedtrailError, NotFoundError, VerificationError
from medtrail.event import Enrolment, Genesis, PayloadType, Product
from medtrail.item_map import log_entry
from medtrail.merkle import CompactRange, hash_leaf, inclusion_proof, verify_consistency, verify_inclusion
from medtrail.note import NoteVerifier, parse_vkey
from medtrail.tiles import Tile, TileHashReader, decode_entry_bundle, new_entry_bundles, read_edge
from medtrail.tlog_proof import parse_proof, verify_proof
from tests.e2e.conftest import PATIENCE_S, Net, believed, run_process, until
from tests.support.command import run_command

MAKER, DISTRIBUTOR, PHARMACY = "gs1-pharma", "gs1-drug-distributor", "elm-street-pharmacy"
MAKER_GLN, DISTRIBUTOR_GLN = "0300011111116", "0399999999991"
PACK, CASE, PALLET = (
    "urn:epc:id:sgtin:030001.0012345.11",
    "urn:epc:id:sgtin:030001.1012345.110",
    "urn:epc:id:sscc:030001.41234567890",
)
PACK_GTIN, CASE_GTIN, LOT = "00300010123455", "10300010123452", "A123"
SCAN = "(01)00300010123455(21)11(17)250327(10)A123"
SHIPPED = "2023-04-01T07:48:16Z"


def placed(document: dict[str, Any]) -> dict[str, int]:
    """The classes of a lot that hold any unit."""
    return {name: count for name, count in document["classes"].items() if count}


# --- import ---


def test_example_is_captured_whole(example: dict[str, Any]) -> None:
    assert (example["events"], example["accepted"], example["resends"], example["errors"]) == (8, 8, 0, [])
    assert all(text.startswith("ni:///sha-256;") and text.endswith("?ver=CBV2.0") for text in example["event_ids"])


def test_second_import_only_resends_what_is_known(net: Net, example: dict[str, Any], example_path: Path) -> None:
    run = net.medtrail("import", str(example_path), "--json", who=MAKER)
    assert run.code == 0
    assert (run.document["accepted"], run.document["resends"]) == (0, 8)
    assert run.document["event_ids"] == example["event_ids"]
    assert "8 events: 0 accepted, 8 known before, 0 refused" in net.medtrail("import", str(example_path), who=MAKER).out


def test_event_ids_are_the_hashes_that_the_offline_command_prints(example: dict[str, Any], example_path: Path) -> None:
    assert run_command("epcis", "hash", str(example_path)).out.split() == example["event_ids"]


def test_refuses_import_in_the_makers_name(net: Net, example: dict[str, Any], example_path: Path) -> None:
    run = net.medtrail("import", str(example_path), "--json", who=PHARMACY)
    assert run.code == 1
    assert run.document["accepted"] == 0
    assert [(error["event"], error["code"], error["field"]) for error in run.document["errors"]] == [
        (0, "ACTOR_NOT_SIGNER", "events[0]")
    ]
    words = net.medtrail("import", str(example_path), who=PHARMACY)
    assert words.code == 1
    assert "0 accepted, 1 refused" in words.out
    assert "ACTOR_NOT_SIGNER" in words.out


def test_import_records_nothing_behind_a_refused_chunk(net: Net, tmp_path: Path) -> None:
    tag = uuid.uuid4().hex[:8]
    links = [
        "https://id.gs1.org/01/09521001000017/21/1",
        *(f"https://id.gs1.org/01/{PACK_GTIN}/21/{tag}{number}" for number in range(CHUNK_EVENTS)),
    ]
    events = tuple(
        EpcisEvent(
            EventType.OBJECT,
            datetime.now(UTC),
            "+00:00",
            action=Action.ADD,
            epc_list=(link,),
            biz_step="commissioning",
            disposition="active",
        )
        for link in links
    )
    path = tmp_path / "two_chunks.json"
    path.write_bytes(write_json(EpcisDocument(events, creation_date=datetime.now(UTC))))
    run = net.medtrail("import", str(path), "--json", who=MAKER)
    assert run.code == 1
    assert (run.document["accepted"], run.document["event_ids"]) == (0, [])
    assert [(error["event"], error["code"]) for error in run.document["errors"]] == [(0, "PREFIX_NOT_OWNED")]

    async def unknown() -> None:
        async with net.session(MAKER) as session:
            with pytest.raises(NotFoundError):
                await session.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=links[-1]))

    asyncio.run(unknown())


# --- while the goods are on their way ---


def test_pack_shows_commissioning_both_packings_and_shipping_each_proven(net: Net, example: dict[str, Any]) -> None:
    run = net.process("trace", "pack", PACK, "--json")
    assert run.code == 0
    events = run.document["events"]
    assert [event["biz_step"] for event in events] == ["commissioning", "packing", "packing", "shipping"]
    assert all(event["proven"] and not event["disbelieved"] for event in events)
    assert {event["actor"] for event in events} == {MAKER_GLN}
    assert {event["event_id"] for event in events} <= set(example["event_ids"])
    assert [event["via"].rpartition("org")[2] for event in events] == [
        "/01/00300010123455/21/11",
        "/01/00300010123455/21/11",
        "/01/10300010123452/21/110",
        "/00/403000112345678901",
    ]
    state = run.document["state"]
    assert (state["class"], state["holder"], state["destination"]) == ("in_transit", MAKER_GLN, DISTRIBUTOR_GLN)
    assert (state["since"], state["evidence"]) == (SHIPPED, "inferred")
    assert (state["lot"], state["expiry"], state["level"]) == (LOT, "2025-03-27", "pack")
    assert state["alerts"] == []


@pytest.mark.parametrize("spelling", [SCAN, "https://id.gs1.org/01/00300010123455/21/11", "(01)00300010123455(21)11"])
def test_pack_is_found_under_every_spelling(net: Net, example: dict[str, Any], spelling: str) -> None:
    assert (
        net.medtrail("trace", "pack", spelling, "--json").document["state"]["epc"].endswith("/01/00300010123455/21/11")
    )


def test_pack_is_told_in_words(net: Net, example: dict[str, Any]) -> None:
    run = net.medtrail("trace", "pack", PACK)
    assert run.code == 0
    for fact in (
        f"in transit from {MAKER_GLN} to {DISTRIBUTOR_GLN} since {SHIPPED} (inferred)",
        "lot A123, expiry 2025-03-27, maker 0300011111116",
        "2023-03-27T06:45:16Z  commissioning",
        "4 events, each signed and in the log",
    ):
        assert fact in run.out
    assert run.out.count("proven") == 4


def test_lot_of_packs_is_in_transit_and_none_on_hand(net: Net, example: dict[str, Any]) -> None:
    run = net.process("trace", "lot", PACK_GTIN, LOT, "--json")
    assert run.code == 0
    assert (run.document["level"], run.document["commissioned"]) == ("pack", 12)
    assert placed(run.document) == {"in_transit": 12}
    assert run.document["classes"]["on_hand"] == 0
    (group,) = run.document["groups"]
    assert (group["count"], group["holder"], group["destination"], group["since"], group["newest"]) == (
        12,
        MAKER_GLN,
        DISTRIBUTOR_GLN,
        SHIPPED,
        SHIPPED,
    )
    assert run.document["quantities"] == []


def test_lot_of_cases_is_three_cases_never_fifteen(net: Net, example: dict[str, Any]) -> None:
    run = net.medtrail("trace", "lot", CASE_GTIN, LOT, "--json")
    assert (run.document["level"], run.document["commissioned"]) == ("case", 3)
    assert placed(run.document) == {"in_transit": 3}
    words = net.medtrail("trace", "lot", CASE_GTIN, LOT).out
    assert "case, 3 units commissioned" in words
    assert f"3 in transit from {MAKER_GLN} to {DISTRIBUTOR_GLN} since {SHIPPED}" in words
    assert "15" not in words.replace("2023-04-01T", "")


def test_lot_lists_each_unit_once(net: Net, example: dict[str, Any]) -> None:
    run = net.medtrail("trace", "lot", PACK_GTIN, LOT, "--units", "--json")
    units = run.document["units"]
    assert {unit["epc"].rpartition("/")[2] for unit in units} == {str(serial) for serial in range(11, 23)}
    assert len(units) == 12
    words = net.medtrail("trace", "lot", PACK_GTIN, LOT, "--units").out
    assert f"12 in transit from {MAKER_GLN} to {DISTRIBUTOR_GLN} since {SHIPPED}" in words
    assert words.count("/01/00300010123455/21/") == 12
    assert "none: at maker, on hand," in words


def test_before_the_shipping_everything_was_at_the_maker(net: Net, example: dict[str, Any]) -> None:
    lot = net.medtrail("trace", "lot", PACK_GTIN, LOT, "--at", "2023-03-28", "--json").document
    assert placed(lot) == {"at_maker": 12}
    pack = net.medtrail("trace", "pack", PACK, "--at", "2023-03-28", "--json").document
    assert (pack["state"]["class"], pack["state"]["holder"]) == ("at_maker", MAKER_GLN)
    assert [event["biz_step"] for event in pack["events"]] == ["commissioning", "packing"]
    assert f"12 at maker, {MAKER_GLN}" in net.medtrail("trace", "lot", PACK_GTIN, LOT, "--at", "2023-03-28").out


def test_what_was_known_before_the_import_is_less(net: Net, example: dict[str, Any]) -> None:
    first = net.medtrail("trace", "pack", PACK, "--json").document["events"][0]["leaf_index"]
    run = net.medtrail("trace", "pack", PACK, "--known", str(first + 1), "--json")
    assert [event["biz_step"] for event in run.document["events"]] == ["commissioning"]
    assert run.document["state"]["class"] == "unaccounted"
    unknown = net.medtrail("trace", "pack", PACK, "--known", str(first), "--json")
    assert (unknown.code, unknown.error["code"]) == (1, "UNIT_UNKNOWN")
    future = net.medtrail("trace", "pack", PACK, "--known", "1000000", "--json")
    assert (future.code, future.error["code"], future.error["field"]) == (1, "TREE_SIZE_UNKNOWN", "known_tree_size")


def test_scan_within_the_expiry_is_genuine_for_the_consignee(net: Net, example: dict[str, Any]) -> None:
    run = net.medtrail("scan", SCAN, "--at", "2024-01-01", "--json", who=DISTRIBUTOR)
    assert run.code == 0
    assert (run.document["verdict"], run.document["action"]) == ("genuine", "accept")
    assert (run.document["lot"], run.document["expiry"]) == (LOT, "2025-03-27")
    assert run.document["judge_time"] == "2024-01-01T00:00:00Z"
    assert run.document["tree_size"] > 0
    words = net.medtrail("scan", SCAN, "--at", "2024-01-01", who=DISTRIBUTOR).out
    assert words.startswith("ACCEPT  genuine")
    assert "lot A123; expiry 2025-03-27" in words


def test_scan_without_a_moment_is_expired(net: Net, example: dict[str, Any]) -> None:
    run = net.process("scan", SCAN, "--json", who=DISTRIBUTOR)
    assert run.code == 1
    assert (run.document["verdict"], run.document["action"]) == ("expired", "reject")
    assert net.medtrail("scan", SCAN, who=DISTRIBUTOR).out.startswith("REJECT  expired")


@pytest.mark.parametrize("who", [MAKER, PHARMACY])
def test_scan_of_a_pack_that_should_be_elsewhere_is_held(net: Net, example: dict[str, Any], who: str) -> None:
    run = net.medtrail("scan", SCAN, "--at", "2024-01-01", "--json", who=who)
    assert (run.code, run.document["verdict"], run.document["action"]) == (1, "elsewhere", "hold")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (SCAN.replace("(21)11", "(21)NEVERMADE"), "unknown"),
        (SCAN.replace("A123", "B999"), "lot_mismatch"),
        (SCAN.replace("250327", "260327"), "expiry_mismatch"),
    ],
)
def test_scan_of_another_pack_than_was_made_is_refused(
    net: Net, example: dict[str, Any], text: str, verdict: str
) -> None:
    run = net.medtrail("scan", text, "--at", "2024-01-01", "--json", who=DISTRIBUTOR)
    assert run.code == 1
    assert verdict in {run.document["verdict"], *run.document["further"]}


# --- proofs to take away ---


@pytest.fixture(scope="module")
def proofs(net: Net, example: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The proofs of the example's pack, when the witness has seen all; each has its event beside it."""
    asyncio.run(until(lambda: settled(net)))
    folder = tmp_path_factory.mktemp("proofs") / "new"
    run = net.medtrail("trace", "pack", PACK, "--export", str(folder), "--json")
    found = sorted(folder.glob("*.tlog-proof"))
    assert run.code == 0
    assert len(found) == 4
    assert sorted(run.document["files"]) == sorted(str(path) for path in folder.iterdir())
    return found


def test_exported_proofs_hold_offline(net: Net, proofs: list[Path]) -> None:
    (key,) = net.running.verifier_keys
    for proof in proofs:
        demanded = ("--key", key, "--policy", net.running.policy)
        run = run_process("verify", str(proof), "--event", str(proof.with_suffix(".event")), *demanded)
        assert run.code == 0, run.errors
        assert run.out.startswith("proven")
        assert MAKER_GLN in run.out
        assert "seen by the policy's witnesses: " in run.out


def test_verification_tells_what_it_proved(net: Net, proofs: list[Path], tmp_path: Path) -> None:
    key = tmp_path / "log.vkey"
    key.write_text(net.running.verifier_keys[0] + "\n", encoding="utf-8")
    run = run_command(
        "verify", str(proofs[0]), "--event", str(proofs[0].with_suffix(".event")), "--key", str(key), "--json"
    )
    assert run.code == 0
    assert run.document["verified"] is True
    assert run.document["actor"] == MAKER_GLN
    assert run.document["origin"] == net.running.origin
    assert run.document["summary"].startswith("commissioning of 12 units at 2023-03-27T06:45:16Z")


@pytest.mark.parametrize("part", ["event", "tlog-proof"])
def test_refuses_proof_after_one_changed_byte(net: Net, proofs: list[Path], tmp_path: Path, part: str) -> None:
    files = {"event": proofs[0].with_suffix(".event"), "tlog-proof": proofs[0]}
    data = bytearray(files[part].read_bytes())
    # A digit of the proof's hashes or signature, so that it stays readable; any bit of the event.
    place = len(data) // 2
    data[place] = data[place] ^ 1 if part == "event" else ord("A") if data[place] != ord("A") else ord("B")
    files[part] = tmp_path / f"changed.{part}"
    files[part].write_bytes(data)
    arguments = ("verify", str(files["tlog-proof"]), "--event", str(files["event"]), "--key")
    run = run_command(*arguments, net.running.verifier_keys[0], "--json")
    assert run.code == 1
    assert run.out == ""
    assert run.error["code"]


def test_refuses_proof_under_another_logs_key(net: Net, proofs: list[Path]) -> None:
    name, key_id, key = net.running.verifier_keys[0].split("+", 2)
    other = f"{name}+{key_id}+{key[:-4]}AAAA"
    run = run_command(
        "verify", str(proofs[0]), "--event", str(proofs[0].with_suffix(".event")), "--key", other, "--json"
    )
    assert run.code == 2, "the key's name does not answer its content"


def test_proof_of_any_event_is_fetched_on_demand_by_index_id_or_hash(
    net: Net, proofs: list[Path], tmp_path: Path
) -> None:
    index = proofs[0].stem
    told = net.medtrail("proof", index, "--json").document
    assert (told["leaf_index"], told["quorum_met"], len(told["witnesses"])) == (int(index), True, 1)
    for name in (told["event_id"], told["signed_event_sha256"]):
        out, event = tmp_path / "one.tlog-proof", tmp_path / "one.event"
        run = net.medtrail("proof", name, "--out", str(out), "--event-out", str(event))
        assert run.code == 0, run.errors
        assert run.out.startswith("proven")
        assert event.read_bytes() == proofs[0].with_suffix(".event").read_bytes()
        demanded = ("--key", net.running.verifier_keys[0], "--policy", net.running.policy)
        assert run_command("verify", str(out), "--event", str(event), *demanded).code == 0
    assert net.medtrail("proof", index).out.startswith("c2sp.org/tlog-proof@v1\n")
    assert (
        net.medtrail("proof", "urn:uuid:00000000-0000-4000-8000-000000000000", "--json").error["code"]
        == "EVENT_UNKNOWN"
    )


async def settled(net: Net) -> bool:
    """Tell whether nothing of the maker's waits, nobody is behind, and the newest checkpoint is witnessed."""
    told = (await asyncio.to_thread(net.medtrail, "status", "--json", who=MAKER)).document
    waiting = [part["count"] for part in told["service"].values() if isinstance(part, dict)]
    behind = [each["lag"] for each in told["ledger"]["followers"]]
    witnessed = told["service"]["witnessed_size"] == told["ledger"]["published_size"]
    return waiting == [0] * 4 and behind == [0] * 4 and witnessed and told["alarms"] == []


def test_status_tells_that_nothing_waits_and_nobody_is_behind(net: Net, example: dict[str, Any]) -> None:
    asyncio.run(until(lambda: settled(net)))
    run = net.medtrail("status", who=MAKER)
    assert (run.code, run.out.split("\n")[0]) == (0, "all is well")


# --- what cannot be answered ---


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("trace", "pack", "urn:epc:id:sgtin:030001.0012345.9911"), (1, "UNIT_UNKNOWN", "epc")),
        (("trace", "pack", "nothing that is known"), (1, "UNIT_UNKNOWN", "epc")),
        (("trace", "pack", "(01)00300010123456(21)11"), (2, "CHECK_DIGIT_WRONG", "epc")),
        (("trace", "pack", PACK, "--at", "yesterday"), (2, "TIME_MALFORMED", "--at")),
        (("trace", "lot", PACK_GTIN, "NEVERMADE"), (1, "LOT_UNKNOWN", "lot")),
        (("trace", "lot", "00300010999999", LOT), (1, "LOT_UNKNOWN", "lot")),
        (("trace", "lot", "00300010123456", LOT), (2, "CHECK_DIGIT_WRONG", "gtin")),
        (("--as", "nobody", "trace", "lot", PACK_GTIN, LOT), (2, "ORGANISATION_UNKNOWN", "--as")),
    ],
)
def test_refuses_question_with_stable_code_and_field(
    net: Net, example: dict[str, Any], arguments: tuple[str, ...], expected: tuple[int, str, str]
) -> None:
    code, reason, field = expected
    run = net.medtrail(*arguments, "--json")
    assert (run.code, run.out) == (code, "")
    assert (run.error["code"], run.error["field"]) == (reason, field)
    words = net.medtrail(*arguments)
    assert (words.code, words.out) == (code, "")
    assert words.errors.startswith(f"{reason} {field}: ")
    assert words.errors.count("\n") == 1


def test_asks_where_no_network_runs_and_says_what_to_do(tmp_path: Path) -> None:
    run = run_command("--dir", str(tmp_path), "trace", "lot", PACK_GTIN, LOT)
    assert run.code == 3
    assert "NETWORK_DOWN" in run.errors
    assert f"medtrail --dir {tmp_path} up" in run.errors


def test_second_network_of_the_folder_is_refused_and_harms_nothing(net: Net) -> None:
    pids = net.pids()
    run = net.process("up", "--json")
    assert (run.code, run.out) == (1, "")
    assert "NETWORK_RUNNING" in run.errors
    assert net.pids() == pids


# --- the ledger's word, over gRPC ---


def verifiers(net: Net) -> list[NoteVerifier]:
    return [parse_vkey(key) for key in net.running.verifier_keys]


def open_note(net: Net, note: bytes) -> Checkpoint:
    return open_checkpoint(note, origin=net.running.origin, verifiers=verifiers(net)).checkpoint


def as_proven(answer: ledger_pb2.GetInclusionProofResponse) -> ledger_pb2.ProvenEvent:
    return ledger_pb2.ProvenEvent(
        leaf_index=answer.leaf_index,
        signed_event=answer.signed_event,
        key_list_sha256=answer.key_list_sha256,
        inclusion_proof=answer.inclusion_proof,
    )


def leaf_hashes(url: str, size: int) -> list[bytes]:
    """The hashes of a log's leaves, from its public entries."""
    return [
        hash_leaf(entry)
        for bundle in new_entry_bundles(0, size)
        for entry in decode_entry_bundle(
            httpx.get(f"{url}/{bundle.path}", timeout=PATIENCE_S).raise_for_status().content
        )
    ]


def prove_all(session: Session, answer: ledger_pb2.ListEventsResponse) -> tuple[Checkpoint, list[ProvenStep]]:
    checkpoint = session.open_checkpoint(answer.checkpoint).checkpoint
    return checkpoint, [prove(item, checkpoint) for item in answer.events]


def test_every_event_has_an_inclusion_proof_by_index_id_and_hash(net: Net, example: dict[str, Any]) -> None:
    async def run() -> None:
        async with net.session(PHARMACY) as session:
            for event_id in example["event_ids"]:
                by_id = await session.ledger.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(event_id=event_id))
                checkpoint = session.open_checkpoint(by_id.checkpoint).checkpoint
                step = prove(as_proven(by_id), checkpoint)
                assert step.event.header.event_id == event_id
                by_index = await session.ledger.GetInclusionProof(
                    ledger_pb2.GetInclusionProofRequest(leaf_index=by_id.leaf_index)
                )
                assert by_index.signed_event == by_id.signed_event
                proof = parse_proof(by_id.tlog_proof)
                assert proof.extra == by_id.key_list_sha256
                digest = sha256(by_id.signed_event).digest()
                entry = log_entry(digest, by_id.key_list_sha256)
                opened = verify_proof(proof, entry=entry, origin=net.running.origin, verifiers=verifiers(net))
                assert opened.checkpoint == checkpoint
                by_hash = await session.ledger.GetInclusionProof(
                    ledger_pb2.GetInclusionProofRequest(signed_event_sha256=digest)
                )
                assert by_hash.leaf_index == by_id.leaf_index

    asyncio.run(run())


def test_proof_of_one_event_does_not_prove_another(net: Net, example: dict[str, Any]) -> None:
    async def run() -> None:
        async with net.session(MAKER) as session:
            first, second = [
                await session.ledger.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(event_id=event_id))
                for event_id in example["event_ids"][:2]
            ]
            checkpoint = session.open_checkpoint(second.checkpoint).checkpoint
            mixed = as_proven(second)
            mixed.signed_event = first.signed_event
            with pytest.raises(VerificationError):
                prove(mixed, checkpoint)

    asyncio.run(run())


@pytest.mark.parametrize(
    "request_",
    [
        ledger_pb2.GetInclusionProofRequest(event_id="ni:///sha-256;00?ver=CBV2.0"),
        ledger_pb2.GetInclusionProofRequest(leaf_index=10**9),
        ledger_pb2.GetInclusionProofRequest(signed_event_sha256=bytes(32)),
    ],
    ids=["event_id", "leaf_index", "signed_event_sha256"],
)
def test_asks_proof_of_what_is_not_in_the_log(
    net: Net, example: dict[str, Any], request_: ledger_pb2.GetInclusionProofRequest
) -> None:
    async def run() -> None:
        async with net.session(MAKER) as session:
            with pytest.raises(NotFoundError):
                await session.ledger.GetInclusionProof(request_)

    asyncio.run(run())


def test_every_older_tree_is_a_prefix_of_the_newest(net: Net, example: dict[str, Any]) -> None:
    async def run() -> None:
        async with net.session(MAKER) as session:
            url = net.running.log_url
            answer = await session.ledger.GetCheckpoint(ledger_pb2.GetCheckpointRequest())
            newest = session.open_checkpoint(answer.checkpoint).checkpoint
            # Each root follows from the one before.
            older = CompactRange()
            for size, leaf in enumerate(leaf_hashes(url, newest.size), 1):
                older = older.append(leaf)
                found = await session.ledger.GetConsistencyProof(
                    ledger_pb2.GetConsistencyProofRequest(old_size=size, new_size=newest.size)
                )
                verify_consistency(
                    found.consistency_proof,
                    size1=size,
                    size2=newest.size,
                    root1=older.root(),
                    root2=newest.root_hash,
                )
            with pytest.raises(MedtrailError):
                await session.ledger.GetConsistencyProof(
                    ledger_pb2.GetConsistencyProofRequest(old_size=newest.size + 10**6)
                )

    asyncio.run(run())


def test_events_are_listed_by_unit_actor_step_and_type(net: Net, example: dict[str, Any]) -> None:
    async def run() -> None:
        async with net.session(MAKER) as session:

            async def listed(**wanted: Any) -> list[ProvenStep]:
                answer = await session.ledger.ListEvents(ledger_pb2.ListEventsRequest(page_size=500, **wanted))
                return prove_all(session, answer)[1]

            everything = await listed()
            assert [step.leaf_index for step in everything] == list(range(len(everything)))
            of_pack = await listed(epc=PACK)
            assert [step.event.header.event_id for step in of_pack] == [
                example["event_ids"][0],
                example["event_ids"][2],
            ]
            steps = await listed(actor=MAKER_GLN, biz_step="packing")
            assert {step.event.header.event_id for step in steps} >= {example["event_ids"][i] for i in (2, 3, 4, 6)}
            assert all(
                isinstance(step.event.statement, EpcisEvent) and step.event.statement.biz_step == "packing"
                for step in steps
            )
            assert await listed(actor="9521005000013", biz_step="packing") == []
            trust = await listed(payload_types=[PayloadType.TRUST.value])
            assert isinstance(trust[0].event.statement, Genesis)
            assert len([step for step in trust if isinstance(step.event.statement, Enrolment)]) == 8
            products = await listed(payload_types=[PayloadType.PRODUCT.value])
            gtins = {str(step.event.statement.gtin) for step in products if isinstance(step.event.statement, Product)}
            assert {PACK_GTIN, CASE_GTIN} <= gtins
            tail = await listed(start_index=len(everything) - 2)
            assert [step.leaf_index for step in tail][:2] == [len(everything) - 2, len(everything) - 1]

    asyncio.run(run())


def test_pages_of_events_join_without_gap_or_overlap(net: Net, example: dict[str, Any]) -> None:
    async def run() -> None:
        async with net.session(DISTRIBUTOR) as session:
            request = ledger_pb2.ListEventsRequest(actor=MAKER_GLN, page_size=3)
            indices: list[int] = []
            sizes: list[int] = []
            while True:
                answer = await session.ledger.ListEvents(request)
                indices += [step.leaf_index for step in prove_all(session, answer)[1]]
                sizes.append(len(answer.events))
                if not answer.next_page_token:
                    break
                request.page_token = answer.next_page_token
            assert set(sizes[:-1]) == {3}
            assert indices == sorted(set(indices))
            whole = await session.ledger.ListEvents(ledger_pb2.ListEventsRequest(actor=MAKER_GLN, page_size=500))
            # Other stories of this network may have made more events than one answer holds.
            in_one = [item.leaf_index for item in whole.events]
            common = min(len(in_one), len(indices))
            assert common > 3
            assert in_one[:common] == indices[:common]

    asyncio.run(run())


# --- the log, over HTTP ---


def test_log_is_rebuilt_from_its_public_files(net: Net, example: dict[str, Any]) -> None:
    url = net.running.log_url
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
        answer = http.get("/checkpoint")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "immutable" not in answer.headers["cache-control"]
        checkpoint = open_note(net, answer.content)

        def read_tile(tile: Tile) -> bytes:
            found = http.get("/" + tile.path)
            assert found.status_code == 200
            assert "immutable" in found.headers["cache-control"]
            assert found.headers["content-type"] == "application/octet-stream"
            return found.content

        assert read_edge(read_tile, tree_size=checkpoint.size).compact_range().root() == checkpoint.root_hash
        leaves = leaf_hashes(net.running.log_url, checkpoint.size)
        assert len(leaves) == checkpoint.size
        reader = TileHashReader(read_tile, tree_size=checkpoint.size, root_hash=checkpoint.root_hash)
        for index, leaf in enumerate(leaves):
            verify_inclusion(
                inclusion_proof(reader, leaf_index=index, tree_size=checkpoint.size),
                leaf_hash=leaf,
                leaf_index=index,
                tree_size=checkpoint.size,
                root_hash=checkpoint.root_hash,
            )


@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/x999/999",
        "/tile/9/000",
        "/tile/entries/x001/000",
        "/ledger.db",
        "/%2e%2e/ledger.db",
        "/tile/../../ledger.db",
    ],
)
def test_serves_nothing_but_the_log(net: Net, path: str) -> None:
    answer = httpx.get(net.running.log_url + path, timeout=PATIENCE_S)
    assert answer.status_code == 404
    assert "immutable" not in answer.headers.get("cache-control", "")


# --- receipt: from here on the goods are at the distributor ---


@pytest.fixture(scope="module")
def received(net: Net, example: dict[str, Any]) -> custody_pb2.ReceiveResponse:
    """The answer to the receipt of the pallet by its SSCC, once the ledger believes it."""

    async def run() -> custody_pb2.ReceiveResponse:
        async with net.session(DISTRIBUTOR) as session:
            found: list[custody_pb2.InboundShipment] = []

            async def confirmed() -> bool:
                inbound = (await session.custody.ListInbound(custody_pb2.ListInboundRequest())).shipments
                found[:] = [item for item in inbound if item.despatch_event_id == example["event_ids"][-1]]
                return bool(found) and not found[0].provisional

            await until(confirmed)
            (shipment,) = found
            assert (shipment.sender, shipment.unit_count, shipment.received_count) == (MAKER_GLN, 12, 0)
            answer = await session.custody.Receive(
                custody_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=["(00)403000112345678901"])
            )
            await believed(session, answer.events[-1].event_id)
            return answer

    return asyncio.run(run())


def test_pallet_received_by_its_sscc_brings_all_that_is_inside(
    net: Net, example: dict[str, Any], received: custody_pb2.ReceiveResponse
) -> None:
    assert received.unit_count == 12
    assert (list(received.unadvised_epcs), list(received.missing_epcs)) == ([], [])

    async def run() -> None:
        async with net.session(DISTRIBUTOR) as session:
            found = await session.custody.ListHoldings(
                custody_pb2.ListHoldingsRequest(
                    gtin=PACK_GTIN, lot=LOT, state=custody_pb2.HOLDING_STATE_ON_HAND, page_size=5
                )
            )
            assert (found.total_count, len(found.holdings)) == (12, 5)
            inbound = await session.custody.ListInbound(custody_pb2.ListInboundRequest(include_received=True))
            # Other stories of this network have shipments of their own.
            despatch = example["event_ids"][-1]
            assert [item.received_count for item in inbound.shipments if item.despatch_event_id == despatch] == [12]

    asyncio.run(run())


def test_lot_is_on_hand_at_the_distributor_by_inference(net: Net, received: custody_pb2.ReceiveResponse) -> None:
    lot = net.medtrail("trace", "lot", PACK_GTIN, LOT, "--json").document
    assert placed(lot) == {"on_hand": 12}
    (group,) = lot["groups"]
    assert (group["count"], group["holder"], group["destination"], group["evidence"]) == (
        12,
        DISTRIBUTOR_GLN,
        None,
        "inferred",
    )
    assert placed(net.medtrail("trace", "lot", CASE_GTIN, LOT, "--json").document) == {"on_hand": 3}
    words = net.medtrail("trace", "lot", PACK_GTIN, LOT).out
    assert f"12 last known with {DISTRIBUTOR_GLN}" in words
    assert "none: at maker, in transit," in words


def test_receipt_is_in_the_packs_history_by_way_of_the_pallet(net: Net, received: custody_pb2.ReceiveResponse) -> None:
    document = net.medtrail("trace", "pack", PACK, "--json").document
    last = document["events"][-1]
    assert (last["biz_step"], last["actor"], last["proven"]) == ("receiving", DISTRIBUTOR_GLN, True)
    assert last["via"].endswith("/00/403000112345678901")
    assert (document["state"]["class"], document["state"]["holder"]) == ("on_hand", DISTRIBUTOR_GLN)


def test_receipt_changes_nothing_of_what_was_true_before(net: Net, received: custody_pb2.ReceiveResponse) -> None:
    then = net.medtrail("trace", "lot", PACK_GTIN, LOT, "--at", "2023-04-02", "--json").document
    assert placed(then) == {"in_transit": 12}


def test_second_receipt_is_refused(net: Net, received: custody_pb2.ReceiveResponse) -> None:
    async def run() -> None:
        async with net.session(DISTRIBUTOR) as session:
            with pytest.raises(MedtrailError) as caught:
                await session.custody.Receive(
                    custody_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=["(00)403000112345678901"])
                )
            assert caught.value.code == "ALREADY_RECEIVED"

    asyncio.run(run())


def test_watch_sends_each_checkpoint_and_each_extends_the_last(net: Net, received: custody_pb2.ReceiveResponse) -> None:
    async def run() -> None:
        async with net.session(DISTRIBUTOR) as session:
            watch = session.ledger.WatchCheckpoints(ledger_pb2.WatchCheckpointsRequest())
            seen: list[Checkpoint] = []
            async for answer in watch:
                seen.append(session.open_checkpoint(answer.checkpoint).checkpoint)
                if len(seen) == 3:
                    break
                await hold_and_release(session)
            for old, new in pairwise(seen):
                assert old.size < new.size
                found = await session.ledger.GetConsistencyProof(
                    ledger_pb2.GetConsistencyProofRequest(old_size=old.size, new_size=new.size)
                )
                verify_consistency(
                    found.consistency_proof, size1=old.size, size2=new.size, root1=old.root_hash, root2=new.root_hash
                )

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


async def hold_and_release(session: Session) -> None:
    """Say something new of the pallet that changes nothing."""
    epcs = ["(00)403000112345678901"]
    await session.custody.Hold(custody_pb2.HoldRequest(request_id=str(uuid.uuid4()), epcs=epcs, reason="stock check"))
    await session.custody.Release(
        custody_pb2.ReleaseRequest(request_id=str(uuid.uuid4()), epcs=epcs, reason="stock check")
    )
