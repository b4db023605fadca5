"""Storage limits of a product: from values to messages, and back."""

from datetime import timedelta

from medtrail.api.event.v1 import payload_pb2
from medtrail.codec.scalars import from_decimal, to_decimal
from medtrail.errors import MalformedError
from medtrail.event import Allowance, StorageLimits, StorageRange

_QUANTITIES = ("temperature", "relative_humidity", "absolute_humidity")


def storage_to_message(storage: StorageLimits) -> payload_pb2.StorageLimits:
    """Return the message of storage limits."""
    message = payload_pb2.StorageLimits()
    for name in _QUANTITIES:
        found: StorageRange | None = getattr(storage, name)
        if found is not None:
            getattr(message, name).CopyFrom(_range_to_message(found))
    return message


def _range_to_message(found: StorageRange) -> payload_pb2.StorageRange:
    message = payload_pb2.StorageRange(lowest=from_decimal(found.lowest), highest=from_decimal(found.highest))
    for name in ("below", "above"):
        allowance: Allowance | None = getattr(found, name)
        if allowance is not None:
            part = getattr(message, name)
            part.limit = from_decimal(allowance.limit)
            part.duration_seconds = int(allowance.duration.total_seconds())
    return message


def storage_from_message(message: payload_pb2.StorageLimits, *, field: str) -> StorageLimits:
    """Return the storage limits of a message.

    Raises:
        MalformedError: No limit at all, a number that is none, bounds or allowances that contradict each other
            (STORAGE_LIMITS).
    """
    found = {part.name: _range_from_message(value, f"{field}.{part.name}") for part, value in message.ListFields()}
    if not found:
        raise _limits_error("expected at least one limit", field)
    return StorageLimits(**found)


def _range_from_message(message: payload_pb2.StorageRange, field: str) -> StorageRange:
    lowest = to_decimal(message.lowest, field=f"{field}.lowest")
    highest = to_decimal(message.highest, field=f"{field}.highest")
    if lowest is None and highest is None:
        raise _limits_error("expected a lowest or a highest value", field)
    if lowest is not None and highest is not None and lowest > highest:
        message_ = f"the lowest value {lowest} is above the highest, {highest}"
        raise _limits_error(message_, field)
    below = above = None
    if message.HasField("below"):
        below = _allowance_from_message(message.below, f"{field}.below")
        if lowest is None or below.limit >= lowest:
            raise _limits_error("goes below the lowest value, which it must leave", f"{field}.below.limit")
    if message.HasField("above"):
        above = _allowance_from_message(message.above, f"{field}.above")
        if highest is None or above.limit <= highest:
            raise _limits_error("goes above the highest value, which it must leave", f"{field}.above.limit")
    return StorageRange(lowest, highest, below, above)


def _allowance_from_message(message: payload_pb2.StorageAllowance, field: str) -> Allowance:
    limit = to_decimal(message.limit, field=f"{field}.limit")
    if limit is None or message.duration_seconds < 1:
        raise _limits_error("an allowance says how far, and for how many seconds", field)
    return Allowance(limit, timedelta(seconds=message.duration_seconds))


def _limits_error(text: str, field: str) -> MalformedError:
    return MalformedError(text, code="STORAGE_LIMITS", field=field)
