"""Events and master data of a shipment as an EPCIS 1.2 document for a partner outside the network.

A file for an outsider tells what is in one shipment and nothing of other goods: an event that names other goods, too,
is cut to those that are shipped, and has no identifier of its own then, because its content is another. EPCIS 1.2 knows
EPC URNs only, so Digital Links become URNs where the GS1 company prefix is known. Nothing else is altered; a cut or
respelled event says of what it still names what the signed event says.

Source: EPCIS 1.2, section 9; CBV 1.2.2, section 9 (master data attributes); GS1 US, Implementation Guideline: Applying
GS1 Standards for DSCSA and Traceability, release 1.3.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from medtrail.epcis.cbv import MDA
from medtrail.epcis.model import (
    EpcisDocument,
    EpcisEvent,
    EventType,
    Extension,
    Place,
    QuantityElement,
    SourceDest,
    Vocabulary,
    VocabularyElement,
)
from medtrail.epcis.rules.dscsa import GUIDELINE, NAMESPACE
from medtrail.errors import MalformedError
from medtrail.event import NationalNumber, Product
from medtrail.gs1 import PrefixLengths, parse_epc, to_urn_or_none

LEGAL_NOTICE = "Seller has complied with each applicable subsection of FDCA Sec. 581(27)(A)-(G)."

_EPC_CLASS = "urn:epcglobal:epcis:vtype:EPCClass"
_LOCATION = "urn:epcglobal:epcis:vtype:Location"
_NDC = "NDC"
_BILLING_LENGTH = 11


# --- master data ---


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address; ``state`` as the country abbreviates it, ``country`` by ISO 3166-1 alpha-2."""

    street: str
    city: str
    state: str
    postal_code: str
    country: str
    street_two: str = ""


@dataclass(frozen=True, slots=True)
class TradingParty:
    """A party or place: its name, and its address where that is known."""

    name: str
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class TradeItem:
    """A product and the name of who makes it; which may be empty."""

    product: Product
    manufacturer: str = ""


