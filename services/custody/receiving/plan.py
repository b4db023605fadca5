"""What closing does with each unit of a delivery: decided here from lines and books, without I/O.

Only containers that were scanned as advised, and good packs that were scanned, are named in the receiving; what is
inside of a named container comes with it. So what is not good is taken out of named containers first, and what is not
in a container that was opened is said not to be.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.custody.holding import Books, Holding, HoldingState
from services.custody.receiving.codes import FOUND, MISMATCHED, ResultCode
from services.custody.receiving.lines_store import Line
from services.custody.receiving.reconcile import Label, mismatches

_GOOD_IF_FITTING = FOUND | MISMATCHED | {ResultCode.OVER}
"""Data may have come since the scan; another despatch to us may tell of what this delivery's do not."""


@dataclass(slots=True)
class Plan:
    """What becomes of the units of a delivery.

    Attributes:
        lines: All, by path.
        good: Leaves that are received.
        named: What the receiving names: scanned good packs, and scanned containers.
        aside: Recorded as arrived and put aside, each with what the reconciliation says.
        inside_aside: Not scanned, inside of a container that is put aside: they go with it.
        missing: Leaves that are on their way still.
        left: Were received otherwise, or are none of ours: nothing happens.
        gone: Expected once; nothing tells of them any more.
        absent: Were not in their containers.
        take_out: To be taken out of their containers first.
    """

    lines: Mapping[str, Line]
    good: dict[str, Line] = field(default_factory=dict)
    named: dict[str, Line] = field(default_factory=dict)
    aside: dict[str, tuple[Line, ResultCode]] = field(default_factory=dict)
    inside_aside: dict[str, tuple[Line, ResultCode]] = field(default_factory=dict)
    missing: dict[str, Line] = field(default_factory=dict)
    left: dict[str, Line] = field(default_factory=dict)
    gone: dict[str, Line] = field(default_factory=dict)
    absent: dict[str, Line] = field(default_factory=dict)
    take_out: dict[str, Line] = field(default_factory=dict)


def make_plan(lines: Iterable[Line], books: Books) -> Plan:
    """Return what closing does with the lines that no earlier closing has posted."""
    plan = Plan({line.path: line for line in lines})
    for line in plan.lines.values():
        holding = books.get(line.unit)
        if line.leaf:
            _place(plan, line, holding)
        elif line.scan and line.result in FOUND and _inbound(holding):
            plan.named[line.path] = line
        elif line.scan and line.result in MISMATCHED and _inbound(holding):
            plan.aside[line.path] = (line, line.result)
    _take_out(plan, books)
    _say_absent(plan, books)
    return plan


def _inbound(holding: Holding | None) -> bool:
    return holding is not None and holding.state is HoldingState.INBOUND


def _place(plan: Plan, line: Line, holding: Holding | None) -> None:
    result = line.result
    if result is None:
        around = _aside_around(plan, line)
        if around is not None and around.result is not None:
            plan.inside_aside[line.path] = (line, around.result)
        elif _inbound(holding):
            plan.missing[line.path] = line
        else:
            (plan.gone if holding is None else plan.left)[line.path] = line
        return
    if result is ResultCode.ALREADY_RECEIVED or (holding is not None and (holding.here or holding.final)):
        plan.left[line.path] = line
        return
    fits = _fitting(line, holding)
    if fits is ResultCode.MATCH and result in _GOOD_IF_FITTING:
        plan.good[line.path] = line
        if line.scan:
            plan.named[line.path] = line
    else:
        plan.aside[line.path] = (line, fits if result in FOUND else result)


def _aside_around(plan: Plan, line: Line) -> Line | None:
    """Return the container around a unit whose own label does not fit: what is inside goes the same way."""
    return next((item for item in above(plan.lines, line) if item.scan and item.result in MISMATCHED), None)


def _fitting(line: Line, holding: Holding | None) -> ResultCode:
    """Return whether the data that the books have now fit a label: MATCH, or what is wrong."""
    if holding is None or not _inbound(holding):
        return ResultCode.OVER
    if not line.scan:
        return ResultCode.MATCH
    label = Label(line.unit, line.seen_lot, line.seen_expiry_day)
    found = mismatches(label, lot=holding.lot, expiry=holding.expiry)
    return found[0] if found else ResultCode.MATCH


def above(lines: Mapping[str, Line], line: Line) -> Iterator[Line]:
    """Yield the containers of a unit in the delivery, innermost first."""
    seen = {line.path}
    while line.parent in lines and line.parent not in seen:
        line = lines[line.parent]
        seen.add(line.path)
        yield line


def _take_out(plan: Plan, books: Books) -> None:
    for line in plan.named.values():
        alone = not any(item.path in plan.named for item in above(plan.lines, line))
        if not _is_contained(books, line):
            continue
        if line.result is ResultCode.OTHER_CONTAINER:
            plan.absent[line.path] = line
        elif alone:
            plan.take_out[line.path] = line
    for line, _ in plan.aside.values():
        if _is_contained(books, line):
            plan.take_out[line.path] = line


def _say_absent(plan: Plan, books: Books) -> None:
    """Say of what is missing that it was not in its container, if that came: it was scanned, or others came out of it.

    The ledger takes what is in an opened container to be where that is.
    """
    holdings = (books.get(line.unit) for line in plan.take_out.values())
    opened = {holding.parent.path for holding in holdings if holding is not None and holding.parent is not None}
    came = opened.union(plan.named)
    filled = {item.path for line in plan.good.values() for item in above(plan.lines, line)} | came
    for path in (*plan.missing, *plan.gone):
        line = plan.lines[path]
        if not came.isdisjoint(item.path for item in above(plan.lines, line)):
            topmost = _topmost_outside(plan, line, filled)
            plan.absent[topmost.path] = topmost


def _topmost_outside(plan: Plan, line: Line, containers: Collection[str]) -> Line:
    """Return the outermost of a unit and what is around it, inside of the innermost of some containers."""
    for container in above(plan.lines, line):
        if container.path in containers:
            break
        line = container
    return line


def _is_contained(books: Books, line: Line) -> bool:
    holding = books.get(line.unit)
    return holding is not None and holding.state is HoldingState.INBOUND and holding.parent is not None
