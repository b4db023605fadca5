"""EPCIS events as the verbs make them, in CBV words and GS1 Digital Links.

Source: CBV 2.0, sections 7 (words), 8.5 (business transaction identifiers) and 9 (lot and expiry).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from medtrail.epcis.cbv import ilmd_lot_expiry
from medtrail.epcis.model import (
    Action,
    BizTransaction,
    EpcisEvent,
    EventType,
    PersistentDisposition,
    Place,
    SourceDest,
)
from medtrail.gs1 import Gln, OtherKey, Sgln
from services.custody.dispensing import Portion
from services.custody.holding import Ending
from services.custody.steps import (
    ENDINGS_BY_REASON,
    PURPOSE_NAME,
    RELEASED_NAME,
    our_extension,
    portion_extensions,
    reason_extension,
)
from services.custody.units import Unit

MAX_UNITS_PER_EVENT = 1000


@dataclass(frozen=True, slots=True)
class Occasion:
    """When and where a thing was done.

    Attributes:
        time: Aware UTC, to the millisecond: the event hash knows nothing finer.
        offset: In force there, ``+hh:mm``.
        location: One of the organisation's GLNs.
        station: Name of the station there at which it was done; may be empty.
    """

    time: datetime
    offset: str
    location: Gln
    station: str = ""

    @property
    def read_point(self) -> Place:
        """Where it was seen: the station within the location (AI 254), or the location."""
        return Place(Sgln(self.location, self.station or None).digital_link)


@dataclass(frozen=True, slots=True)
class Route:
    """Whence and whither goods go: parties that own them, and places."""

    source_party: Gln
    source_location: Gln
    destination_party: Gln
    destination_location: Gln


def place_uri(gln: Gln) -> str:
    """Return the Digital Link of a place."""
    return Sgln(gln).digital_link


def party_uri(gln: Gln) -> str:
    """Return the Digital Link of a party."""
    return OtherKey("417", str(gln)).digital_link


def split(units: Sequence[Unit]) -> Iterator[tuple[Unit, ...]]:
    """Yield units in groups that fit into one signed event."""
    for start in range(0, len(units), MAX_UNITS_PER_EVENT):
        yield tuple(units[start : start + MAX_UNITS_PER_EVENT])


def _links(units: Sequence[Unit]) -> tuple[str, ...]:
    return tuple(unit.digital_link for unit in units)


def _object(
    units: Sequence[Unit], occasion: Occasion, *, action: Action, biz_step: str, disposition: str
) -> EpcisEvent:
    place = Place(place_uri(occasion.location))
    return EpcisEvent(
        type=EventType.OBJECT,
        event_time=occasion.time,
        event_time_zone_offset=occasion.offset,
        action=action,
        epc_list=_links(units),
        biz_step=biz_step,
        disposition=disposition,
        read_point=occasion.read_point,
        biz_location=place,
    )


def commissioning(
    units: Sequence[Unit], occasion: Occasion, *, lot: str = "", expiry: date | None = None
) -> EpcisEvent:
    """Return that units were given life; packs with their lot and expiry."""
    made = _object(units, occasion, action=Action.ADD, biz_step="commissioning", disposition="active")
    return made if expiry is None else replace(made, ilmd=ilmd_lot_expiry(lot, expiry))


def _aggregation(parent: Unit, children: Sequence[Unit], occasion: Occasion, *, action: Action) -> EpcisEvent:
    place = Place(place_uri(occasion.location))
    return EpcisEvent(
        type=EventType.AGGREGATION,
        event_time=occasion.time,
        event_time_zone_offset=occasion.offset,
        action=action,
        parent_id=parent.digital_link,
        child_epcs=_links(children),
        biz_step="packing" if action is Action.ADD else "unpacking",
        disposition="in_progress",
        read_point=occasion.read_point,
        biz_location=place,
    )


def packing(parent: Unit, children: Sequence[Unit], occasion: Occasion) -> EpcisEvent:
    """Return that units were put into a container."""
    return _aggregation(parent, children, occasion, action=Action.ADD)


def unpacking(parent: Unit, children: Sequence[Unit], occasion: Occasion) -> EpcisEvent:
    """Return that units were taken out of a container; none named means all."""
    return _aggregation(parent, children, occasion, action=Action.DELETE)


def absence(parent: Unit, children: Sequence[Unit], occasion: Occasion) -> EpcisEvent:
    """Return that units were not in a container in which data said they were: where they are, nobody here knows.

    CBV has no word for missing: "disposition condition is not known" is the nearest. The mismatches of CBV are said of
    what is there.
    """
    return replace(unpacking(parent, children, occasion), disposition="unknown")


def shipping(
    units: Sequence[Unit], occasion: Occasion, route: Route, documents: Sequence[BizTransaction] = ()
) -> EpcisEvent:
    """Return that units left for a partner. Where they are from then on is not ours to say: no business location."""
    made = _object(units, occasion, action=Action.OBSERVE, biz_step="shipping", disposition="in_transit")
    return _routed(replace(made, biz_location=None, biz_transaction_list=tuple(documents)), route)


def sending_back(
    units: Sequence[Unit],
    occasion: Occasion,
    route: Route,
    *,
    reason: str,
    purpose: str = "",
    documents: Sequence[BizTransaction] = (),
) -> EpcisEvent:
    """Return that units were sent back to a partner, and what for."""
    made = _object(units, occasion, action=Action.OBSERVE, biz_step="shipping", disposition="returned")
    said = (reason_extension(reason), *((our_extension(PURPOSE_NAME, purpose),) if purpose else ()))
    return _routed(replace(made, biz_location=None, biz_transaction_list=tuple(documents), extensions=said), route)


def receiving(
    units: Sequence[Unit],
    occasion: Occasion,
    route: Route | None,
    *,
    disposition: str = "in_progress",
    documents: Sequence[BizTransaction] = (),
) -> EpcisEvent:
    """Return that units arrived; without route where nobody advised them."""
    made = _object(units, occasion, action=Action.OBSERVE, biz_step="receiving", disposition=disposition)
    made = replace(made, biz_transaction_list=tuple(documents))
    return made if route is None else _routed(made, route)


def holding(units: Sequence[Unit], occasion: Occasion, *, reason: str) -> EpcisEvent:
    """Return that units were put aside."""
    made = _object(units, occasion, action=Action.OBSERVE, biz_step="holding", disposition="non_sellable_other")
    return replace(made, extensions=(reason_extension(reason),))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Who agreed on a release, by pseudonym: who asked for it, and who approved it."""

    requester: str
    approver: str


