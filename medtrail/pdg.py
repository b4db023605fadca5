"""PDG messages about exceptions: reports, responses, and the JSON documents that partners exchange.

A report names one case and the items that are not right, each with what is asked for; a response answers item by item;
a report with ``case_resolved`` ends the case. Messages that came are kept as they came: what is read here decides, the
document itself is what was said. GTINs and GLNs are texts, since a wrong one may be just what is reported; what is odd
about them is told by :func:`medtrail.pdg_reader.remarks`.

Source: Partnership for DSCSA Governance, ExceptionsSchemas (2024-08): report_schema.json, response_schema.json.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medtrail.errors import TooLargeError

MAX_MESSAGE_BYTES = 128 * 1024


class Resolution(StrEnum):
    """What is asked for, or offered instead."""

    SEND_NEW_DATA = "Send new data"
    SEND_PRODUCT = "Send product"
    RETURN_PRODUCT = "Return product"
    SEND_BACK_PRODUCT = "Send back product"
    CREDIT_ACCOUNT = "Credit account"
    DEBIT_ACCOUNT = "Debit account"


class ObservationSource(StrEnum):
    """How product without data was noticed."""

    SCAN = "Scan"
    PACKING_SLIP = "Packing Slip"
    ASN = "ASN"
    OTHER = "Other"


class FollowUp(StrEnum):
    """How an alternative is to be talked about."""

    EMAIL = "Email"
    PHONE = "Phone"


class ReportGroup(StrEnum):
    """The lists of a report in which items stand."""

    MISSING_PRODUCT_DATA = "missing_product_data"
    MISSING_PRODUCT = "missing_product"
    DATA_MISALIGNMENT = "data_misalignment"
    OVERAGES = "overages"
    UNDERAGES = "underages"
    GLN_ERRORS = "gln_errors"
    GTIN_ERRORS = "gtin_errors"


@dataclass(frozen=True, slots=True)
class ContactInformation:
    """How the sender of a message is reached; ``vp``: a verifiable presentation as JWT."""

    email: str
    vp: str | None = None
    gln: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class MissingProductData:
    """Product without data."""

    item_id: str
    gtin: str
    source: ObservationSource
    request: Resolution
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class MissingProduct:
    """Data without product; ``file_id`` names the data."""

    item_id: str
    file_id: str
    gtin: str
    serial: str
    request: Resolution


@dataclass(frozen=True, slots=True)
class Traits:
    """What a pack, or the data about it, says; the expiry as it stands there."""

    gtin: str
    lot: str
    expiry: str
    serial: str | None


@dataclass(frozen=True, slots=True)
class DataMisalignment:
    """Product and data that differ."""

    item_id: str
    product: Traits
    told: Traits
    request: Resolution


@dataclass(frozen=True, slots=True)
class QuantityDifference:
    """More or less than was ordered."""

    item_id: str
    gtin: str
    ordered: int
    received: int
    request: Resolution


@dataclass(frozen=True, slots=True)
class NumberError:
    """A GLN or GTIN in master data that is not right, and what may be meant."""

    item_id: str
    invalid: str
    proposed: str | None = None
    request: Resolution | None = None


Item = MissingProductData | MissingProduct | DataMisalignment | QuantityDifference | NumberError


@dataclass(frozen=True, slots=True)
class Report:
    """An exception report.

    Attributes:
        timestamp: Seconds since 1970-01-01T00:00:00Z.
        items: Each with the list in which it stands.
    """

    message_id: str
    case_id: str
    timestamp: int
    po_number: str
    sender: ContactInformation
    case_resolved: bool
    items: tuple[tuple[ReportGroup, Item], ...] = ()
    other_errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alternative:
    """What is offered instead."""

    resolution: Resolution | None
    follow_up: FollowUp | None
    details: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to one item."""

    item_id: str
    accepted: bool
    comments: str | None = None
    alternative: Alternative | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """An exception response; ``timestamp`` as in a report."""

    message_id: str
    case_id: str
    timestamp: int
    sender: ContactInformation
    po_number: str
    answers: tuple[Answer, ...] = ()
    notes: str | None = None


