"""What was reported and answered about a case, item by item: a pure function of the messages, whatever their order.

Messages may be lost, come twice or late; each says what it says, and the latest word on an item counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from medtrail.pdg import (
    Answer,
    DataMisalignment,
    Item,
    MissingProduct,
    MissingProductData,
    NumberError,
    Report,
    Resolution,
    Response,
)
from medtrail.pdg_reader import decode_message
from services.custody.exceptions.case import CaseMessage, CaseStatus, MessageKind

WHOLE_CASE = "case"
"""Group of the item that stands for a case as a whole; its id is the case's."""
_BEGINNING = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class CaseItem:
    """One item: the list of the report in which it stands, what it says, what is asked for, the answer if any."""

    item_id: str
    group: str
    text: str
    request: Resolution | None
    asked_time: datetime
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """What partners have said to each other about a case.

    Attributes:
        items: In the order in which they were reported.
        resolved: A report said that the case is resolved.
    """

    items: tuple[CaseItem, ...] = ()
    resolved: bool = False

    @property
    def status(self) -> CaseStatus:
        """How far the case is by it."""
        if self.resolved:
            return CaseStatus.RESOLVED
        if not self.items:
            return CaseStatus.OPEN
        if any(item.answer is not None and not item.answer.accepted for item in self.items):
            return CaseStatus.DISPUTED
        if any(item.answer is None for item in self.items):
            return CaseStatus.PROPOSED
        return CaseStatus.AGREED


def exchange_of(case_id: str, messages: Sequence[CaseMessage]) -> Exchange:
    """Return what messages come to.

    An answer stands until a later report asks something else of its item.

    Args:
        case_id: UUID.
        messages: In any order.
    """
    items: dict[str, CaseItem] = {}
    resolved = False
    ordered = sorted(messages, key=lambda message: (message.time, message.message_id))
    for message in ordered:
        if message.kind is MessageKind.REPORT:
            report = _report(message)
            resolved = resolved or report.case_resolved
            for item in _reported(case_id, message, report):
                before = items.get(item.item_id)
                # Two clocks: only what asks something else can come after an answer.
                since = _BEGINNING if before is None else before.asked_time
                changed = before is not None and before.request is not item.request
                items[item.item_id] = item if changed else replace(item, asked_time=since)
    answers = _answers(ordered)
    found = []
    for item in items.values():
        known = [answer for time, answer in answers.get(item.item_id, ()) if time >= item.asked_time]
        found.append(replace(item, answer=known[-1] if known else None))
    return Exchange(tuple(found), resolved)


def _report(message: CaseMessage) -> Report:
    found = decode_message(message.pdg)
    assert isinstance(found, Report)  # noqa: S101  # looked at when it was taken in
    return found


def _reported(case_id: str, message: CaseMessage, report: Report) -> Iterator[CaseItem]:
    for group, item in report.items:
        yield CaseItem(item.item_id, group.value, item_text(item), item.request, message.time)
    if message.request is not None:
        text = "; ".join(report.other_errors) or message.text
        yield CaseItem(case_id, WHOLE_CASE, text, message.request, message.time)


def _answers(ordered: Sequence[CaseMessage]) -> dict[str, list[tuple[datetime, Answer]]]:
    found: dict[str, list[tuple[datetime, Answer]]] = {}
    for message in ordered:
        if message.kind is MessageKind.RESPONSE:
            response = decode_message(message.pdg)
            if isinstance(response, Response):
                for answer in response.answers:
                    found.setdefault(answer.item_id, []).append((message.time, answer))
    return found


def item_text(item: Item) -> str:
    """Return what an item says, for people."""
    if isinstance(item, MissingProductData):
        return f"no data for {item.gtin} {item.serial or 'without serial number'}".rstrip()
    if isinstance(item, MissingProduct):
        return f"data without product: {item.gtin} {item.serial}"
    if isinstance(item, DataMisalignment):
        differing = [
            f"{name} {ours or '(none)'}, data say {theirs or '(none)'}"
            for name, ours, theirs in (
                ("GTIN", item.product.gtin, item.told.gtin),
                ("serial", item.product.serial, item.told.serial),
                ("lot", item.product.lot, item.told.lot),
                ("expiry", item.product.expiry, item.told.expiry),
            )
            if ours != theirs
        ]
        return "; ".join(differing) or f"{item.product.gtin}: product and data differ"
    if isinstance(item, NumberError):
        proposed = f", proposed {item.proposed}" if item.proposed else ""
        return f"wrong number {item.invalid or '(none)'}{proposed}"
    return f"{item.gtin}: {item.received} received, {item.ordered} ordered"
