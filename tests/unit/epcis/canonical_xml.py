"""EPCIS XML in one form, for comparing what documents say.

Equivalences, and no others:

- prefixes, comments, processing instructions, ``xsi:schemaLocation``, and white space around texts;
- the order of elements that the standard names and the wrappers ``extension`` and ``baseExtension`` of version 1.2;
- one moment in several zones, and its digits below the microsecond;
- one CBV word as URN, web vocabulary URI, CURIE or bare;
- one number in several spellings, where the standard has numbers;
- an empty list or quantity and none, and ``createdAt`` for ``creationDate``;
- a sensor's extension as attribute or as element of text;
- master data attributes of elements behind those of text.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal

from lxml import etree
from lxml.etree import _Element as Element

XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
SENSORS = {"sensorMetadata", "sensorReport"}
ANY_ORDER = {
    "ObjectEvent", "AggregationEvent", "TransactionEvent", "TransformationEvent", "AssociationEvent", "sensorElement",
    "quantityElement", "readPoint", "bizLocation", "errorDeclaration", "VocabularyElement", "EPCISHeader",
    "EPCISDocument", "EPCISQueryDocument", "persistentDisposition", "sensorMetadata", "sensorReport",
}  # fmt: skip
ABOUT = {"schemaVersion", "creationDate"}
EMPTY = {
    "epcList", "childEPCs", "inputEPCList", "outputEPCList", "quantityList", "childQuantityList", "inputQuantityList",
    "outputQuantityList", "bizTransactionList", "sourceList", "destinationList", "sensorElementList", "ilmd",
    "quantity", "correctiveEventIDs", "VocabularyElementList", "EPCISHeader", "children",
}  # fmt: skip
WORDS = {"bizStep", "disposition", "set", "unset", "reason", "type", "exception", "component"}
TIMES = {"eventTime", "recordTime", "declarationTime", "time", "startTime", "endTime", "creationDate"}
NUMBERS = {"quantity", "value", "minValue", "maxValue", "meanValue", "sDev", "percRank", "percValue"}
_WORD = re.compile(
    r"(urn:epcglobal:cbv:[a-z]+:|https://ref\.gs1\.org/cbv/[A-Za-z]+-|cbv:[A-Za-z]+-|https://gs1\.org/voc/|gs1:)"
)

Canonical = tuple[str, tuple[tuple[str, str], ...], tuple[object, ...]]


def canonical(data: bytes) -> Canonical:
    """Return what a document says."""
    root = etree.fromstring(data, etree.XMLParser(remove_comments=True, remove_pis=True))
    found = _element(root, standard=True)
    if found[0].endswith("Event"):
        return (
            found[0],
            tuple(item for item in found[1] if item[0] not in {"schemaVersion", "creationDate"}),
            found[2],
        )
    return found


def _name(tag: str) -> str:
    return tag.partition("}")[2] if tag.startswith("{urn:epcglobal:epcis") else tag


def _element(element: Element, *, standard: bool) -> Canonical:
    name = _name(str(element.tag))
    standard = standard and not name.startswith("{")
    attributes = {
        "creationDate" if str(key) == "createdAt" else str(key): str(text)
        for key, text in element.items()
        if not str(key).startswith(XSI) or not standard
    }
    attributes = {key: _text(key, text) if standard else text for key, text in attributes.items()}
    children = _children(element, standard=standard, name=name)
    if standard and name in SENSORS:
        moved = [(key, (), (text,)) for key, text in attributes.items() if key.startswith("{")]
        attributes = {key: text for key, text in attributes.items() if not key.startswith("{")}
        children += moved
    if standard and name in ANY_ORDER:
        named = sorted((item for item in children if not str(item[0]).startswith("{")), key=_rank)
        children = named + [item for item in children if str(item[0]).startswith("{")]
    return name, tuple(sorted(attributes.items())), tuple(children)


def _rank(item: object) -> str:
    assert isinstance(item, tuple)
    structured = any(isinstance(child, tuple) for child in item[2])
    return f"{item[0]}{int(item[0] == 'attribute' and structured)}"


def _children(element: Element, *, standard: bool, name: str) -> list[Canonical | tuple[str, tuple[()], tuple[str]]]:
    found: list[object] = []
    text = (element.text or "").strip()
    if text:
        found.append(_text(name, text) if standard else text)
    for child in element:
        tag = _name(str(child.tag))
        if standard and tag in {"extension", "baseExtension"}:
            found += _children(child, standard=True, name=name)
        else:
            item = _element(child, standard=standard and name not in {"ilmd", "attribute"})
            if not (standard and tag in EMPTY and not item[2]):
                found.append(item)
        tail = (child.tail or "").strip()
        if tail:
            found.append(tail)
    return found  # type: ignore[return-value]  # text and elements


def _text(name: str, text: str) -> str:
    text = text.strip()
    if name in WORDS:
        return re.sub("^cbv:", "https://ref.gs1.org/cbv/", _WORD.sub("", text))
    if name in TIMES:
        return _moment(text)
    if name in NUMBERS:
        return str(Decimal(text).normalize())
    return text


def _moment(text: str) -> str:
    match = re.fullmatch(r"(.{16})(:\d\d)?(?:\.(\d+))?(Z|[+-].*)", text)
    assert match is not None
    fraction = (match[3] or "")[:6].ljust(6, "0")
    return datetime.fromisoformat(f"{match[1]}{match[2] or ':00'}.{fraction}{match[4]}").astimezone(UTC).isoformat()
