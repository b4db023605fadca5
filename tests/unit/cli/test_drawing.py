"""Answers of a ledger, drawn for people and told to machines; their proofs are checked before."""

import hashlib
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from medtrail import codec
from medtrail.api.event.v1 import payload_pb2, verdict_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.checkpoint import Checkpoint
from medtrail.cli import trace, up
from medtrail.cli.network import OrganisationAddress, RunningNetwork
from medtrail.cli.scan import draw_verdict
from medtrail.codec import to_timestamp
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.errors import RootMismatchError, SignatureError, VerificationError
from medtrail.event import Event, Genesis, Header
from medtrail.gs1 import Gln
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf

MOMENT = datetime(2026, 5, 4, 10, tzinfo=UTC)
LATER = datetime(2026, 5, 5, 10, tzinfo=UTC)
MAKER = Gln("0300011111116")
KEY = SigningKey.from_seed(bytes(32))
PACK = "https://id.gs1.org/01/00300010123455/21/[/]1"
STATEMENT = EpcisEvent(
    EventType.OBJECT, MOMENT, "+00:00", action=Action.OBSERVE, epc_list=(PACK,), biz_step="https://example.org/[/]step"
)
EVENT = Event(Header(bytes(32), MAKER, "line-1", 1, "urn:uuid:1"), STATEMENT)
TRUST = Event(EVENT.header, Genesis("log.example", "did:key:z", bytes(32)))


def _console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=180, highlight=False, emoji=False), out


def _proven() -> tuple[ledger_pb2.ProvenEvent, Checkpoint]:
    """An event alone in its log, as the ledger answers it."""
    signed = codec.encode_signed_event(sign(EVENT.payload_type, codec.encode_payload(EVENT), KEY))
    item = ledger_pb2.ProvenEvent(
        leaf_index=0, signed_event=signed, key_list_sha256=bytes(32), via=PACK, log_time=to_timestamp(MOMENT)
    )
    return item, _only(signed)


def _only(signed: bytes) -> Checkpoint:
    return Checkpoint("log.example", 1, hash_leaf(log_entry(hashlib.sha256(signed).digest(), bytes(32))))


def test_event_of_a_history_is_proven() -> None:
    step = trace.prove(*_proven())
    assert (step.leaf_index, step.key_id, step.via, step.log_time) == (0, KEY.key_id, PACK, MOMENT)
    assert step.event == EVENT
    assert not step.disbelieved


def test_refuses_a_history_with_an_event_that_is_not_in_the_log() -> None:
    item, checkpoint = _proven()
    with pytest.raises(RootMismatchError):
        trace.prove(item, replace(checkpoint, root_hash=bytes(32)))
    item.leaf_index = 1
    with pytest.raises(VerificationError):
        trace.prove(item, checkpoint)


def test_refuses_a_history_with_an_event_that_nobody_signed() -> None:
    good = sign(EVENT.payload_type, codec.encode_payload(EVENT), KEY)
    bad = replace(good, signatures=(replace(good.signatures[0], signature=bytes(64)),))
    signed = codec.encode_signed_event(bad)
    item = ledger_pb2.ProvenEvent(signed_event=signed, key_list_sha256=bytes(32))
    with pytest.raises(SignatureError):
        trace.prove(item, _only(signed))


def test_history_is_drawn_with_every_proof_and_alert() -> None:
    state = ledger_pb2.UnitState(
        epc=PACK,
        unit_class=ledger_pb2.UNIT_CLASS_IN_TRANSIT,
        level=payload_pb2.PACK_LEVEL_PACK,
        holder=str(MAKER),
        destination="9521002000016",
        since_time=to_timestamp(MOMENT),
        lot="A",
        alerts=[ledger_pb2.Alert(code="TWO_PLACES", message="seen at [/] twice")],
    )
    steps = (
        trace.prove(*_proven()),
        trace.ProvenStep(1, TRUST, KEY.key_id, "", None, disbelieved=True),
    )
    console, out = _console()
    trace._draw_pack(console, trace.PackTrace(state, steps, Checkpoint("log.example", 2, bytes(32))), ["out/0.event"])
    lines = out.getvalue().splitlines()
    assert lines[0] == "/01/00300010123455/21/[/]1  pack"
    assert "in transit from 0300011111116 to 9521002000016 since 2026-05-04T10:00:00Z" in lines[1]
    assert lines[2] == "  lot A"
    assert lines[3] == "  TWO_PLACES seen at [/] twice"
    assert "https://example.org/[/]step" in lines[5]
    assert "proven" in lines[5]
    assert "disbelieved" in lines[6]
    assert lines[-2].startswith("2 events, each signed and in the log of 2 entries")
    assert lines[-1] == "1 files written to out"


@pytest.mark.parametrize(
    ("biz_step", "words"),
    [
        ("receiving", f"received by {MAKER}, not seen since 2026-05-04T10:00:00Z"),
        ("storing", f"last known with {MAKER} since 2026-05-05T10:00:00Z"),
    ],
)
def test_nothing_is_on_hand_for_certain_in_a_trace(biz_step: str, words: str) -> None:
    state = ledger_pb2.UnitState(
        epc=PACK, unit_class=ledger_pb2.UNIT_CLASS_ON_HAND, holder=str(MAKER), since_time=to_timestamp(LATER)
    )
    step = trace.prove(*_proven())
    told = replace(step, event=replace(step.event, statement=replace(STATEMENT, biz_step=biz_step)))
    disbelieved = replace(step, disbelieved=True)
    console, out = _console()
    trace._draw_pack(console, trace.PackTrace(state, (told, disbelieved), Checkpoint("log.example", 2, bytes(32))), [])
    assert out.getvalue().splitlines()[1] == f"  {words} (unspecified)"


