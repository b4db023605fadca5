"""Schemas, headers and refusals of the portal's own OpenAPI text (3.1)."""

from http import HTTPStatus
from typing import Any, Final

from services.portal.errors import ANSWERS, PROBLEM_TYPE
from services.portal.headers import CbvFormat, EpcFormat, ErrorBehaviour, MediaType

Schema = dict[str, Any]

REFUSALS: Final = {
    400: "The request is malformed, or its content is refused; `code` and `field` tell why and where.",
    401: "No token, or none that is known here.",
    403: "The token is not for this.",
    404: "There is no such resource.",
    405: "The resource does not do this; `Allow` tells what it does.",
    406: "No answer can be given in the form or version that was asked for.",
    408: "The body took too long to come.",
    409: "Other content stands under the same id or name.",
    413: "More than the limits allow.",
    414: "The URI is longer than 8,192 bytes.",
    415: "The body comes in a form that is not read here.",
    500: "Something went wrong on our side.",
    503: "No answer now; the same request may succeed later, see `Retry-After`.",
}
EVERYWHERE: Final = (400, 401, 403, 404, 406, 414, 500, 503)
WITH_BODY: Final = (*EVERYWHERE, 408, 409, 413, 415)

_VERSION: Final[Schema] = {"type": "string", "pattern": r"^[0-9]{1,4}(\.[0-9]{1,4}){0,2}$"}


def words(*values: str) -> Schema:
    """Return the schema of one of some texts."""
    return {"type": "string", "enum": list(values)}


def ref(kind: str, name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def _text(description: str, **more: Any) -> Schema:  # noqa: ANN401 - parts of a schema
    return {"type": "string", "description": description, **more}


def _time(description: str) -> Schema:
    return _text(description, format="date-time")


def _header(description: str, schema: Schema) -> Schema:
    return {"description": description, "schema": schema}


def headers() -> Schema:
    """Return the headers of answers."""
    return {
        "GS1-EPCIS-Version": _header("EPCIS version of the answer.", _VERSION),
        "GS1-EPCIS-Min": _header("Lowest EPCIS version spoken here.", _VERSION),
        "GS1-EPCIS-Max": _header("Highest EPCIS version spoken here.", _VERSION),
        "GS1-CBV-Version": _header("CBV version of the answer.", _VERSION),
        "GS1-CBV-Min": _header("Lowest CBV version spoken here.", _VERSION),
        "GS1-CBV-Max": _header("Highest CBV version spoken here.", _VERSION),
        "GS1-Vendor-Version": _header("Version of this software.", {"type": "string"}),
        "GS1-Extensions": _header("Namespaces known here, prefix=URI.", {"type": "string"}),
        "GS1-EPC-Format": _header("Spelling of identifiers.", words(*EpcFormat)),
        "GS1-CBV-XML-Format": _header("Spelling of CBV words in XML.", words(*CbvFormat)),
        "GS1-EPCIS-Capture-Limit": _header(
            "Most events of a capture under the behaviour that is asked for.", {"type": "string", "pattern": "^[0-9]+$"}
        ),
        "GS1-EPCIS-Capture-File-Size-Limit": _header(
            "Most bytes of a capture.", {"type": "string", "pattern": "^[0-9]+$"}
        ),
        "GS1-Capture-Error-Behaviour": _header(
            "What becomes of a capture in which an event is refused.", words(*ErrorBehaviour)
        ),
        "GS1-Next-Page-Token-Expires": _header("Until when the next page can be had.", _time("Moment.")),
        "Link": _header('Where the next page is, rel="next"; absent on the last.', {"type": "string"}),
        "Location": _header("Where the new resource is.", {"type": "string"}),
        "Allow": _header("What the resource does.", {"type": "string"}),
        "Retry-After": _header("Seconds to wait.", {"type": "string", "pattern": "^[0-9]+$"}),
        "WWW-Authenticate": _header("How to prove who asks.", {"type": "string"}),
    }


COMMON_HEADERS: Final = (
    "GS1-EPCIS-Version",
    "GS1-EPCIS-Min",
    "GS1-EPCIS-Max",
    "GS1-CBV-Version",
    "GS1-CBV-Min",
    "GS1-CBV-Max",
    "GS1-Vendor-Version",
)


def header_refs(*names: str) -> Schema:
    """Return references to the headers of every answer and to some more."""
    return {name: ref("headers", name) for name in (*COMMON_HEADERS, *names)}


def parameters() -> Schema:
    """Return the parameters that requests share."""

    def header(name: str, description: str, schema: Schema) -> Schema:
        return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}

    versions = {
        f"GS1-{what}-{part}": header(f"GS1-{what}-{part}", text, _VERSION)
        for what in ("EPCIS", "CBV")
        for part, text in (
            ("Version", "Version wanted."),
            ("Min", "Lowest understood."),
            ("Max", "Highest understood."),
        )
    }
    return {
        **versions,
        "GS1-EPC-Format": header(
            "GS1-EPC-Format", "Spelling of identifiers wanted; kept as captured unless told.", words(*EpcFormat)
        ),
        "GS1-CBV-XML-Format": header("GS1-CBV-XML-Format", "Spelling of CBV words in XML.", words(*CbvFormat)),
        "GS1-Extensions": header(
            "GS1-Extensions",
            "Prefixes of user extensions in names of parameters: `ext=https://…, other=…`.",
            {"type": "string", "maxLength": 2000},
        ),
        "GS1-Capture-Error-Behaviour": header(
            "GS1-Capture-Error-Behaviour",
            "rollback (default): all events or none. proceed: all good events.",
            words(*ErrorBehaviour),
        ),
        "Medtrail-Second-Hand": header(
            "Medtrail-Second-Hand",
            "true: the document tells what others did, and is passed on as their counterpart.",
            words("true", "false"),
        ),
        "Medtrail-Happened": header(
            "Medtrail-Happened",
            "true: it has happened already; what breaks a rule of the books is recorded with an alert.",
            words("true", "false"),
        ),
        "GS1-Query-Min-Record-Time": header(
            "GS1-Query-Min-Record-Time", "Only events recorded then or later.", _time("Moment.")
        ),
        "perPage": {
            "name": "perPage",
            "in": "query",
            "required": False,
            "description": "Most members of a page, at most 1,000.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 10**12, "default": 30},
        },
        "nextPageToken": {
            "name": "nextPageToken",
            "in": "query",
            "required": False,
            "description": "From the Link of the page before.",
            "schema": {"type": "string", "maxLength": 200},
        },
    }


