"""What may be the matter with goods or their data: a stable code each, its category, when it is due, what to do.

Codes are part of the interface: they are added, never renamed. docs/exceptions.md tells of each.

Source: HDA, Exceptions Handling Guidelines for the DSCSA (2023): five categories; the days are our own.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from medtrail.pdg import ReportGroup, Resolution


class Category(StrEnum):
    """The five categories of the HDA's guidelines."""

    PRODUCT_NO_DATA = "product_no_data"
    DATA_NO_PRODUCT = "data_no_product"
    DATA_ISSUE = "data_issue"
    PACKAGING_AND_LABELLING = "packaging_and_labelling"
    UNAVAILABLE_FOR_DISTRIBUTION = "unavailable_for_distribution"


class ExceptionCode(StrEnum):
    """What is the matter."""

    OVERAGE = "OVERAGE"
    SHORTAGE = "SHORTAGE"
    LOT_MISMATCH = "LOT_MISMATCH"
    EXPIRY_MISMATCH = "EXPIRY_MISMATCH"
    SERIAL_UNKNOWN = "SERIAL_UNKNOWN"
    WRONG_CONSIGNEE = "WRONG_CONSIGNEE"
    ALREADY_RECEIVED = "ALREADY_RECEIVED"
    DESPATCH_REFUSED = "DESPATCH_REFUSED"
    AGGREGATION_BROKEN = "AGGREGATION_BROKEN"
    LABEL_UNREADABLE = "LABEL_UNREADABLE"
    DAMAGED = "DAMAGED"
    EXPIRED = "EXPIRED"
    RECALLED = "RECALLED"
    SUSPECT = "SUSPECT"
    TEMPERATURE_EXCURSION = "TEMPERATURE_EXCURSION"
    CONCEALED_SHORTAGE = "CONCEALED_SHORTAGE"
    CONCEALED_OVERAGE = "CONCEALED_OVERAGE"
    OFFLINE_CONFLICT = "OFFLINE_CONFLICT"
    RETURN_UNVERIFIED = "RETURN_UNVERIFIED"
    ORDER_MISMATCH = "ORDER_MISMATCH"


@dataclass(frozen=True, slots=True)
class CodeRule:
    """What goes with a code.

    Attributes:
        category: Of the HDA's five.
        due: A case is to be resolved so long after it was opened, unless somebody says otherwise.
        instruction: What to do, for people.
        group: List of the PDG report in which its items stand; None: the report tells of it in words.
        request: What the partner is asked for, unless somebody says otherwise.
    """

    category: Category
    due: timedelta
    instruction: str
    group: ReportGroup | None
    request: Resolution


_DAY = timedelta(days=1)
_NO_DATA, _NO_PRODUCT, _ISSUE = Category.PRODUCT_NO_DATA, Category.DATA_NO_PRODUCT, Category.DATA_ISSUE
_LABEL, _UNAVAILABLE = Category.PACKAGING_AND_LABELLING, Category.UNAVAILABLE_FOR_DISTRIBUTION

