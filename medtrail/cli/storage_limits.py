"""Storage limits of a product as a network file says them.

::

    storage.temperature = { lowest = 2, highest = 8, above = { limit = 25, duration_s = 86400 } }
"""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from medtrail.codec.storage import storage_from_message, storage_to_message
from medtrail.errors import MalformedError
from medtrail.event import Allowance, StorageLimits, StorageRange

_QUANTITIES = frozenset({"temperature", "relative_humidity", "absolute_humidity"})
_RANGE = frozenset({"lowest", "highest", "below", "above"})
_ALLOWANCE = frozenset({"limit", "duration_s"})


def parse_storage(value: Any, *, field: str) -> StorageLimits:  # noqa: ANN401  # whatever TOML holds
    """Return storage limits.

    Raises:
        MalformedError: A key that is not known, a number that is none, or limits that contradict each other
            (STORAGE_LIMITS).
    """
    table = _table(value, _QUANTITIES, field)
    limits = StorageLimits(**{name: _range(item, f"{field}.{name}") for name, item in table.items()})
    # The contract's own rules, under the names of this file.
    return storage_from_message(storage_to_message(limits), field=field)


def _range(value: Any, field: str) -> StorageRange:  # noqa: ANN401  # as above
    table = _table(value, _RANGE, field)
    return StorageRange(
        lowest=_number(table, "lowest", field),
        highest=_number(table, "highest", field),
        below=_allowance(table["below"], f"{field}.below") if "below" in table else None,
        above=_allowance(table["above"], f"{field}.above") if "above" in table else None,
    )


def _allowance(value: Any, field: str) -> Allowance:  # noqa: ANN401  # as above
    table = _table(value, _ALLOWANCE, field)
    limit, duration = _number(table, "limit", field), table.get("duration_s")
    if limit is None or type(duration) is not int or not 1 <= duration < 2**32:
        raise _error("expected a limit, and a duration_s in whole seconds", field)
    return Allowance(limit, timedelta(seconds=duration))


def _table(value: Any, keys: frozenset[str], field: str) -> dict[str, Any]:  # noqa: ANN401  # as above
    if not isinstance(value, dict) or not value.keys() <= keys:
        raise _error(f"expected a table of {', '.join(sorted(keys))}", field)
    return value


def _number(table: dict[str, Any], name: str, field: str) -> Decimal | None:
    value = table.get(name)
    if value is None:
        return None
    if type(value) not in {int, float}:
        raise _error("expected a number", f"{field}.{name}")
    # As it is written: 0.1 and not the binary number next to it.
    return Decimal(repr(value))


def _error(text: str, field: str) -> MalformedError:
    return MalformedError(text, code="STORAGE_LIMITS", field=field)