def responses() -> Schema:
    """Return the refusals, by status."""
    return {f"Refused{status}": _refusal(status, text) for status, text in REFUSALS.items()}


def _refusal(status: int, text: str) -> Schema:
    more = {401: ("WWW-Authenticate",), 405: ("Allow",), 503: ("Retry-After",)}.get(status, ())
    names = sorted({f"epcisException:{answer.exception}" for answer in ANSWERS.values() if answer.status == status})
    schema = {
        "allOf": [
            ref("schemas", "Problem"),
            {"properties": {"status": {"const": status}, "type": words(*names), "title": {"const": _phrase(status)}}},
        ]
    }
    return {"description": text, "headers": header_refs(*more), "content": {PROBLEM_TYPE: {"schema": schema}}}


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def schemas() -> Schema:
    """Return the schemas of bodies."""
    members = {"type": "array", "items": {"type": "string"}}
    context: Schema = {"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array"}]}
    return {
        "Problem": {
            "description": "Why a request or an event was refused (RFC 7807).",
            "type": "object",
            "required": ["type", "title", "status", "code", "detail"],
            "properties": {
                "type": _text("The standard's exception, epcisException:…"),
                "title": _text("Phrase of the status."),
                "status": {"type": "integer"},
                "code": _text("Stable code of this software; codes are added, never renamed."),
                "detail": _text("What was wanted and what came."),
                "field": _text("Place of the offending field."),
                "event": {"type": "integer", "description": "Number of the event in its document, from 0."},
            },
        },
        "Event": {
            "description": "One EPCIS event, JSON-LD (EPCIS 2.0, section 10).",
            "type": "object",
            "required": ["type", "eventTime", "eventTimeZoneOffset"],
            "properties": {"@context": context, "type": _text("Event type."), "eventTime": _time("When it happened.")},
        },
        "EpcisDocument": {
            "description": "EPCISDocument or EPCISQueryDocument, JSON-LD.",
            "type": "object",
            "required": ["@context", "type", "epcisBody"],
            "properties": {
                "@context": context,
                "type": words("EPCISDocument", "EPCISQueryDocument"),
                "schemaVersion": {"type": "string"},
                "creationDate": _time("When it was made."),
                "epcisBody": {"type": "object"},
                "epcisHeader": {"type": "object"},
            },
        },
        "QueryDocument": {
            "description": "The events of an answer.",
            "type": "object",
            "required": ["@context", "type", "schemaVersion", "creationDate", "epcisBody"],
            "properties": {"type": {"const": "EPCISQueryDocument"}, "epcisBody": {"type": "object"}},
        },
        "CaptureJob": _capture_job(),
        "Collection": {
            "description": "Values, or what there is below a resource.",
            "type": "object",
            "required": ["@context", "type", "member"],
            "properties": {"@context": context, "type": {"const": "Collection"}, "member": members},
        },
        "TopLevel": members,
        **_standing_schemas(context),
    }


