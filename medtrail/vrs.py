"""The messages by which a product identifier is verified, and how they go together with our verdicts.

A requester asks ``GET /verify/gtin/{gtin}/lot/{lot}/ser/{serial}?exp=…``; the responder, the maker or who speaks for
it, answers whether GTIN, serial, lot and expiry belong together, and what speaks against the pack. ``verified`` alone
is no permission: ``Recalled`` and ``Suspect`` come with ``verified: true``. Here the way out (:func:`answer_of`) says a
plain "verified" only of a pack that our own verdict would accept, and the way in (:func:`verdict_of`) accepts nothing
but a plain one.

Source: GS1 Lightweight Messaging Standard for Verification of Product Identifiers; its implementation guideline for
DSCSA, release 1.3 (failure reasons and additional information).
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from medtrail.errors import MalformedError
from medtrail.gs1 import Gln, Gtin, Lgtin, Sgtin
from medtrail.gs1.expiry import Expiry
from medtrail.verdict import Finding, KnownPack, Verdict, VerdictCode, conclude, has_expired

T = TypeVar("T")

LINK_TYPE: Final = "verificationService"
SALEABLE_RETURN: Final = "dscsaSaleableReturn"

_CONTEXT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class FailureReason(StrEnum):
    """Why a product identifier is not verified."""

    NO_MATCH_SERIAL = "No_match_GTIN_Serial"
    NO_MATCH_LOT_EXPIRY = "No_match_GTIN_Serial_Lot_Expiry"
    NO_MATCH_LOT = "No_match_GTIN_Serial_Lot"
    NO_MATCH_EXPIRY = "No_match_GTIN_Serial_Expiry"
    NONE_PROVIDED = "No_reason_provided"
    POLICY = "Manufacturer_policy"
    NOT_FOR_REDISTRIBUTION = "Not_for_re-distribution"


class AdditionalInfo(StrEnum):
    """What the responder says beside; in descending weight: of several the first is said."""

    RECALLED = "Recalled"
    ILLEGITIMATE = "Illegitimate"
    SUSPECT = "Suspect"
    EXPIRED = "Expired"
    EXPIRATION_EXTENDED = "ExpirationExtended"


@dataclass(frozen=True, slots=True)
class VrsRequest:
    """One question.

    Attributes:
        sgtin: GTIN and serial.
        lot: As on the pack.
        expiry: As on the pack, its last usable day.
        context: Why it is asked, such as ``dscsaSaleableReturn``.
        requester: GLN of who asks.
        corr_uuid: The requester's id of the question; comes back in the answer.
    """

    sgtin: Sgtin
    lot: str
    expiry: date
    context: str
    requester: Gln
    corr_uuid: str

    def target(self) -> str:
        """Return path and query of the request."""
        path = "/".join(
            quote(part, safe="")
            for part in ("verify", "gtin", str(self.sgtin.gtin), "lot", self.lot, "ser", self.sgtin.serial)
        )
        query = {
            "exp": f"{self.expiry:%y%m%d}",
            "linkType": LINK_TYPE,
            "context": self.context,
            "reqGLN": str(self.requester),
            "corrUUID": self.corr_uuid,
        }
        return f"/{path}?{urlencode(query)}"


@dataclass(frozen=True, slots=True)
class VrsAnswer:
    """What a responder says of a product identifier (``data`` of the response)."""

    verified: bool
    reason: FailureReason | None = None
    info: AdditionalInfo | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing at all is said against the pack."""
        return self.verified and self.reason is None and self.info is None


@dataclass(frozen=True, slots=True)
class VrsResponse:
    """A whole response.

    Attributes:
        timestamp: When it was verified; aware UTC.
        responder: GLN of who answers.
        corr_uuid: Of the question.
    """

    timestamp: datetime
    responder: Gln
    corr_uuid: str
    answer: VrsAnswer

    def to_document(self) -> dict[str, Any]:
        """Return the JSON body."""
        data: dict[str, Any] = {"verified": self.answer.verified}
        if self.answer.reason is not None:
            data["verificationFailureReason"] = self.answer.reason.value
        if self.answer.info is not None:
            data["additionalInfo"] = self.answer.info.value
        stamp = self.timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "verificationTimestamp": stamp,
            "responderGLN": str(self.responder),
            "corrUUID": self.corr_uuid,
            "data": data,
        }


