"""GS1 identifiers: read in every spelling, checked, and written again.

One identifier is spelled as element string (barcode), EPC URN and GS1 Digital Link; ``EpcKey`` values are what they
have in common, and their ``path`` is the canonical key.
"""

from medtrail.gs1.epc import parse_epc
from medtrail.gs1.keys import EpcKey, Gln, Gtin, Lgtin, OtherKey, Sgln, Sgtin, Sscc

__all__ = ["EpcKey", "Gln", "Gtin", "Lgtin", "OtherKey", "Sgln", "Sgtin", "Sscc", "parse_epc"]
