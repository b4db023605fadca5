"""ExceptionService: from messages to the commands on cases and back."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from medtrail.api.exceptions.v1 import exceptions_pb2, exceptions_pb2_grpc
from medtrail.claims import MAX_AHEAD
from medtrail.codec import from_timestamp
from medtrail.errors import MalformedError, VerificationError
from medtrail.form3911 import Form3911, encode_form, missing_fields
from medtrail.pdg_reader import decode_message, remarks
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from medtrail.runtime.server import Binding
from services.custody import holdings_store
from services.custody.desk import Accepted, Desk, Session
from services.custody.exceptions import commands, conversation, messages, store, suspect
from services.custody.exceptions.case import Case, NewCase
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.commands import Speaker
from services.custody.exceptions.forms import form_of_case
from services.custody.exceptions.items import exchange_of
from services.custody.exceptions.messages import NO_DETAILS, Details, case_to_message, check_length
from services.custody.exceptions.store import CaseQuery, check_case_id
from services.custody.master_data import Known, known_products
from services.custody.messages import accepted_to_message
from services.custody.office import Office, check_reason, parse_gln
from services.custody.parties_file import read_parties
from services.custody.units import Unit

M = TypeVar("M", bound=Message)

MAX_PERSON = 200


def _details(connection: Connection, desk: Desk, case: Case, *, with_bytes: bool) -> Details:
    units = tuple(store.units_of_case(connection, case.case_id))
    said = tuple(conversation.messages_of_case(connection, case.case_id))
    found = None
    if case.code is ExceptionCode.SUSPECT:
        books = holdings_store.load_books(connection, (item.unit for item in units))
        found = suspect.investigation_of(desk, books, units)
    return Details(
        units=units,
        items=exchange_of(case.case_id, said).items,
        messages=said,
        investigation=found,
        notified=tuple(conversation.notified_partners(connection, case.case_id)),
        with_bytes=with_bytes,
    )


class ExceptionServicer(exceptions_pb2_grpc.ExceptionServiceServicer):
    """Cases of one organisation."""

    def __init__(self, office: Office) -> None:
        self._office = office

    # --- looking ---

    async def ListCases(
        self, request: exceptions_pb2.ListCasesRequest, context: Context
    ) -> exceptions_pb2.ListCasesResponse:
        """List cases, newest first."""
        size = page_size(request.page_size, default=50)
        caller = caller_of(context).organisation.gln
        method = "ListCases"
        tokens, now = self._office.tokens, self._office.desk.clock()
        position = tokens.open(request.page_token, caller=caller, method=method, request=request)
        query = CaseQuery(
            status=messages.maybe_status(request.status),
            include_resolved=request.include_resolved,
            code=messages.maybe_code(request.code),
            category=messages.maybe_category(request.category),
            partner=parse_gln(request.partner, field="partner") if request.partner else None,
            owner=request.owner,
            unit=self._office.unit(request.epc, field="epc").unit if request.epc else None,
            despatch_id=request.despatch_event_id,
            delivery_id=request.delivery_id,
            overdue_at=now if request.overdue else None,
        )
        before = None if position is None else int(position[0])

        def look(connection: Connection) -> tuple[list[Case], int]:
            return store.list_cases(connection, query, before=before, limit=size + 1)

        found, total = await self._office.database.read(look)
        token = ""
        if len(found) > size:
            token = tokens.issue((found[size - 1].number,), caller=caller, method=method, request=request)
        return exceptions_pb2.ListCasesResponse(
            cases=[case_to_message(case, NO_DETAILS, now=now) for case in found[:size]],
            next_page_token=token,
            total_count=total,
        )

    async def GetCase(self, request: exceptions_pb2.GetCaseRequest, context: Context) -> exceptions_pb2.GetCaseResponse:
        """Return a case with its units and its conversation."""
        case_id = check_case_id(request.case_id)

        def look(connection: Connection) -> exceptions_pb2.ExceptionCase:
            return self._shown(connection, store.get_case(connection, case_id), with_bytes=True)

        return exceptions_pb2.GetCaseResponse(case=await self._office.database.read(look))

    async def ExportMessages(
        self, request: exceptions_pb2.ExportMessagesRequest, context: Context
    ) -> exceptions_pb2.ExportMessagesResponse:
        """Return the PDG messages of a case as files."""
        case_id = check_case_id(request.case_id)
        size = page_size(request.page_size)
        caller, method, tokens = caller_of(context).organisation.gln, "ExportMessages", self._office.tokens
        position = tokens.open(request.page_token, caller=caller, method=method, request=request)
        start = 0 if position is None else int(position[0])

        def look(connection: Connection) -> tuple[list[exceptions_pb2.CaseMessage], bool]:
            store.get_case(connection, case_id)
            said = [item for item in conversation.messages_of_case(connection, case_id) if item.pdg][start:]
            page = list(messages.page_of(said[:size]))
            return [messages.message_to_message(item) for item in page], len(page) < len(said)

        page, more = await self._office.database.read(look)
        token = ""
        if more:
            token = tokens.issue((start + len(page),), caller=caller, method=method, request=request)
        return exceptions_pb2.ExportMessagesResponse(messages=page, next_page_token=token)

    def _shown(self, connection: Connection, case: Case, *, with_bytes: bool = False) -> exceptions_pb2.ExceptionCase:
        desk = self._office.desk
        # Answers to writes are kept: without the signed bytes, which the case has.
        return case_to_message(case, _details(connection, desk, case, with_bytes=with_bytes), now=desk.clock())

    # --- writing ---

    async def OpenCase(
        self, request: exceptions_pb2.OpenCaseRequest, context: Context
    ) -> exceptions_pb2.OpenCaseResponse:
        """Open a case."""
        office = self._office
        named = office.units(request.epcs, field="epcs") if request.epcs else ()
        units = tuple(item.unit for item in named)
        new = NewCase(
            code=messages.code_from(request.code),
            detail=check_length(request.detail, field="detail", least=1, most=store.MAX_DETAIL),
            units=units,
            partner=parse_gln(request.partner, field="partner") if request.partner else None,
            despatch_id=check_length(request.despatch_event_id, field="despatch_event_id", most=512),
            delivery_id=check_length(request.delivery_id, field="delivery_id", most=200),
            scan=messages.scan_from(request.scan) if request.HasField("scan") else None,
            purchase_order=check_length(request.purchase_order, field="purchase_order", most=64),
            expected_count=request.expected_count,
            counted_count=request.counted_count,
            owner=check_length(request.owner, field="owner", most=MAX_PERSON),
            due_time=_moment(request, "due_time"),
        )
        return await self._change(
            request, exceptions_pb2.OpenCaseResponse, lambda session: commands.open_case(session, new), units
        )

    async def AssignCase(
        self, request: exceptions_pb2.AssignCaseRequest, context: Context
    ) -> exceptions_pb2.AssignCaseResponse:
        """Say who sees to a case."""
        case_id = check_case_id(request.case_id)
        owner = check_length(request.owner, field="owner", most=MAX_PERSON)
        return await self._change(
            request, exceptions_pb2.AssignCaseResponse, lambda session: commands.assign(session, case_id, owner)
        )

    async def SetDueTime(
        self, request: exceptions_pb2.SetDueTimeRequest, context: Context
    ) -> exceptions_pb2.SetDueTimeResponse:
        """Say until when a case is to be resolved."""
        case_id = check_case_id(request.case_id)
        due = _moment(request, "due_time")
        if due is None:
            raise MalformedError("say until when", code="FIELD_MISSING", field="due_time")
        return await self._change(
            request, exceptions_pb2.SetDueTimeResponse, lambda session: commands.set_due_time(session, case_id, due)
        )

    async def AddMessage(
        self, request: exceptions_pb2.AddMessageRequest, context: Context
    ) -> exceptions_pb2.AddMessageResponse:
        """Add a remark."""
        case_id = check_case_id(request.case_id)
        text = check_length(request.text, field="text", least=1, most=2000)
        person = _person(context, request.person)

        def work(session: Session) -> Case:
            return commands.add_message(session, case_id, text=text, person=person, internal=request.internal)

        return await self._change(request, exceptions_pb2.AddMessageResponse, work)

    async def ProposeResolution(
        self, request: exceptions_pb2.ProposeResolutionRequest, context: Context
    ) -> exceptions_pb2.ProposeResolutionResponse:
        """Report a case to the partner."""
        case_id = check_case_id(request.case_id)
        asked = messages.maybe_request(request.resolution_request)
        speaker = self._speaker(context, request.contact, person=request.person, text=request.text)

        def work(session: Session) -> Case:
            return commands.propose(session, case_id, asked, speaker)

        return await self._change(request, exceptions_pb2.ProposeResolutionResponse, work)

    async def RespondToProposal(
        self, request: exceptions_pb2.RespondToProposalRequest, context: Context
    ) -> exceptions_pb2.RespondToProposalResponse:
        """Answer what the partner proposed."""
        case_id = check_case_id(request.case_id)
        if not request.answers:
            raise MalformedError("give at least one answer", code="FIELD_MISSING", field="answers")
        replies = [messages.reply_from(item, f"answers[{number}]") for number, item in enumerate(request.answers)]
        speaker = self._speaker(context, request.contact, person=request.person, text=request.text)

        def work(session: Session) -> Case:
            return commands.respond(session, case_id, replies, speaker)

        return await self._change(request, exceptions_pb2.RespondToProposalResponse, work)

    async def ResolveCase(
        self, request: exceptions_pb2.ResolveCaseRequest, context: Context
    ) -> exceptions_pb2.ResolveCaseResponse:
        """Resolve a case, with its effect on the goods."""
        case_id = check_case_id(request.case_id)
        resolution = messages.resolution_from(request.resolution)
        reason, occasion = check_reason(request.reason), self._office.occasion(request.occasion)
        person = _person(context, request.person)

        def work(session: Session) -> exceptions_pb2.ResolveCaseResponse:
            case, made = commands.resolve(session, case_id, resolution, occasion, reason=reason, person=person)
            shown = self._shown(session.connection, case)
            return exceptions_pb2.ResolveCaseResponse(case=shown, events=map(accepted_to_message, made))

        return await self._office.write(request, exceptions_pb2.ResolveCaseResponse, work)

    # --- suspect product ---

    async def MarkSuspect(
        self, request: exceptions_pb2.MarkSuspectRequest, context: Context
    ) -> exceptions_pb2.MarkSuspectResponse:
        """Quarantine units as suspect product."""
        office = self._office
        named = office.units(request.epcs, field="epcs")
        reason, occasion = check_reason(request.reason), office.occasion(request.occasion)
        person = check_length(_person(context, request.person), field="person", least=1, most=MAX_PERSON)
        scan = messages.scan_from(request.scan) if request.HasField("scan") else None

        def work(session: Session) -> exceptions_pb2.MarkSuspectResponse:
            case, made = suspect.mark(session, named, occasion, reason=reason, person=person, scan=scan)
            shown = self._shown(session.connection, case)
            return exceptions_pb2.MarkSuspectResponse(case=shown, events=map(accepted_to_message, made))

        units = tuple(item.unit for item in named)
        return await office.write(request, exceptions_pb2.MarkSuspectResponse, work, units=units)

    async def ClearSuspect(
        self, request: exceptions_pb2.ClearSuspectRequest, context: Context
    ) -> exceptions_pb2.ClearSuspectResponse:
        """End an investigation of suspect product, or note packs that were verified."""
        office = self._office
        case_id = check_case_id(request.case_id)
        packs = office.units(request.verified_epcs, field="verified_epcs") if request.verified_epcs else ()
        occasion = office.occasion(request.occasion)
        reason = "" if request.partial else check_reason(request.reason)
        person = check_length(_person(context, request.person), field="person", least=1, most=MAX_PERSON)

        def work(session: Session) -> exceptions_pb2.ClearSuspectResponse:
            made: list[Accepted] = []
            if request.partial:
                case = suspect.note_some(session, case_id, packs, person=person)
            else:
                case, made = suspect.clear(session, case_id, packs, occasion, reason=reason, person=person)
            shown = self._shown(session.connection, case)
            return exceptions_pb2.ClearSuspectResponse(case=shown, events=map(accepted_to_message, made))

        units = tuple(item.unit for item in packs)
        return await office.write(request, exceptions_pb2.ClearSuspectResponse, work, units=units)

    async def DeclareIllegitimate(
        self, request: exceptions_pb2.DeclareIllegitimateRequest, context: Context
    ) -> exceptions_pb2.DeclareIllegitimateResponse:
        """Say that suspect product is illegitimate, and notify those who may have it."""
        case_id = check_case_id(request.case_id)
        reason = check_reason(request.reason)
        person = check_length(_person(context, request.person), field="person", least=1, most=MAX_PERSON)
        moment = self._past(request, "determine_time")
        further = [parse_gln(text, field=f"partners[{number}]") for number, text in enumerate(request.partners)]

        def work(session: Session) -> Case:
            return suspect.declare_illegitimate(
                session, case_id, reason=reason, person=person, determine_time=moment, further=further
            )

        return await self._change(request, exceptions_pb2.DeclareIllegitimateResponse, work)

    async def RecordForm3911(
        self, request: exceptions_pb2.RecordForm3911Request, context: Context
    ) -> exceptions_pb2.RecordForm3911Response:
        """Record that Form FDA 3911 was submitted."""
        case_id = check_case_id(request.case_id)
        moment = self._past(request, "submit_time")
        incident = check_length(request.incident_number, field="incident_number", most=64)

        def work(session: Session) -> Case:
            return suspect.record_form(session, case_id, submit_time=moment or session.now, incident_number=incident)

        return await self._change(request, exceptions_pb2.RecordForm3911Response, work)

    async def GetForm3911(
        self, request: exceptions_pb2.GetForm3911Request, context: Context
    ) -> exceptions_pb2.GetForm3911Response:
        """Return Form FDA 3911 as far as it can be filled."""
        case_id = check_case_id(request.case_id)
        office = self._office

        def look(connection: Connection) -> Form3911:
            logged = {gtin: entry.product for gtin, entry in office.replica.products.items()}
            products = known_products(connection, logged)
            known = Known(office.desk.registry(), products, read_parties(office.parties_file))
            case = store.get_case(connection, case_id)
            return form_of_case(connection, office.desk, known, case, request.details)

        form = await office.database.read(look)
        # Drawing takes a processor for a while: scans go on meanwhile.
        pdf = await asyncio.to_thread(_drawn, form, record=case_id)
        return exceptions_pb2.GetForm3911Response(form=encode_form(form), pdf=pdf, missing_fields=missing_fields(form))

    # --- PDG files ---

    async def ImportMessage(
        self, request: exceptions_pb2.ImportMessageRequest, context: Context
    ) -> exceptions_pb2.ImportMessageResponse:
        """Take in a PDG message file."""
        message = decode_message(request.pdg_message)
        partner = parse_gln(request.partner, field="partner") if request.partner else None

        def work(session: Session) -> exceptions_pb2.ImportMessageResponse:
            case = commands.take_file(session, request.pdg_message, message, partner=partner)
            shown = self._shown(session.connection, case)
            return exceptions_pb2.ImportMessageResponse(case=shown, remarks=remarks(message))

        return await self._office.write(request, exceptions_pb2.ImportMessageResponse, work)

    # --- helpers ---

    async def _change(
        self, request: Message, answer: type[M], work: Callable[[Session], Case], units: tuple[Unit, ...] = ()
    ) -> M:
        """Answer a write whose answer is the case and nothing else."""

        def run(session: Session) -> M:
            made = answer()
            made.case.CopyFrom(self._shown(session.connection, work(session)))  # type: ignore[attr-defined]
            return made

        return await self._office.write(request, answer, run, units=units)

    def _speaker(self, context: Context, contact: exceptions_pb2.Contact, *, person: str, text: str) -> Speaker:
        found = messages.contact_from(contact, gln=self._office.desk.gln)
        if found is None:
            message = "PDG messages say by which e-mail address their sender is reached"
            raise MalformedError(message, code="FIELD_MISSING", field="contact.email")
        return Speaker(found, _person(context, person), check_length(text, field="text", most=2000))

    def _past(self, request: Message, name: str) -> datetime | None:
        moment = _moment(request, name)
        now = self._office.desk.clock()
        if moment is not None and moment > now + MAX_AHEAD:
            text = f"{moment.isoformat()} is ahead of {now.isoformat()}"
            raise VerificationError(text, code="EVENT_IN_FUTURE", field=name)
        return moment


def _moment(request: Message, name: str) -> datetime | None:
    if not request.HasField(name):
        return None
    return from_timestamp(getattr(request, name), field=name)


def _person(context: Context, said: str) -> str:
    """Return who acts: as the call's token names them, else as the request does."""
    return caller_of(context).person or check_length(said, field="person", most=MAX_PERSON)


def _drawn(form: Form3911, *, record: str) -> bytes:
    # Imported when a form is asked for: a fifth of a service's start would be spent on drawing that few ever need.
    from medtrail.form3911_pdf import draw_form  # noqa: PLC0415

    return draw_form(form, record=record)


def exception_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.exceptions.v1.ExceptionService",
        exceptions_pb2_grpc.add_ExceptionServiceServicer_to_server,
        ExceptionServicer(office),
    )