def releasing(
    units: Sequence[Unit],
    occasion: Occasion,
    *,
    reason: str,
    ended: Sequence[str] = (),
    held: bool = False,
    agreement: Agreement | None = None,
) -> EpcisEvent:
    """Return that holds are over.

    Args:
        units: Units.
        occasion: When and where.
        reason: Why they end.
        ended: Reasons of holds that end by it, and no other; none named means all.
        held: Other reasons hold the units, or something inside of them, still: they are not saleable.
        agreement: Who agreed on it, where two persons must.
    """
    biz_step, disposition = ("inspecting", "non_sellable_other") if held else ("storing", "sellable_accessible")
    made = _object(units, occasion, action=Action.OBSERVE, biz_step=biz_step, disposition=disposition)
    said = [reason_extension(reason), *(our_extension(RELEASED_NAME, item) for item in ended)]
    if agreement is not None:
        said += [our_extension("requestedBy", agreement.requester), our_extension("approvedBy", agreement.approver)]
    return replace(made, extensions=tuple(said))


def observing(units: Sequence[Unit], occasion: Occasion) -> EpcisEvent:
    """Return that units were seen; nothing else is said of them."""
    made = _object(units, occasion, action=Action.OBSERVE, biz_step="cycle_counting", disposition="")
    return replace(made, disposition=None)


def dispensing(
    units: Sequence[Unit],
    occasion: Occasion,
    *,
    partial: bool,
    portion: Portion | None = None,
    opening: bool = False,
) -> EpcisEvent:
    """Return that packs were handed out, in whole or in part.

    Args:
        units: Packs.
        occasion: When and where.
        partial: Something is left of each.
        portion: How much was taken of each, and what is left of it, where it was counted.
        opening: They are opened by it, and their serial numbers taken out of use.
    """
    disposition = "partially_dispensed" if partial else "dispensed"
    made = _object(units, occasion, action=Action.OBSERVE, biz_step="dispensing", disposition=disposition)
    return replace(
        made,
        persistent_disposition=PersistentDisposition(set=("inactive",)) if opening else None,
        extensions=() if portion is None else portion_extensions(portion),
    )


_WORDS_OF_ENDING = {
    Ending.DECOMMISSIONED: ("decommissioning", "inactive"),
    Ending.DESTROYED: ("destroying", "destroyed"),
    Ending.STOLEN: ("decommissioning", "stolen"),
    # CBV has no word for lost: "disposition condition is not known" is the nearest.
    Ending.LOST: ("decommissioning", "unknown"),
    Ending.SAMPLED: ("sampling", "inactive"),
    Ending.DAMAGED: ("decommissioning", "damaged"),
    # CBV has no words for these either: the event's reason tells them apart.
    Ending.EXPORTED: ("decommissioning", "inactive"),
    Ending.LOCKED: ("decommissioning", "inactive"),
    Ending.FREE_SAMPLE: ("sampling", "inactive"),
}


def ending(units: Sequence[Unit], occasion: Occasion, how: Ending) -> EpcisEvent:
    """Return that the life of units ended."""
    biz_step, disposition = _WORDS_OF_ENDING[how]
    made = _object(units, occasion, action=Action.DELETE, biz_step=biz_step, disposition=disposition)
    return replace(made, extensions=(reason_extension(how.value),)) if how in ENDINGS_BY_REASON else made


def _routed(event: EpcisEvent, route: Route) -> EpcisEvent:
    return replace(
        event,
        source_list=(
            SourceDest("owning_party", party_uri(route.source_party)),
            SourceDest("location", place_uri(route.source_location)),
        ),
        destination_list=(
            SourceDest("owning_party", party_uri(route.destination_party)),
            SourceDest("location", place_uri(route.destination_location)),
        ),
    )


def document(kind: str, number: str, *, issuer: Gln) -> BizTransaction:
    """Return a business document by its CBV type (``po``, ``desadv``), its number, and who issued it."""
    return BizTransaction(f"urn:epcglobal:cbv:bt:{issuer}:{number}", kind)
