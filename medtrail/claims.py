"""What an event claims: all that is looked at when a key's right to say it is judged, and when it says it happened.

Taken from an event once and judged later, by :class:`medtrail.trust.Registry`, apart from the event's decoding.

Source: ARCHITECTURE, section 3.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from medtrail.document import Document
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.errors import MalformedError, VerificationError
from medtrail.event import Capture, ErasureConsent, Event, PayloadType, Product, Recall
from medtrail.gs1 import Gln, Gtin, Lgtin, Sgtin, parse_epc

MAX_AHEAD = timedelta(minutes=5)


class Claims(NamedTuple):
    """All that is judged of an event: small, so that it can be judged apart from its decoding.

    Attributes:
        payload_type: Of the event.
        actor: The party that did it.
        capture: Whose word it is.
        moments: Field and moment of what is dated; aware UTC.
        step: The business step; the event's type where it names none; empty of other payloads.
        is_transformation: Whether it is a transformation event.
        gtins: The trade items to which it gives life, or which it describes or recalls.
        by_authority: Whether it is the authority's to say: trust, and consent to an erasure.
        source: Where it was recorded.
    """

    payload_type: PayloadType
    actor: Gln
    capture: Capture
    moments: tuple[tuple[str, datetime], ...] = ()
    step: str = ""
    is_transformation: bool = False
    gtins: tuple[Gtin, ...] = ()
    by_authority: bool = False
    source: str = ""


def claims_of(event: Event) -> Claims:
    """Return what there is to judge of an event."""
    header, statement = event.header, event.statement
    if isinstance(statement, EpcisEvent):
        return Claims(
            PayloadType.EPCIS,
            header.actor,
            header.capture,
            _moments(statement),
            statement.biz_step or statement.type.value,
            statement.type is EventType.TRANSFORMATION,
            commissioned(statement),
            source=header.source,
        )
    if isinstance(statement, Document):
        dated = (("document.issue_time", statement.issue_time),)
        return Claims(PayloadType.DOCUMENT, header.actor, header.capture, dated, source=header.source)
    gtins: tuple[Gtin, ...] = ()
    if isinstance(statement, Product):
        gtins = (statement.gtin,)
    elif isinstance(statement, Recall):
        gtins = tuple(scope.gtin for scope in statement.scopes)
    by_authority = event.payload_type is PayloadType.TRUST or isinstance(statement, ErasureConsent)
    return Claims(
        event.payload_type,
        header.actor,
        header.capture,
        gtins=gtins,
        by_authority=by_authority,
        source=header.source,
    )


def commissioned(event: EpcisEvent) -> tuple[Gtin, ...]:
    """Return the trade items to which an event gives life: of object events ADD, and of a transformation's outputs."""
    if event.type is EventType.OBJECT and event.action is Action.ADD:
        named = (*event.epc_list, *(element.epc_class for element in event.quantity_list))
    elif event.type is EventType.TRANSFORMATION:
        named = (*event.output_epc_list, *(element.epc_class for element in event.output_quantity_list))
    else:
        return ()
    gtins: dict[Gtin, None] = {}
    for text in named:
        try:
            key = parse_epc(text)
        except MalformedError:
            # Not a GS1 identifier: no prefix, so nobody's to guard.
            continue
        if isinstance(key, Sgtin | Lgtin):
            gtins[key.gtin] = None
        elif isinstance(key, Gtin):
            gtins[key] = None
    return tuple(gtins)


def _moments(event: EpcisEvent) -> tuple[tuple[str, datetime], ...]:
    dated = ("event.event_time", event.event_time)
    declaration = event.error_declaration
    if declaration is None:
        return (dated,)
    return dated, ("event.error_declaration.declaration_time", declaration.declaration_time)


def check_moments(moments: Iterable[tuple[str, datetime]], stream_time: datetime) -> None:
    """Check that nothing is dated more than five minutes after its message.

    Args:
        moments: Field and moment; aware UTC.
        stream_time: When the exchange stored the message; aware UTC.

    Raises:
        VerificationError: EVENT_IN_FUTURE.
    """
    for field, moment in moments:
        if moment - stream_time > MAX_AHEAD:
            message = f"dated {moment.isoformat()}, more than 5 minutes after {stream_time.isoformat()}"
            raise VerificationError(message, code="EVENT_IN_FUTURE", field=field)
