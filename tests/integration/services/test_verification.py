"""Verification requests end to end: requester, HTTP, portal, the maker's service, the ledger; and the records."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import text

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.distributor.v1 import distributor_pb2
from medtrail.api.event.v1 import verdict_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.api.verification.v1 import verification_pb2, verification_pb2_grpc
from medtrail.codec import decode_payload, decode_signed_event, encode_batch, epcis_to_message
from medtrail.epcis.model import Action, EpcisEvent, EventType, SourceDest
from medtrail.errors import MalformedError, MedtrailError, NotFoundError, UnavailableError
from medtrail.event import (
    Capture,
    Enrolment,
    Event,
    Header,
    Licence,
    Recall,
    RecallScope,
    new_event_id,
    new_salt,
)
from medtrail.gs1 import Gtin
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.files import write_secret
from medtrail.runtime.portal_tokens import Scope, new_token, token_line
from medtrail.runtime.settings import PortalSettings
from medtrail.subjects import events_subject
from services.custody.desk import signed_bytes
from services.portal.bootstrap import running
from services.verification.arrangements import read_arrangements
from services.verification.requester import Requester
from tests.integration.services.conftest import GTIN, free_port, request_id
from tests.integration.services.test_fmd import commission, days_ago, recall, settled, stock
from tests.integration.services.test_story import advised, pack, scan_of

if TYPE_CHECKING:
    from tests.integration.services.conftest import Client, Play, World

RETURN = "dscsaSaleableReturn"
NOW = datetime.now(UTC)
DISTRIBUTOR = "0399999999991"
STRANGER = "9521005000013"


@dataclass
class Portal:
    """A maker's portal, and a client of it with a token for everything."""

    url: str
    tokens: dict[str, str]
    http: httpx.AsyncClient

    async def verify(
        self,
        serial: str,
        *,
        lot: str = "A123",
        exp: str = "280331",
        gtin: str = GTIN,
        token: str = "vrs",  # noqa: S107 - its name
        corr: str | None = None,
        **query: str,
    ) -> httpx.Response:
        asked = {"linkType": "verificationService", "context": RETURN, "corrUUID": corr or str(uuid.uuid4()), **query}
        path = f"/verify/gtin/{gtin}/lot/{lot}/ser/{serial}"
        headers = {"Authorization": f"Bearer {self.tokens[token]}"} if token else {}
        return await self.http.get(self.url + path, params={"exp": exp, **asked}, headers=headers)

    async def fmd(self, verb: str, body: Mapping[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens['vrs']}"}
        return await self.http.post(f"{self.url}/fmd/{verb}", json=dict(body), headers=headers)


@asynccontextmanager
async def portal_of(client: "Client", folder: Path, *, per_second: float = 1000) -> AsyncIterator[Portal]:
    """Run an organisation's portal."""
    tokens: dict[str, str] = {}
    lines = []
    for name, scopes in (("vrs", {Scope.VERIFY, Scope.CAPTURE}), ("reader", {Scope.QUERY})):
        tokens[name], record = new_token(name, frozenset(scopes), created=NOW)
        lines.append(token_line(record))
    tokens["forged"] = tokens["vrs"][:-1] + ("A" if tokens["vrs"][-1] != "A" else "B")
    write_secret(folder / "tokens", "\n".join(lines).encode())
    settings = PortalSettings(
        org_dir=client.premises.folder.path,
        data_dir=folder,
        service_address=client.address,  # type: ignore[attr-defined]
        token_file=folder / "tokens",
        verifications_per_s=per_second,
    )
    async with running(settings) as (_, url), httpx.AsyncClient(trust_env=False, timeout=60) as http:
        yield Portal(url, tokens, http)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def verification_file(folder: Path, content: str) -> Path:
    path = folder / "verification.toml"
    path.write_text(content, encoding="utf-8")
    return path


def told(answer: httpx.Response) -> tuple[bool, str | None, str | None]:
    """Check what every 200 has, and return its data."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "private, no-cache"
    body = answer.json()
    assert set(body) == {"verificationTimestamp", "responderGLN", "corrUUID", "data"}
    assert datetime.fromisoformat(body["verificationTimestamp"]).tzinfo is not None
    data = body["data"]
    return data["verified"], data.get("verificationFailureReason"), data.get("additionalInfo")


def refused(answer: httpx.Response, status: int) -> None:
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers["cache-control"] == "private, no-cache"


async def records(client: "Client") -> list[verification_pb2.VerificationRecord]:
    stub = verification_pb2_grpc.VerificationServiceStub(client.channel)
    found: list[verification_pb2.VerificationRecord] = []
    token = ""
    while True:
        request = verification_pb2.ListVerificationsRequest(page_size=7, page_token=token)
        answer = await stub.ListVerifications(request)
        found += answer.records
        token = answer.next_page_token
        if not token:
            return found


YESTERDAY = NOW - timedelta(days=2)
ARRANGED = f"""
[[partner]]
gln = "{STRANGER}"
caller = "vrs"
contexts = ["dscsaExceptionVerification"]

[[partner]]
gln = "9521004000014"
expires = 2020-01-01

[[partner]]
gln = "9521003000015"
caller = "somebody-else"

[[extension]]
gtin = "{GTIN}"
lot = "EXT"
expiry = 2029-01-31

[[policy]]
gtin = "{GTIN}"
lot = "POL"
reason = "Manufacturer_policy"

[[policy]]
gtin = "{GTIN}"
lot = "ILL"
serials = ["41"]
reason = "Not_for_re-distribution"
info = "Illegitimate"
"""


def test_every_status_reason_and_information_by_its_trigger(play: "Play", tmp_path: Path) -> None:
    async def story(world: "World") -> None:
        arranged = verification_file(tmp_path, ARRANGED)
        maker = await world.start("maker", verification_file=arranged)
        distributor, pharmacy = [await world.start(name) for name in ("distributor", "pharmacy")]
        await maker.register()
        await commission(maker, "A123", "2028-03-31", *(str(number) for number in range(1, 10)), "a/b%20c")
        await commission(maker, "OLD", f"{YESTERDAY:%Y-%m-%d}", "20")
        await commission(maker, "EXT", f"{YESTERDAY:%Y-%m-%d}", "30")
        await commission(maker, "POL", "2028-03-31", "40")
        await commission(maker, "ILL", "2028-03-31", "41", "42")
        await stock(world, maker, pharmacy, *(pack(number) for number in range(1, 7)))
        async with portal_of(maker, made(tmp_path / "portal")) as portal:
            await answers(world, portal, maker, pharmacy, distributor.gln)
            await statuses(portal, distributor.gln)
            await openapi_is_kept(portal, distributor.gln)
            await licences_end(world, portal, maker, pharmacy)
            await world.stop_ledger()
            # Whoever cannot ask the whole log vouches for nothing.
            refused(await portal.verify("1", reqGLN=distributor.gln), 503)
        kept = await records(maker)
        assert [item.number for item in kept] == list(range(1, len(kept) + 1))
        assert {item.http_status for item in kept} == {200, 400, 401, 403, 404, 503}
        equal = [item for item in kept if item.question == f"/gtin/{GTIN}/lot/A123/ser/1?exp=280331"]
        assert len(equal) > 2
        assert {item.caller for item in kept} == {"vrs"}
        assert await records_stand(maker)

    play(story)


async def answers(world: "World", portal: Portal, maker: "Client", pharmacy: "Client", requester: str) -> None:
    async def ask(serial: str, **parts: str) -> tuple[bool, str | None, str | None]:
        return told(await portal.verify(serial, **{"reqGLN": requester, **parts}))

    corr = str(uuid.uuid4())
    body = (await portal.verify("1", reqGLN=requester, corr=corr)).json()
    assert (body["responderGLN"], body["corrUUID"], body["data"]) == (maker.gln, corr, {"verified": True})
    # Lot, expiry and both apart; without the serial they do not matter.
    assert await ask("99") == (False, "No_match_GTIN_Serial", None)
    assert await ask("99", lot="Z", exp="300131") == (False, "No_match_GTIN_Serial", None)
    assert await ask("1", lot="Z") == (False, "No_match_GTIN_Serial_Lot", None)
    assert await ask("1", exp="280430") == (False, "No_match_GTIN_Serial_Expiry", None)
    assert await ask("1", lot="Z", exp="280430") == (False, "No_match_GTIN_Serial_Lot_Expiry", None)
    # Day 00 is the month's last.
    assert await ask("1", exp="280300") == (True, None, None)
    assert await ask("a%2Fb%2520c") == (True, None, None)
    old = f"{YESTERDAY:%y%m%d}"
    assert await ask("20", lot="OLD", exp=old) == (True, None, "Expired")
    assert await ask("30", lot="EXT", exp=old) == (True, None, "ExpirationExtended")
    assert await ask("30", lot="EXT", exp="290131") == (True, None, "ExpirationExtended")
    assert await ask("40", lot="POL") == (False, "Manufacturer_policy", None)
    assert await ask("41", lot="ILL") == (False, "Not_for_re-distribution", "Illegitimate")
    assert await ask("42", lot="ILL") == (True, None, None)
    await fates(world, pharmacy, ask)
    await maker.custody.Hold(
        custody_pb2.HoldRequest(request_id=request_id(), epcs=[pack(8)], reason="sample kept", occasion=days_ago(1))
    )
    assert await ask("8") == (False, "Manufacturer_policy", None)
    await recall(maker, GTIN, "A123")
    await settled(world, maker)
    assert await ask("1") == (True, None, "Recalled")
    assert await ask("1", lot="Z") == (False, "No_match_GTIN_Serial_Lot", "Recalled")


async def fates(world: "World", pharmacy: "Client", ask: Any) -> None:
    await meet_their_fates(pharmacy)
    await settled(world, pharmacy)
    assert await ask("2") == (False, "Not_for_re-distribution", "Suspect")
    assert await ask("3") == (False, "Not_for_re-distribution", "Illegitimate")
    assert await ask("4") == (False, "Not_for_re-distribution", "Suspect")
    # Sent back, and asked about to be sold again: that it is held until then is no reason against it.
    assert await ask("5") == (True, None, None)


async def meet_their_fates(pharmacy: "Client") -> None:
    """Dispense 2, lose 3 to thieves, destroy 4, and send 5 back."""
    await pharmacy.pharmacy.Dispense(pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[pack(2)]))
    for serial, reason in (
        (3, custody_pb2.DECOMMISSION_REASON_STOLEN),
        (4, custody_pb2.DECOMMISSION_REASON_DESTROYED),
    ):
        await pharmacy.custody.Decommission(
            custody_pb2.DecommissionRequest(request_id=request_id(), epcs=[pack(serial)], reason=reason)
        )
    await pharmacy.custody.Return(
        custody_pb2.ReturnRequest(
            request_id=request_id(), epcs=[pack(5)], destination_party=DISTRIBUTOR, reason="not needed"
        )
    )


async def statuses(portal: Portal, requester: str) -> None:
    for wrong in (
        {"exp": "28033"},
        {"exp": "281331"},
        {"reqGLN": "1234567890123"},
        {"reqGLN": ""},
        {"context": "not a context"},
        {"corr": "1"},
        {"linkType": "gs1:pip"},
        {"gtin": "00300010123456"},
        {"lot": "x" * 21},
    ):
        refused(await portal.verify("1", **{"reqGLN": requester, **wrong}), 400)
    headers = {"Authorization": f"Bearer {portal.tokens['vrs']}"}
    for path in ("/verify/gtin/1/lot/2", f"/verify/gtin/{GTIN}/batch/A123/ser/1?exp=280331", "/verify/"):
        refused(await portal.http.get(portal.url + path, headers=headers), 400)
    refused(await portal.verify("1", reqGLN=STRANGER), 403)
    assert told(await portal.verify("99", reqGLN=STRANGER, context="dscsaExceptionVerification"))[0] is False
    refused(await portal.verify("1", reqGLN="9521002000016"), 401)
    refused(await portal.verify("1", reqGLN="9521004000014"), 403)
    refused(await portal.verify("1", reqGLN="9521003000015"), 403)
    refused(await portal.verify("1", reqGLN=requester, token=""), 401)
    refused(await portal.verify("1", reqGLN=requester, token="forged"), 403)
    refused(await portal.verify("1", reqGLN=requester, token="reader"), 403)
    refused(await portal.verify("1", reqGLN=requester, gtin="00614141123452"), 404)
    refused(await portal.verify("1", reqGLN=requester, gtin="00300010543215"), 404)
    for method in ("POST", "HEAD", "DELETE"):
        answer = await portal.http.request(method, f"{portal.url}/verify/gtin/1/lot/1/ser/1", headers=headers)
        refused(answer, 405)
    check = f"{portal.url}/checkConnectivity"
    for query, status in (
        ({"gtin": GTIN, "reqGLN": requester, "context": RETURN}, 200),
        ({"gtin": GTIN, "reqGLN": requester, "context": ""}, 400),
        ({"gtin": GTIN, "reqGLN": "9521002000016", "context": RETURN}, 401),
        ({"gtin": GTIN, "reqGLN": STRANGER, "context": RETURN}, 403),
        ({"gtin": "00614141123452", "reqGLN": requester, "context": RETURN}, 404),
    ):
        answer = await portal.http.get(check, params=query, headers=headers)
        assert answer.status_code == status
        assert bool(answer.content) is (status == 200)
        assert answer.headers["cache-control"] == "private, no-cache"
    refused(await portal.http.get(f"{check}?gtin={GTIN}&gtin={GTIN}", headers=headers), 400)


async def licences_end(world: "World", portal: Portal, maker: "Client", pharmacy: "Client") -> None:
    """State the pharmacy's licences anew: it may ask while one of them holds."""
    folder, authority = world.network["pharmacy"], world.network.authority
    signed = decode_signed_event(folder.enrolment_bytes())
    enrolment = decode_payload(signed.payload_type, signed.payload).statement
    assert isinstance(enrolment, Enrolment)
    over, valid = (Licence("State Board", days, NOW + timedelta(days=int(days))) for days in ("-2", "2"))
    for licences, status in (((over, valid), 200), ((over,), 403), ((), 200)):
        bus = await connect_bus(
            world.nats_url, seed=authority.nats_seed(), gln=authority.gln, name="authority", timeout_s=60
        )
        try:
            entry = authority.sign(replace(enrolment, licences=licences, signing_key_ids=()))
            await bus.publish(events_subject(authority.gln), encode_batch([entry]))
        finally:
            await bus.close()

        def known(licences: tuple[Licence, ...] = licences) -> bool:
            found = maker.premises.replica.registry.organisation_of_gln(folder.gln)
            return found is not None and found.licences == licences

        await world.eventually(known)
        answer = await portal.verify("1", reqGLN=pharmacy.gln)
        assert answer.status_code == status
        assert bool(answer.content) is (status == 200)


async def openapi_is_kept(portal: Portal, requester: str) -> None:
    document = (await portal.http.get(f"{portal.url}/openapi.json")).json()
    assert set(document["paths"]) >= {
        "/verify/gtin/{gtin}/lot/{lot}/ser/{serial}",
        "/checkConnectivity",
        "/fmd/verify",
        "/fmd/supply",
        "/fmd/decommission",
        "/fmd/undo",
    }
    schema = document["components"]["schemas"]["VrsResponse"]
    body = (await portal.verify("41", lot="ILL", reqGLN=requester)).json()
    assert set(body) == set(schema["properties"])
    assert set(body["data"]) == set(schema["properties"]["data"]["properties"])


async def records_stand(client: "Client") -> bool:
    """Tell whether the database itself refuses to change or delete a record."""
    database = client.premises.office.database
    for statement in ("UPDATE verification SET answer = ''", "DELETE FROM verification"):
        with pytest.raises(MedtrailError):
            await database.write(lambda connection, sql=statement: connection.execute(text(sql)))  # type: ignore[misc]
    return True


def test_a_distributor_asks_the_maker_of_a_scanned_pack(play: "Play", tmp_path: Path) -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await commission(maker, "A123", "2028-03-31", "1", "2")
        await settled(world, maker)
        async with portal_of(maker, made(tmp_path / "portal")) as portal:
            (tmp_path / "maker.token").touch(mode=0o600)
            (tmp_path / "maker.token").write_text(portal.tokens["vrs"])
            arranged = verification_file(
                tmp_path,
                f'[[responder]]\ngln = "{maker.gln}"\nurl = "{portal.url}/"\ncompany_prefixes = ["030001"]\n'
                'token_file = "maker.token"\n'
                f'[[responder]]\ngln = "{maker.gln}"\nurl = "http://127.0.0.1:{free_port()}"\n'
                'gtins = ["00300010543215"]\n',
            )
            distributor = await world.start("distributor", verification_file=arranged)
            stub = verification_pb2_grpc.VerificationServiceStub(distributor.channel)
            found = await stub.GetResponder(verification_pb2.GetResponderRequest(gtin=GTIN))
            assert (found.url, found.gln, found.source) == (portal.url, maker.gln, "settings")
            with pytest.raises(NotFoundError) as caught:
                await stub.GetResponder(verification_pb2.GetResponderRequest(gtin="00614141123452"))
            assert caught.value.code == "RESPONDER_UNKNOWN"
            with pytest.raises(MalformedError):
                await stub.GetResponder(verification_pb2.GetResponderRequest(gtin="1"))
            await asking(stub, maker)
            kept = await records(distributor)
            assert [item.http_status for item in kept] == [200, 200, 0]
            assert kept[-1].answer.startswith("VRS_UNREACHABLE")
            assert {item.responder for item in kept} == {maker.gln}
            assert all(portal.tokens["vrs"] not in str(item) for item in kept)

    play(story)


async def asking(stub: "verification_pb2_grpc.VerificationServiceAsyncStub", maker: "Client") -> None:
    async def ask(scan: str, context: str = RETURN) -> verification_pb2.RequestVerificationResponse:
        return await stub.RequestVerification(verification_pb2.RequestVerificationRequest(scan=scan, context=context))

    answer = await ask(scan_of(1))
    assert answer.verdict.action == verdict_pb2.VERDICT_ACTION_ACCEPT
    assert json.loads(answer.body)["corrUUID"] == answer.corr_uuid
    assert answer.responder == maker.gln
    answer = await ask(scan_of(9))
    assert answer.verdict.code == verdict_pb2.VERDICT_CODE_UNKNOWN
    answer = await ask("0300010123455")
    assert (answer.verdict.code, answer.body) == (verdict_pb2.VERDICT_CODE_UNREADABLE, "")
    with pytest.raises(MalformedError):
        await ask(scan_of(1), context="?")
    with pytest.raises(UnavailableError) as caught:
        await ask("]d20100300010543215215\x1d1728033110A123")
    assert caught.value.code == "VRS_UNREACHABLE"


def test_fmd_over_http_answers_as_the_service_does_and_is_limited(play: "Play", tmp_path: Path) -> None:
    async def story(world: "World") -> None:
        maker, pharmacy = [await world.start(name) for name in ("maker", "pharmacy")]
        await maker.register()
        await commission(maker, "A123", "2028-03-31", "1", "2")
        await stock(world, maker, pharmacy, pack(1), pack(2))
        async with portal_of(pharmacy, made(tmp_path / "portal")) as portal:
            await fmd_answers(world, portal, pharmacy)
        async with portal_of(pharmacy, made(tmp_path / "slow"), per_second=0.1) as portal:
            assert (await portal.verify("1", reqGLN=pharmacy.gln)).status_code == 404
            answer = await portal.verify("1", reqGLN=pharmacy.gln)
            refused(answer, 429)
            assert 1 <= int(answer.headers["retry-after"]) <= 10
            answer = await portal.fmd("verify", {"scan": scan_of(1)})
            assert (answer.status_code, answer.json()["code"]) == (503, "RATE_EXCEEDED")

    play(story)


async def fmd_answers(world: "World", portal: Portal, pharmacy: "Client") -> None:
    answer = (await portal.fmd("verify", {"scan": scan_of(1)})).json()
    assert (answer["done"], answer["state"], answer["code"], answer["events"]) == (True, "active", "NMVS_SUCCESS", [])
    change = {"requestID": request_id(), "scan": scan_of(1), "eventTime": (NOW - timedelta(minutes=5)).isoformat()}
    supplied = (await portal.fmd("supply", change)).json()
    assert (supplied["done"], supplied["state"], len(supplied["events"])) == (True, "supplied", 1)
    assert (await portal.fmd("supply", change)).json() == supplied
    again = (await portal.fmd("supply", {"requestID": request_id(), "scan": scan_of(1)})).json()
    assert (again["done"], again["code"], again["alert"], again["kind"]) == (
        False,
        "NMVS_NC_PCK_19",
        "A7",
        "procedural",
    )
    await settled(world, pharmacy)
    undo = {"requestID": request_id(), "scan": scan_of(1), "reason": "not fetched", "notSupplied": True}
    undone = (await portal.fmd("undo", undo)).json()
    assert (undone["done"], undone["state"], len(undone["events"])) == (True, "active", 1)
    sample = {"requestID": request_id(), "scan": scan_of(2), "state": "sample"}
    assert (await portal.fmd("decommission", sample)).json()["state"] == "sample"
    for verb, body, status, code in (
        ("verify", {}, 400, "FIELD_MISSING"),
        ("verify", {"scan": 1}, 400, "FIELD_MALFORMED"),
        ("verify", {"scan": "x", "more": 1}, 400, "FIELD_UNKNOWN"),
        ("decommission", {"requestID": request_id(), "scan": scan_of(2)}, 400, "FIELD_MISSING"),
        ("decommission", {**sample, "requestID": request_id(), "state": "eaten"}, 400, "STATE_UNKNOWN"),
        ("decommission", {**sample, "requestID": request_id(), "state": "exported"}, 403, "ROLE_FORBIDS"),
        ("undo", {**undo, "notSupplied": "yes"}, 400, "FIELD_MALFORMED"),
        ("supply", {**change, "eventTime": "yesterday"}, 400, "FIELD_MALFORMED"),
        ("verify", {"scan": "x" * 70_000}, 413, "BODY_TOO_LARGE"),
    ):
        answer = await portal.fmd(verb, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body
    headers = {"Authorization": f"Bearer {portal.tokens['vrs']}", "Content-Type": "application/json"}
    for content in (b"[]", b"{", b'{"scan": "a", "scan": "b"}', b"[" * 5000, b"\xff"):
        odd = await portal.http.post(f"{portal.url}/fmd/verify", content=content, headers=headers)
        assert (odd.status_code, odd.json()["code"]) == (400, "JSON_MALFORMED")
    odd = await portal.http.post(f"{portal.url}/fmd/verify", content=b"{}", headers={**headers, "Content-Type": "a/b"})
    assert odd.status_code == 415


# --- a maker outside the network ---

OUTSIDE_GTIN = "00614141123452"
OUTSIDE_MAKER = "0614141000012"


@asynccontextmanager
async def outsider(answer: "Answer") -> AsyncIterator[str]:
    """Serve as the responder of a maker that is no member: bytes by the serial that is asked about."""
    serving: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split(" ")[1]
        writer.write(await answer(target.partition("?")[0].rpartition("/")[2], target.rpartition("corrUUID=")[2]))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*(task for task in serving if task is not None))


Answer = Callable[[str, str], Awaitable[bytes]]


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def verified(corr: str, **data: object) -> bytes:
    document = {
        "verificationTimestamp": "2026-06-01T12:00:00Z",
        "responderGLN": OUTSIDE_MAKER,
        "corrUUID": corr,
        "data": {"verified": True, **data},
    }
    return http(200, json.dumps(document).encode(), "Content-Type: application/json")


def outside_pack(serial: int | str) -> str:
    return f"https://id.gs1.org/01/{OUTSIDE_GTIN}/21/{serial}"


def outside_scan(serial: int | str) -> str:
    return f"]d201{OUTSIDE_GTIN}21{serial}\x1d1728033110A123"


def test_a_responder_that_answers_oddly_is_no_answer(play: "Play", tmp_path: Path) -> None:
    forever = asyncio.Event()

    async def answer(serial: str, corr: str) -> bytes:
        if serial == "slow":
            await forever.wait()
        return {
            "moved": http(302, b"", "Location: http://127.0.0.1:9/"),
            "huge": http(200, b"[" * 70_000),
            "text": http(200, b"yes"),
            "deep": http(200, b"[" * 60_000),
            "other": verified(str(uuid.uuid4())),
            "broken": b"nothing at all\r\n\r\n",
            "slow": http(200),
        }.get(serial) or http(int(serial))

    async def story(world: "World") -> None:
        distributor = await world.start("distributor")
        async with outsider(answer) as url:
            arranged = verification_file(
                tmp_path, f'[[responder]]\ngln = "{OUTSIDE_MAKER}"\nurl = "{url}"\ngtins = ["{OUTSIDE_GTIN}"]\n'
            )
            read = read_arrangements(arranged)
            requester = Requester(distributor.premises.office, read, timeout_s=60)
            hasty = Requester(distributor.premises.office, read, timeout_s=0.5)
            for serial, code in (
                ("400", "VRS_REFUSED"),
                ("401", "VRS_FORBIDDEN"),
                ("403", "VRS_FORBIDDEN"),
                ("404", "VRS_PRODUCT_UNKNOWN"),
                ("405", "VRS_REFUSED"),
                ("408", "VRS_UNAVAILABLE"),
                ("500", "VRS_UNAVAILABLE"),
                ("503", "VRS_UNAVAILABLE"),
                ("204", "VRS_UNAVAILABLE"),
                ("moved", "VRS_UNAVAILABLE"),
                ("huge", "VRS_RESPONSE"),
                ("text", "VRS_RESPONSE"),
                ("deep", "VRS_RESPONSE"),
                ("other", "VRS_RESPONSE"),
                ("broken", "VRS_UNREACHABLE"),
                ("slow", "VRS_TIMEOUT"),
            ):
                with pytest.raises(MedtrailError) as caught:
                    await (hasty if serial == "slow" else requester).ask(outside_scan(serial), context=RETURN)
                assert caught.value.code == code, serial
            kept = await records(distributor)
            assert len(kept) == 16
            assert all(item.answer.startswith("VRS_") for item in kept)
            forever.set()

    play(story)


def test_the_word_of_an_outside_maker_lets_a_return_be_sold_again(play: "Play", tmp_path: Path) -> None:
    async def answer(serial: str, corr: str) -> bytes:
        return {
            "1": verified(corr),
            "2": verified(corr, additionalInfo="Recalled"),
            "3": http(503),
            "4": verified(corr),
        }[serial]

    async def story(world: "World") -> None:
        async with outsider(answer) as url:
            arranged = verification_file(
                tmp_path, f'[[responder]]\ngln = "{OUTSIDE_MAKER}"\nurl = "{url}"\ncompany_prefixes = ["0614141"]\n'
            )
            distributor = await world.start("distributor", verification_file=arranged)
            pharmacy = await world.start("pharmacy")
            packs = [outside_pack(serial) for serial in range(1, 5)]
            await came_from_outside(world, distributor, packs)
            await distributor.ship(pharmacy, *packs)
            await advised(world, pharmacy, provisional=False)
            await pharmacy.receive(*packs)
            await pharmacy.custody.Return(
                custody_pb2.ReturnRequest(
                    request_id=request_id(), epcs=packs, destination_party=DISTRIBUTOR, reason="not needed"
                )
            )
            await settled(world, distributor, pharmacy)
            await world.eventually(lambda: confirmed_back(distributor, packs[0]))
            first = await accept(distributor, 1)
            assert (first.verdict.reason, await hold_of(distributor, 1)) == ("VERIFIED_BY_MAKER", "")
            second = await accept(distributor, 2)
            assert second.verdict.code == verdict_pb2.VERDICT_CODE_RECALLED
            assert "RECALLED" in await hold_of(distributor, 2)
            await accept(distributor, 3)
            assert "not verified" in await hold_of(distributor, 3)
            # What the network itself says against it weighs more than the maker's word.
            await recalled_by_regulator(world, distributor)
            fourth = await accept(distributor, 4)
            assert verdict_pb2.VERDICT_CODE_RECALLED in fourth.verdict.further_codes
            assert "not verified" in await hold_of(distributor, 4)
            assert [item.http_status for item in await records(distributor)] == [200, 200, 503]

    play(story)


async def came_from_outside(world: "World", distributor: "Client", packs: list[str]) -> None:
    """Let the distributor pass on what the maker told it by an EPCIS file, and receive the packs."""
    statement = EpcisEvent(
        type=EventType.OBJECT,
        event_time=NOW - timedelta(days=9),
        event_time_zone_offset="+00:00",
        action=Action.OBSERVE,
        epc_list=tuple(packs),
        biz_step="shipping",
        disposition="in_transit",
        source_list=(SourceDest("owning_party", f"https://id.gs1.org/417/{OUTSIDE_MAKER}"),),
        destination_list=(SourceDest("owning_party", f"https://id.gs1.org/417/{DISTRIBUTOR}"),),
    )
    chunk = custody_pb2.CaptureEventsRequest(
        request_id=request_id(), events=[epcis_to_message(statement)], second_hand=True
    )
    (captured,) = await distributor.capture(chunk)
    assert not captured.errors
    await settled(world, distributor)
    await distributor.receive(*packs)
    await settled(world, distributor)

    async def received() -> bool:
        return not (await distributor.holding(packs[0])).provisional

    await world.eventually(received)


async def confirmed_back(distributor: "Client", epc: str) -> bool:
    holding = await distributor.holding(epc)
    return holding.state == custody_pb2.HOLDING_STATE_INBOUND and not holding.provisional


async def accept(distributor: "Client", serial: int) -> distributor_pb2.AcceptReturnResponse:
    request = distributor_pb2.AcceptReturnRequest(request_id=request_id(), scan=outside_scan(serial))
    return await distributor.distributor.AcceptReturn(request)


async def hold_of(client: "Client", serial: int) -> str:
    return (await client.holding(outside_pack(serial))).hold_reason


async def recalled_by_regulator(world: "World", distributor: "Client") -> None:
    """Let the regulator recall the product, as it may whoever makes it."""
    folder = world.network["regulator"]
    found = Recall(
        number="REG-1",
        recall_class="I",
        depth="consumer",
        reason="contaminated",
        instruction="",
        start_time=NOW - timedelta(hours=1),
        scopes=(RecallScope(Gtin(OUTSIDE_GTIN), "", ()),),
    )
    header = Header(
        salt=new_salt(),
        actor=folder.gln,
        source="main",
        source_seq=1,
        event_id=new_event_id(),
        capture=Capture.FIRST_HAND,
    )
    signed, _ = signed_bytes(Event(header, found), folder.signing_key())
    bus = await connect_bus(world.nats_url, seed=folder.nats_seed(), gln=folder.gln, name="regulator", timeout_s=60)
    try:
        await bus.publish(events_subject(folder.gln), encode_batch([signed]))
    finally:
        await bus.close()

    async def known() -> bool:
        (answer,) = await distributor.scan(outside_scan(4))
        return verdict_pb2.VERDICT_CODE_RECALLED in answer.verdict.further_codes

    await world.eventually(known)
