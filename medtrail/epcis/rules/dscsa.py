"""What the US Drug Supply Chain Security Act and GS1 US's guideline demand of a file of transaction data.

The law names the transaction information and the transaction statement; the guideline says in which events and fields
of EPCIS each stands. Rules about one event are checked as it passes; those about master data and about what a shipment
contains when the document is over, from sets of bounded size.

Source: FD&C Act, sections 581(26), 581(27) and 582; GS1 US, Implementation Guideline: Applying GS1 Standards for DSCSA
and Traceability, release 1.3.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date
from typing import Final

from medtrail.epcis import cbv
from medtrail.epcis.model import Action, EpcisDocument, EpcisEvent, EventType, Extension
from medtrail.epcis.rules.finding import Fault
from medtrail.epcis.rules.meaning import key_of
from medtrail.errors import MalformedError
from medtrail.gs1 import Gtin, Lgtin, Sgln, Sgtin, Sscc
from medtrail.gs1.national import ndc10_of, ndc10s_of

NAMESPACE: Final = "http://epcis.gs1us.org/hc/ns"
GUIDELINE: Final = "GS1 US DSCSA R1.3"
MAX_KEPT: Final = 250_000
"""Identifiers of things of which a document's rules keep note; some 30 MB."""

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NDC_TYPES: Final = frozenset({"US_FDA_NDC", "FDA_NDC_11"})
_MDA: Final = (f"{cbv.MDA}#", f"{cbv.MDA}:", cbv.CBV_WEB, "cbvmda:", "cbv:", "gs1:", cbv.GS1_VOC)

# What each step is: its event type, its action, and the disposition after it.
_STEPS: Final[Mapping[str, tuple[EventType, Action, str]]] = {
    "commissioning": (EventType.OBJECT, Action.ADD, "active"),
    "packing": (EventType.AGGREGATION, Action.ADD, "in_progress"),
    "shipping": (EventType.OBJECT, Action.OBSERVE, "in_transit"),
    "receiving": (EventType.OBJECT, Action.OBSERVE, "in_progress"),
}