def test_step_is_told_to_machines() -> None:
    document = trace._step_document(trace.prove(*_proven()))
    assert document["biz_step"] == STATEMENT.biz_step
    assert (document["action"], document["event_time"], document["log_time"]) == (
        "OBSERVE",
        "2026-05-04T10:00:00Z",
        "2026-05-04T10:00:00Z",
    )
    trust = trace._step_document(trace.ProvenStep(1, TRUST, KEY.key_id, "", None, disbelieved=True))
    absent = ("action", "biz_step", "event_time", "log_time", "via")
    assert {name: trust[name] for name in absent} == dict.fromkeys(absent)
    assert trust["disbelieved"]


def _lot(*, units: int) -> trace.LotTrace:
    answer = ledger_pb2.TraceLotResponse(
        level=payload_pb2.PACK_LEVEL_PACK,
        commissioned_count=units,
        recall_ids=["urn:uuid:[/]"],
        groups=[
            ledger_pb2.LotGroup(
                unit_class=ledger_pb2.UNIT_CLASS_ON_HAND,
                unit_count=units,
                holder=str(MAKER),
                oldest_time=to_timestamp(MOMENT),
                newest_time=to_timestamp(LATER),
            )
        ],
        quantities=[ledger_pb2.LotQuantity(unit_class=ledger_pb2.UNIT_CLASS_CONSUMED, quantity="2.5", uom="KGM")],
    )
    found = (ledger_pb2.UnitState(epc=PACK, unit_class=ledger_pb2.UNIT_CLASS_ON_HAND, holder=str(MAKER)),)
    return trace.LotTrace(answer, found, Checkpoint("log.example", 9, bytes(32)))


@pytest.mark.parametrize(("units", "words"), [(1, "1 unit commissioned"), (3, "3 units commissioned")])
def test_lot_is_drawn_with_its_empty_classes(units: int, words: str) -> None:
    console, out = _console()
    trace.draw_lot(console, "00300010123455", "A[/]", _lot(units=units))
    lines = out.getvalue().splitlines()
    assert lines[0] == f"GTIN 00300010123455, lot A[/]  pack, {words}"
    assert lines[1] == "  recalled by urn:uuid:[/]"
    when = "since 2026-05-04T10:00:00Z to 2026-05-05T10:00:00Z"
    assert lines[2].strip() == f"{units} last known with {MAKER} {when} (unspecified)"
    assert lines[3].split()[:3] == ["2.5", "KGM", "consumed"]
    assert "none: at maker, in transit" in lines[4]
    assert "on hand" not in lines[4]
    assert lines[5] == f"  /01/00300010123455/21/[/]1  last known with {MAKER}"
    assert lines[6] == "complete up to entry 9 of log.example"


def test_lot_tells_what_the_class_does_not_say() -> None:
    found = _lot(units=3)
    for state, count in ((ledger_pb2.CUSTODY_STATE_HELD, 3), (ledger_pb2.CUSTODY_STATE_ON_HOLD, 2)):
        found.answer.groups[0].custody_states.add(custody_state=state, unit_count=count)
    console, out = _console()
    trace.draw_lot(console, "00300010123455", "A", found)
    assert out.getvalue().splitlines()[3].split() == ["2", "of", "them", "on", "hold"]
    assert trace.lot_document("00300010123455", "A", found)["groups"][0]["states"] == {"held": 3, "on_hold": 2}


def test_lot_is_told_to_machines_with_every_class() -> None:
    document = trace.lot_document("00300010123455", "A", _lot(units=3))
    assert document["classes"]["on_hand"] == 3
    assert sum(document["classes"].values()) == 3
    assert len(document["classes"]) == len(ledger_pb2.UnitClass.values()) - 1
    assert document["groups"][0]["since"] == "2026-05-04T10:00:00Z"
    assert document["quantities"][0]["quantity"] == "2.5"
    assert document["units"][0]["epc"] == PACK


def test_verdict_is_drawn_with_what_to_do_first() -> None:
    console, out = _console()
    draw_verdict(
        console,
        verdict_pb2.Verdict(
            code=verdict_pb2.VERDICT_CODE_RECALLED,
            action=verdict_pb2.VERDICT_ACTION_HOLD,
            message="put it aside [/]",
            epc=PACK,
            lot="A",
            recall_ids=["r1", "r2"],
            provisional=True,
        ),
    )
    assert out.getvalue().splitlines() == [
        "HOLD  recalled",
        "  put it aside [/]",
        f"  {PACK}",
        "  lot A; recalls r1, r2; provisional: data are missing or not confirmed; judged without the ledger",
    ]


def test_running_network_is_drawn_with_its_addresses() -> None:
    console, out = _console()
    network = RunningNetwork(
        origin="log.example",
        ledger_address="127.0.0.1:1",
        ledger_gln="9521000000025",
        nats_url="nats://127.0.0.1:2",
        log_url="http://127.0.0.1:3",
        verifier_keys=("log.example+00000000+AAAA",),
        policy="/net/policy.txt",
        authority_key_id="did:key:z",
        ca_certificate="/x/ca.crt",
        organisations=(OrganisationAddress("maker", "Maker", "manufacturer", str(MAKER), "127.0.0.1:4", "/x"),),
        pids={},
    )
    up._draw(console, Path("net"), network)
    drawn = out.getvalue()
    for text in ("127.0.0.1:1", "nats://127.0.0.1:2", "http://127.0.0.1:3/checkpoint", "127.0.0.1:4", "AAAA"):
        assert text in drawn
