"""VerificationService: from messages to the answerer and the requester, and back."""

from collections.abc import Callable, Mapping

from medtrail.api.verification.v1 import verification_pb2, verification_pb2_grpc
from medtrail.codec import to_timestamp
from medtrail.codec.verdict import verdict_to_message
from medtrail.errors import MalformedError
from medtrail.gs1 import Gtin
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from medtrail.runtime.server import Binding
from medtrail.vrs import SpelledRequest
from services.custody import verifications
from services.custody.bootstrap import Premises
from services.custody.office import Office
from services.custody.verifications import Record
from services.verification.arrangements import Arrangements, read_arrangements
from services.verification.requester import Requester
from services.verification.responder import Answerer

METHOD = "ListVerifications"


class VerificationServicer(verification_pb2_grpc.VerificationServiceServicer):
    """Verification requests, for one organisation."""

    def __init__(
        self, office: Office, products: Callable[[], Mapping[Gtin, object]], arrangements: Arrangements
    ) -> None:
        self._office = office
        self._arrangements = arrangements
        self._answerer = Answerer(office, products, arrangements)
        self._requester = Requester(office, arrangements)

    async def AnswerVerification(
        self, request: verification_pb2.AnswerVerificationRequest, context: Context
    ) -> verification_pb2.AnswerVerificationResponse:
        """Answer a question about a product of this organisation."""
        spelled = SpelledRequest(
            gtin=request.gtin,
            lot=request.lot,
            serial=request.serial,
            exp=request.exp,
            link_type=request.link_type,
            context=request.context,
            req_gln=request.req_gln,
            corr_uuid=request.corr_uuid,
        )
        reply = await self._answerer.answer(spelled, caller=request.caller)
        return verification_pb2.AnswerVerificationResponse(http_status=reply.status, body=reply.body, code=reply.code)

    async def AnswerConnectivity(
        self, request: verification_pb2.AnswerConnectivityRequest, context: Context
    ) -> verification_pb2.AnswerConnectivityResponse:
        """Tell whether a question about a product would be answered."""
        reply = await self._answerer.connectivity(
            gtin=request.gtin, req_gln=request.req_gln, context=request.context, caller=request.caller
        )
        return verification_pb2.AnswerConnectivityResponse(http_status=reply.status, body=reply.body, code=reply.code)

    async def GetResponder(
        self, request: verification_pb2.GetResponderRequest, context: Context
    ) -> verification_pb2.GetResponderResponse:
        """Return who answers for a product."""
        try:
            gtin = Gtin(request.gtin)
        except MalformedError as error:
            raise MalformedError(error.message, code=error.code, field="gtin") from error
        found = self._arrangements.responder_of(gtin, self._office.desk.registry())
        return verification_pb2.GetResponderResponse(url=found.url, gln=str(found.gln), source=found.source)

    async def RequestVerification(
        self, request: verification_pb2.RequestVerificationRequest, context: Context
    ) -> verification_pb2.RequestVerificationResponse:
        """Ask the responder of a scanned pack."""
        asked = await self._requester.ask(request.scan, context=request.context)
        return verification_pb2.RequestVerificationResponse(
            verdict=verdict_to_message(asked.verdict),
            body=asked.body,
            responder="" if asked.responder is None else str(asked.responder.gln),
            url="" if asked.responder is None else asked.responder.url,
            corr_uuid=asked.corr_uuid,
        )

    async def ListVerifications(
        self, request: verification_pb2.ListVerificationsRequest, context: Context
    ) -> verification_pb2.ListVerificationsResponse:
        """List the records of questions, oldest first."""
        size = page_size(request.page_size, at_most=500)
        caller = caller_of(context).organisation.gln
        position = self._office.tokens.open(request.page_token, caller=caller, method=METHOD, request=request)
        start = 0 if position is None else int(position[0])
        found = await self._office.database.read(
            lambda connection: verifications.after(connection, start, limit=size + 1)
        )
        token = ""
        if len(found) > size:
            position = (found[size - 1].number,)
            token = self._office.tokens.issue(position, caller=caller, method=METHOD, request=request)
        records = [_record(item) for item in found[:size]]
        return verification_pb2.ListVerificationsResponse(records=records, next_page_token=token)


def _record(record: Record) -> verification_pb2.VerificationRecord:
    return verification_pb2.VerificationRecord(
        number=record.number,
        record_time=to_timestamp(record.time),
        kind=verification_pb2.VerificationKind.ValueType(record.kind),
        caller=record.caller,
        requester=record.requester,
        responder=record.responder,
        context=record.context,
        question=record.question,
        http_status=record.http_status,
        answer=record.answer,
        corr_uuid=record.corr_uuid,
    )


def verification_binding(premises: Premises) -> Binding:
    """Return the service with its servicer, for a process to serve.

    Raises:
        MalformedError: The verification file cannot be read.
    """
    arrangements = read_arrangements(premises.settings.verification_file)
    return Binding(
        "medtrail.api.verification.v1.VerificationService",
        verification_pb2_grpc.add_VerificationServiceServicer_to_server,
        VerificationServicer(premises.office, lambda: premises.replica.products, arrangements),
    )
