"""A question as values: conditions that all hold, an order, and limits.

Source: EPCIS 2.0, section 8.2.7.1 (SimpleEventQuery).
"""

from dataclasses import dataclass
from enum import StrEnum

from services.portal.facts import Kind


class Op(StrEnum):
    """How two values compare."""

    EQ = "EQ"
    GT = "GT"
    GE = "GE"
    LT = "LT"
    LE = "LE"


@dataclass(frozen=True, slots=True)
class Operand:
    """A value to compare with, in its one form (:mod:`services.portal.normal`)."""

    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class Compare:
    """Any of some fields compares so with any of some values."""

    fields: tuple[str, ...]
    op: Op
    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """Any of some fields is there."""

    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Identifiers that begin so, and look so.

    Attributes:
        starts: One of these begins it; an exact pattern has one, and it is the whole.
        glob: What the whole looks like, ``?`` for one character and ``*`` for any; empty for an exact pattern.
    """

    starts: tuple[str, ...]
    glob: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Any of some fields has an identifier that any of some patterns fits."""

    fields: tuple[str, ...]
    patterns: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Within:
    """A place is one of some, or lies within one."""

    field: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HasAttribute:
    """What any of some fields names has a master data attribute of any of some names."""

    fields: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttributeEquals:
    """What any of some fields names has a master data attribute with any of some values."""

    fields: tuple[str, ...]
    name: str
    values: tuple[str, ...]


class Clock(StrEnum):
    """The two times that every event has."""

    EVENT_TIME = "eventTime"
    RECORD_TIME = "recordTime"


@dataclass(frozen=True, slots=True)
class Moment:
    """An event's own or record time compares so with a moment, microseconds since the year 1."""

    clock: Clock
    op: Op
    us: int


Condition = Compare | Exists | Match | Within | HasAttribute | AttributeEquals | Moment


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    Attributes:
        conditions: All must hold.
        order_by: A time, the field of a user extension, or None for the order in which events were recorded.
        descending: Greatest first.
        event_count_limit: Only so many, the first in the order; None for all.
        max_event_count: More are an error; None for no limit.
    """

    conditions: tuple[Condition, ...] = ()
    order_by: Clock | str | None = None
    descending: bool = False
    event_count_limit: int | None = None
    max_event_count: int | None = None

    def also(self, *conditions: Condition) -> "Query":
        """Return this question with further conditions."""
        return Query(
            (*self.conditions, *conditions),
            self.order_by,
            self.descending,
            self.event_count_limit,
            self.max_event_count,
        )
