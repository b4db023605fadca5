"""Elements of EPCIS XML, read one by one: names, texts, CURIEs, extensions.

Entities, document types and the network are off: a document that has them is refused, so that nothing outside the bytes
can change what they say.
"""

from collections.abc import Iterator
from decimal import Decimal
from types import NoneType

from lxml import etree
from lxml.etree import _Element as Element

from medtrail.epcis.build import decimal_of, fail
from medtrail.epcis.business_header import SBDH
from medtrail.epcis.json_in import TEXT
from medtrail.epcis.model import Extension
from medtrail.epcis.namespaces import Prefixes, goes_without_saying
from medtrail.errors import MalformedError

MAX_DEPTH = 64

XSI = "http://www.w3.org/2001/XMLSchema-instance"
PRESERVE = ("http://www.w3.org/XML/1998/namespace", "space", "preserve")
"""The attribute by which white space around a text counts."""
TYPE_OF: dict[type, tuple[str, str]] = {
    Decimal: ("type", "xsd:decimal"),
    bool: ("type", "xsd:boolean"),
    NoneType: ("nil", "true"),
}
"""Attributes of XML Schema instances that tell a number, a truth value or nothing from a text, as JSON does."""

WRAPPERS = frozenset({"extension", "baseExtension"})


def parse_xml(data: bytes, *, qualified: bool = True) -> Element:
    """Return the root element of XML without document type, standard elements without their namespace.

    Args:
        data: The XML.
        qualified: Whether elements may be in a namespace of the standard.

    Raises:
        MalformedError: Not well-formed, or with a document type or entities.
    """
    try:
        root = etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        message = f"not well-formed XML: {str(error)[:200]}"
        raise MalformedError(message, code="XML_MALFORMED") from error
    if root.getroottree().docinfo.internalDTD is not None:
        message = "document types and entities are refused: write the text out"
        raise MalformedError(message, code="XML_ENTITY_REFUSED", field="/")
    for element in root.iter() if qualified else ():
        # Some writers put the standard's own elements into its namespace, which the schemas leave unqualified.
        tag = str(element.tag)
        if tag.startswith("{urn:epcglobal:epcis"):
            element.tag = tag[tag.index("}") + 1 :]
    return root


_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    dtd_validation=False,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
)


def declared_namespaces(root: Element) -> tuple[tuple[str, str], ...]:
    """Return (prefix, URI) of the namespaces that an element or one inside it declares, in order of prefixes.

    Those of the standard, and its own prefixes, go without saying.
    """
    found: dict[str, str] = {}
    for element in root.iter():
        for prefix, uri in element.nsmap.items():
            standard = uri.startswith("urn:epcglobal:epcis") or uri in {XSI, SBDH}
            if prefix and not standard and not goes_without_saying(prefix, uri):
                found.setdefault(prefix, uri)
    return tuple(sorted(found.items()))


def is_foreign(element: Element) -> bool:
    """Return whether an element is in a namespace; those of the standard are in none."""
    return str(element.tag)[0] == "{"


def elements_of(parent: Element) -> Iterator[Element]:
    """Yield child elements, looking through the wrappers of version 1.2."""
    for child in parent:
        if child.tag in WRAPPERS:
            yield from elements_of(child)
        else:
            yield child


def text_of(element: Element) -> str:
    """Return the text of an element of the standard, without white space around it.

    Raises:
        MalformedError: It holds elements.
    """
    if len(element):
        fail("FIELD_MALFORMED", "expected a text", str(element.tag))
    return (element.text or "").strip()


def split_name(tag: str) -> tuple[str, str]:
    """Return (namespace, local name) of lxml's spelling of a name."""
    if tag[0] != "{":
        return "", tag
    namespace, _, name = tag[1:].partition("}")
    return namespace, name


def items_of(parent: Element, names: frozenset[str], path: str) -> Element:
    """Return an element whose children all have names that belong there."""
    for child in parent:
        if child.tag not in names:
            fail("FIELD_UNKNOWN", f"the standard knows {', '.join(sorted(names))} here", f"{path}/{child.tag}")
    return parent


def attributes_of(element: Element) -> list[tuple[str, str]]:
    """Return attributes as text; the stubs allow bytes, which lxml returns for none."""
    return [(str(key), str(text)) for key, text in element.items()]


def expand(element: Element, text: str) -> str:
    """Return a CURIE by the namespaces in force at an element as URI; other text as it is."""
    if ":" not in text or text.startswith(("urn:", "http")):
        return text
    prefixes = Prefixes({prefix: uri for prefix, uri in element.nsmap.items() if prefix and prefix != "gs1"})
    return prefixes.expand_value(text)


def extension_of(element: Element, depth: int = 0) -> Extension:
    """Return an element and all in it as extension; white space around its text counts where xml:space says so."""
    if depth > MAX_DEPTH:
        fail("EXTENSION_DEPTH", f"nested deeper than {MAX_DEPTH}", str(element.tag))
    namespace, name = split_name(str(element.tag))
    attributes = tuple((*split_name(key), text) for key, text in attributes_of(element)) if element.attrib else ()
    text = element.text or ""
    if not len(element):
        bare = text.strip()
        for kind, (key, word) in TYPE_OF.items():
            # As the writer marks them; with other attributes, or spelled otherwise, it stays text and marks.
            if attributes[-1:] == ((XSI, key, word),) and (value := _typed_value(kind, bare)) is not _UNTYPED:
                return Extension(namespace, name, value, attributes[:-1])
        if bare != text and PRESERVE in attributes:
            return Extension(namespace, name, text, tuple(item for item in attributes if item != PRESERVE))
        return Extension(namespace, name, bare, attributes)
    children: list[Extension] = []
    if text.strip():
        children.append(Extension("", TEXT, text))
    for child in element:
        children.append(extension_of(child, depth + 1))
        if child.tail is not None and child.tail.strip():
            children.append(Extension("", TEXT, child.tail))
    return Extension(namespace, name, tuple(children), attributes)


def _typed_value(kind: type, text: str) -> Decimal | bool | str | None:
    """Return a text as number, truth value or nothing, or a mark where it is not spelled as the writer spells it."""
    if kind is bool and text in {"true", "false"}:
        return text == "true"
    if kind is Decimal:
        number = decimal_of(text)
        return _UNTYPED if number is None or format(number, "f") != text else number
    return None if kind is NoneType and not text else _UNTYPED


_UNTYPED = "\ud800"
