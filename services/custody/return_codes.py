"""Why a pack that came back is not restocked: a stable code each, and when it applies. No I/O.

A pack is restocked only if none applies. Codes are part of the interface: they are added, never renamed;
docs/returns.md tells of each.

Source: DSCSA section 582(c)(4)(D) (verification of saleable returns); Directive (EU) 2013/C 343/01, section 6.3
(returned medicinal products).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from medtrail.gs1 import Gln
from medtrail.verdict import Verdict, VerdictAction, VerdictCode
from services.custody.holding import Holding
from services.custody.holds import HoldCode, code_of, lines_of


class ReturnCode(StrEnum):
    """Why a returned pack is not restocked, the gravest first."""

    RECALLED = "RECALLED"
    SUSPECT = "SUSPECT"
    NOT_SOLD_TO_CUSTOMER = "NOT_SOLD_TO_CUSTOMER"
    UNIT_OPENED = "UNIT_OPENED"
    TEMPERATURE_EXCURSION = "TEMPERATURE_EXCURSION"
    EXPIRED = "EXPIRED"
    EXPIRY_MARGIN = "EXPIRY_MARGIN"
    HELD = "HELD"
    NOT_VERIFIED = "NOT_VERIFIED"
    UNCONFIRMED = "UNCONFIRMED"
    AUTHORISATION_MISSING = "AUTHORISATION_MISSING"
    AUTHORISATION_UNKNOWN = "AUTHORISATION_UNKNOWN"
    AUTHORISATION_EXPIRED = "AUTHORISATION_EXPIRED"
    AUTHORISATION_OTHER_UNIT = "AUTHORISATION_OTHER_UNIT"
    RETURNED_TO_MAKER = "RETURNED_TO_MAKER"
    NOT_DESPATCHED = "NOT_DESPATCHED"
    UNIT_UNKNOWN = "UNIT_UNKNOWN"
    UNREADABLE = "UNREADABLE"


_RANK = {code: rank for rank, code in enumerate(ReturnCode)}
# That it comes from somebody else is what a return is; all other codes speak against a pack.
_EXPECTED = frozenset({VerdictCode.GENUINE, VerdictCode.ELSEWHERE})
_OF_VERDICT = {
    VerdictCode.RECALLED: ReturnCode.RECALLED,
    VerdictCode.SUSPECT: ReturnCode.SUSPECT,
    VerdictCode.PARTIALLY_DISPENSED: ReturnCode.UNIT_OPENED,
    VerdictCode.EXPIRED: ReturnCode.EXPIRED,
    VerdictCode.HELD: ReturnCode.HELD,
}
_OF_HOLD = {
    HoldCode.RECALLED: ReturnCode.RECALLED,
    HoldCode.SUSPECT: ReturnCode.SUSPECT,
    HoldCode.TEMPERATURE_EXCURSION: ReturnCode.TEMPERATURE_EXCURSION,
    HoldCode.EXPIRED: ReturnCode.EXPIRED,
}


def is_saleable(verdict: Verdict) -> bool:
    """Tell whether a verdict allows a returned pack to be sold again."""
    if verdict.provisional:
        return False
    if verdict.action is VerdictAction.ACCEPT:
        return True
    codes = {verdict.code, *verdict.further_codes}
    return codes <= _EXPECTED and VerdictCode.GENUINE in codes


@dataclass(frozen=True, slots=True)
class ReturnFacts:
    """What is known of a pack that came back.

    Attributes:
        before: Its holding before it came.
        sold_to: Party to which we despatched it last, as the organisation that it belongs to; None: never.
        customer: Party that sends it back; None where nobody says.
        verdict: Of the scan.
        expiry: The earliest that books and pack say; None where nobody does.
        today: In the organisation's time zone.
        margin: For so long it must be usable still.
        hold_reasons: What holds it now that it is here, apart from the return itself.
        excursion: A sensor reported it outside of its limits, and nobody released it.
        authorisation: What is wrong with its authorisation; None: nothing.
        to_maker: We are its maker: it is never sold again without release.
    """

    before: Holding
    sold_to: Gln | None
    customer: Gln | None
    verdict: Verdict
    expiry: date | None
    today: date
    margin: timedelta
    hold_reasons: str = ""
    excursion: bool = False
    authorisation: ReturnCode | None = None
    to_maker: bool = False


def judge_return(facts: ReturnFacts) -> tuple[ReturnCode, ...]:
    """Return why a pack may not be restocked, the gravest first; none where it may."""
    found = {*_of_sale(facts), *_of_pack(facts), *_of_verdict(facts)}
    if facts.authorisation is not None:
        found.add(facts.authorisation)
    if facts.to_maker:
        found.add(ReturnCode.RETURNED_TO_MAKER)
    return gravest_first(found)


def gravest_first(codes: Iterable[ReturnCode]) -> tuple[ReturnCode, ...]:
    """Return codes in order of their weight, each once."""
    return tuple(sorted(set(codes), key=_RANK.__getitem__))


def _of_sale(facts: ReturnFacts) -> Iterator[ReturnCode]:
    other = facts.customer is not None and facts.customer != facts.sold_to
    # A maker takes back what it made from whomever it went on to.
    if facts.sold_to is None or (other and not facts.to_maker):
        yield ReturnCode.NOT_SOLD_TO_CUSTOMER


def _of_pack(facts: ReturnFacts) -> Iterator[ReturnCode]:
    before = facts.before
    if before.opened or before.remainder is not None:
        yield ReturnCode.UNIT_OPENED
    if before.suspect:
        yield ReturnCode.SUSPECT
    if before.provisional:
        # A despatch to us that the ledger has not confirmed may still be refused, whatever it says of the pack.
        yield ReturnCode.UNCONFIRMED
    if facts.excursion:
        yield ReturnCode.TEMPERATURE_EXCURSION
    if facts.expiry is not None:
        if facts.expiry < facts.today:
            yield ReturnCode.EXPIRED
        elif facts.expiry < facts.today + facts.margin:
            yield ReturnCode.EXPIRY_MARGIN
    for reason in lines_of(facts.hold_reasons):
        code = code_of(reason)
        if code is not HoldCode.RETURN_UNVERIFIED:
            yield _OF_HOLD.get(code, ReturnCode.HELD)


def _of_verdict(facts: ReturnFacts) -> Iterator[ReturnCode]:
    verdict = facts.verdict
    if is_saleable(verdict):
        return
    codes = {verdict.code, *verdict.further_codes}
    told = codes & _OF_VERDICT.keys()
    yield from (_OF_VERDICT[code] for code in told)
    # What is said of a pack may leave out that it is genuine; what nobody vouches for is not verified.
    if verdict.provisional or codes - _EXPECTED - told or not (told or VerdictCode.GENUINE in codes):
        yield ReturnCode.NOT_VERIFIED


def judge_authorisation(
    *,
    named: str,
    required: bool,
    customer: Gln | None,
    authorised: Gln | None,
    covers: bool,
    expire_time: datetime | None,
    sent_time: datetime,
) -> ReturnCode | None:
    """Return what is wrong with the authorisation of a return, or None.

    Args:
        named: Its number; empty: the return names none.
        required: Whether it must.
        customer: Who sends the goods back; None where nobody says.
        authorised: Whom we gave the number; None: we did not.
        covers: It names the pack, or no pack in particular.
        expire_time: Last moment at which the goods may be sent.
        sent_time: When they were.
    """
    if not named:
        return ReturnCode.AUTHORISATION_MISSING if required else None
    if authorised is None or (customer is not None and customer != authorised):
        return ReturnCode.AUTHORISATION_UNKNOWN
    if expire_time is not None and sent_time > expire_time:
        return ReturnCode.AUTHORISATION_EXPIRED
    return None if covers else ReturnCode.AUTHORISATION_OTHER_UNIT
