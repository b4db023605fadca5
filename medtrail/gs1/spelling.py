"""Identifiers written: as element string, in brackets as printed, and as Digital Link with attributes.

Source: GS1 General Specifications, sections 4.14 and 7.8; GS1 Digital Link Standard: URI Syntax, section 4.
"""

from collections.abc import Sequence

from medtrail.gs1.ai_table import AIS
from medtrail.gs1.content import check_value
from medtrail.gs1.digital_link import link_of
from medtrail.gs1.elements import GS, Element, bracketed, check_associations
from medtrail.gs1.expiry import Expiry
from medtrail.gs1.keys import RESOLVER, EpcKey, Gtin, Lgtin, OtherKey, Sgln, Sgtin, Sscc
from medtrail.gs1.scan import Scan
from medtrail.gs1.urn import PrefixLengths, to_urn_or_none

Writable = Scan | EpcKey | Sequence[Element]


def elements_of(what: Writable, *, lot: str | None = None, expiry: Expiry | None = None) -> tuple[Element, ...]:
    """Return the elements that a scan, or a key with attributes, is written as; checked, alone and together.

    Args:
        what: A scan, a key, or elements themselves.
        lot: Added as AI 10.
        expiry: Added as AI 17; its day must be given.

    Raises:
        MalformedError: An element is wrong, or elements may not stand together.
    """
    first: tuple[Element, ...]
    last: tuple[Element, ...] = ()
    if isinstance(what, Scan):
        first = what.ais
    elif isinstance(what, Sgtin):
        # The serial last: of two values of variable length only the first needs a separator.
        first, last = (("01", what.gtin.digits),), (("21", what.serial),)
    elif isinstance(what, Gtin | Lgtin | Sscc | Sgln | OtherKey):
        first = _of_key(what)
    else:
        first = tuple(what)
    added: tuple[Element, ...] = () if expiry is None else (("17", expiry.yymmdd()),)
    added += () if lot is None else (("10", lot),)
    elements = (*first, *added, *last)
    for ai, value in elements:
        check_value(ai, value)
    check_associations(elements)
    return tuple(dict.fromkeys(elements))


def _of_key(key: Gtin | Lgtin | Sscc | Sgln | OtherKey) -> tuple[Element, ...]:
    match key:
        case Gtin():
            return (("01", key.digits),)
        case Lgtin():
            return (("01", key.gtin.digits), ("10", key.lot))
        case Sscc():
            return (("00", key.digits),)
        case Sgln():
            return (("414", key.gln.digits), *(() if key.extension is None else (("254", key.extension),)))
        case _:
            return ((key.ai, key.value), *key.qualifiers)


def format_element_string(what: Writable, *, lot: str | None = None, expiry: Expiry | None = None) -> str:
    """Return the element string for a symbol: GS after each value that needs it, no leading FNC1, none at the end.

    Raises:
        MalformedError: As :func:`elements_of`.
    """
    parts: list[str] = []
    separator = ""
    for ai, value in elements_of(what, lot=lot, expiry=expiry):
        parts.append(f"{separator}{ai}{value}")
        separator = "" if AIS[ai].predefined else GS
    return "".join(parts)


def format_bracketed(what: Writable, *, lot: str | None = None, expiry: Expiry | None = None) -> str:
    r"""Return the elements as printed, ``(01)…(17)…``; a bracket in a value is written ``\(``.

    Raises:
        MalformedError: As :func:`elements_of`.
    """
    return bracketed(elements_of(what, lot=lot, expiry=expiry))


def to_digital_link(
    what: Writable, *, lot: str | None = None, expiry: Expiry | None = None, stem: str = RESOLVER
) -> str:
    """Return the Digital Link with attributes: ``<stem>/01/<gtin>/10/<lot>/21/<serial>?17=<expiry>``.

    Raises:
        MalformedError: As :func:`elements_of`, or an element has no place in a link (LINK_IMPOSSIBLE).
    """
    return link_of(elements_of(what, lot=lot, expiry=expiry), stem=stem)


def describe(what: Scan | EpcKey, *, prefix_lengths: PrefixLengths | None = None) -> dict[str, str]:
    """Return what an identifier is in words and in its three spellings, for a person to read.

    Args:
        what: A scan or a key.
        prefix_lengths: Known company prefixes; the URN is left out where the length is not known.

    Raises:
        MalformedError: A scan without a key (KEY_MISSING).
    """
    key = what.key if isinstance(what, Scan) else what
    elements = elements_of(what)
    facts = {"kind": _KINDS.get(type(key).__name__, "other GS1 key"), "key": key.path}
    values = dict(elements)
    facts |= {name: values[ai] for ai, name in _NAMES.items() if ai in values}
    if isinstance(what, Scan):
        facts |= {} if what.expiry is None else {"expiry": str(what.expiry)}
        facts |= {} if what.symbology is None else {"symbology": what.symbology}
        facts |= {"warnings": "; ".join(what.warnings)} if what.warnings else {}
    facts["element_string"] = format_bracketed(elements)
    urn = None if prefix_lengths is None else to_urn_or_none(key, prefix_lengths)
    facts |= {} if urn is None else {"urn": urn}
    facts["digital_link"] = key.digital_link
    return facts


_KINDS = {
    "Sgtin": "pack (SGTIN)",
    "Lgtin": "lot (LGTIN)",
    "Gtin": "trade item (GTIN)",
    "Sscc": "logistic unit (SSCC)",
    "Sgln": "place (SGLN)",
}

_NAMES = {"00": "sscc", "01": "gtin", "21": "serial", "10": "lot", "414": "gln", "254": "extension", "417": "party_gln"}
