"""Answers questions about the organisation's own products, as the maker knows them and as the whole log does.

The order of judgement: the request is well formed (400), who asks is known (401) and permitted (403), the product is
ours (404), and then the pack. A pack is answered from the one verdict; when the ledger cannot be asked there is no
answer (503), since somebody may have dispensed or stolen the pack meanwhile.

Source: GS1 Lightweight Messaging Standard for Verification of Product Identifiers.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from medtrail.errors import MalformedError
from medtrail.gs1 import Gln, Gtin
from medtrail.trust import Organisation
from medtrail.verdict import Verdict, VerdictCode, beside_drill, has_expired
from medtrail.vrs import (
    SALEABLE_RETURN,
    AdditionalInfo,
    SpelledRequest,
    VrsAnswer,
    VrsRequest,
    VrsResponse,
    answer_of,
    combined,
    context_of,
)
from services.custody import verifications
from services.custody.office import Office
from services.custody.verdicts import Seen
from services.custody.verifications import Record, RecordKind
from services.verification.arrangements import Arrangements

Products = Callable[[], Mapping[Gtin, object]]

OK, MALFORMED, UNKNOWN_GLN, FORBIDDEN, NOT_OURS, UNAVAILABLE = 200, 400, 401, 403, 404, 503


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: HTTP status, the body of a 200, and the code of a refusal."""

    status: int
    body: str = ""
    code: str = ""


class Refusal(Exception):  # noqa: N818  # an answer, not an error
    """That a question is not answered, and with which status."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.reply = Reply(status, code=code)


class Answerer:
    """Answers for one organisation.

    Args:
        office: Whose.
        products: Gives the products in the log as of now.
        arrangements: What it has arranged.
    """

    def __init__(self, office: Office, products: Products, arrangements: Arrangements) -> None:
        self._office = office
        self._products = products
        self._arrangements = arrangements

    async def answer(self, spelled: SpelledRequest, *, caller: str) -> Reply:
        """Answer a question about a pack, and keep the record of it."""
        now = self._office.desk.clock()
        try:
            reply = await self._answered(spelled, caller, now)
        except Refusal as refusal:
            reply = refusal.reply
        question = f"/gtin/{spelled.gtin}/lot/{spelled.lot}/ser/{spelled.serial}?exp={spelled.exp}"
        await self._keep(
            RecordKind.ANSWERED,
            now,
            reply,
            caller=caller,
            requester=spelled.req_gln,
            context=spelled.context,
            question=question,
            corr_uuid=spelled.corr_uuid,
        )
        return reply

    async def connectivity(self, *, gtin: str, req_gln: str, context: str, caller: str) -> Reply:
        """Tell whether questions about a product would be answered, and keep the record of that."""
        now = self._office.desk.clock()
        try:
            product, requester = _read_check(gtin, req_gln, context)
            self._admit(requester, context, caller, now.date())
            self._require_ours(product)
            reply = Reply(OK, _json({"responderGLN": str(self._office.desk.gln)}))
        except Refusal as refusal:
            reply = refusal.reply
        await self._keep(
            RecordKind.CONNECTIVITY, now, reply, caller=caller, requester=req_gln, context=context, question=gtin
        )
        return reply

    async def _answered(self, spelled: SpelledRequest, caller: str, now: datetime) -> Reply:
        try:
            request = spelled.parse(today=now.date())
        except MalformedError as error:
            raise Refusal(MALFORMED, error.code) from error
        self._admit(request.requester, request.context, caller, now.date())
        self._require_ours(request.sgtin.gtin)
        answer = await self._judge(request, now)
        response = VrsResponse(now, self._office.desk.gln, request.corr_uuid, answer)
        return Reply(OK, _json(response.to_document()))

    def _admit(self, requester: Gln, context: str, caller: str, today: date) -> None:
        partner = self._arrangements.partners.get(requester)
        organisation = self._office.desk.registry().organisation_of_gln(requester)
        if partner is None and organisation is None:
            raise Refusal(UNKNOWN_GLN, "REQUESTER_UNKNOWN")
        if organisation is not None and _licences_over(organisation, today):
            raise Refusal(FORBIDDEN, "LICENCE_EXPIRED")
        if partner is None:
            return
        if partner.caller not in {"", caller}:
            raise Refusal(FORBIDDEN, "CALLER_NOT_REQUESTER")
        if partner.expires is not None and today > partner.expires:
            raise Refusal(FORBIDDEN, "PARTNER_EXPIRED")
        if partner.contexts and context not in partner.contexts:
            raise Refusal(FORBIDDEN, "CONTEXT_FORBIDDEN")

    def _require_ours(self, gtin: Gtin) -> None:
        organisation = self._office.desk.organisation
        if organisation is None:
            raise Refusal(UNAVAILABLE, "REGISTRY_NOT_READY")
        if not organisation.owns(gtin) or gtin not in self._products():
            raise Refusal(NOT_OURS, "PRODUCT_UNKNOWN")

    async def _judge(self, request: VrsRequest, now: datetime) -> VrsAnswer:
        seen = Seen(request.sgtin, request.lot, request.expiry)
        saleable = request.context == SALEABLE_RETURN
        scanner = self._office.scanner
        verdict = beside_drill(await (scanner.judge_return if saleable else scanner.judge_seen)(seen, now))
        if not verdict.tree_size:
            raise Refusal(UNAVAILABLE, "LEDGER_UNREACHABLE")
        codes, extended = self._extended(request, verdict, now)
        returned = saleable and verdict.reason == "RETURNED"
        answers = [answer_of(codes, returned=returned)]
        if extended:
            answers.append(VrsAnswer(verified=True, info=AdditionalInfo.EXPIRATION_EXTENDED))
        answers += [item.answer for item in self._arrangements.policies if item.covers(request.sgtin, request.lot)]
        return combined(*answers)

    def _extended(self, request: VrsRequest, verdict: Verdict, now: datetime) -> tuple[frozenset[VerdictCode], bool]:
        """Return the codes that apply under an extension of the lot's expiry, and whether there is one."""
        extension = self._arrangements.extensions.get((request.sgtin.gtin, request.lot))
        codes = verdict.codes
        if extension is None:
            return codes, False
        if request.expiry == extension.expiry:
            # The pack was labelled anew.
            codes -= {VerdictCode.EXPIRY_MISMATCH}
        if not has_expired(extension.expiry, judge_time=now):
            codes -= {VerdictCode.EXPIRED}
        return codes or frozenset({VerdictCode.GENUINE}), True

    async def _keep(self, kind: RecordKind, now: datetime, reply: Reply, **texts: str) -> None:
        record = Record(
            kind,
            now,
            responder=str(self._office.desk.gln),
            http_status=reply.status,
            answer=reply.body or reply.code,
            **texts,  # type: ignore[arg-type]
        )
        await self._office.database.write(lambda connection: verifications.keep(connection, record))


def _read_check(gtin: str, req_gln: str, context: str) -> tuple[Gtin, Gln]:
    try:
        context_of(context)
        return Gtin(gtin), Gln(req_gln)
    except MalformedError as error:
        raise Refusal(MALFORMED, error.code) from error


def _licences_over(organisation: Organisation, today: date) -> bool:
    """Tell whether an organisation has licences and none is valid any more."""
    ends = [licence.expire_time for licence in organisation.licences]
    return bool(ends) and all(end is not None and end.date() < today for end in ends)


def _json(document: Mapping[str, object]) -> str:
    return json.dumps(document, separators=(",", ":"))
