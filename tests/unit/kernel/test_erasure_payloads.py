"""Erasure statements as bytes: equal to known answers that another hand made."""

import json
from pathlib import Path

import pytest

from medtrail.codec import decode_payload, encode_payload
from medtrail.event import ErasureConsent, ErasureOrder, Event, Header, PayloadType
from medtrail.gs1 import Gln

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "erasure.json").read_text())


@pytest.mark.parametrize(("name", "kind"), [("order", ErasureOrder), ("consent", ErasureConsent)])
def test_erasure_statement_has_the_known_bytes(name: str, kind: type[ErasureOrder | ErasureConsent]) -> None:
    vector = VECTORS[name]
    header = Header(bytes.fromhex(VECTORS["salt"]), Gln(vector["actor"]), "main", 7, vector["event_id"])
    event = Event(header, kind(bytes.fromhex(VECTORS["signed_event_sha256"]), vector["reason"]))
    payload = bytes.fromhex(vector["payload"])

    assert encode_payload(event) == payload
    assert decode_payload(PayloadType.ERASURE, payload) == event
    assert event.payload_type == "application/vnd.medtrail.erasure.v1+protobuf"
