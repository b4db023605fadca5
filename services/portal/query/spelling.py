"""Identifiers and words of answers in the spelling that a caller asks for.

Source: EPCIS 2.0, section 12.5 (GS1-EPC-Format, GS1-CBV-XML-Format).
"""

from collections.abc import Callable
from dataclasses import replace

from medtrail.epcis import cbv
from medtrail.epcis.model import EpcisEvent, Place, QuantityElement
from medtrail.errors import MalformedError
from medtrail.gs1 import PrefixLengths, parse_epc, to_urn_or_none
from services.portal.headers import CbvFormat, EpcFormat

_EPCS = ("epc_list", "child_epcs", "input_epc_list", "output_epc_list")
_QUANTITIES = ("quantity_list", "child_quantity_list", "input_quantity_list", "output_quantity_list")
_SINGLE = ("parent_id", "transformation_id")
_PLACES = ("read_point", "biz_location")


def speller(epc_format: EpcFormat, prefixes: PrefixLengths) -> Callable[[str], str] | None:
    """Return what spells an identifier as asked, or None where all stay as they are.

    An identifier that has no such spelling stays as it is: what is no GS1 key, and, as URN, a key whose company prefix
    is not known here.
    """
    if epc_format is EpcFormat.ALWAYS_DIGITAL_LINK:
        return _as_link
    if epc_format is EpcFormat.ALWAYS_URN:
        return lambda text: _as_urn(text, prefixes)
    return None


def _as_link(text: str) -> str:
    try:
        return parse_epc(text).digital_link
    except MalformedError:
        return text


def _as_urn(text: str, prefixes: PrefixLengths) -> str:
    if text[:8].lower().startswith("urn:epc:"):
        return text
    try:
        return to_urn_or_none(parse_epc(text), prefixes) or text
    except MalformedError:
        return text


def respelled(event: EpcisEvent, spell: Callable[[str], str]) -> EpcisEvent:
    """Return an event with each identifier of a thing, place, party or transaction spelled anew."""

    def quantity(element: QuantityElement) -> QuantityElement:
        return replace(element, epc_class=spell(element.epc_class))

    def place(found: Place | None) -> Place | None:
        return None if found is None else replace(found, id=spell(found.id))

    changes: dict[str, object] = {name: tuple(map(spell, getattr(event, name))) for name in _EPCS}
    changes |= {name: tuple(map(quantity, getattr(event, name))) for name in _QUANTITIES}
    changes |= {name: spell(getattr(event, name)) for name in _SINGLE if getattr(event, name) is not None}
    changes |= {name: place(getattr(event, name)) for name in _PLACES}
    return replace(
        event,
        biz_transaction_list=tuple(replace(item, id=spell(item.id)) for item in event.biz_transaction_list),
        source_list=tuple(replace(item, id=spell(item.id)) for item in event.source_list),
        destination_list=tuple(replace(item, id=spell(item.id)) for item in event.destination_list),
        **changes,  # type: ignore[arg-type]
    )


def with_web_words(event: EpcisEvent) -> EpcisEvent:
    """Return an event whose CBV words are web URIs; XML is otherwise written with URNs."""
    persistent = event.persistent_disposition
    declaration = event.error_declaration
    return replace(
        event,
        biz_step=event.biz_step and cbv.BIZ_STEPS.web(event.biz_step),
        disposition=event.disposition and cbv.DISPOSITIONS.web(event.disposition),
        persistent_disposition=persistent
        and replace(
            persistent,
            set=tuple(map(cbv.DISPOSITIONS.web, persistent.set)),
            unset=tuple(map(cbv.DISPOSITIONS.web, persistent.unset)),
        ),
        error_declaration=declaration
        and replace(declaration, reason=declaration.reason and cbv.ERROR_REASONS.web(declaration.reason)),
        biz_transaction_list=tuple(
            replace(item, type=item.type and cbv.BIZ_TRANSACTION_TYPES.web(item.type))
            for item in event.biz_transaction_list
        ),
        source_list=tuple(replace(item, type=cbv.SOURCE_DEST_TYPES.web(item.type)) for item in event.source_list),
        destination_list=tuple(
            replace(item, type=cbv.SOURCE_DEST_TYPES.web(item.type)) for item in event.destination_list
        ),
    )


def spelled(
    event: EpcisEvent, *, epc_format: EpcFormat, cbv_format: CbvFormat, prefixes: PrefixLengths, xml: bool
) -> EpcisEvent:
    """Return an event in the spelling that a caller asks for."""
    spell = speller(epc_format, prefixes)
    if spell is not None:
        event = respelled(event, spell)
    return with_web_words(event) if xml and cbv_format is CbvFormat.ALWAYS_WEB_URI else event