RULES: dict[ExceptionCode, CodeRule] = {
    ExceptionCode.OVERAGE: CodeRule(
        _NO_DATA,
        3 * _DAY,
        "keep the goods apart; ask the sender for their data, or send them back",
        ReportGroup.MISSING_PRODUCT_DATA,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.SHORTAGE: CodeRule(
        _NO_PRODUCT,
        3 * _DAY,
        "count again and look in other totes of the delivery; then ask the sender for the goods or a credit",
        ReportGroup.MISSING_PRODUCT,
        Resolution.SEND_PRODUCT,
    ),
    ExceptionCode.LOT_MISMATCH: CodeRule(
        _ISSUE,
        3 * _DAY,
        "keep the pack apart and scan it again; ask the sender to correct the lot in the data",
        ReportGroup.DATA_MISALIGNMENT,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.EXPIRY_MISMATCH: CodeRule(
        _ISSUE,
        3 * _DAY,
        "keep the pack apart and scan it again; ask the sender to correct the expiry in the data",
        ReportGroup.DATA_MISALIGNMENT,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.SERIAL_UNKNOWN: CodeRule(
        _NO_DATA,
        1 * _DAY,
        "keep the pack apart; ask the sender for its data, and verify it with the manufacturer",
        ReportGroup.MISSING_PRODUCT_DATA,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.WRONG_CONSIGNEE: CodeRule(
        _ISSUE,
        2 * _DAY,
        "keep the goods apart and do not sell them; ask the sender whether they go on, back, or stay with new data",
        None,
        Resolution.SEND_BACK_PRODUCT,
    ),
    ExceptionCode.ALREADY_RECEIVED: CodeRule(
        _ISSUE,
        1 * _DAY,
        "look for the first pack with this serial number: of two packs with one number one is not genuine",
        None,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.DESPATCH_REFUSED: CodeRule(
        _NO_DATA,
        2 * _DAY,
        "keep the goods apart; ask the sender to mend the despatch and to send it anew",
        ReportGroup.MISSING_PRODUCT_DATA,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.AGGREGATION_BROKEN: CodeRule(
        _ISSUE,
        2 * _DAY,
        "open the container and scan every pack; ask the sender to correct what the data say of its contents",
        None,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.LABEL_UNREADABLE: CodeRule(
        _LABEL,
        5 * _DAY,
        "clean the code, try another scanner, key in what is printed beside it; else return the pack",
        None,
        Resolution.RETURN_PRODUCT,
    ),
    ExceptionCode.DAMAGED: CodeRule(
        _LABEL,
        5 * _DAY,
        "keep the goods apart, photograph them; return or destroy them as agreed with the sender",
        None,
        Resolution.CREDIT_ACCOUNT,
    ),
    ExceptionCode.EXPIRED: CodeRule(
        _UNAVAILABLE,
        7 * _DAY,
        "keep the goods apart; return or destroy them",
        None,
        Resolution.RETURN_PRODUCT,
    ),
    ExceptionCode.RECALLED: CodeRule(
        _UNAVAILABLE,
        1 * _DAY,
        "keep the goods apart and do what the recall says",
        None,
        Resolution.RETURN_PRODUCT,
    ),
    ExceptionCode.SUSPECT: CodeRule(
        _UNAVAILABLE,
        1 * _DAY,
        "keep the goods in quarantine, verify the packs with the manufacturer, then clear them or declare them "
        "illegitimate",
        None,
        Resolution.RETURN_PRODUCT,
    ),
    ExceptionCode.TEMPERATURE_EXCURSION: CodeRule(
        _UNAVAILABLE,
        2 * _DAY,
        "keep the goods on hold at the right temperature; ask the manufacturer whether they may still be used",
        None,
        Resolution.RETURN_PRODUCT,
    ),
    ExceptionCode.CONCEALED_SHORTAGE: CodeRule(
        _NO_PRODUCT,
        3 * _DAY,
        "keep the container and its seal; tell the sender which packs were missing in it",
        ReportGroup.MISSING_PRODUCT,
        Resolution.SEND_PRODUCT,
    ),
    ExceptionCode.CONCEALED_OVERAGE: CodeRule(
        _NO_DATA,
        3 * _DAY,
        "keep the extra packs apart; ask the sender for their data, or send them back",
        ReportGroup.MISSING_PRODUCT_DATA,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.OFFLINE_CONFLICT: CodeRule(
        _ISSUE,
        1 * _DAY,
        "find the pack and see what was done to it last: station and books tell different things",
        None,
        Resolution.SEND_NEW_DATA,
    ),
    ExceptionCode.RETURN_UNVERIFIED: CodeRule(
        _UNAVAILABLE,
        2 * _DAY,
        "do not restock the pack; verify it again, or see it destroyed",
        None,
        Resolution.SEND_BACK_PRODUCT,
    ),
    ExceptionCode.ORDER_MISMATCH: CodeRule(
        _ISSUE,
        5 * _DAY,
        "compare order, despatch advice and what came; agree with the partner on what is kept",
        ReportGroup.OVERAGES,
        Resolution.CREDIT_ACCOUNT,
    ),
}


def rule_of(code: ExceptionCode) -> CodeRule:
    """Return what goes with a code."""
    return RULES[code]
