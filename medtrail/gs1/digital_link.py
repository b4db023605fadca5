"""GS1 Digital Link URIs: any host, any path before the key, qualifiers in order, attributes in the query.

Source: GS1 Digital Link Standard: URI Syntax, section 4. Compressed forms and the names that stood for AIs in its
first edition (``/gtin/…``) are not read. GTINs of 8, 12 and 13 digits, allowed by earlier editions, are padded.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from medtrail.errors import MalformedError
from medtrail.gs1.ai_table import AIS, DIGITAL_LINK_KEYS
from medtrail.gs1.checks import shown
from medtrail.gs1.content import check_value
from medtrail.gs1.elements import Element, check_associations, check_size, key_of
from medtrail.gs1.keys import RESOLVER, EpcKey, Gtin, percent_encoded

_URI: Final = re.compile(r"(?i:https?)://([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?(?:#.*)?", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ALLOWED: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_STEM: Final = re.compile(r"(?i:https?)://[^/?#]+(?:/[^?#]*)?")


def is_link(text: str) -> bool:
    """Return whether a text is an http or https URI, and so may be a Digital Link."""
    return text[:8].lower().startswith(("http://", "https://"))


def read_link(uri: str) -> tuple[tuple[Element, ...], tuple[Element, ...]]:
    """Return the elements of a Digital Link: those of the path (key and qualifiers), and those of the query.

    Raises:
        MalformedError: No GS1 key stands in the path (EPC_NOT_GS1), or the link breaks the syntax (EPC_MALFORMED), or
            a value is not what its AI holds.
        TooLargeError: Over 8,192 characters.
    """
    check_size(uri)
    match = _URI.fullmatch(uri)
    path = _key_segments(match[2] or "") if match is not None else ()
    if match is None or not path:
        message = f"no GS1 key in the path of {shown(uri)}"
        raise MalformedError(message, code="EPC_NOT_GS1")
    if _ALLOWED.fullmatch(uri) is None or _AUTHORITY.fullmatch(match[1]) is None:
        message = f"{shown(uri)} has characters that a URI may not have there"
        raise MalformedError(message, code="EPC_MALFORMED")
    named = tuple(_element(ai, text) for ai, text in path)
    attributes = _attributes(match[3] or "")
    _check_places([ai for ai, _ in named], [ai for ai, _ in attributes])
    return named, attributes


def _key_segments(path: str) -> tuple[Element, ...]:
    """Return the pairs from the key to the path's end; none if there is no key. The rightmost key counts."""
    segments = path.split("/")[1:]
    pairs: list[Element] = []
    for at in range(len(segments) - 2, -1, -2):
        ai, text = segments[at], segments[at + 1]
        if ai not in AIS:
            return ()
        pairs.insert(0, (ai, text))
        if ai in DIGITAL_LINK_KEYS:
            return tuple(pairs)
    return ()


def _element(ai: str, text: str) -> Element:
    value = unquote(text, encoding="latin-1")
    if ai == "01" and len(value) in {8, 12, 13}:
        value = Gtin.parse(value).digits
    check_value(ai, value)
    return ai, value


def _attributes(query: str) -> tuple[Element, ...]:
    found: list[Element] = []
    for part in query.split("&"):
        name, equals, text = part.partition("=")
        # Names that are not all digits belong to the resolver (linkType) or to the brand; they say nothing here.
        if not re.fullmatch(r"[0-9]+", name):
            continue
        if name not in AIS or not AIS[name].attribute or not equals:
            message = f"{shown(part)} is no attribute that a Digital Link may carry"
            raise MalformedError(message, code="EPC_MALFORMED")
        if "+" in text:
            message = f"{shown(part)}: a plus sign is written %2B in a query"
            raise MalformedError(message, code="EPC_MALFORMED")
        found.append(_element(name, text))
    return tuple(found)


def _check_places(path: Sequence[str], query: Sequence[str]) -> None:
    """Check that qualifiers are the key's and in order, that none stands in the query, and nothing stands twice."""
    key, *qualifiers = path
    sequences = DIGITAL_LINK_KEYS[key]
    if not any(_in_order(qualifiers, sequence) for sequence in sequences):
        message = f"AI ({key}) may not be followed by {', '.join(f'({ai})' for ai in qualifiers)} in a Digital Link"
        raise MalformedError(message, code="EPC_MALFORMED")
    seen = set(path)
    for ai in query:
        if ai in seen or any({*qualifiers, ai} <= set(sequence) for sequence in sequences):
            message = f"AI ({ai}) may stand once, and in the path if it narrows the key"
            raise MalformedError(message, code="EPC_MALFORMED")
        seen.add(ai)


def _in_order(qualifiers: Sequence[str], sequence: Sequence[str]) -> bool:
    return [ai for ai in sequence if ai in qualifiers] == list(qualifiers)


def read_link_key(uri: str) -> EpcKey:
    """Return the key of a Digital Link: its key AI, narrowed by the qualifiers that identify.

    Raises:
        MalformedError: As :func:`read_link`.
    """
    named, _ = read_link(uri)
    return key_of(named)


def link_of(elements: Sequence[Element], *, stem: str = RESOLVER) -> str:
    """Return the Digital Link URI of elements: key and qualifiers in the path, all else as attributes in given order.

    Args:
        elements: Well-formed elements; a repetition of the same value is written once.
        stem: Scheme, host and leading path; a slash at the end does not matter.

    Raises:
        MalformedError: There is no key, or an element has no place in a link (LINK_IMPOSSIBLE), or elements may not
            stand together.
    """
    if _STEM.fullmatch(stem) is None or _ALLOWED.fullmatch(stem) is None:
        message = f"expected a stem such as https://example.com, got {shown(stem)}"
        raise MalformedError(message, code="LINK_IMPOSSIBLE")
    check_associations(elements)
    values = dict(elements)
    key = next((ai for ai in values if ai in DIGITAL_LINK_KEYS), None)
    if key is None:
        message = f"no key among {', '.join(f'({ai})' for ai in values)}"
        raise MalformedError(message, code="LINK_IMPOSSIBLE")
    named = [ai for ai in _path_of(key, values) if ai in values]
    # Attributes of predefined length first, as in element strings.
    rest = sorted((ai for ai in values if ai not in named), key=lambda ai: not AIS[ai].predefined)
    misplaced = [ai for ai in rest if not AIS[ai].attribute or any(ai in names for names in DIGITAL_LINK_KEYS[key])]
    if misplaced:
        message = f"AI ({misplaced[0]}) has no place in a Digital Link with AI ({key})"
        raise MalformedError(message, code="LINK_IMPOSSIBLE")
    path = "".join(f"/{ai}/{percent_encoded(values[ai])}" for ai in named)
    query = "&".join(f"{ai}={percent_encoded(values[ai])}" for ai in rest)
    return f"{stem.rstrip('/')}{path}{'?' if query else ''}{query}"


def _path_of(key: str, values: dict[str, str]) -> tuple[str, ...]:
    """Return key and qualifiers of the alternative that takes in most of what is there."""
    sequence = max(DIGITAL_LINK_KEYS[key], key=lambda names: sum(ai in values for ai in names))
    return (key, *sequence)