def _attributes(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{MDA}#{name}", text) for name, text in pairs if text)


def describe_item(epc_class: str, item: TradeItem) -> VocabularyElement:
    """Return the master data of a product under its class URN; what is not known is left out."""
    product = item.product
    number, kind = _national(product.national_numbers)
    return VocabularyElement(
        epc_class,
        _attributes(
            (
                ("additionalTradeItemIdentification", number),
                ("additionalTradeItemIdentificationTypeCode", kind),
                ("regulatedProductName", product.name),
                ("manufacturerOfTradeItemPartyName", item.manufacturer),
                ("dosageFormType", product.dosage_form),
                ("strengthDescription", product.strength),
                ("netContentDescription", product.net_content),
            )
        ),
    )


def _national(numbers: Sequence[NationalNumber]) -> tuple[str, str]:
    """Return the number to state and its GS1 type code: the NDC where there is one, else the first; or none."""
    if not numbers:
        return "", ""
    found = next((item for item in numbers if item.system == _NDC), numbers[0])
    if found.system != _NDC:
        return found.number, found.system
    digits = sum(character.isdigit() for character in found.number)
    return found.number, "FDA_NDC_11" if digits == _BILLING_LENGTH else "US_FDA_NDC"


def describe_party(uri: str, party: TradingParty) -> VocabularyElement:
    """Return the master data of a party or place under its URI; what is not known is left out."""
    address = party.address or Address("", "", "", "", "")
    return VocabularyElement(
        uri,
        _attributes(
            (
                ("name", party.name),
                ("streetAddressOne", address.street),
                ("streetAddressTwo", address.street_two),
                ("city", address.city),
                ("state", address.state),
                ("postalCode", address.postal_code),
                ("countryCode", address.country),
            )
        ),
    )


def transaction_statement(legal_notice: str) -> tuple[Extension, ...]:
    """Return the guideline's name and the affirmed transaction statement as header elements (FD&C Act, 581(27))."""
    return (
        Extension(NAMESPACE, "guidelineVersion", GUIDELINE),
        Extension(
            NAMESPACE,
            "dscsaTransactionStatement",
            (
                Extension(NAMESPACE, "affirmTransactionStatement", "true"),
                Extension(NAMESPACE, "legalNotice", legal_notice),
            ),
        ),
    )


def shipment_head(
    *,
    sender: str,
    receiver: str,
    instance_identifier: str,
    creation_date: datetime,
    items: Sequence[VocabularyElement],
    parties: Sequence[VocabularyElement],
    statement: Sequence[Extension] = (),
) -> EpcisDocument:
    """Return the document of a shipment without its events.

    Args:
        sender: URI of who sells.
        receiver: URI of who buys.
        instance_identifier: Of this file; another file has another.
        creation_date: Aware UTC.
        items: Master data of products.
        parties: Master data of parties and places.
        statement: Further header elements, from :func:`transaction_statement`.
    """
    lists = (Vocabulary(_EPC_CLASS, tuple(items)), Vocabulary(_LOCATION, tuple(parties)))
    return EpcisDocument(
        events=(),
        schema_version="1.2",
        creation_date=creation_date,
        namespaces=(("gs1ushc", NAMESPACE),),
        sender=sender,
        receiver=receiver,
        instance_identifier=instance_identifier,
        vocabularies=tuple(item for item in lists if item.elements),
        header_extensions=tuple(statement),
    )


# --- events ---


def cut_event(event: EpcisEvent, keep: Callable[[str], bool]) -> EpcisEvent | None:
    """Return an event with those of its objects, children or outputs that are kept; None where none is left.

    An event that is cut loses its id and its counts of classes, which were true of the whole.

    Args:
        event: The event; it comes back as it is where all is kept.
        keep: Tells by an identifier as spelled in the event whether it is.
    """
    lists = {
        name: tuple(epc for epc in getattr(event, name) if keep(epc))
        for name in ("epc_list", "child_epcs", "output_epc_list")
    }
    if not any(lists.values()):
        return None
    if all(len(found) == len(getattr(event, name)) for name, found in lists.items()):
        return event
    return replace(
        event,
        epc_list=lists["epc_list"],
        child_epcs=lists["child_epcs"],
        output_epc_list=lists["output_epc_list"],
        quantity_list=(),
        child_quantity_list=(),
        output_quantity_list=(),
        event_id=None,
    )


def in_version_12(event: EpcisEvent) -> tuple[EpcisEvent, tuple[str, ...]]:
    """Return an event without the fields that EPCIS 1.2 does not know, and their names.

    Such an event says less than the signed one, so it has no id of its own.

    Raises:
        MalformedError: It is of a type that the version does not know (NOT_IN_VERSION).
    """
    if event.type is EventType.ASSOCIATION:
        message = "EPCIS 1.2 knows no association events"
        raise MalformedError(message, code="NOT_IN_VERSION", field="type")
    later = {
        "sensorElementList": event.sensor_element_list,
        "persistentDisposition": event.persistent_disposition,
        "certificationInfo": event.certification_info,
    }
    lost = tuple(name for name, value in later.items() if value)
    if not lost:
        return event, ()
    bare = replace(event, sensor_element_list=(), persistent_disposition=None, certification_info=(), event_id=None)
    return bare, lost


class UrnSpeller:
    """Spells identifiers as EPC URNs where their company prefix is known; the rest stays, and is noted."""

    def __init__(self, lengths: PrefixLengths) -> None:
        self._lengths = lengths
        self.unspelled: dict[str, None] = {}
        """Identifiers that stayed Digital Links, without serial numbers and in the order in which they came."""

    def text(self, text: str) -> str:
        """Return an identifier as URN; one that is no GS1 key stays as it is."""
        if text.startswith("urn:"):
            return text
        try:
            key = parse_epc(text)
        except MalformedError:
            return text
        urn = to_urn_or_none(key, self._lengths)
        if urn is None:
            # A serial number's length changes nothing: one note a product.
            self.unspelled[key.path.partition("/21/")[0]] = None
        return urn or text

    def event(self, event: EpcisEvent) -> EpcisEvent:
        """Return an event with its identifiers as URNs."""
        return replace(
            event,
            epc_list=self._texts(event.epc_list),
            quantity_list=self._quantities(event.quantity_list),
            parent_id=None if event.parent_id is None else self.text(event.parent_id),
            child_epcs=self._texts(event.child_epcs),
            child_quantity_list=self._quantities(event.child_quantity_list),
            input_epc_list=self._texts(event.input_epc_list),
            input_quantity_list=self._quantities(event.input_quantity_list),
            output_epc_list=self._texts(event.output_epc_list),
            output_quantity_list=self._quantities(event.output_quantity_list),
            read_point=self._place(event.read_point),
            biz_location=self._place(event.biz_location),
            source_list=self._sides(event.source_list),
            destination_list=self._sides(event.destination_list),
        )

    def _texts(self, texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(self.text(text) for text in texts)

    def _quantities(self, items: Iterable[QuantityElement]) -> tuple[QuantityElement, ...]:
        return tuple(replace(item, epc_class=self.text(item.epc_class)) for item in items)

    def _place(self, place: Place | None) -> Place | None:
        return None if place is None else replace(place, id=self.text(place.id))

    def _sides(self, items: Iterable[SourceDest]) -> tuple[SourceDest, ...]:
        return tuple(replace(item, id=self.text(item.id)) for item in items)


def identifiers_of(event: EpcisEvent) -> Iterator[str]:
    """Yield the identifiers of things and places that an event names."""
    yield from (*event.epc_list, *event.child_epcs, *event.input_epc_list, *event.output_epc_list)
    if event.parent_id is not None:
        yield event.parent_id
    for place in (event.read_point, event.biz_location):
        if place is not None:
            yield place.id
    for item in (*event.source_list, *event.destination_list):
        yield item.id
