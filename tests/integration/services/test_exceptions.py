"""ExceptionService over gRPC: each call by what it does and by what it refuses, and letters by NATS."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.exceptions.v1 import exceptions_pb2, exceptions_pb2_grpc
from medtrail.codec import decode_signed_event, encode_batch, to_timestamp
from medtrail.errors import AuthorizationError, ConflictError, MalformedError, NotFoundError, VerificationError
from medtrail.pdg import ContactInformation, Report, encode_message
from medtrail.runtime import outbox
from medtrail.runtime.client import connect
from services.custody.exceptions import alarms
from tests.integration.services.conftest import GTIN, request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integration.services.conftest import Client, Play, World

CONTACT = exceptions_pb2.Contact(email="bay@house.example", phone="1")
SERIALS = ("E1", "E2", "E3")


def epc(serial: str) -> str:
    return f"https://id.gs1.org/01/{GTIN}/21/{serial}"


class Cases:
    """The calls of one organisation about cases."""

    def __init__(self, client: "Client") -> None:
        self.client = client
        self.stub: exceptions_pb2_grpc.ExceptionServiceAsyncStub = exceptions_pb2_grpc.ExceptionServiceStub(
            client.channel
        )

    async def open(self, code: str = "DAMAGED", *epcs: str, **more: Any) -> exceptions_pb2.ExceptionCase:
        request = exceptions_pb2.OpenCaseRequest(
            request_id=more.pop("request_id", request_id()),
            code=exceptions_pb2.ExceptionCode.Value(f"EXCEPTION_CODE_{code}"),
            epcs=epcs,
            detail=more.pop("detail", "box is wet"),
            **more,
        )
        return (await self.stub.OpenCase(request)).case

    async def get(self, case_id: str) -> exceptions_pb2.ExceptionCase:
        return (await self.stub.GetCase(exceptions_pb2.GetCaseRequest(case_id=case_id))).case

    async def list(self, **query: Any) -> exceptions_pb2.ListCasesResponse:
        return await self.stub.ListCases(exceptions_pb2.ListCasesRequest(**query))

    async def has(self, case_id: str, status: exceptions_pb2.CaseStatus.ValueType) -> bool:
        try:
            return (await self.get(case_id)).status == status
        except NotFoundError:
            return False

    async def resolve(self, case_id: str, how: str, **more: Any) -> exceptions_pb2.ResolveCaseResponse:
        request = exceptions_pb2.ResolveCaseRequest(
            request_id=request_id(),
            case_id=case_id,
            resolution=exceptions_pb2.CaseResolution.Value(f"CASE_RESOLUTION_{how}"),
            reason="as agreed",
            **more,
        )
        return await self.stub.ResolveCase(request)

    async def suspect(self, *epcs: str, person: str = "Kim") -> exceptions_pb2.ExceptionCase:
        request = exceptions_pb2.MarkSuspectRequest(
            request_id=request_id(),
            epcs=epcs,
            reason="blurred print",
            person=person,
            scan=exceptions_pb2.CaseScan(scan="x", scan_time=to_timestamp(datetime.now(UTC)), station="bay-1"),
        )
        return (await self.stub.MarkSuspect(request)).case


async def stocked(world: "World") -> tuple[Cases, Cases]:
    """Return the cases of a maker and of a pharmacy that has packs of it."""
    maker, pharmacy = await world.start("maker"), await world.start("pharmacy")
    await maker.register()
    await maker.commission(*SERIALS)
    await maker.ship(pharmacy, *map(epc, SERIALS))
    await pharmacy_gets(world, pharmacy)
    await pharmacy.receive(*map(epc, SERIALS))
    return Cases(maker), Cases(pharmacy)


async def pharmacy_gets(world: "World", pharmacy: "Client") -> None:
    async def confirmed() -> bool:
        inbound = await pharmacy.inbound()
        return bool(inbound) and not inbound[0].provisional

    await eventually(world, confirmed)


async def eventually(world: "World", condition: "Callable[[], Awaitable[bool]]") -> None:
    await world.eventually(condition)


async def refused(code: str, kind: type[Exception], call: "Awaitable[object]") -> None:
    with pytest.raises(kind) as caught:
        await call
    assert getattr(caught.value, "code", "") == code


def test_case_is_opened_found_and_changed(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        _, here = await stocked(world)
        name = request_id()
        scan = exceptions_pb2.CaseScan(scan="]d2...", scan_time=to_timestamp(datetime.now(UTC)), verdict_code="DAMAGED")
        case = await here.open("DAMAGED", epc("E1"), request_id=name, scan=scan, owner="Kim")
        assert case == await here.open("DAMAGED", epc("E1"), request_id=name, scan=scan, owner="Kim")
        assert (case.purchase_order, case.partner) == ("P1", world.clients["maker"].gln)
        assert case.category == exceptions_pb2.EXCEPTION_CATEGORY_PACKAGING_AND_LABELLING
        second = await here.open("LABEL_UNREADABLE", epc("E2"))
        page = await here.list(page_size=1)
        assert (page.total_count, page.cases[0].case_id) == (2, second.case_id)
        rest = await here.list(page_size=1, page_token=page.next_page_token)
        assert ([found.case_id for found in rest.cases], rest.next_page_token) == ([case.case_id], "")
        named = await here.list(epc=epc("E1"), code=exceptions_pb2.EXCEPTION_CODE_DAMAGED, overdue=False)
        assert [found.case_id for found in named.cases] == [case.case_id]
        assert not (await here.list(overdue=True)).cases
        assigned = exceptions_pb2.AssignCaseRequest(request_id=request_id(), case_id=case.case_id, owner="Lee")
        assert (await here.stub.AssignCase(assigned)).case.owner == "Lee"
        past = to_timestamp(datetime.now(UTC) - timedelta(hours=1))
        due = exceptions_pb2.SetDueTimeRequest(request_id=request_id(), case_id=case.case_id, due_time=past)
        assert (await here.stub.SetDueTime(due)).case.overdue
        status = await world.clients["pharmacy"].custody.GetStatus(custody_pb2.GetStatusRequest())
        assert alarms.EXCEPTION_OVERDUE in {alarm.code for alarm in status.alarms}
        assert [found.case_id for found in (await here.list(overdue=True)).cases] == [case.case_id]

    play(scenario)


def test_letters_go_by_nats_and_every_step_is_on_both_sides(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        there, here = await stocked(world)
        case = await here.open("LOT_MISMATCH", epc("E1"))
        proposal = exceptions_pb2.ProposeResolutionRequest(
            request_id=request_id(), case_id=case.case_id, contact=CONTACT, person="Kim"
        )
        await here.stub.ProposeResolution(proposal)
        await eventually(world, lambda: there.has(case.case_id, exceptions_pb2.CASE_STATUS_PROPOSED))
        answer = exceptions_pb2.RespondToProposalRequest(
            request_id=request_id(),
            case_id=case.case_id,
            answers=[exceptions_pb2.ItemAnswer(accepted=True, comments="new data follow", follow_up="")],
            contact=CONTACT,
        )
        assert (await there.stub.RespondToProposal(answer)).case.status == exceptions_pb2.CASE_STATUS_AGREED
        await eventually(world, lambda: here.has(case.case_id, exceptions_pb2.CASE_STATUS_AGREED))
        remark = exceptions_pb2.AddMessageRequest(
            request_id=request_id(), case_id=case.case_id, text="thank you", person="Kim"
        )
        await here.stub.AddMessage(remark)
        done = await here.resolve(case.case_id, "ACCEPTED", person="Kim")
        assert done.case.status == exceptions_pb2.CASE_STATUS_RESOLVED
        await eventually(world, lambda: there.has(case.case_id, exceptions_pb2.CASE_STATUS_RESOLVED))
        ours, theirs = await here.get(case.case_id), await there.get(case.case_id)
        assert [message.signed_event for message in ours.messages] == [
            message.signed_event for message in theirs.messages
        ]
        exported = await there.stub.ExportMessages(exceptions_pb2.ExportMessagesRequest(case_id=case.case_id))
        assert [json.loads(message.pdg_message)["exception_case_uuid"] for message in exported.messages] == [
            case.case_id
        ] * 3
        paged = exceptions_pb2.ExportMessagesRequest(case_id=case.case_id, page_size=2)
        first = await there.stub.ExportMessages(paged)
        paged.page_token = first.next_page_token
        second = await there.stub.ExportMessages(paged)
        assert [*first.messages, *second.messages] == list(exported.messages)
        assert second.next_page_token == ""

    play(scenario)


def test_suspect_product_is_quarantined_verified_and_cleared(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        _, here = await stocked(world)
        await refused("TEXT_LENGTH", MalformedError, here.suspect(epc("E1"), person=""))
        case = await here.suspect(epc("E1"), epc("E2"))
        assert (case.investigation.pack_count, case.investigation.verify_count) == (2, 2)
        client = world.clients["pharmacy"]
        assert (await client.holding(epc("E1"))).hold_reason.startswith("SUSPECT")

        def clear(*verified: str, partial: bool = False) -> "Awaitable[exceptions_pb2.ClearSuspectResponse]":
            return here.stub.ClearSuspect(
                exceptions_pb2.ClearSuspectRequest(
                    request_id=request_id(),
                    case_id=case.case_id,
                    verified_epcs=verified,
                    reason="" if partial else "genuine",
                    person="Lee",
                    partial=partial,
                )
            )

        noted = await clear(epc("E1"), partial=True)
        assert noted.case.investigation.verified_count == 1
        await refused("FIELD_MISSING", MalformedError, clear(partial=True))
        await refused("SUSPECT_NOT_VERIFIED", ConflictError, clear())
        done = await clear(epc("E2"))
        assert done.case.resolution == exceptions_pb2.CASE_RESOLUTION_CLEARED
        assert len(done.events) == 1
        assert not (await client.holding(epc("E1"))).hold_reason

    play(scenario)


def test_illegitimate_product_is_notified_and_its_form_is_filled(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        there, here = await stocked(world)
        case = await here.suspect(epc("E1"))
        ahead = to_timestamp(datetime.now(UTC) + timedelta(hours=1))

        def declare(**more: Any) -> "Awaitable[exceptions_pb2.DeclareIllegitimateResponse]":
            return here.stub.DeclareIllegitimate(
                exceptions_pb2.DeclareIllegitimateRequest(
                    request_id=request_id(), case_id=case.case_id, reason="not the maker's", person="Lee", **more
                )
            )

        await refused("EVENT_IN_FUTURE", VerificationError, declare(determine_time=ahead))
        declared = (await declare(partners=[world.network["distributor"].gln.digits])).case
        assert set(declared.investigation.notified_partners) == {
            world.clients["maker"].gln,
            str(world.network["distributor"].gln),
        }
        await eventually(world, lambda: there.has(case.case_id, exceptions_pb2.CASE_STATUS_ILLEGITIMATE))
        form = await here.stub.GetForm3911(
            exceptions_pb2.GetForm3911Request(case_id=case.case_id, details=b'{"contact_name":"Kim"}')
        )
        document = json.loads(form.form)
        assert (document["product_name"], document["contact_name"], document["serials"]) == ("Epcistra", "Kim", ["E1"])
        assert form.pdf.startswith(b"%PDF-")
        assert "contact_email" in form.missing_fields
        recorded = await here.stub.RecordForm3911(
            exceptions_pb2.RecordForm3911Request(request_id=request_id(), case_id=case.case_id, incident_number="I-1")
        )
        assert recorded.case.investigation.incident_number == "I-1"
        later = await here.stub.GetForm3911(exceptions_pb2.GetForm3911Request(case_id=case.case_id))
        assert json.loads(later.form)["report_type"] == "follow_up_notification"
        other = await here.open("DAMAGED", epc("E2"))
        await refused(
            "CASE_NOT_SUSPECT",
            ConflictError,
            here.stub.GetForm3911(exceptions_pb2.GetForm3911Request(case_id=other.case_id)),
        )

    play(scenario)


def test_file_of_a_partner_is_taken_in_as_it_came(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        here = Cases(await world.start("maker"))
        partner = str(world.network["pharmacy"].gln)
        case_id = str(uuid.uuid4())
        report = Report(
            str(uuid.uuid4()), case_id, 1712368200, "PO", ContactInformation("a@b.example"), case_resolved=False
        )
        data = b" " + encode_message(report)

        def take(**more: Any) -> "Awaitable[exceptions_pb2.ImportMessageResponse]":
            return here.stub.ImportMessage(
                exceptions_pb2.ImportMessageRequest(request_id=request_id(), pdg_message=data, **more)
            )

        await refused("FIELD_MISSING", MalformedError, take())
        taken = await take(partner=partner)
        assert (taken.case.partner, taken.case.partner_reported) == (partner, True)
        again = await take(partner=partner)
        assert len(again.case.messages) == 1
        assert (await here.get(case_id)).messages[0].pdg_message == data
        await refused("CASE_NOT_PARTY", ConflictError, take(partner=str(world.network["distributor"].gln)))

    play(scenario)


def test_malformed_requests_are_refused_with_code_and_field(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        here = Cases(await world.start("maker"))
        case = await here.open("DAMAGED")
        ident: dict[str, Any] = {"request_id": request_id(), "case_id": case.case_id}
        stub = here.stub
        asked: list[tuple[str, type[Exception], Awaitable[object]]] = [
            ("FIELD_MISSING", MalformedError, here.open("UNSPECIFIED")),
            ("CASE_CODE_SUSPECT", MalformedError, here.open("SUSPECT")),
            ("TEXT_LENGTH", MalformedError, here.open("DAMAGED", detail="")),
            ("CASE_UNKNOWN", NotFoundError, here.get(str(uuid.uuid4()))),
            ("CASE_ID_MALFORMED", MalformedError, here.get("1")),
            ("RESOLUTION_FORBIDDEN", MalformedError, here.resolve(case.case_id, "CLEARED")),
            ("VALUE_UNKNOWN", MalformedError, here.list(status=99)),
            ("FIELD_MISSING", MalformedError, stub.SetDueTime(exceptions_pb2.SetDueTimeRequest(**ident))),
            (
                "FIELD_MISSING",
                MalformedError,
                stub.ProposeResolution(exceptions_pb2.ProposeResolutionRequest(**ident)),
            ),
            (
                "EMAIL_MALFORMED",
                MalformedError,
                stub.ProposeResolution(
                    exceptions_pb2.ProposeResolutionRequest(**ident, contact=exceptions_pb2.Contact(email="nobody"))
                ),
            ),
            (
                "CASE_WITHOUT_PARTNER",
                ConflictError,
                stub.ProposeResolution(exceptions_pb2.ProposeResolutionRequest(**ident, contact=CONTACT)),
            ),
            (
                "FIELD_MISSING",
                MalformedError,
                stub.RespondToProposal(exceptions_pb2.RespondToProposalRequest(**ident, contact=CONTACT)),
            ),
            (
                "VALUE_UNKNOWN",
                MalformedError,
                stub.RespondToProposal(
                    exceptions_pb2.RespondToProposalRequest(
                        **ident, contact=CONTACT, answers=[exceptions_pb2.ItemAnswer(follow_up="Pigeon")]
                    )
                ),
            ),
            (
                "CASE_NOT_ILLEGITIMATE",
                ConflictError,
                stub.RecordForm3911(exceptions_pb2.RecordForm3911Request(**ident)),
            ),
        ]
        for code, kind, call in asked:
            await refused(code, kind, call)

    play(scenario)


def test_stranger_may_not_see_or_change_the_cases_of_a_house(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        there, here = await stocked(world)
        case = await here.open("DAMAGED", epc("E1"))
        channel = connect(
            world.clients["pharmacy"].address,  # type: ignore[attr-defined]
            folder=there.client.premises.folder,
            audience=here.client.premises.folder.gln,
            server="pharmacy",
        )
        async with channel:
            stub: exceptions_pb2_grpc.ExceptionServiceAsyncStub = exceptions_pb2_grpc.ExceptionServiceStub(channel)
            await refused(
                "CALLER_NOT_OWN", AuthorizationError, stub.GetCase(exceptions_pb2.GetCaseRequest(case_id=case.case_id))
            )

    play(scenario)


def test_letter_on_the_stream_of_events_is_refused_by_the_ledger(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        there, here = await stocked(world)
        case = await here.open("DAMAGED", epc("E1"))
        proposal = exceptions_pb2.ProposeResolutionRequest(
            request_id=request_id(), case_id=case.case_id, contact=CONTACT
        )
        assert not (await here.stub.ProposeResolution(proposal)).case.messages[0].signed_event
        made = await here.get(case.case_id)
        letter = made.messages[0].signed_event
        assert decode_signed_event(letter).payload_type.startswith("application/vnd.medtrail.exception")
        assert encode_batch([letter])
        database = here.client.premises.office.database
        event_id = f"urn:uuid:{made.messages[0].message_id}"
        now = datetime.now(UTC)
        sha256 = await database.write(
            lambda connection: outbox.enqueue_event(connection, letter, event_id=event_id, now=now)
        )
        here.client.premises.relay.wake()

        async def is_refused() -> bool:
            found = await database.read(lambda connection: outbox.get_event(connection, sha256))
            return found.refusal_code == "PAYLOAD_NOT_FOR_LOG"

        await eventually(world, is_refused)
        await eventually(world, lambda: there.has(case.case_id, exceptions_pb2.CASE_STATUS_PROPOSED))

    play(scenario)
