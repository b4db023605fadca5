"""The portal's own OpenAPI text (3.1): every path, parameter, header, status and body.

Source: EPCIS 2.0, section 12, for what is said; the words are ours.
"""

import json
from typing import Any, Final

from medtrail.runtime.settings import PortalSettings
from services.portal import openapi_schemas as parts
from services.portal import verification_openapi
from services.portal.app import vendor_version
from services.portal.openapi_schemas import EVERYWHERE, WITH_BODY, Schema, bodies, header_refs, ref
from services.portal.query.parameters import NAMES

_ABOUT: Final = """\
EPCIS 2.0 for the software of one organisation. What is captured here is signed with the organisation's key and goes to
its trading partners and into the log as every event does; what is asked here is answered from the organisation's own
index. Every request carries a bearer token. HEAD is answered wherever GET is; OPTIONS on every path tells versions,
formats and limits.
"""
_VERSIONS: Final = tuple(f"GS1-{what}-{part}" for what in ("EPCIS", "CBV") for part in ("Version", "Min", "Max"))
_PAGING: Final = ("perPage", "nextPageToken")
_FORMATS: Final = ("GS1-EPC-Format", "GS1-CBV-XML-Format")
_PAGED: Final = ("Link", "GS1-Next-Page-Token-Expires")
_BROWSED: Final = {
    "epcs": ("epc", "identifier", "urn:epc:id:sgtin:0614141.107346.2018"),
    "bizSteps": ("bizStep", "business step", "shipping"),
    "bizLocations": ("bizLocation", "business location", "urn:epc:id:sgln:0614141.00888.0"),
    "readPoints": ("readPoint", "read point", "urn:epc:id:sgln:0614141.07346.1234"),
    "dispositions": ("disposition", "disposition", "in_transit"),
}


def openapi_document(settings: PortalSettings) -> bytes:
    """Return the text as JSON."""
    verification = verification_openapi.openapi()
    paths = {**_root_paths(), **_capture_paths(), **_event_paths(), **_query_paths(), **_subscription_paths()}
    for path, item in paths.items():
        item["options"] = _discovery(path)
    for path, item in verification["paths"].items():
        paths[path] = {**_with_refusals(item), "options": _discovery(path)}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "medtrail portal",
            "version": vendor_version().partition("/")[2],
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": settings.public_url or "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `medtrail portal token`, with the scope capture, query or verify.",
                }
            },
            "headers": parts.headers(),
            "parameters": {**parts.parameters(), **_query_parameters()},
            "responses": parts.responses(),
            "schemas": {**parts.schemas(), **verification["components"]["schemas"]},
        },
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _refusals(statuses: tuple[int, ...]) -> Schema:
    return {str(status): ref("responses", f"Refused{status}") for status in sorted(statuses)}