# --- questions ---


@dataclass(frozen=True, slots=True)
class SpelledRequest:
    """The parts of a request as they came, percent-decoded, unchecked; an absent one is empty.

    Attributes:
        exp: YYMMDD; day 00, met on older stock, is the month's last.
        link_type: ``verificationService``; empty means so too.
    """

    gtin: str
    lot: str
    serial: str
    exp: str
    link_type: str
    context: str
    req_gln: str
    corr_uuid: str

    def parse(self, *, today: date) -> VrsRequest:
        """Return the question.

        Args:
            today: Decides the century of the expiry.

        Raises:
            MalformedError: A part is missing or no such thing; the field names it.
        """
        if self.link_type not in {"", LINK_TYPE}:
            message = f"expected {LINK_TYPE}, got {self.link_type[:40]!r}"
            raise MalformedError(message, code="LINK_TYPE_UNKNOWN", field="linkType")
        gtin = _part("gtin", lambda: Gtin(self.gtin))
        _part("lot", lambda: Lgtin(gtin, self.lot))
        return VrsRequest(
            sgtin=_part("ser", lambda: Sgtin(gtin, self.serial)),
            lot=self.lot,
            expiry=_part("exp", lambda: Expiry.parse(self.exp, today=today)).day,
            context=context_of(self.context),
            requester=_part("reqGLN", lambda: Gln(self.req_gln)),
            corr_uuid=_uuid_of(self.corr_uuid),
        )


def _part(field: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field=field) from error


def context_of(text: str) -> str:
    """Return a context: one word of at most 64 characters.

    Raises:
        MalformedError: CONTEXT_MALFORMED.
    """
    if _CONTEXT.fullmatch(text) is None:
        message = f"expected a context such as {SALEABLE_RETURN}, got {text[:40]!r}"
        raise MalformedError(message, code="CONTEXT_MALFORMED", field="context")
    return text


def _uuid_of(text: str) -> str:
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text.lower():
        message = f"expected a UUID, got {text[:50]!r}"
        raise MalformedError(message, code="CORR_UUID_MALFORMED", field="corrUUID")
    return text


# --- the way out: from our verdict to an answer ---

_REDISTRIBUTION = VrsAnswer(verified=False, reason=FailureReason.NOT_FOR_REDISTRIBUTION, info=AdditionalInfo.SUSPECT)

# What each code that applies contributes; mismatches of lot and expiry are put together apart.
ANSWER_OF: Final[dict[VerdictCode, VrsAnswer]] = {
    VerdictCode.GENUINE: VrsAnswer(verified=True),
    VerdictCode.UNCONFIRMED: VrsAnswer(verified=False, reason=FailureReason.NONE_PROVIDED),
    # Where it is does not make it another pack.
    VerdictCode.ELSEWHERE: VrsAnswer(verified=True),
    VerdictCode.HELD: VrsAnswer(verified=False, reason=FailureReason.POLICY),
    VerdictCode.LOT_MISMATCH: VrsAnswer(verified=False, reason=FailureReason.NO_MATCH_LOT),
    VerdictCode.EXPIRY_MISMATCH: VrsAnswer(verified=False, reason=FailureReason.NO_MATCH_EXPIRY),
    VerdictCode.EXPIRED: VrsAnswer(verified=True, info=AdditionalInfo.EXPIRED),
    VerdictCode.PARTIALLY_DISPENSED: _REDISTRIBUTION,
    VerdictCode.CONSUMED: _REDISTRIBUTION,
    VerdictCode.SUSPECT: VrsAnswer(verified=True, info=AdditionalInfo.SUSPECT),
    VerdictCode.ALREADY_DISPENSED: _REDISTRIBUTION,
    VerdictCode.DECOMMISSIONED: _REDISTRIBUTION,
    VerdictCode.STOLEN: VrsAnswer(
        verified=False, reason=FailureReason.NOT_FOR_REDISTRIBUTION, info=AdditionalInfo.ILLEGITIMATE
    ),
    VerdictCode.RECALLED: VrsAnswer(verified=True, info=AdditionalInfo.RECALLED),
    VerdictCode.UNKNOWN: VrsAnswer(verified=False, reason=FailureReason.NO_MATCH_SERIAL),
    VerdictCode.UNREADABLE: VrsAnswer(verified=False, reason=FailureReason.NONE_PROVIDED),
}