Message = Report | Response

MASTER_DATA = (ReportGroup.GLN_ERRORS, ReportGroup.GTIN_ERRORS)


def encode_message(message: Message) -> bytes:
    """Return a message as JSON document: no space, fields in the order of the schema.

    Raises:
        TooLargeError: More than 128 KiB.
    """
    document = _report_document(message) if isinstance(message, Report) else _response_document(message)
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        text = f"a message has at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}"
        raise TooLargeError(text, code="PDG_TOO_LARGE")
    return data


def _contact_document(contact: ContactInformation) -> dict[str, Any]:
    return {"vp": contact.vp, "gln": contact.gln, "email": contact.email, "phone": contact.phone}


def _report_document(report: Report) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for group, item in report.items:
        place = groups.setdefault("master_data_errors", {}) if group in MASTER_DATA else groups
        place.setdefault(group.value, []).append(_item_document(group, item))
    return {
        "message_uuid": report.message_id,
        "exception_case_uuid": report.case_id,
        "timestamp": report.timestamp,
        "po_number": report.po_number,
        "sender_information": _contact_document(report.sender),
        "exceptions": groups,
        "other_errors": list(report.other_errors) or None,
        "case_resolved": report.case_resolved,
    }


def _item_document(group: ReportGroup, item: Item) -> dict[str, Any]:
    if isinstance(item, MissingProductData):
        return {
            "exception_item_uuid": item.item_id,
            "product_gtin": item.gtin,
            "observation_source": item.source.value,
            "resolution_request": item.request.value,
            "product_serial": item.serial,
        }
    if isinstance(item, MissingProduct):
        return {
            "exception_item_uuid": item.item_id,
            "file_id": item.file_id,
            "product_gtin": item.gtin,
            "product_serial": item.serial,
            "resolution_request": item.request.value,
        }
    if isinstance(item, DataMisalignment):
        return {
            "exception_item_uuid": item.item_id,
            **_traits_document("received_product", item.product),
            **_traits_document("product_data", item.told),
            "resolution_request": item.request.value,
        }
    if isinstance(item, QuantityDifference):
        return {
            "exception_item_uuid": item.item_id,
            "gtin": item.gtin,
            "quantity_ordered": item.ordered,
            "quantity_received": item.received,
            "resolution_request": item.request.value,
        }
    number = "gln" if group is ReportGroup.GLN_ERRORS else "gtin"
    return {
        "exception_item_uuid": item.item_id,
        f"invalid_{number}": item.invalid,
        f"proposed_{number}": item.proposed,
        "resolution_request": None if item.request is None else item.request.value,
    }


def _traits_document(prefix: str, traits: Traits) -> dict[str, Any]:
    return {
        f"{prefix}_gtin": traits.gtin,
        f"{prefix}_lot": traits.lot,
        f"{prefix}_expiry": traits.expiry,
        f"{prefix}_serial": traits.serial,
    }


def _response_document(response: Response) -> dict[str, Any]:
    return {
        "message_uuid": response.message_id,
        "exception_case_uuid": response.case_id,
        "timestamp": response.timestamp,
        "sender_information": _contact_document(response.sender),
        "po_number": response.po_number,
        "response_items": [_answer_document(answer) for answer in response.answers],
        "additional_notes": response.notes,
    }


def _answer_document(answer: Answer) -> dict[str, Any]:
    other = answer.alternative
    return {
        "exception_item_uuid": answer.item_id,
        "resolution_response": "Accept" if answer.accepted else "Reject",
        "comments": answer.comments,
        "alternative_resolution": None
        if other is None
        else {
            "alternative_resolution": None if other.resolution is None else other.resolution.value,
            "follow_up": None if other.follow_up is None else other.follow_up.value,
            "follow_up_details": other.details,
        },
    }
