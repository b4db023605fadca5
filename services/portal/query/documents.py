"""Answers as documents: EPCISQueryDocument in JSON-LD and XML, one event, and lists of values.

Source: EPCIS 2.0, sections 9 and 10 (bindings), 12 (REST).
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from medtrail.epcis import (
    DocumentKind,
    EpcisDocument,
    EpcisEvent,
    event_to_text,
    write_json_events,
    write_xml_events,
)
from medtrail.epcis.json_out import CONTEXT
from medtrail.gs1 import PrefixLengths
from services.portal.headers import MediaType, Wanted
from services.portal.query.spelling import spelled

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
    document = EpcisDocument(
        events=found,
        creation_date=datetime.now(UTC),
        kind=DocumentKind.QUERY,
        query_name=name,
        subscription_id=subscription_id,
    )
    return b"".join(write_xml_events(document, ()) if xml else write_json_events(document, ()))


def event_document(event: EpcisEvent, wanted: Wanted, *, prefixes: PrefixLengths) -> bytes:
    """Return one event: by itself in JSON-LD, as the only one of a query document in XML."""
    if wanted.media_type.is_xml:
        return query_document((event,), wanted, prefixes=prefixes)
    found = spelled(event, epc_format=wanted.epc_format, cbv_format=wanted.cbv_format, prefixes=prefixes, xml=False)
    return event_to_text(found).encode()


def collection(members: Sequence[str]) -> bytes:
    """Return a list of values, or of what there is below a resource."""
    body = {"@context": [CONTEXT], "type": "Collection", "member": list(members)}
    return json.dumps(body, ensure_ascii=False).encode()


DOCUMENTS: Final = tuple(MediaType)
JSON_ONLY: Final = (MediaType.JSON_LD, MediaType.JSON)