# Of several reasons the first is given: what is wrong with the identifier goes before what is wrong with the pack.
_REASON_RANK: Final = {
    FailureReason.NO_MATCH_SERIAL: 0,
    FailureReason.NO_MATCH_LOT_EXPIRY: 1,
    FailureReason.NO_MATCH_LOT: 2,
    FailureReason.NO_MATCH_EXPIRY: 3,
    FailureReason.NOT_FOR_REDISTRIBUTION: 4,
    FailureReason.POLICY: 5,
    FailureReason.NONE_PROVIDED: 6,
}
_INFO_RANK: Final = {info: rank for rank, info in enumerate(AdditionalInfo)}


def answer_of(codes: frozenset[VerdictCode], *, returned: bool = False) -> VrsAnswer:
    """Return what a responder says of a pack.

    Args:
        codes: Every code that applies, at least one.
        returned: The pack is held only because it was sent back, and is asked about as a saleable return: to become
            saleable again is what the question is for.
    """
    counted = codes - {VerdictCode.HELD} if returned else codes
    if VerdictCode.UNKNOWN in counted:
        # Without a serial there is nothing of which lot and expiry could be.
        counted -= {VerdictCode.LOT_MISMATCH, VerdictCode.EXPIRY_MISMATCH, VerdictCode.EXPIRED}
    return combined(*(ANSWER_OF[code] for code in counted))


def combined(*answers: VrsAnswer) -> VrsAnswer:
    """Return what several answers amount to: verified only if all say so, the weightiest reason and information."""
    reasons = {answer.reason for answer in answers if answer.reason is not None}
    if {FailureReason.NO_MATCH_LOT, FailureReason.NO_MATCH_EXPIRY} <= reasons:
        reasons.add(FailureReason.NO_MATCH_LOT_EXPIRY)
    infos = [answer.info for answer in answers if answer.info is not None]
    return VrsAnswer(
        verified=all(answer.verified for answer in answers),
        reason=min(reasons, key=_REASON_RANK.__getitem__, default=None),
        info=min(infos, key=_INFO_RANK.__getitem__, default=None),
    )


# --- the way in: from a response to our verdict ---


