"""Asks the responder of a pack's maker, and says what its answer means. Every question is recorded, answered or not."""

import asyncio
import json
import uuid
from dataclasses import dataclass
from datetime import datetime

import httpx

from medtrail.errors import AuthorizationError, MalformedError, MedtrailError, NotFoundError, UnavailableError
from medtrail.verdict import Verdict
from medtrail.vrs import VrsRequest, context_of, response_from_document, verdict_of
from services.custody import verifications
from services.custody.office import Office
from services.custody.verdicts import unreadable
from services.custody.verifications import Record, RecordKind
from services.verification.arrangements import Arrangements, Responder, check_url

CONNECT_TIMEOUT_S = 2.0
TOTAL_TIMEOUT_S = 8.0
MAX_BODY_BYTES = 64 * 1024

_FORBIDDEN = {401, 403}
_MALFORMED = {400, 405}


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a question: the verdict; body, responder and id are empty when the scan could not be read."""

    verdict: Verdict
    body: str = ""
    responder: Responder | None = None
    corr_uuid: str = ""


class Requester:
    """Asks for one organisation."""

    def __init__(self, office: Office, arrangements: Arrangements, *, timeout_s: float = TOTAL_TIMEOUT_S) -> None:
        """Hold whom to ask, and how long to wait for a whole answer."""
        self._office = office
        self._arrangements = arrangements
        self._timeout_s = timeout_s

    async def ask(self, scan: str, *, context: str) -> Asked:
        """Ask about a scanned pack.

        Raises:
            NotFoundError: Nobody is known to answer (RESPONDER_UNKNOWN), or the responder does not know the product
                (VRS_PRODUCT_UNKNOWN).
            AuthorizationError: The responder does not let us ask (VRS_FORBIDDEN).
            UnavailableError: No answer (VRS_TIMEOUT, VRS_UNREACHABLE, VRS_UNAVAILABLE).
            MalformedError: What came is no answer (VRS_RESPONSE), or the responder cannot read us (VRS_REFUSED).
        """
        context_of(context)
        desk = self._office.desk
        now = desk.clock()
        try:
            seen = self._office.scanner.read(scan, now)
        except MalformedError as error:
            return Asked(unreadable(error, judge_time=now))
        responder = self._arrangements.responder_of(seen.sgtin.gtin, desk.registry())
        request = VrsRequest(seen.sgtin, seen.lot, seen.expiry, context, desk.gln, str(uuid.uuid4()))
        status, body, verdict = 0, "", None
        failure: MedtrailError | None = None
        try:
            status, body = await self._fetch(responder, request)
            verdict = _read(request, status, body, judge_time=now)
        except MedtrailError as error:
            failure = error
        await self._keep(responder, request, now, status, body if failure is None else f"{failure.code} {body}")
        if verdict is None or failure is not None:
            raise failure or AssertionError
        return Asked(verdict, body, responder, request.corr_uuid)

    async def _fetch(self, responder: Responder, request: VrsRequest) -> tuple[int, str]:
        headers = {"Accept": "application/json"}
        if responder.token:
            headers["Authorization"] = f"Bearer {responder.token}"
        url = check_url(responder.url) + request.target()
        try:
            # The whole answer counts, not each byte of it: a slow responder is no responder.
            async with (
                asyncio.timeout(self._timeout_s),
                _client() as client,
                client.stream("GET", url, headers=headers) as answer,
            ):
                body = b""
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > MAX_BODY_BYTES:
                        message = f"expected at most {MAX_BODY_BYTES} bytes"
                        raise MalformedError(message, code="VRS_RESPONSE", field="body")
                return answer.status_code, body.decode("utf-8", "replace")
        except (TimeoutError, httpx.TimeoutException) as error:
            message = f"{responder.gln} gave no answer in {self._timeout_s:g} seconds"
            raise UnavailableError(message, code="VRS_TIMEOUT") from error
        except httpx.HTTPError as error:
            message = f"{responder.gln} cannot be reached: {type(error).__name__}"
            raise UnavailableError(message, code="VRS_UNREACHABLE") from error

    async def _keep(self, responder: Responder, request: VrsRequest, now: datetime, status: int, answer: str) -> None:
        record = Record(
            RecordKind.REQUESTED,
            now,
            question=request.target().partition("&")[0],
            requester=str(request.requester),
            responder=str(responder.gln),
            context=request.context,
            http_status=status,
            answer=answer,
            corr_uuid=request.corr_uuid,
        )
        await self._office.database.write(lambda connection: verifications.keep(connection, record))


def _client() -> httpx.AsyncClient:
    # A redirect would carry question and token to whom the responder likes; and no proxy of the environment reads them.
    timeout = httpx.Timeout(TOTAL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    return httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False)


def _read(request: VrsRequest, status: int, body: str, *, judge_time: datetime) -> Verdict:
    if status in _FORBIDDEN:
        message = f"the responder does not let {request.requester} ask: HTTP {status}"
        raise AuthorizationError(message, code="VRS_FORBIDDEN")
    if status == httpx.codes.NOT_FOUND:
        message = f"the responder does not answer for GTIN {request.sgtin.gtin}"
        raise NotFoundError(message, code="VRS_PRODUCT_UNKNOWN")
    if status in _MALFORMED:
        message = f"the responder cannot read the question: HTTP {status}"
        raise MalformedError(message, code="VRS_REFUSED")
    if status != httpx.codes.OK:
        message = f"the responder gives no answer now: HTTP {status}"
        raise UnavailableError(message, code="VRS_UNAVAILABLE")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        message = "expected JSON"
        raise MalformedError(message, code="VRS_RESPONSE", field="body") from error
    response = response_from_document(document, corr_uuid=request.corr_uuid)
    return verdict_of(request, response, judge_time=judge_time)
