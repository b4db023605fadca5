"""Rules and findings: what a document is held to, and where it falls short."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from medtrail.errors import MalformedError

Path = tuple[str | int, ...]
"""Where in an event: names of fields and numbers of list items, from the event down; empty for the event itself."""

_STEP: Final = re.compile(r"\[(\d+)\]|([^.\[]+)")


class Severity(StrEnum):
    """What a finding means for its document."""

    ERROR = "error"
    """The standard or the law forbids it: the document is refused."""
    WARNING = "warning"
    """Allowed, and rarely meant."""


class Profile(StrEnum):
    """The text that a rule comes from."""

    EPCIS = "epcis"
    CBV = "cbv"
    GS1 = "gs1"
    DSCSA = "dscsa"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: Stable, upper snake case.
        severity: What breaking it means.
        profile: Where it comes from; ``dscsa`` is checked only when asked for.
        text: What must hold, for a person.
        source: Document and section.
    """

    code: str
    severity: Severity
    profile: Profile
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that breaks a rule.

    Attributes:
        code: The rule's.
        place: A JSON pointer (RFC 6901) from the document's root; in XML the path of the element from the root.
        message: What was wanted and what came; no longer than a few lines.
        event_index: Number of the event in its list, from 0; None outside events.
        line: Line of the file, from 1, in XML; None in JSON.
    """

    code: str
    place: str
    message: str
    event_index: int | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A finding before its place in the document is known.

    Attributes:
        code: The rule's.
        path: Where in the event or in the document's head.
        message: As in the finding.
    """

    code: str
    path: Path
    message: str


MAX_FAULTS: Final = 10_000
"""Faults of one event's syntax that are told one by one; more are told by their number."""


class Faults:
    """Faults of one event's syntax, as many as memory may hold."""

    def __init__(self) -> None:
        self.told: list[Fault] = []
        self.untold = 0

    def add(self, code: str, path: Path, message: str) -> None:
        """Take note of a fault."""
        if len(self.told) < MAX_FAULTS:
            self.told.append(Fault(code, path, message))
        else:
            self.untold += 1

    def __iter__(self) -> Iterator[Fault]:
        """Yield the faults, and at the end one for those that were only counted."""
        yield from self.told
        if self.untold:
            yield Fault("FAULTS_COUNTED", (), f"{self.untold} more faults of this event's syntax")


def fault_of(error: MalformedError) -> Fault:
    """Return the fault that a reader's error tells; its field is a path such as ``event.epcList[3]``."""
    return Fault(error.code, path_of(error.field or ""), error.message)


def path_of(field: str) -> Path:
    """Return the path below the first step of a field: ``event.epcList[3]`` is ``("epcList", 3)``."""
    steps = [int(number) if number else name for number, name in _STEP.findall(field)]
    return tuple(steps[1:])


def pointer_of(*paths: Path) -> str:
    """Return the JSON pointer of paths joined."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for path in paths for step in path)
    return "".join(f"/{step}" for step in steps)


def is_within(path: Path, others: set[Path]) -> bool:
    """Return whether a path is one of others or below it."""
    return any(path[:length] in others for length in range(len(path) + 1))
