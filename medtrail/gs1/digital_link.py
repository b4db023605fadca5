"""GS1 Digital Link URIs: any host, any path before the key, qualifiers in order, attributes in the query.

Source: GS1 Digital Link Standard: URI Syntax, section 4. Compressed links (Digital Link Standard: Compression) are
recognised and refused. GTINs of 8, 12 and 13 digits, allowed by earlier editions, are padded; the names that stood for
AIs in the first edition (``/gtin/…/lot/…``) are read where asked for.
"""

import base64
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from medtrail.errors import MalformedError
from medtrail.gs1.ai_table import AIS, DIGITAL_LINK_KEYS
from medtrail.gs1.checks import check_digit, shown
from medtrail.gs1.content import check_value
from medtrail.gs1.elements import Element, check_associations, check_size, key_of
from medtrail.gs1.keys import RESOLVER, EpcKey, Gtin, percent_encoded

# The scheme is in small letters, or in capitals as QR codes like them; a mixture is no Digital Link.
_URI: Final = re.compile(r"(?:https?|HTTPS?)://([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?(?:#.*)?", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ALLOWED: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_STEM: Final = re.compile(r"(?:https?|HTTPS?)://([^/?#]+)(?:/[^?#]*)?")
_COMPRESSED: Final = re.compile(r"[A-Za-z0-9_-]{10,}")
_NUMBERED: Final = tuple(ai for ai in DIGITAL_LINK_KEYS if "csum" in AIS[ai].components[0].rules)

# Names of the first edition, for keys and for qualifiers.
_ALIASES: Final = {
    "cpid": "8010",
    "cpsn": "8011",
    "cpv": "22",
    "gcn": "255",
    "gdti": "253",
    "giai": "8004",
    "ginc": "401",
    "gln": "414",
    "glnx": "254",
    "gmn": "8013",
    "grai": "8003",
    "gsin": "402",
    "gsrn": "8018",
    "gsrnp": "8017",
    "gtin": "01",
    "itip": "8006",
    "lot": "10",
    "party": "417",
    "payto": "415",
    "refno": "8020",
    "ser": "21",
    "srin": "8019",
    "sscc": "00",
}


def is_link(text: str) -> bool:
    """Return whether a text is an http or https URI, and so may be a Digital Link."""
    return text.startswith(("http://", "https://", "HTTP://", "HTTPS://"))


def read_link(uri: str, *, aliases: bool = False) -> tuple[tuple[Element, ...], tuple[Element, ...]]:
    """Return the elements of a Digital Link: those of the path (key and qualifiers), and those of the query.

    Args:
        uri: At most 8,192 characters.
        aliases: Whether names of the first edition (``/gtin/``) stand for AIs; printed packs may still bear them.

    Raises:
        MalformedError: No GS1 key stands in the path (EPC_NOT_GS1), the link is compressed (LINK_COMPRESSED) or breaks
            the syntax (EPC_MALFORMED), or a value is not what its AI holds.
        TooLargeError: Over 8,192 characters.
    """
    check_size(uri)
    match = _URI.fullmatch(uri)
    path = _key_segments(match[2] or "", aliases=aliases) if match is not None else ()
    if match is not None and not path and _is_compressed((match[2] or "").rpartition("/")[2]):
        message = f"{shown(uri)} is a compressed GS1 Digital Link; its uncompressed form is needed"
        raise MalformedError(message, code="LINK_COMPRESSED")
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


def _key_segments(path: str, *, aliases: bool) -> tuple[Element, ...]:
    """Return the pairs from the key to the path's end; none if there is no key. The rightmost key counts."""
    segments = path.split("/")[1:]
    pairs: list[Element] = []
    for at in range(len(segments) - 2, -1, -2):
        ai, text = segments[at], segments[at + 1]
        if aliases:
            ai = _ALIASES.get(ai.lower(), ai)
        if ai not in AIS:
            return ()
        pairs.insert(0, (ai, text))
        if ai in DIGITAL_LINK_KEYS:
            return tuple(pairs)
    return ()


def _is_compressed(segment: str) -> bool:
    """Return whether a path's last segment begins with a compressed key, as AI and check digit tell.

    An AI is its digits as nibbles, a number as many bits as the largest of its length needs; a letter as second nibble
    stands for a sequence of AIs that, but for rare ones, begins with 01.
    """
    if _COMPRESSED.fullmatch(segment) is None:
        return False
    octets = base64.urlsafe_b64decode(segment + "A" * (-len(segment) % 4))
    nibbles = octets.hex()
    candidates = [("01", 8)] if nibbles[1] > "9" else [(ai, 4 * len(ai)) for ai in _NUMBERED if nibbles.startswith(ai)]
    for ai, start in candidates:
        longest = AIS[ai].components[0].longest
        size = (10**longest - 1).bit_length()
        rest = 8 * len(octets) - start - size
        number = str(int.from_bytes(octets, "big") >> max(rest, 0) & ((1 << size) - 1)).zfill(longest)
        if rest >= 0 and len(number) == longest and check_digit(number[:-1]) == number[-1]:
            return True
    return False


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
        TooLargeError: The link would have over 8,192 characters.
    """
    check_size(stem)
    host = _STEM.fullmatch(stem)
    if host is None or _AUTHORITY.fullmatch(host[1]) is None or _ALLOWED.fullmatch(stem) is None:
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
    uri = f"{stem.rstrip('/')}{path}{'?' if query else ''}{query}"
    check_size(uri)
    return uri


def canonical_link(uri: str) -> str:
    """Return a Digital Link in its canonical form: at GS1's resolver, no aliases, attributes in the order of their AIs.

    What is not of GS1 (names that are not digits, the fragment) falls away; two links are equal when this is.

    Raises:
        MalformedError: As :func:`read_link`, or elements may not stand together.
        TooLargeError: Over 8,192 characters.
    """
    named, attributes = read_link(uri, aliases=True)
    values = dict((*named, *attributes))
    check_associations((*named, *attributes))
    path = "".join(f"/{ai}/{percent_encoded(values[ai])}" for ai, _ in named)
    query = "&".join(f"{ai}={percent_encoded(value)}" for ai, value in sorted(attributes))
    return f"{RESOLVER}{path}{'?' if query else ''}{query}"


def _path_of(key: str, values: dict[str, str]) -> tuple[str, ...]:
    """Return key and qualifiers of the alternative that takes in most of what is there."""
    sequence = max(DIGITAL_LINK_KEYS[key], key=lambda names: sum(ai in values for ai in names))
    return (key, *sequence)
