"""Words and tables that several commands share."""

from datetime import UTC, datetime

from medtrail.document import Document, DocumentFunction
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.errors import MalformedError
from medtrail.event import Capture, Enrolment, Event, Genesis, Product, Recall


def event_summary(event: Event) -> str:
    """Return one line on what an event says."""
    statement = event.statement
    if isinstance(statement, EpcisEvent):
        return _epcis_summary(event, statement)
    if isinstance(statement, Product):
        return f"product {statement.gtin} {statement.name} ({statement.level})"
    if isinstance(statement, Recall):
        return f"recall {statement.number} of {', '.join(str(scope.gtin) for scope in statement.scopes)}"
    if isinstance(statement, Document):
        what = "" if statement.function is DocumentFunction.ORIGINAL else f", {statement.function}"
        return f"{statement.kind} {statement.number}{what} of {event.header.actor} to {statement.counterparty}"
    if isinstance(statement, Enrolment):
        return f"enrolment of {statement.display_name}, GLN {statement.gln}"
    return f"genesis of {statement.origin}" if isinstance(statement, Genesis) else type(statement).__name__


def _epcis_summary(event: Event, statement: EpcisEvent) -> str:
    what = step_words(statement)
    named = len(statement.epc_list) + len(statement.child_epcs) + len(statement.output_epc_list)
    container = f" in {short_epc(statement.parent_id)}" if statement.parent_id else ""
    units = f"{named} unit{'' if named == 1 else 's'}"
    second = ", second-hand" if event.header.capture is Capture.SECOND_HAND else ""
    error = ", declared an error" if statement.error_declaration else ""
    return f"{what} of {units}{container} at {format_time(statement.event_time)}{second}{error}"


def step_words(statement: EpcisEvent) -> str:
    """Return what was done: the business step, or that units were missing in their container."""
    absent = statement.type is EventType.AGGREGATION and statement.action is Action.DELETE and statement.child_epcs
    missing = " (missing)" if absent and statement.disposition == "unknown" else ""
    return f"{statement.biz_step or statement.type.value}{missing}"


def short_epc(text: str) -> str:
    """Return an identifier without the resolver's address."""
    return text.removeprefix("https://id.gs1.org")


def format_time(moment: datetime) -> str:
    """Return a moment in UTC as ``2026-05-04T10:00:00Z``, with a fraction only where there is one."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: str, *, field: str) -> datetime:
    """Return a moment from ISO 8601 text; a date alone means its begin, no offset means UTC.

    Raises:
        MalformedError: It is no such text.
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"expected a moment such as 2026-05-04T10:00:00Z, got {text[:40]!r}"
        raise MalformedError(message, code="TIME_MALFORMED", field=field) from error
