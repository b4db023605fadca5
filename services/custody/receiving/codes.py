"""What reconciliation may say of a unit, what that means for the goods, and which exception case it opens.

Codes are part of the interface: they are added, never renamed. docs/receiving.md tells of each.
"""

from enum import StrEnum

from services.custody.exceptions.codes import ExceptionCode


class ResultCode(StrEnum):
    """What the reconciliation says of a unit, or of a scan of it."""

    MATCH = "MATCH"
    MATCH_INFERRED = "MATCH_INFERRED"
    OVER = "OVER"
    UNDER = "UNDER"
    WRONG_LOT = "WRONG_LOT"
    WRONG_EXPIRY = "WRONG_EXPIRY"
    UNKNOWN_SERIAL = "UNKNOWN_SERIAL"
    NOT_FOR_US = "NOT_FOR_US"
    ALREADY_RECEIVED = "ALREADY_RECEIVED"
    ALREADY_SCANNED = "ALREADY_SCANNED"
    OTHER_CONTAINER = "OTHER_CONTAINER"
    UNREADABLE = "UNREADABLE"


FOUND = frozenset({ResultCode.MATCH, ResultCode.MATCH_INFERRED, ResultCode.OTHER_CONTAINER})
"""Expected and there: good, if nothing else speaks against it."""

MISSING = frozenset({ResultCode.UNDER})

OUTSIDE = frozenset({ResultCode.OVER, ResultCode.UNKNOWN_SERIAL, ResultCode.NOT_FOR_US})
"""Of units that no despatch of the delivery advises."""

MISMATCHED = frozenset({ResultCode.WRONG_LOT, ResultCode.WRONG_EXPIRY})

DECIDING = frozenset({ResultCode.MATCH, ResultCode.OTHER_CONTAINER, ResultCode.ALREADY_RECEIVED} | OUTSIDE | MISMATCHED)
"""What a scan may make of a unit. The others say nothing new of one."""

SAMPLE_FAILING = MISMATCHED | OUTSIDE
"""What makes a sample fail when it is found in a container that was scanned as sealed."""

CASE_OF_RESULT: dict[ResultCode, ExceptionCode] = {
    ResultCode.OVER: ExceptionCode.OVERAGE,
    ResultCode.UNDER: ExceptionCode.SHORTAGE,
    ResultCode.WRONG_LOT: ExceptionCode.LOT_MISMATCH,
    ResultCode.WRONG_EXPIRY: ExceptionCode.EXPIRY_MISMATCH,
    ResultCode.UNKNOWN_SERIAL: ExceptionCode.SERIAL_UNKNOWN,
    ResultCode.NOT_FOR_US: ExceptionCode.WRONG_CONSIGNEE,
    ResultCode.ALREADY_RECEIVED: ExceptionCode.ALREADY_RECEIVED,
}

MESSAGES: dict[ResultCode, str] = {
    ResultCode.MATCH: "As advised.",
    ResultCode.MATCH_INFERRED: "Inside a sealed container that is here, by its data.",
    ResultCode.OVER: "No despatch of this delivery tells of it. Put it aside; it is received when its data come.",
    ResultCode.UNDER: "Advised, and not found.",
    ResultCode.WRONG_LOT: "The lot on the pack is not the advised one. Put it aside: the data may be wrong.",
    ResultCode.WRONG_EXPIRY: "The expiry on the pack is not the advised one. Put it aside: the data may be wrong.",
    ResultCode.UNKNOWN_SERIAL: "Nobody is known to have made it, and nobody advised it. Put it aside.",
    ResultCode.NOT_FOR_US: "It is meant for somebody else. Put it aside and ask its sender.",
    ResultCode.ALREADY_RECEIVED: "It was received before. If that pack is in stock too, put both aside.",
    ResultCode.ALREADY_SCANNED: "Scanned before in this delivery.",
    ResultCode.OTHER_CONTAINER: "Expected in another container of this delivery. Noted; nothing to do.",
    ResultCode.UNREADABLE: "The scan could not be read. Scan again; if it never can be read, say so.",
}


class DeliveryState(StrEnum):
    """State of a delivery."""

    OPEN = "open"
    CLOSED = "closed"
    REOPENED = "reopened"


SCANNABLE = frozenset({DeliveryState.OPEN, DeliveryState.REOPENED})


class Posting(StrEnum):
    """What was done in the books with a unit of a delivery."""

    NONE = ""
    RECEIVED = "received"
    PUT_ASIDE = "put_aside"
    MISSING = "missing"
    RECEIVED_LATER = "received_later"
    WITHDRAWN = "withdrawn"
    LEFT = "left"


class Condition(StrEnum):
    """How a unit looks to the person who scans it."""

    GOOD = ""
    DAMAGED = "damaged"
    LABEL_UNREADABLE = "label_unreadable"
