"""EPCIS XML out, versions 2.0 and 1.2: documents at once or piece by piece.

Version 1.2 knows no sensor data, persistent dispositions, association events or certification; an event that holds any
of these is refused in that version, since leaving them out would change what was said. CBV words are written as URNs,
which both versions take.

Source: EPCIS 1.2, section 9; EPCIS 2.0, section 9 (XML bindings).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from lxml import etree
from lxml.etree import _Element as Element

from medtrail.epcis.business_header import ROOT_NAME, SBDH, put_together
from medtrail.epcis.model import DocumentKind, EpcisDocument, EpcisEvent, Extension, VocabularyElement
from medtrail.epcis.namespaces import BUILT_IN, USUAL
from medtrail.epcis.xml_elements import XSI
from medtrail.epcis.xml_event_out import EventWriter, add, add_extension, add_optional, check_speakable, time_text
from medtrail.errors import MalformedError

_DOCUMENT_NAMESPACE = {"1.2": "urn:epcglobal:epcis:xsd:1", "2.0": "urn:epcglobal:epcis:xsd:2"}
_QUERY_NAMESPACE = {"1.2": "urn:epcglobal:epcis-query:xsd:1", "2.0": "urn:epcglobal:epcis-query:xsd:2"}


def write_xml(document: EpcisDocument, *, version: str = "2.0") -> bytes:
    """Return the document as EPCIS XML, indented, in UTF-8.

    Args:
        document: The document.
        version: ``2.0`` or ``1.2``.

    Raises:
        MalformedError: An unknown version, or an event that the version cannot say.
    """
    if document.kind is DocumentKind.EVENT and len(document.events) == 1:
        namespace = _namespace_of(document, version)
        body = etree.Element("EventList", nsmap=_nsmap(document, namespace))
        _add_event(body, document.events[0], version=version, number=0)
        element = next(body.iter(document.events[0].type.value))
        _about(element, document, version)
        return _serialised(element)
    return b"".join(write_xml_events(document, (), version=version))


def write_xml_events(head: EpcisDocument, events: Iterable[EpcisEvent], *, version: str = "2.0") -> Iterator[bytes]:
    """Yield a capture or query document of any number of events, in pieces of a hundred events, in UTF-8.

    Args:
        head: The document; its own events come first.
        events: What follows. A namespace that the head does not declare is declared in the event.
        version: ``2.0`` or ``1.2``.

    Raises:
        MalformedError: As :func:`write_xml`.
    """
    namespace = _namespace_of(head, version)
    nsmap = _nsmap(head, namespace)
    root, body = _frame(head, namespace, nsmap, version)
    etree.indent(root)
    depth = sum(1 for _ in body.iterancestors())
    indent = "\n" + "  " * depth
    body.text = f"{indent}  {_HERE}{indent}"
    frame = _serialised(root)
    before, _, after = frame.partition(f"{indent}  {_HERE}{indent}".encode())
    yield before
    count = 0
    everything = chain(head.events, events)
    while batch := list(islice(everything, _BATCH)):
        yield _batch(batch, nsmap=nsmap, depth=depth, version=version, first=count)
        count += len(batch)
    yield (indent.encode() if count else b"") + after


_HERE = "EVENTS"
_BATCH = 100


def _namespace_of(document: EpcisDocument, version: str) -> str:
    known = _QUERY_NAMESPACE if document.kind is DocumentKind.QUERY else _DOCUMENT_NAMESPACE
    namespace = known.get(version)
    if namespace is None:
        message = f"expected version 2.0 or 1.2, got {version[:20]!r}"
        raise MalformedError(message, code="VERSION_UNKNOWN")
    return namespace


def _nsmap(document: EpcisDocument, namespace: str) -> dict[str, str]:
    # Prefixes of the standard's own context mean the same namespace in XML, so that CURIEs and names agree.
    declared = {
        prefix: uri
        for prefix, uri in document.namespaces
        if ":" in uri and prefix.isidentifier() and uri != USUAL["xml"]
    }
    own = "epcisq" if document.kind is DocumentKind.QUERY else "epcis"
    return {"cbvmda": BUILT_IN["cbvmda"], **declared, own: namespace, "xsd": BUILT_IN["xsd"], "xsi": XSI}


def _frame(document: EpcisDocument, namespace: str, nsmap: dict[str, str], version: str) -> tuple[Element, Element]:
    """Return a document without its events, and its list of them."""
    kind = DocumentKind.QUERY if document.kind is DocumentKind.QUERY else DocumentKind.CAPTURE
    root = etree.Element(f"{{{namespace}}}{kind.value}", nsmap=nsmap)
    _about(root, document, version)
    try:
        _header(root, document)
        for extension in document.extensions:
            add_extension(root, extension)
    except ValueError as error:
        message = "holds a character that XML cannot carry"
        raise MalformedError(message, code="NOT_IN_XML", field="header") from error
    parent = etree.SubElement(root, "EPCISBody")
    if kind is DocumentKind.QUERY:
        parent = etree.SubElement(parent, f"{{{namespace}}}QueryResults")
        add_optional(parent, "queryName", document.query_name)
        add_optional(parent, "subscriptionID", document.subscription_id)
        parent = etree.SubElement(parent, "resultsBody")
    return root, etree.SubElement(parent, "EventList")


def _about(root: Element, document: EpcisDocument, version: str) -> None:
    root.set("schemaVersion", version)
    if document.creation_date is not None:
        root.set("creationDate", time_text(document.creation_date))


def _batch(events: Sequence[EpcisEvent], *, nsmap: dict[str, str], depth: int, version: str, first: int) -> bytes:
    """Return events as they stand in a document that declares the namespaces, indented."""
    body = etree.Element("EventList", nsmap=nsmap)
    for number, event in enumerate(events, start=first):
        _add_event(body, event, version=version, number=number)
    etree.indent(body, level=depth)
    data: bytes = etree.tostring(body, encoding="UTF-8", xml_declaration=False)
    # What stands between the list's own tags, without the white space before its end.
    return data[data.index(b">") + 1 : data.rindex(b"<")].rstrip()


def _add_event(body: Element, event: EpcisEvent, *, version: str, number: int) -> None:
    if version == "1.2":
        check_speakable(event, f"events[{number}]")
    try:
        EventWriter(version).event(body, event)
    except ValueError as error:
        message = "holds a character that XML cannot carry"
        raise MalformedError(message, code="NOT_IN_XML", field=f"events[{number}]") from error


def _serialised(root: Element) -> bytes:
    etree.indent(root)
    data: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return data + b"\n"


def _header(root: Element, document: EpcisDocument) -> None:
    business = put_together(document)
    if not business and not document.vocabularies and not document.header_extensions:
        return
    header = add(root, "EPCISHeader")
    if business:
        element = etree.SubElement(header, f"{{{SBDH}}}{ROOT_NAME}", nsmap={"sbdh": SBDH})
        for item in business:
            add_extension(element, item)
    if document.vocabularies:
        lists = add(add(add(header, "extension"), "EPCISMasterData"), "VocabularyList")
        for vocabulary in document.vocabularies:
            elements = add(add(lists, "Vocabulary", type=vocabulary.type), "VocabularyElementList")
            for described in vocabulary.elements:
                _vocabulary_element(elements, described)
    for extension in document.header_extensions:
        add_extension(header, extension)


def _vocabulary_element(parent: Element, item: VocabularyElement) -> None:
    element = add(parent, "VocabularyElement", id=item.id)
    for name, text in item.attributes:
        add_extension(element, Extension("", "attribute", text, (("", "id", name),)))
    for name, structure in item.structured:
        add_extension(element, Extension("", "attribute", structure, (("", "id", name),)))
    if item.children:
        children = add(element, "children")
        for child in item.children:
            add(children, "id", child)
    for extension in item.extensions:
        add_extension(element, extension)
