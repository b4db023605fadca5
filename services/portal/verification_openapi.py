"""What the portal's own OpenAPI says of verification requests and of the FMD verbs (OpenAPI 3.1)."""

from typing import Any, Final

from medtrail.fmd import FmdCode, FmdState
from medtrail.verdict import VerdictAction, VerdictCode
from medtrail.vrs import LINK_TYPE, AdditionalInfo, FailureReason

_BEARER: Final[list[dict[str, list[str]]]] = [{"bearer": []}]
_GLN: Final = {"type": "string", "pattern": "^[0-9]{13}$"}
_GTIN: Final = {"type": "string", "pattern": "^[0-9]{14}$"}
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 20}
_CONTEXT: Final = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"}

# Of a verification request only a 200 has a body.
_REFUSALS: Final = {
    "400": {"description": "Request not formatted properly."},
    "401": {"description": "No token, or reqGLN is not known."},
    "403": {"description": "Not permitted, or the credential is not good."},
    "404": {"description": "The GTIN is not answered for here."},
    "405": {"description": "Only GET."},
    "429": {"description": "Too often; Retry-After tells when to ask again."},
    "500": {"description": "The responder failed."},
    "503": {"description": "No answer now."},
    "504": {"description": "The organisation's service gave no timely answer."},
}


def openapi() -> dict[str, Any]:
    """Return the paths and the schemas of this part."""
    return {"paths": {**_vrs_paths(), **_fmd_paths()}, "components": {"schemas": _schemas()}}


def _parameter(name: str, place: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _vrs_paths() -> dict[str, Any]:
    asked = [_parameter("reqGLN", "query", _GLN), _parameter("context", "query", _CONTEXT)]
    verify = [
        _parameter("gtin", "path", _GTIN),
        _parameter("lot", "path", _TEXT),
        _parameter("serial", "path", _TEXT),
        _parameter("exp", "query", {"type": "string", "pattern": "^[0-9]{6}$"}),
        _parameter("linkType", "query", {"const": LINK_TYPE}, required=False),
        _parameter("corrUUID", "query", {"type": "string", "format": "uuid"}),
        *asked,
    ]
    return {
        "/verify/gtin/{gtin}/lot/{lot}/ser/{serial}": {
            "get": _vrs("Verify a product identifier.", verify, "VrsResponse")
        },
        "/checkConnectivity": {
            "get": _vrs(
                "Tell whether requests about a product are answered here.",
                [_parameter("gtin", "query", _GTIN), *asked],
                "VrsConnectivity",
            )
        },
    }


def _vrs(summary: str, parameters: list[dict[str, Any]], schema: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "tags": ["verification"],
        "security": _BEARER,
        "parameters": parameters,
        "responses": {"200": _content("Answered.", schema), **_REFUSALS},
    }


def _content(description: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _fmd_paths() -> dict[str, Any]:
    return {
        f"/fmd/{verb}": {"post": _fmd(summary, schema)}
        for verb, summary, schema in (
            ("verify", "Tell the state of a pack; nothing changes.", "FmdScan"),
            ("supply", "Supply a pack to the public; pharmacies only.", "FmdSupply"),
            ("decommission", "Decommission a pack for another reason than supply.", "FmdDecommission"),
            ("undo", "Undo what was done at the same premises at most 10 days ago.", "FmdUndo"),
        )
    }


def _fmd(summary: str, schema: str) -> dict[str, Any]:
    # The door says in its own part what every refusal looks like.
    problem = {"description": "Refused; the body tells why (RFC 7807).", "content": {"application/problem+json": {}}}
    return {
        "summary": summary,
        "tags": ["fmd"],
        "security": _BEARER,
        "requestBody": {"required": True, **_content("", schema)},
        "responses": {
            "200": _content("Answered; `done` tells whether what was asked was done.", "FmdAnswer"),
            **dict.fromkeys(("400", "401", "403", "409", "413", "415", "503"), problem),
        },
    }


def _object(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _words(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _schemas() -> dict[str, Any]:
    scan: dict[str, Any] = {
        "type": "string",
        "minLength": 1,
        "maxLength": 8192,
        "description": "What the scanner sent.",
    }
    change: dict[str, dict[str, Any]] = {
        "requestID": {"type": "string", "format": "uuid", "description": "The same one again gets the first answer."},
        "scan": scan,
        "eventTime": {"type": "string", "format": "date-time"},
        "eventTimeZoneOffset": {"type": "string", "pattern": "^[+-][0-9]{2}:[0-9]{2}$"},
        "location": _GLN,
    }
    needed = ["requestID", "scan"]
    reasons = _words("sample", "free_sample", "locked", "exported", "destroyed", "stolen")
    undone: dict[str, dict[str, Any]] = {
        "state": _words(*FmdState),
        "notSupplied": {"type": "boolean", "description": "The pack was not handed to the public."},
        "reason": {"type": "string", "minLength": 1, "maxLength": 500},
    }
    return {
        "VrsResponse": _vrs_response(),
        "VrsConnectivity": _object(["responderGLN"], responderGLN=_GLN),
        "FmdScan": _object(["scan"], scan=scan),
        "FmdSupply": _object(needed, **change),
        "FmdDecommission": _object([*needed, "state"], **change, state=reasons),
        "FmdUndo": _object([*needed, "reason"], **change, **undone),
        "FmdAnswer": _fmd_answer(),
    }


def _vrs_response() -> dict[str, Any]:
    data = _object(
        ["verified"],
        verified={"type": "boolean", "description": "No permission by itself: see additionalInfo."},
        verificationFailureReason=_words(*FailureReason),
        additionalInfo=_words(*AdditionalInfo),
    )
    return _object(
        ["verificationTimestamp", "responderGLN", "corrUUID", "data"],
        verificationTimestamp={"type": "string", "format": "date-time"},
        responderGLN=_GLN,
        corrUUID={"type": "string", "format": "uuid"},
        data=data,
    )


def _fmd_answer() -> dict[str, Any]:
    return _object(
        ["done", "state", "code", "alert", "kind", "information", "provisional", "verdict", "action", "epc", "events"],
        done={"type": "boolean"},
        state=_words(*FmdState),
        code=_words(*FmdCode),
        alert=_or_null(_words("A2", "A3", "A7", "A24", "A52", "A68")),
        kind=_or_null(_words("technical", "procedural")),
        information={"type": "string"},
        provisional={"type": "boolean"},
        verdict=_words(*VerdictCode),
        action=_words(*VerdictAction),
        epc=_or_null({"type": "string", "format": "uri"}),
        events={"type": "array", "items": {"type": "string"}},
    )
