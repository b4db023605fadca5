"""Answers as documents: EPCISQueryDocument in JSON-LD and XML, one event, and lists of values.

Source: EPCIS 2.0, sections 9 and 10 (bindings), 12 (REST).
"""

import json
from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final

from lxml import etree

from medtrail.epcis.json_out import CONTEXT, event_to_json, write_json
from medtrail.epcis.model import EpcisDocument, EpcisEvent
from medtrail.epcis.xml_out import write_xml
from medtrail.gs1 import PrefixLengths
from services.portal.headers import MediaType, Wanted
from services.portal.query.spelling import spelled

QUERY_NAMESPACE: Final = "urn:epcglobal:epcis-query:xsd:2"
SIMPLE_EVENT_QUERY: Final = "SimpleEventQuery"


def query_document(
    events: Sequence[EpcisEvent],
    wanted: Wanted,
    *,
    prefixes: PrefixLengths,
    name: str = SIMPLE_EVENT_QUERY,
    subscription_id: str | None = None,
) -> bytes:
    """Return an EPCISQueryDocument with the events of an answer.

    Args:
        events: In the answer's order.
        wanted: Form and spelling.
        prefixes: Company prefixes known here, for URNs.
        name: Of the query.
        subscription_id: Of the subscription that it answers, or None.

    Raises:
        MalformedError: An event holds what XML cannot carry (NOT_IN_XML).
    """
    xml = wanted.media_type.is_xml
    found = tuple(
        spelled(event, epc_format=wanted.epc_format, cbv_format=wanted.cbv_format, prefixes=prefixes, xml=xml)
        for event in events
    )
    document = EpcisDocument(events=found, creation_date=datetime.now(UTC))
    write = _xml if xml else _json
    return write(document, name, subscription_id)


def _json(document: EpcisDocument, name: str, subscription_id: str | None) -> bytes:
    capture = json.loads(write_json(document))
    results: dict[str, Any] = {"queryName": name}
    if subscription_id is not None:
        results["subscriptionID"] = subscription_id
    results["resultsBody"] = {"eventList": capture["epcisBody"]["eventList"]}
    body = {
        "@context": capture["@context"],
        "type": "EPCISQueryDocument",
        "schemaVersion": capture["schemaVersion"],
        "creationDate": capture["creationDate"],
        "epcisBody": {"queryResults": results},
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _xml(document: EpcisDocument, name: str, subscription_id: str | None) -> bytes:
    # Our own words: nothing from outside is parsed here.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True, huge_tree=True)
    capture: Any = etree.fromstring(write_xml(document), parser)
    names = {prefix: uri for prefix, uri in capture.nsmap.items() if prefix != "epcis"}
    root: Any = etree.Element(
        f"{{{QUERY_NAMESPACE}}}EPCISQueryDocument",
        nsmap={"epcisq": QUERY_NAMESPACE, **names},
        schemaVersion=capture.get("schemaVersion"),
        creationDate=capture.get("creationDate"),
    )
    results = etree.SubElement(etree.SubElement(root, "EPCISBody"), f"{{{QUERY_NAMESPACE}}}QueryResults")
    etree.SubElement(results, "queryName").text = name
    if subscription_id is not None:
        etree.SubElement(results, "subscriptionID").text = subscription_id
    etree.SubElement(results, "resultsBody").append(deepcopy(capture.find("EPCISBody/EventList")))
    data: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return data


def event_document(event: EpcisEvent, wanted: Wanted, *, prefixes: PrefixLengths) -> bytes:
    """Return one event: by itself in JSON-LD, as the only one of a query document in XML."""
    if wanted.media_type.is_xml:
        return query_document((event,), wanted, prefixes=prefixes)
    found = spelled(event, epc_format=wanted.epc_format, cbv_format=wanted.cbv_format, prefixes=prefixes, xml=False)
    return json.dumps(event_to_json(found), ensure_ascii=False).encode()


def collection(members: Sequence[str]) -> bytes:
    """Return a list of values, or of what there is below a resource."""
    body = {"@context": [CONTEXT], "type": "Collection", "member": list(members)}
    return json.dumps(body, ensure_ascii=False).encode()


DOCUMENTS: Final = tuple(MediaType)
JSON_ONLY: Final = (MediaType.JSON_LD, MediaType.JSON)