def _operation(
    summary: str,
    tag: str,
    success: Schema,
    *,
    parameters: tuple[Any, ...] = (),
    body: Schema | None = None,
    statuses: tuple[int, ...] = EVERYWHERE,
) -> Schema:
    found: Schema = {
        "summary": summary,
        "tags": [tag],
        "parameters": [ref("parameters", item) if isinstance(item, str) else item for item in parameters],
        "responses": {**success, **_refusals(statuses)},
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": body}
    return found


def _answer(status: int, description: str, content: Schema | None = None, *, headers: tuple[str, ...] = ()) -> Schema:
    found: Schema = {"description": description, "headers": header_refs(*headers)}
    if content is not None:
        found["content"] = content
    return {str(status): found}


def _json(schema: str, *, many: bool = False) -> Schema:
    found = ref("schemas", schema)
    return {"application/json": {"schema": {"type": "array", "items": found} if many else found}}


def _in_path(name: str, description: str, **more: Any) -> Schema:  # noqa: ANN401 - parts of a schema
    schema = {"type": "string", "minLength": 1, "maxLength": 500, **more}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _discovery(path: str) -> Schema:
    limits = ("GS1-EPCIS-Capture-Limit", "GS1-EPCIS-Capture-File-Size-Limit", "GS1-Capture-Error-Behaviour")
    more = limits if path.startswith("/capture") else ()
    told = _answer(
        204, "Told in headers.", headers=("Allow", "GS1-EPC-Format", "GS1-CBV-XML-Format", "GS1-Extensions", *more)
    )
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    asked: tuple[Any, ...] = tuple(_in_path(name, "Any.") for name in names)
    if more:
        asked += ("GS1-Capture-Error-Behaviour",)
    return _operation(f"Tell what {path} does, and how.", "discovery", told, parameters=asked)


def _root_paths() -> Schema:
    def plain(summary: str, description: str) -> Schema:
        told = _answer(200, description, {"application/json": {"schema": {"type": "object"}}})
        return {"get": {**_operation(summary, "discovery", told, statuses=(414, 500)), "security": []}}

    return {
        "/": {
            "get": _operation(
                "List the top-level resources.", "discovery", _answer(200, "Their names.", _json("TopLevel"))
            )
        },
        "/health": plain("Tell whether the portal serves.", "It does."),
        "/openapi.json": plain("Return this text.", "This text."),
    }


def _capture_paths() -> Schema:
    second = ("GS1-Capture-Error-Behaviour", "Medtrail-Second-Hand", "Medtrail-Happened")
    job = {**bodies("CaptureJob")}
    jobs = {kind: {"schema": {"type": "array", "items": ref("schemas", "CaptureJob")}} for kind in job}
    return {
        "/capture": {
            "post": _operation(
                "Capture a document: it is kept, and its job tells what becomes of it.",
                "capture",
                _answer(202, "Received.", headers=("Location", "GS1-Capture-Error-Behaviour")),
                parameters=(*_VERSIONS, *second),
                body=bodies("EpcisDocument", "Event", xml=True),
                statuses=WITH_BODY,
            ),
            "get": _operation(
                "List captures, the newest first.",
                "capture",
                _answer(200, "A page of them.", jobs, headers=_PAGED),
                parameters=(*_PAGING, *_VERSIONS),
            ),
        },
        "/capture/{captureID}": {
            "get": _operation(
                "Tell what has become of a capture.",
                "capture",
                _answer(200, "How it stands.", job, headers=("GS1-Capture-Error-Behaviour",)),
                parameters=(_in_path("captureID", "From the Location of the capture."), *_VERSIONS),
            )
        },
    }


def _query_parameters() -> Schema:
    """Return the fixed parameters of SimpleEventQuery; user extensions add names without end."""
    return {
        name: {
            "name": name,
            "in": "query",
            "required": False,
            "description": "Of SimpleEventQuery; repeated or with commas for any of several values.",
            "schema": {"type": "string", "maxLength": 500},
        }
        for name in sorted(NAMES)
    }


def _events(summary: str, *own: Any) -> Schema:  # noqa: ANN401 - parameters
    return _operation(
        summary,
        "events",
        _answer(200, "A page of them.", bodies("QueryDocument", xml=True), headers=(*_PAGED, "GS1-EPC-Format")),
        parameters=(
            *own,
            *sorted(NAMES),
            *_PAGING,
            *_VERSIONS,
            *_FORMATS,
            "GS1-Extensions",
            "GS1-Query-Min-Record-Time",
        ),
        statuses=(*EVERYWHERE, 413),
    )


def _collection(summary: str, *own: Any, paged: bool = True) -> Schema:  # noqa: ANN401 - parameters
    headers = _PAGED if paged else ()
    paging = _PAGING if paged else ()
    return _operation(
        summary,
        "top level",
        _answer(200, "Their names.", bodies("Collection"), headers=headers),
        parameters=(*own, *paging, *_VERSIONS, "GS1-EPC-Format"),
        statuses=(*EVERYWHERE, 413),
    )


def _event_paths() -> Schema:
    kind = _in_path("eventType", "Event type.", examples=["ObjectEvent"])
    found: Schema = {
        "/events": {
            "get": _events("Ask for events (SimpleEventQuery)."),
            "post": _operation(
                "Capture one event, at once.",
                "capture",
                _answer(201, "Captured, now or before.", bodies("Event", xml=True), headers=("Location",)),
                parameters=(*_VERSIONS, *_FORMATS, "Medtrail-Second-Hand", "Medtrail-Happened"),
                body=bodies("Event", "EpcisDocument", xml=True),
                statuses=WITH_BODY,
            ),
        },
        "/events/{eventID}": {
            "get": _operation(
                "Return an event.",
                "events",
                _answer(200, "The event.", bodies("Event", xml=True), headers=("GS1-EPC-Format",)),
                parameters=(_in_path("eventID", "Its eventID."), *_VERSIONS, *_FORMATS),
            )
        },
        "/eventTypes": {"get": _collection("List event types.")},
        "/eventTypes/{eventType}": {"get": _collection("List what there is of an event type.", kind)},
        "/eventTypes/{eventType}/events": {"get": _events("Ask for events of a type.", kind)},
        "/nextPageToken/{token}": {
            "delete": _operation(
                "Withdraw the token of a next page.",
                "events",
                _answer(204, "Withdrawn."),
                parameters=(_in_path("token", "The token."),),
            )
        },
    }
    for path, (name, what, example) in _BROWSED.items():
        value = _in_path(name, f"A {what}.", examples=[example])
        found |= {
            f"/{path}": {"get": _collection(f"List each {what} of which events tell.")},
            f"/{path}/{{{name}}}": {"get": _collection(f"List what there is of a {what}.", value)},
            f"/{path}/{{{name}}}/events": {"get": _events(f"Ask for events of a {what}.", value)},
        }
    return found


_QUERY_NAME: Final = _in_path("queryName", "Name of the query.", maxLength=200)


def _gone(summary: str, *own: Any) -> Schema:  # noqa: ANN401 - parameters
    return _operation(summary, "queries", _answer(204, "Gone."), parameters=own)


def _query_paths() -> Schema:
    return {
        "/queries": {
            "get": _operation(
                "List named queries.",
                "queries",
                _answer(200, "A page of them.", _json("QueryDefinition", many=True), headers=_PAGED),
                parameters=(*_PAGING, *_VERSIONS),
            ),
            "post": _operation(
                "Name a query.",
                "queries",
                _answer(201, "Named.", headers=("Location",)),
                parameters=(*_VERSIONS, "GS1-Extensions"),
                body=bodies("QueryDefinition"),
                statuses=WITH_BODY,
            ),
        },
        "/queries/{queryName}": {
            "get": _operation(
                "Return a named query.",
                "queries",
                _answer(200, "The query.", _json("QueryDefinition")),
                parameters=(_QUERY_NAME,),
            ),
            "delete": _gone("Delete a named query and all that subscribes to it.", _QUERY_NAME),
        },
        "/queries/{queryName}/events": {
            "get": _operation(
                "Ask a named query; as WebSocket, be told of events as they come.",
                "queries",
                _answer(
                    200, "A page of events.", bodies("QueryDocument", xml=True), headers=(*_PAGED, "GS1-EPC-Format")
                ),
                parameters=(_QUERY_NAME, *_PAGING, *_VERSIONS, *_FORMATS, "GS1-Query-Min-Record-Time"),
                statuses=(*EVERYWHERE, 413),
            )
        },
    }


def _subscription_paths() -> Schema:
    subscription = _in_path("subscriptionID", "Id of the subscription.")
    return {
        "/queries/{queryName}/subscriptions": {
            "get": _operation(
                "List subscriptions to a named query.",
                "subscriptions",
                _answer(200, "A page of them.", _json("Subscription", many=True), headers=_PAGED),
                parameters=(_QUERY_NAME, *_PAGING, *_VERSIONS),
            ),
            "post": _operation(
                "Subscribe to a named query by webhook.",
                "subscriptions",
                _answer(201, "Subscribed.", _json("SubscriptionCreated"), headers=("Location",)),
                parameters=(_QUERY_NAME, *_VERSIONS, *_FORMATS),
                body=bodies("SubscriptionRequest"),
                statuses=WITH_BODY,
            ),
        },
        "/queries/{queryName}/subscriptions/{subscriptionID}": {
            "get": _operation(
                "Return a subscription, and how it goes.",
                "subscriptions",
                _answer(200, "The subscription.", _json("Subscription")),
                parameters=(_QUERY_NAME, subscription),
            ),
            "delete": _gone("End a subscription.", _QUERY_NAME, subscription),
        },
    }


def _with_refusals(item: Schema) -> Schema:
    """Return a path of the verification part with the refusals that every answer may be, where it has bodies."""
    found: Schema = {}
    for method, operation in item.items():
        responses = dict(operation["responses"])
        for status in WITH_BODY:
            text = str(status)
            if "requestBody" in operation or text not in responses:
                responses[text] = ref("responses", f"Refused{text}")
        found[method] = {**operation, "responses": responses}
    return found
