"""What a walk over a document yields: its head, and its events as they stand, faults and all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medtrail.epcis.model import EpcisEvent
from medtrail.epcis.rules.finding import Fault, Faults, Finding, Path

Locate = Callable[[Path], tuple[str, int | None]]


@dataclass(frozen=True, slots=True)
class LooseEvent:
    """An event whose fields may be wrong.

    Attributes:
        index: Number in its document, from 0.
        raw: Fields by JSON-LD name, as :func:`medtrail.epcis.build.build_event` takes them; None where it was not
            even taken apart.
        faults: What was wrong with its syntax.
        locate: Place and line of a path in the event.
        read: Reads it as the readers do; raises MalformedError where they refuse it.
    """

    index: int
    raw: Mapping[str, Any] | None
    faults: Faults
    locate: Locate
    read: Callable[[], EpcisEvent]

    def finding(self, fault: Fault) -> Finding:
        """Return the finding that a fault of this event is."""
        place, line = self.locate(fault.path)
        return Finding(fault.code, place, fault.message, self.index, line)
