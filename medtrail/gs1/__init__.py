"""GS1 identifiers: read in every spelling, checked, and written again.

One identifier is spelled as element string (barcode), EPC URN and GS1 Digital Link; ``EpcKey`` values are what they
have in common, and their ``path`` is the canonical key.
"""

from medtrail.gs1.digital_link import canonical_link
from medtrail.gs1.epc import parse_epc
from medtrail.gs1.expiry import Expiry
from medtrail.gs1.keys import EpcKey, Gln, Gtin, Lgtin, OtherKey, Sgln, Sgtin, Sscc
from medtrail.gs1.national import NATIONAL_SYSTEMS, gtins_of_ndc, ndc10_of, ndc10s_of, ndc11_of
from medtrail.gs1.near import near_miss
from medtrail.gs1.scan import Scan, Spelling, parse_scan, require_pack
from medtrail.gs1.scanner import Diagnosis, Fault
from medtrail.gs1.spelling import describe, elements_of, format_bracketed, format_element_string, to_digital_link
from medtrail.gs1.urn import PrefixLengths, to_urn, to_urn_or_none

__all__ = [
    "NATIONAL_SYSTEMS",
    "Diagnosis",
    "EpcKey",
    "Expiry",
    "Fault",
    "Gln",
    "Gtin",
    "Lgtin",
    "OtherKey",
    "PrefixLengths",
    "Scan",
    "Sgln",
    "Sgtin",
    "Spelling",
    "Sscc",
    "canonical_link",
    "describe",
    "elements_of",
    "format_bracketed",
    "format_element_string",
    "gtins_of_ndc",
    "ndc10_of",
    "ndc10s_of",
    "ndc11_of",
    "near_miss",
    "parse_epc",
    "parse_scan",
    "require_pack",
    "to_digital_link",
    "to_urn",
    "to_urn_or_none",
]
