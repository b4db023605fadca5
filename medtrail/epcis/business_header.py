"""The standard business document header: three of its facts as fields of the document, the rest as it came.

Documents carry much beside sender, receiver and instance identifier: several partners with contacts, a manifest,
business scopes. All of it is kept as a tree, in which those three facts are left empty: each is said once.

Source: UN/CEFACT Standard Business Document Header 1.3; EPCIS 2.0, section 9.5.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from medtrail.epcis.model import EpcisDocument, Extension

SBDH = "http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader"
ROOT_NAME = "StandardBusinessDocumentHeader"

# Where each fact stands, and before which elements it is put where the tree has no place for it.
_PLACES = (
    ("sender", "Sender", "Identifier"),
    ("receiver", "Receiver", "Identifier"),
    ("instance_identifier", "DocumentIdentification", "InstanceIdentifier"),
)
_ORDER = ("HeaderVersion", "Sender", "Receiver", "DocumentIdentification", "Manifest", "BusinessScope")
_IDENTIFICATION = ("Standard", "TypeVersion", "InstanceIdentifier", "Type", "MultipleType", "CreationDateAndTime")


@dataclass(frozen=True, slots=True)
class BusinessHeader:
    """A header taken apart; the fields are those of :class:`~medtrail.epcis.model.EpcisDocument`."""

    sender: str | None
    receiver: str | None
    instance_identifier: str | None
    business_header: tuple[Extension, ...]


def take_apart(tree: Sequence[Extension], *, creation_date: datetime | None) -> BusinessHeader:
    """Return the three facts of a header's elements, and the elements without them.

    Args:
        tree: Children of the header's root element.
        creation_date: Of the document: elements that follow from it and the facts alone are not kept.
    """
    rest = tuple(tree)
    facts: dict[str, str | None] = {}
    for fact, outer, inner in _PLACES:
        rest, facts[fact] = _swap(rest, outer, inner, None)
    found = BusinessHeader(facts["sender"], facts["receiver"], facts["instance_identifier"], rest)
    plain, _ = _swap(_plain(facts, creation_date), "DocumentIdentification", "InstanceIdentifier", None)
    for _, outer, inner in _PLACES[:2]:
        plain, _ = _swap(plain, outer, inner, None)
    return replace(found, business_header=()) if plain == rest else found


def put_together(document: EpcisDocument) -> tuple[Extension, ...]:
    """Return the children of a document's header element; none where the document says nothing in one."""
    facts = {fact: getattr(document, fact) for fact, _, _ in _PLACES}
    if not document.business_header:
        return _plain(facts, document.creation_date) if any(facts.values()) else ()
    found = document.business_header
    for fact, outer, inner in _PLACES:
        if facts[fact] is not None:
            found, before = _swap(found, outer, inner, facts[fact])
            if before is None:
                found = _insert(found, outer, inner, facts[fact])
    return found


def _plain(facts: dict[str, str | None], creation_date: datetime | None) -> tuple[Extension, ...]:
    """Return the least header that says the facts."""

    def parties() -> Iterator[Extension]:
        for fact, outer, inner in _PLACES[:2]:
            if facts[fact] is not None:
                yield _element(outer, (_element(inner, facts[fact], ("Authority", "GS1")),))

    identification = [_element("Standard", "EPCglobal"), _element("TypeVersion", "1.0")]
    if facts["instance_identifier"] is not None:
        identification.append(_element("InstanceIdentifier", facts["instance_identifier"]))
    identification.append(_element("Type", "Events"))
    if creation_date is not None:
        identification.append(_element("CreationDateAndTime", creation_date.isoformat().replace("+00:00", "Z")))
    return (
        _element("HeaderVersion", "1.0"),
        *parties(),
        _element("DocumentIdentification", tuple(identification)),
    )


def _element(name: str, value: str | tuple[Extension, ...] | None, *attributes: tuple[str, str]) -> Extension:
    return Extension(SBDH, name, value, tuple(("", key, text) for key, text in attributes))


def _children(element: Extension) -> tuple[Extension, ...]:
    return element.value if isinstance(element.value, tuple) else ()


def _swap(
    tree: tuple[Extension, ...], outer: str, inner: str, text: str | None
) -> tuple[tuple[Extension, ...], str | None]:
    """Return a tree with another text at the first place, and the text that stood there; None where it has no place.

    A text of None leaves the place empty; an empty place gives "" back.
    """
    for number, element in enumerate(tree):
        if element.name == outer:
            children = _children(element)
            for position, child in enumerate(children):
                if child.name == inner and not isinstance(child.value, tuple):
                    put = replace(child, value=text or "")
                    within = (*children[:position], put, *children[position + 1 :])
                    before = "" if child.value is None else str(child.value)
                    found = (*tree[:number], replace(element, value=within), *tree[number + 1 :])
                    return found, before if text is not None else before or None
            return tree, None
    return tree, None


def _insert(tree: tuple[Extension, ...], outer: str, inner: str, text: str | None) -> tuple[Extension, ...]:
    for number, element in enumerate(tree):
        if element.name == outer:
            children = _children(element)
            order = _IDENTIFICATION if outer == "DocumentIdentification" else (inner,)
            within = _placed(children, _element(inner, text), order)
            return (*tree[:number], replace(element, value=within), *tree[number + 1 :])
    return _placed(tree, _element(outer, (_element(inner, text),)), _ORDER)


def _placed(tree: Iterable[Extension], put: Extension, order: tuple[str, ...]) -> tuple[Extension, ...]:
    """Return a tree with an element after the last of those that go before it."""
    elements = list(tree)
    before = order[: order.index(put.name)]
    position = max((number + 1 for number, element in enumerate(elements) if element.name in before), default=0)
    elements.insert(position, put)
    return tuple(elements)
