"""National drug codes inside GTINs.

A US National Drug Code has ten digits, in three segments of 4-4-2, 5-3-2 or 5-4-1; inside a GTIN it stands after the
indicator and the prefix 03. Payers write eleven digits, 5-4-2, with one zero filled in. From bare digits the segments
cannot be told, so both directions may have several answers.

Source: 21 CFR 207.33; GS1 US, application of DSCSA, section 7.3.
"""

import re
from typing import Final

from medtrail.errors import MalformedError
from medtrail.gs1.checks import check_digit, shown
from medtrail.gs1.keys import Gtin

# What the national AIs hold.
NATIONAL_SYSTEMS: Final = {
    "710": "PZN",
    "711": "CIP",
    "712": "CN",
    "713": "DRN",
    "714": "AIM",
    "715": "NDC",
    "716": "AIC",
    "717": "SRN",
}

_US_PREFIX: Final = "03"
_PLAIN: Final = re.compile(r"[0-9]{10,11}")
_HYPHENATED: Final = re.compile(r"[0-9]{4}-[0-9]{4}-[0-9]{2}|[0-9]{5}-[0-9]{3}-[0-9]{2}|[0-9]{5}-[0-9]{4}-[0-9]")
_BILLING: Final = re.compile(r"[0-9]{5}-[0-9]{4}-[0-9]{2}")

# Where eleven digits hold the zero that ten do not: before the labeler, the product, or the package.
_FILLED: Final = (0, 5, 9)


def ndc10_of(gtin: Gtin) -> str | None:
    """Return the ten digits of the NDC inside a GTIN, or None if it holds none."""
    return gtin.digits[3:13] if gtin.digits[1:3] == _US_PREFIX else None


def ndc11_of(gtin: Gtin) -> tuple[str, ...]:
    """Return the eleven-digit NDCs that a GTIN may mean, one a segmentation; none if it holds no NDC."""
    ndc = ndc10_of(gtin)
    return () if ndc is None else tuple(dict.fromkeys(f"{ndc[:at]}0{ndc[at:]}" for at in _FILLED))


def ndc10s_of(text: str) -> tuple[str, ...]:
    """Return the ten-digit NDCs that a written NDC may mean: 10 or 11 digits, with hyphens or without.

    Raises:
        MalformedError: Written otherwise, or eleven digits without the zero that ten would lack (NDC_MALFORMED).
    """
    if _HYPHENATED.fullmatch(text):
        return (text.replace("-", ""),)
    digits = text.replace("-", "") if _BILLING.fullmatch(text) else text
    if _PLAIN.fullmatch(digits):
        if len(digits) == 10:
            return (digits,)
        found = tuple(dict.fromkeys(digits[:at] + digits[at + 1 :] for at in _FILLED if digits[at] == "0"))
        if found:
            return found
    message = f"expected an NDC of 10 or 11 digits, such as 0002-1433-80 or 00002143380, got {shown(text)}"
    raise MalformedError(message, code="NDC_MALFORMED")


def gtins_of_ndc(text: str, *, indicator: int = 0) -> tuple[Gtin, ...]:
    """Return the GTINs that a written NDC may mean.

    Args:
        text: 10 or 11 digits, with hyphens or without.
        indicator: 0 for the pack, 1 to 8 for groupings of it.

    Raises:
        MalformedError: The NDC or the indicator is not that (NDC_MALFORMED).
    """
    if not 0 <= indicator <= 8:
        message = f"expected an indicator of 0 to 8, got {indicator}"
        raise MalformedError(message, code="NDC_MALFORMED")
    payloads = (f"{indicator}{_US_PREFIX}{ndc}" for ndc in ndc10s_of(text))
    return tuple(Gtin(payload + check_digit(payload)) for payload in payloads)