def _capture_job() -> Schema:
    return {
        "description": "What has become of a capture.",
        "type": "object",
        "required": ["captureID", "createdAt", "running", "success", "captureErrorBehaviour", "errors"],
        "properties": {
            "captureID": {"type": "string"},
            "createdAt": _time("When it was received."),
            "finishedAt": _time("When it was done; absent while it runs."),
            "running": {"type": "boolean"},
            "success": {"type": "boolean", "description": "No error so far."},
            "captureErrorBehaviour": words(*ErrorBehaviour),
            "errors": {
                "type": "array",
                "items": ref("schemas", "Problem"),
                "description": "The first 1,000; the list of all captures shows 20 of each.",
            },
            "medtrail:capturedCount": {"type": "integer", "description": "Events captured, resends included."},
            "medtrail:resendCount": {"type": "integer", "description": "Of these, events that were captured before."},
            "medtrail:errorCount": {"type": "integer", "description": "Of all errors, those not shown included."},
        },
    }


def _standing_schemas(context: Schema) -> Schema:
    query = {"type": "object", "description": "Parameters of SimpleEventQuery by name (EPCIS 2.0, section 8.2.7.1)."}
    schedule = {
        "type": "object",
        "properties": {
            name: {"type": ["string", "number"]}
            for name in ("second", "minute", "hour", "dayOfMonth", "month", "dayOfWeek")
        },
        "additionalProperties": False,
    }
    return {
        "QueryDefinition": {
            "type": "object",
            "required": ["name", "query"],
            "properties": {
                "@context": context,
                "name": {"type": "string", "minLength": 1, "maxLength": 200},
                "query": query,
            },
            "additionalProperties": False,
        },
        "SubscriptionRequest": {
            "type": "object",
            "required": ["dest"],
            "properties": {
                "@context": context,
                "dest": _text("Where to deliver; HTTPS.", format="uri", maxLength=2000),
                "signatureToken": _text("Deliveries are signed with it; told to nobody.", maxLength=500),
                "stream": {"type": "boolean", "description": "Deliver as events come."},
                "schedule": schedule,
                "reportIfEmpty": {"type": "boolean"},
                "initialRecordTime": _time("Begin with events recorded then."),
            },
            "additionalProperties": False,
        },
        "SubscriptionCreated": {
            "type": "object",
            "required": ["subscriptionID"],
            "properties": {"subscriptionID": {"type": "string"}},
        },
        "Subscription": {
            "type": "object",
            "required": ["subscriptionID", "queryName", "dest", "createdAt", "reportIfEmpty", "signed"],
            "properties": {
                "subscriptionID": {"type": "string"},
                "queryName": {"type": "string"},
                "dest": {"type": "string"},
                "createdAt": _time("When it was made."),
                "reportIfEmpty": {"type": "boolean"},
                "schedule": schedule,
                "stream": {"type": "boolean"},
                "signed": {"type": "boolean"},
                "lastNotifiedAt": {"type": ["string", "null"], "format": "date-time"},
                "failedAttempts": {"type": "integer"},
                "lastError": {"type": ["string", "null"]},
                "nextAttemptAt": {"type": ["string", "null"], "format": "date-time"},
            },
        },
    }


def bodies(*schema_names: str, xml: bool = False) -> Schema:
    """Return the content of a body: JSON-LD in both its names, and XML where it is spoken."""
    refs = [ref("schemas", name) for name in schema_names]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    content: Schema = {kind.value: {"schema": schema} for kind in (MediaType.JSON_LD, MediaType.JSON)}
    if xml:
        content |= {MediaType.XML.value: {"schema": {"type": "string", "description": "EPCIS XML, 1.2 or 2.0."}}}
    return content