_PRODUCT: Final = (
    ("regulatedProductName", "DSCSA_PRODUCT_NAME_MISSING"),
    ("strengthDescription", "DSCSA_STRENGTH_MISSING"),
    ("dosageFormType", "DSCSA_DOSAGE_FORM_MISSING"),
    ("netContentDescription", "DSCSA_CONTAINER_SIZE_MISSING"),
    ("manufacturerOfTradeItemPartyName", "DSCSA_MANUFACTURER_MISSING"),
    ("additionalTradeItemIdentification", "DSCSA_NDC_MISSING"),
)
_ADDRESS: Final = ("streetAddressOne", "city", "state", "postalCode", "countryCode")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where in a document an event stands: its number, its place, and its line in XML."""

    index: int
    place: str
    line: int | None


class Dscsa:
    """Follows one document.

    Args:
        max_kept: Identifiers of which note is kept; rules about more are not decided, and say so.
    """

    def __init__(self, *, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._products: dict[str, Spot] = {}
        self._parties: dict[str, Spot] = {}
        self._known: set[str] = set()
        self._shipped: dict[str, Spot] = {}
        self._ships = False
        self._full = False

    # --- events ---

    def event(self, event: EpcisEvent, spot: Spot) -> Iterator[Fault]:
        """Yield what is wrong with an event, and take note of what it names."""
        step = event.biz_step
        expected = _STEPS.get(step or "")
        if expected is None:
            return
        yield from self._kind(event, *expected)
        if event.read_point is None:
            yield Fault("DSCSA_READ_POINT_MISSING", ("readPoint",), f"{step} names the place where it was seen")
        if step != "shipping" and event.biz_location is None:
            yield Fault("DSCSA_BIZ_LOCATION_MISSING", ("bizLocation",), f"{step} names the place where things are then")
        yield from self._serialised(event)
        for epc in (*event.epc_list, *event.child_epcs):
            self._note_product(epc, spot)
        if step == "commissioning":
            yield from self._commissioning(event)
        elif step == "packing":
            yield from self._packing(event)
        elif step == "shipping":
            yield from self._shipping(event, spot)
        else:
            yield from _receiving(event)

    def _kind(self, event: EpcisEvent, kind: EventType, action: Action, disposition: str) -> Iterator[Fault]:
        if event.type is not kind or event.action is not action:
            message = f"{event.biz_step} is an {kind} with action {action}, got {event.type} {event.action}"
            yield Fault("DSCSA_EVENT_KIND_WRONG", ("bizStep",), message)
        if event.disposition != disposition:
            message = f"after {event.biz_step} things are {disposition}, got {event.disposition}"
            yield Fault("DSCSA_DISPOSITION_WRONG", ("disposition",), message)

    def _serialised(self, event: EpcisEvent) -> Iterator[Fault]:
        for name, epcs in (("epcList", event.epc_list), ("childEPCs", event.child_epcs)):
            for number, text in enumerate(epcs):
                if not isinstance(key_of(text), Sgtin | Sscc):
                    yield Fault("DSCSA_NOT_SERIALISED", (name, number), f"{text[:80]} is neither an SGTIN nor an SSCC")
        for name, elements in (("quantityList", event.quantity_list), ("childQuantityList", event.child_quantity_list)):
            if elements:
                yield Fault("DSCSA_NOT_SERIALISED", (name,), "packs go by their serial numbers, not by a count")

    def _commissioning(self, event: EpcisEvent) -> Iterator[Fault]:
        self._note_all(self._known, event.epc_list)
        gtins = {key.gtin.digits for key in map(key_of, event.epc_list) if isinstance(key, Sgtin)}
        if not gtins:
            return
        if len(gtins) > 1:
            message = f"one lot is one product's; the event names {len(gtins)} products"
            yield Fault("DSCSA_PRODUCTS_MIXED", ("epcList",), message)
        if not cbv.lot_of(event):
            yield Fault("DSCSA_LOT_MISSING", ("ilmd",), "packs are commissioned with their lot: cbvmda:lotNumber")
        expiry = _text_of(event.ilmd, "itemExpirationDate")
        if expiry is None:
            message = "packs are commissioned with their expiry: cbvmda:itemExpirationDate"
            yield Fault("DSCSA_EXPIRY_MISSING", ("ilmd",), message)
        elif _day(expiry) is None:
            message = f"expected a day as yyyy-mm-dd, got {expiry[:40]!r}"
            yield Fault("DSCSA_EXPIRY_MALFORMED", ("ilmd", "itemExpirationDate"), message)

    def _packing(self, event: EpcisEvent) -> Iterator[Fault]:
        if event.parent_id is None:
            return
        self._note_all(self._known, (event.parent_id,))
        if not isinstance(key_of(event.parent_id), Sgtin | Sscc):
            message = f"a case or pallet is an SSCC or an SGTIN, got {event.parent_id[:80]}"
            yield Fault("DSCSA_PARENT_WRONG", ("parentID",), message)

    def _shipping(self, event: EpcisEvent, spot: Spot) -> Iterator[Fault]:
        self._ships = True
        for epc in event.epc_list:
            key = key_of(epc)
            if key is not None and self._has_room():
                self._shipped.setdefault(key.path, spot)
        for item in (*event.source_list, *event.destination_list):
            if len(self._parties) < self._max_kept:
                self._parties.setdefault(_gln_of(item.id), spot)
        yield from _sides(event)
        types = {item.type for item in event.biz_transaction_list}
        if "po" not in types:
            yield Fault("DSCSA_ORDER_MISSING", ("bizTransactionList",), "a shipment names the purchase order: type po")
        if not types & {"desadv", "inv", "bol"}:
            message = "a shipment names its despatch advice (desadv), or its invoice or bill of lading"
            yield Fault("DSCSA_ADVICE_MISSING", ("bizTransactionList",), message)
        yield from _extension_faults(event)

    # --- notes ---

    def _has_room(self) -> bool:
        if len(self._known) + len(self._shipped) < self._max_kept:
            return True
        self._full = True
        return False

    def _note_all(self, kept: set[str], epcs: Iterable[str]) -> None:
        for epc in epcs:
            key = key_of(epc)
            if key is not None and self._has_room():
                kept.add(key.path)

    def _note_product(self, epc: str, spot: Spot) -> None:
        key = key_of(epc)
        if isinstance(key, Sgtin) and len(self._products) < self._max_kept:
            self._products.setdefault(key.gtin.digits, spot)

    # --- the whole document ---

    def end(self, head: EpcisDocument) -> Iterator[tuple[Spot | None, Fault]]:
        """Yield what is wrong with the document as a whole, with the event that shows it, or None."""
        for fault in _header_faults(head, ships=self._ships):
            yield None, fault
        products, parties = _master_data(head)
        for gtin, spot in self._products.items():
            for fault in _product_faults(gtin, products.get(gtin)):
                yield spot, fault
        for gln, spot in self._parties.items():
            for fault in _party_faults(gln, parties.get(gln)):
                yield spot, fault
        if self._full:
            message = f"more than {self._max_kept} things: whether all that is shipped is known was not decided"
            yield None, Fault("DSCSA_NOT_DECIDED", (), message)
            return
        for path, spot in self._shipped.items():
            if path not in self._known:
                message = f"{path} is shipped; no event of the document commissions or packs it"
                yield spot, Fault("DSCSA_CONTENTS_UNKNOWN", ("epcList",), message)


def _sides(event: EpcisEvent) -> Iterator[Fault]:
    for name, side, items in (
        ("sourceList", "SOURCE", event.source_list),
        ("destinationList", "DESTINATION", event.destination_list),
    ):
        types = {item.type for item in items}
        if "owning_party" not in types:
            yield Fault(f"DSCSA_{side}_OWNER_MISSING", (name,), "names who owns the goods: type owning_party")
        if "location" not in types:
            yield Fault(f"DSCSA_{side}_LOCATION_MISSING", (name,), "names the place: type location")


def _receiving(event: EpcisEvent) -> Iterator[Fault]:
    if any(fault.code.endswith("_OWNER_MISSING") for fault in _sides(event)):
        message = "a receipt that names both owning parties can be matched with its shipment"
        yield Fault("DSCSA_RECEIPT_PARTIES_MISSING", ("sourceList",), message)


def _extension_faults(event: EpcisEvent) -> Iterator[Fault]:
    for extension in event.extensions:
        if extension.namespace.rstrip("/#") != NAMESPACE:
            continue
        text = str(extension.value).lower()
        if extension.name == "dropShipment" and text not in {"true", "false", "1", "0"}:
            yield Fault(
                "DSCSA_DROP_SHIPMENT_MALFORMED", ("dropShipment",), f"expected true or false, got {text[:40]!r}"
            )
        if extension.name == "transactionDate":
            day = _day(text)
            if day is None or day > event.event_time.astimezone(UTC).date():
                message = f"expected a day up to that of the shipment, got {text[:40]!r}"
                yield Fault("DSCSA_TRANSACTION_DATE_WRONG", ("transactionDate",), message)


def _header_faults(head: EpcisDocument, *, ships: bool) -> Iterator[Fault]:
    version = _text_of(head.header_extensions, "guidelineVersion")
    if version != GUIDELINE:
        message = f"expected guidelineVersion {GUIDELINE!r}, got {(version or '')[:40]!r}"
        yield Fault("DSCSA_GUIDELINE_UNNAMED", ("epcisHeader",), message)
    for name, party in (("sender", head.sender), ("receiver", head.receiver)):
        if not isinstance(key_of(party or ""), Sgln):
            message = f"expected a GLN of the {name}, got {(party or '')[:80]!r}"
            yield Fault(f"DSCSA_{name.upper()}_MISSING", ("epcisHeader", name), message)
    if not ships:
        return
    statement = _named(head.header_extensions, "dscsaTransactionStatement")
    if statement is None:
        message = "a shipment's file states that the seller complies: dscsaTransactionStatement"
        yield Fault("DSCSA_STATEMENT_MISSING", ("epcisHeader",), message)
        return
    parts = statement.value if isinstance(statement.value, tuple) else ()
    affirmed = _text_of(parts, "affirmTransactionStatement")
    if affirmed not in {"true", "1"}:
        message = f"expected affirmTransactionStatement true, got {(affirmed or '')[:40]!r}"
        yield Fault("DSCSA_STATEMENT_NOT_AFFIRMED", ("epcisHeader", "dscsaTransactionStatement"), message)
    if not _text_of(parts, "legalNotice"):
        message = "the statement carries its words: legalNotice"
        yield Fault("DSCSA_LEGAL_NOTICE_MISSING", ("epcisHeader", "dscsaTransactionStatement"), message)


def _named(extensions: Iterable[Extension], name: str) -> Extension | None:
    return next((item for item in extensions if item.name == name), None)


def _text_of(extensions: Iterable[Extension], name: str) -> str | None:
    found = _named(extensions, name)
    if found is None or found.value is None or isinstance(found.value, tuple):
        return None
    return str(found.value).lower() if isinstance(found.value, bool) else str(found.value).strip() or None


def _day(text: str) -> date | None:
    match = _DATE.match(text)
    try:
        return None if match is None else date.fromisoformat(match[0])
    except ValueError:
        return None


def _gln_of(text: str) -> str:
    key = key_of(text)
    if isinstance(key, Sgln):
        return key.gln.digits if key.extension is None else key.path
    return getattr(key, "value", text)


def _master_data(head: EpcisDocument) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Return what the header says of products by GTIN, and of parties and places by GLN."""
    products: dict[str, dict[str, str]] = {}
    parties: dict[str, dict[str, str]] = {}
    for vocabulary in head.vocabularies:
        for element in vocabulary.elements:
            attributes = {_bare(name): text.strip() for name, text in element.attributes if text.strip()}
            key = key_of(element.id)
            if isinstance(key, Gtin | Sgtin | Lgtin):
                gtin = key.digits if isinstance(key, Gtin) else key.gtin.digits
                products.setdefault(gtin, {}).update(attributes)
            else:
                parties.setdefault(_gln_of(element.id), {}).update(attributes)
    return products, parties


