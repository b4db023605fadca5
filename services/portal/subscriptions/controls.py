"""What a subscriber asks for: as events come or by schedule, from when on, and whether no news is told.

Source: EPCIS 2.0, section 8.2.5.2 (SubscriptionControls) and its OpenAPI.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from medtrail.epcis.build import parse_time
from medtrail.errors import MalformedError
from services.portal.normal import microseconds
from services.portal.query.errors import SubscribeNotPermittedError, SubscriptionControlsError
from services.portal.query.tree import Query
from services.portal.subscriptions.schedule import FIELDS, read_schedule


@dataclass(frozen=True, slots=True)
class Controls:
    """When a subscriber is told.

    Attributes:
        schedule: Fields; empty: as events come.
        report_if_empty: Whether a schedule with no news is told.
        floor_us: Events recorded from then on, microseconds since the year 1; None: what comes from now on.
    """

    schedule: dict[str, str]
    report_if_empty: bool
    floor_us: int | None


NAMES = frozenset({"stream", "schedule", "reportIfEmpty", "initialRecordTime"})


def read_controls(values: Mapping[str, Any]) -> Controls:
    """Return the controls that members of an object say.

    Raises:
        SubscriptionControlsError: Neither or both of stream and schedule, or a value of the wrong form.
    """
    stream = _truth(values, "stream")
    schedule = values.get("schedule")
    if stream == (schedule is not None):
        message = "expected either stream: true or a schedule"
        raise SubscriptionControlsError(message, field="stream")
    fields: dict[str, str] = {}
    if schedule is not None:
        if not isinstance(schedule, dict):
            message = "expected an object"
            raise SubscriptionControlsError(message, field="schedule")
        fields = {name: _field(name, value) for name, value in schedule.items()}
        read_schedule(fields)
    return Controls(fields, _truth(values, "reportIfEmpty"), _floor(values.get("initialRecordTime")))


def _field(name: str, value: object) -> str:
    if not isinstance(value, str | Decimal):
        message = "expected a text or a number"
        raise SubscriptionControlsError(message, field=f"schedule.{name[:50]}")
    return str(value)


def _truth(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name, False)
    if not isinstance(value, bool):
        message = f"expected true or false, got {str(value)[:20]!r}"
        raise SubscriptionControlsError(message, field=name)
    return value


def _floor(value: object) -> int | None:
    if value is None:
        return None
    try:
        return microseconds(parse_time(value, field="initialRecordTime"))
    except MalformedError as error:
        raise SubscriptionControlsError(error.message, field="initialRecordTime") from error


def from_url(values: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the members that a URL's parameters say: those of a schedule stand side by side with the others.

    Raises:
        SubscriptionControlsError: One is unknown.
    """
    found: dict[str, Any] = {}
    schedule: dict[str, str] = {}
    for name, texts in values.items():
        # A comma within a field has been taken for the end of a value.
        text = ",".join(texts)
        if name in FIELDS:
            schedule[name] = text
        elif name in {"stream", "reportIfEmpty"}:
            found[name] = {"true": True, "false": False}.get(text.lower(), text)
        elif name == "initialRecordTime":
            found[name] = text
        else:
            message = "is no control of a subscription"
            raise SubscriptionControlsError(message, field=name[:100])
    return {**found, **({"schedule": schedule} if schedule else {})}


def check_permitted(query: Query) -> None:
    """Check that a question can be subscribed to.

    Raises:
        SubscribeNotPermittedError: It has a limit, which says something of one answer only.
    """
    if query.event_count_limit is not None or query.max_event_count is not None:
        message = "a query with eventCountLimit or maxEventCount is for asking, not for subscribing"
        raise SubscribeNotPermittedError(message, field="query")
