"""The header of EPCIS XML: business document header, master data, and elements of other namespaces.

Source: EPCIS 1.2, section 9.5; EPCIS 2.0, section 9.5.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lxml import etree
from lxml.etree import _Element as Element

from medtrail.epcis.build import fail
from medtrail.epcis.business_header import ROOT_NAME, SBDH, take_apart
from medtrail.epcis.model import Extension, Vocabulary, VocabularyElement
from medtrail.epcis.xml_elements import elements_of, extension_of, is_foreign, items_of, text_of


def header_of(header: Element, creation_date: datetime | None = None) -> dict[str, Any]:
    """Return the fields of a document that its header says, by name.

    Args:
        header: ``EPCISHeader``.
        creation_date: Of the document.

    Raises:
        MalformedError: An element is unknown.
    """
    found: dict[str, Any] = {"vocabularies": (), "header_extensions": ()}
    extensions: list[Extension] = []
    for child in elements_of(header):
        if child.tag == f"{{{SBDH}}}{ROOT_NAME}":
            tree = extension_of(child).value
            business = take_apart(tree if isinstance(tree, tuple) else (), creation_date=creation_date)
            found.update({name: getattr(business, name) for name in _BUSINESS_FIELDS})
        elif child.tag == "EPCISMasterData":
            found["vocabularies"] = tuple(_vocabularies(child))
        elif is_foreign(child):
            extensions.append(extension_of(child))
        else:
            fail("FIELD_UNKNOWN", "no field of a header", f"/EPCISHeader/{child.tag}")
    found["header_extensions"] = tuple(extensions)
    return found


_BUSINESS_FIELDS = ("sender", "receiver", "instance_identifier", "business_header")


def _vocabularies(master: Element) -> Iterator[Vocabulary]:
    for found in elements_of(_only_child(master, "VocabularyList")):
        _check_tag(found, "Vocabulary")
        elements: list[VocabularyElement] = []
        for item in elements_of(_only_child(found, "VocabularyElementList")):
            _check_tag(item, "VocabularyElement")
            elements.append(_vocabulary_element(item))
        yield Vocabulary(found.get("type", ""), tuple(elements))


def _only_child(parent: Element, name: str) -> Element:
    """Return the one child of an element, or an empty one where it has none."""
    children = list(elements_of(parent))
    for child in children:
        _check_tag(child, name)
    if len(children) > 1:
        fail("FIELD_TWICE", "stands twice", f"/EPCISHeader/EPCISMasterData/{name}")
    return children[0] if children else etree.Element(name)


def _check_tag(element: Element, name: str) -> None:
    if element.tag != name:
        fail("FIELD_UNKNOWN", f"the standard knows {name} here", f"/EPCISHeader/EPCISMasterData/{element.tag}")


def _vocabulary_element(element: Element) -> VocabularyElement:
    attributes: list[tuple[str, str]] = []
    structured: list[tuple[str, tuple[Extension, ...]]] = []
    children: list[str] = []
    extensions: list[Extension] = []
    for item in elements_of(element):
        if item.tag == "attribute":
            value = extension_of(item).value
            if isinstance(value, tuple):
                structured.append((item.get("id", ""), value))
            else:
                attributes.append((item.get("id", ""), str(value)))
        elif item.tag == "children":
            children += [text_of(child) for child in items_of(item, frozenset({"id"}), "/EPCISHeader/EPCISMasterData")]
        elif is_foreign(item):
            extensions.append(extension_of(item))
        else:
            _check_tag(item, "attribute")
    return VocabularyElement(
        element.get("id", ""), tuple(attributes), tuple(children), tuple(structured), tuple(extensions)
    )