def _bare(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _MDA if name.startswith(prefix)), name)


def _product_faults(gtin: str, found: Mapping[str, str] | None) -> Iterator[Fault]:
    if found is None:
        yield Fault("DSCSA_PRODUCT_MISSING", ("epcList",), f"no master data for GTIN {gtin} in the header")
        return
    for name, code in _PRODUCT:
        if name not in found:
            yield Fault(code, ("epcList",), f"master data for GTIN {gtin} have no {name}")
    ndc = found.get("additionalTradeItemIdentification")
    if ndc is None:
        return
    kind = found.get("additionalTradeItemIdentificationTypeCode")
    if kind not in _NDC_TYPES:
        message = f"expected the NDC of GTIN {gtin} as US_FDA_NDC or FDA_NDC_11, got {(kind or '')[:40]!r}"
        yield Fault("DSCSA_NDC_MISSING", ("epcList",), message)
        return
    inside = ndc10_of(Gtin(gtin))
    if not _is_ndc(ndc, inside):
        message = f"GTIN {gtin} holds NDC {inside}, its master data {ndc[:20]!r}" if inside else f"no NDC: {ndc[:20]!r}"
        yield Fault("DSCSA_NDC_DIFFERS", ("epcList",), message)


def _is_ndc(text: str, inside: str | None) -> bool:
    try:
        return inside is None or inside in ndc10s_of(text)
    except MalformedError:
        return False


def _party_faults(gln: str, found: Mapping[str, str] | None) -> Iterator[Fault]:
    if found is None:
        yield Fault("DSCSA_PARTY_MISSING", ("sourceList",), f"no master data for {gln[:80]} in the header")
        return
    if "name" not in found:
        yield Fault("DSCSA_PARTY_NAME_MISSING", ("sourceList",), f"master data for {gln[:80]} have no name")
    missing = [name for name in _ADDRESS if name not in found]
    if missing:
        message = f"the address of {gln[:80]} has no {', '.join(missing)}"
        yield Fault("DSCSA_PARTY_ADDRESS_MISSING", ("sourceList",), message)
