"""Core Business Vocabulary: its words, their spellings, and the master data that pharma reads most.

A CBV word is spelled bare in JSON-LD (``shipping``), as URN in XML (``urn:epcglobal:cbv:bizstep:shipping``), as web
vocabulary URI (``https://ref.gs1.org/cbv/BizStep-shipping``) or as CURIE of that. The model holds the bare word; words
of other vocabularies stay the URIs that they are.

Source: CBV 2.0, sections 7 (vocabularies) and 9 (instance and lot master data).
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from medtrail.epcis.model import EpcisEvent, Extension

CBV_WEB = "https://ref.gs1.org/cbv/"
GS1_VOC = "https://gs1.org/voc/"
MDA = "urn:epcglobal:cbv:mda"


@dataclass(frozen=True, slots=True)
class WordList:
    """One CBV vocabulary.

    Attributes:
        web_prefix: Start of a word's web vocabulary URI.
        urn_prefix: Start of its URN.
        words: The bare words.
    """

    web_prefix: str
    urn_prefix: str
    words: frozenset[str]

    def bare(self, text: str) -> str:
        """Return a word without the prefixes under which it is spelled; other text as it is."""
        for prefix in (self.web_prefix, self.urn_prefix):
            if text.startswith(prefix):
                return text[len(prefix) :]
        return text

    def web(self, text: str) -> str:
        """Return a bare word as web vocabulary URI; a URI as it is."""
        return text if ":" in text else self.web_prefix + text

    def urn(self, text: str) -> str:
        """Return a bare word as URN; a URI as it is."""
        return text if ":" in text else self.urn_prefix + text


def _words(name: str, urn: str, words: str) -> WordList:
    return WordList(f"{CBV_WEB}{name}-", f"urn:epcglobal:cbv:{urn}:", frozenset(words.split()))


BIZ_STEPS = _words(
    "BizStep",
    "bizstep",
    """accepting arriving assembling collecting commissioning consigning creating_class_instance cycle_counting
    decommissioning departing destroying disassembling dispensing encoding entering_exiting holding inspecting
    installing killing loading other packing picking receiving removing repackaging repairing replacing reserving
    retail_selling sampling sensor_reporting shipping staging_outbound stock_taking stocking storing transporting
    unloading unpacking void_shipping""",
)
DISPOSITIONS = _words(
    "Disp",
    "disp",
    """active available completeness_inferred completeness_verified conformant container_closed container_open damaged
    destroyed dispensed disposed encoded expired in_progress in_transit inactive mismatch_class mismatch_instance
    mismatch_quantity needs_replacement no_pedigree_match non_conformant non_sellable_other partially_dispensed
    recalled reserved retail_sold returned sellable_accessible sellable_not_accessible stolen unavailable unknown""",
)
BIZ_TRANSACTION_TYPES = _words(
    "BTT", "btt", "bol cert desadv inv pedigree po poc prodorder recadv rma testprd testres upevt"
)
SOURCE_DEST_TYPES = _words("SDT", "sdt", "location owning_party possessing_party")
ERROR_REASONS = _words("ER", "er", "did_not_occur incorrect_data")
COMPONENTS = _words(
    "Comp",
    "comp",
    """x y z axial_distance azimuth height spherical_radius polar_angle elevation_angle easting northing latitude
    longitude altitude""",
)
SENSOR_TYPES = WordList(GS1_VOC, "gs1:", frozenset())
"""Measurement types and exceptions; open lists of the GS1 web vocabulary, so no word is refused."""


def lot_of(event: EpcisEvent) -> str | None:
    """Return the lot that an event's master data state, or None."""
    return _master_datum(event, "lotNumber")


def expiry_of(event: EpcisEvent) -> date | None:
    """Return the expiry that an event's master data state, or None where there is none or it is no date."""
    text = _master_datum(event, "itemExpirationDate")
    try:
        return None if text is None else date.fromisoformat(text[:10])
    except ValueError:
        return None


def _master_datum(event: EpcisEvent, name: str) -> str | None:
    for extension in event.ilmd:
        if extension.name == name and extension.namespace.rstrip("/#:") in {MDA, CBV_WEB.rstrip("/")}:
            value = extension.value
            return str(value) if isinstance(value, str | Decimal) else None
    return None


def ilmd_lot_expiry(lot: str, expiry: date) -> tuple[Extension, ...]:
    """Return the master data of a commissioning: lot and expiry."""
    return Extension(MDA, "lotNumber", lot), Extension(MDA, "itemExpirationDate", expiry.isoformat())