def response_from_document(document: object, *, corr_uuid: str) -> VrsResponse:
    """Return the response that a JSON body spells.

    Args:
        document: Parsed JSON.
        corr_uuid: Of our question.

    Raises:
        MalformedError: It is no response, or answers another question; unknown words are refused, not passed over.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("data"), Mapping):
        message = "expected an object with data"
        raise MalformedError(message, code="VRS_RESPONSE", field="data")
    data = document["data"]
    verified = data.get("verified")
    if not isinstance(verified, bool):
        message = "expected true or false"
        raise MalformedError(message, code="VRS_RESPONSE", field="data.verified")
    if document.get("corrUUID") != corr_uuid:
        message = f"expected the answer to {corr_uuid}"
        raise MalformedError(message, code="VRS_RESPONSE", field="corrUUID")
    reason = _word(data, "verificationFailureReason", FailureReason)
    info = _word(data, "additionalInfo", AdditionalInfo)
    return VrsResponse(
        timestamp=_moment(document.get("verificationTimestamp")),
        responder=_part("responderGLN", lambda: Gln(str(document.get("responderGLN", "")))),
        corr_uuid=corr_uuid,
        answer=VrsAnswer(verified, FailureReason(reason) if reason else None, AdditionalInfo(info) if info else None),
    )


def _word(data: Mapping[str, Any], name: str, known: type[StrEnum]) -> str:
    value = data.get(name)
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or value not in {item.value for item in known}:
        message = f"expected one of {', '.join(known)}; got {str(value)[:40]!r}"
        raise MalformedError(message, code="VRS_RESPONSE", field=f"data.{name}")
    return value


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        message = f"expected a moment with its offset, got {str(value)[:40]!r}"
        raise MalformedError(message, code="VRS_RESPONSE", field="verificationTimestamp")
    return moment.astimezone(UTC)


_FINDINGS_OF_REASON: Final[dict[FailureReason, tuple[tuple[VerdictCode, str], ...]]] = {
    FailureReason.NO_MATCH_SERIAL: (
        (VerdictCode.UNKNOWN, "Its maker knows no such GTIN and serial. Put it aside and report it."),
    ),
    FailureReason.NO_MATCH_LOT_EXPIRY: (
        (VerdictCode.EXPIRY_MISMATCH, "Its maker knows another lot and expiry. Check the scan, then put it aside."),
        (VerdictCode.LOT_MISMATCH, "Its maker knows another lot."),
    ),
    FailureReason.NO_MATCH_LOT: (
        (VerdictCode.LOT_MISMATCH, "Its maker knows another lot. Check the scan, then put it aside."),
    ),
    FailureReason.NO_MATCH_EXPIRY: (
        (VerdictCode.EXPIRY_MISMATCH, "Its maker knows another expiry. Check the scan, then put it aside."),
    ),
    FailureReason.NONE_PROVIDED: (
        (VerdictCode.HELD, "Its maker does not verify it, and says no reason. Put it aside and ask."),
    ),
    FailureReason.POLICY: (
        (VerdictCode.HELD, "Its maker does not verify it by its own policy. Put it aside and ask."),
    ),
    FailureReason.NOT_FOR_REDISTRIBUTION: (
        (VerdictCode.SUSPECT, "Its maker says that it is suspect and not for redistribution. Put it aside, report it."),
    ),
}
_FINDING_OF_INFO: Final[dict[AdditionalInfo, tuple[VerdictCode, str]]] = {
    AdditionalInfo.RECALLED: (VerdictCode.RECALLED, "Its maker says that it is recalled. Put it aside."),
    AdditionalInfo.ILLEGITIMATE: (VerdictCode.SUSPECT, "Its maker calls it illegitimate. Put it aside and report it."),
    AdditionalInfo.SUSPECT: (VerdictCode.SUSPECT, "Its maker calls it suspect. Put it aside and report it."),
    AdditionalInfo.EXPIRED: (VerdictCode.EXPIRED, "Its maker says that it is past its expiry."),
}


def verdict_of(request: VrsRequest, response: VrsResponse, *, judge_time: datetime) -> Verdict:
    """Return what a response means for the person who holds the pack: only a plain "verified" accepts it."""
    answer = response.answer
    findings: list[Finding] = []
    if answer.reason is not None:
        for code, message in _FINDINGS_OF_REASON[answer.reason]:
            findings.append(Finding(code, message, reason=_stable(answer.reason)))
    if answer.info in _FINDING_OF_INFO:
        code, message = _FINDING_OF_INFO[answer.info]
        findings.append(Finding(code, message, reason=_stable(answer.info)))
    if has_expired(request.expiry, judge_time=judge_time):
        findings.append(_past_expiry(answer))
    if not answer.verified and not findings:
        text = "Its maker does not verify it. Put it aside and ask."
        findings.append(Finding(VerdictCode.HELD, text, reason="NOT_VERIFIED"))
    if not findings:
        findings.append(Finding(VerdictCode.GENUINE, "Verified by its maker, and nothing is said against it."))
    return conclude(
        findings,
        judge_time=judge_time,
        known=KnownPack(epc=request.sgtin.digital_link, lot=request.lot, expiry=request.expiry),
    )


def _past_expiry(answer: VrsAnswer) -> Finding:
    if answer.info is AdditionalInfo.EXPIRATION_EXTENDED:
        # Nothing in the answer says until when: a person looks it up.
        text = "Past the expiry on the pack; its maker says the FDA extended it. Put it aside, look up the new one."
        return Finding(VerdictCode.EXPIRED, text, reason="EXPIRATION_EXTENDED", provisional=True)
    return Finding(VerdictCode.EXPIRED, "Past the expiry on the pack. Do not sell or dispense it.")


def _stable(word: StrEnum) -> str:
    return word.name
