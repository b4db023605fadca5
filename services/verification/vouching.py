"""The word of a maker who is no member of the network, where the log has nobody's first-hand word on a pack."""

from dataclasses import replace

from medtrail.errors import MedtrailError
from medtrail.gs1 import Gtin
from medtrail.runtime.logging import get_logger
from medtrail.trust import Registry
from medtrail.verdict import Finding, KnownPack, Verdict, VerdictAction, VerdictCode, conclude
from medtrail.vrs import SALEABLE_RETURN
from services.custody.verdicts import Seen
from services.verification.requester import Requester

log = get_logger(__name__)

# What a verdict may say when only the maker's own word is missing.
_UNVOUCHED = frozenset({VerdictCode.UNKNOWN, VerdictCode.UNCONFIRMED, VerdictCode.ELSEWHERE})
# The second only says that its case was not unpacked on record, which speaks against nobody.
_MISSING_WORD = frozenset({"COMMISSION_MISSING", "PARENT_NOT_UNPACKED"})


def lacks_maker(verdict: Verdict, registry: Registry, gtin: Gtin) -> bool:
    """Tell whether nothing speaks against a pack but that its maker, who is not enrolled, has not spoken.

    The ledger must have been asked: without it nobody knows what else there is.
    """
    enrolled = registry.owner_of(gtin) is not None
    spoken = verdict.codes <= _UNVOUCHED and not set(verdict.alerts) - _MISSING_WORD
    return spoken and not enrolled and bool(verdict.tree_size)


async def vouched(requester: Requester, scan: str, seen: Seen, verdict: Verdict, registry: Registry) -> Verdict:
    """Return a verdict on a saleable return, with its maker's word where the log has none.

    The maker's responder is asked only when nothing else speaks against the pack; unless it verifies the pack plainly,
    and whenever it does not answer, the verdict stays as it was.
    """
    if not lacks_maker(verdict, registry, seen.sgtin.gtin):
        return verdict
    try:
        asked = await requester.ask(scan, context=SALEABLE_RETURN)
    except MedtrailError as error:
        log.info("maker not asked", code=error.code)
        return verdict
    if asked.verdict.action is not VerdictAction.ACCEPT:
        return replace(asked.verdict, tree_size=verdict.tree_size, holder=verdict.holder)
    findings = [Finding(VerdictCode.GENUINE, asked.verdict.message, reason="VERIFIED_BY_MAKER")]
    if VerdictCode.ELSEWHERE in verdict.codes:
        findings.append(Finding(VerdictCode.ELSEWHERE, verdict.message))
    return conclude(
        findings,
        judge_time=verdict.judge_time,
        known=KnownPack(seen.sgtin.digital_link, seen.lot, seen.expiry, verdict.holder),
        tree_size=verdict.tree_size,
    )
