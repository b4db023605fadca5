"""From an EPCIS event to the rule that it falls under, by type, action and business step.

Source: EPCIS 2.0, section 7.4 (event types and actions); CBV 2.0, section 7.1 (business steps).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial

from medtrail.epcis.cbv import expiry_of, lot_of
from medtrail.epcis.model import Action, EpcisEvent, EventType, Extension
from medtrail.errors import MalformedError, MedtrailError
from medtrail.gs1 import Gln, parse_epc
from services.custody import dispensing, rules
from services.custody.conditions import object_to, offset_of_text
from services.custody.dispensing import Portion, parse_quantity
from services.custody.holding import Books, Ending
from services.custody.origin import Origin
from services.custody.parties import party_of
from services.custody.recalls import RecallIndex
from services.custody.rules import Received, Traits
from services.custody.units import Named, Unit, as_unit

OUR_NAMESPACE = "urn:medtrail:epcis"
REASON_NAME = "reason"
RELEASED_NAME = "released"
PURPOSE_NAME = "purpose"
PURPOSES_OF_OPENED = frozenset({"recall", "destruction"})
SENSOR_REPORTING = "sensor_reporting"
QUANTITY_NAME = "quantity"
REMAINDER_NAME = "remainder"
UOM_NAME = "uom"


class StepKind(StrEnum):
    """The rules that an event can fall under."""

    COMMISSION = "commission"
    PACK = "pack"
    UNPACK = "unpack"
    SHIP = "ship"
    SEND_BACK = "send_back"
    VOID_SHIPPING = "void_shipping"
    RECEIVE = "receive"
    TAKE_BACK = "take_back"
    ARRIVE = "arrive"
    HOLD = "hold"
    RELEASE = "release"
    DISPENSE = "dispense"
    DISPENSE_PART = "dispense_part"
    END = "end"
    TRANSFORM = "transform"
    OBSERVE = "observe"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Step:
    """What an event does to units.

    Attributes:
        kind: The rule.
        units: What it names: objects, children, or inputs.
        parent: The container of an aggregation.
        outputs: Of a transformation.
        traits: Lot and expiry of what it gives life to.
        ending: How a life ends.
        partner: The other party of a shipment.
        reason: Of a hold.
        released: Reasons of holds that end; empty: all.
        opened: What is sent back may be opened: for recall or destruction.
        portion: How much was dispensed of each unit, where it was counted.
    """

    kind: StepKind
    units: tuple[Named, ...] = ()
    parent: Named | None = None
    outputs: tuple[Named, ...] = ()
    traits: Traits = rules.NO_TRAITS
    ending: Ending = Ending.DECOMMISSIONED
    partner: Gln | None = None
    reason: str = ""
    released: tuple[str, ...] = ()
    opened: bool = False
    portion: Portion | None = None

    @property
    def named(self) -> tuple[Named, ...]:
        """All units that it names."""
        parents = () if self.parent is None else (self.parent,)
        return (*parents, *self.units, *self.outputs)

    def with_fields(self, fields: Mapping[Unit, str]) -> "Step":
        """Return the step with units named by other fields: those of the request from which the event was made."""

        def renamed(named: Named) -> Named:
            return Named(named.unit, fields.get(named.unit, named.field))

        return replace(
            self,
            units=tuple(map(renamed, self.units)),
            parent=None if self.parent is None else renamed(self.parent),
            outputs=tuple(map(renamed, self.outputs)),
        )


_ENDING_OF_DISPOSITION = {
    "destroyed": Ending.DESTROYED,
    "disposed": Ending.DESTROYED,
    "stolen": Ending.STOLEN,
    "unknown": Ending.LOST,
    "damaged": Ending.DAMAGED,
}
_ENDING_OF_STEP = {
    "decommissioning": Ending.DECOMMISSIONED,
    "destroying": Ending.DESTROYED,
    "killing": Ending.DECOMMISSIONED,
    "sampling": Ending.SAMPLED,
}
# Endings for which CBV has no word of their own: our reason says which.
ENDINGS_BY_REASON = frozenset({Ending.EXPORTED, Ending.FREE_SAMPLE, Ending.LOCKED})
_KIND_OF_STEP = {
    "receiving": StepKind.RECEIVE,
    "accepting": StepKind.ARRIVE,
    "arriving": StepKind.ARRIVE,
    "void_shipping": StepKind.VOID_SHIPPING,
    "holding": StepKind.HOLD,
}
_DISPENSING = frozenset({"dispensing", "retail_selling"})
_SALEABLE = frozenset({"sellable_accessible", "sellable_not_accessible", "available"})
_RELEASING = frozenset({"storing", "stocking", "inspecting"})


def step_of(event: EpcisEvent, *, field: str) -> Step:
    """Return what an event does to units.

    Args:
        event: An event that is valid EPCIS.
        field: Path of the event, for errors: ``events[3]``.

    Raises:
        MalformedError: An EPC list names what is no unit.
    """
    traits = Traits(lot_of(event) or "", expiry_of(event))
    if event.type is EventType.TRANSFORMATION:
        return Step(
            StepKind.TRANSFORM,
            _named(event.input_epc_list, f"{field}.inputEPCList"),
            outputs=_named(event.output_epc_list, f"{field}.outputEPCList"),
            traits=traits,
        )
    if event.type is EventType.ASSOCIATION:
        # Sensors and reusable assets: no custody moves.
        return Step(StepKind.NOTHING)
    if event.type is EventType.AGGREGATION:
        return _aggregation(event, field)
    units = _named(event.epc_list, f"{field}.epcList")
    if event.type is EventType.TRANSACTION and event.parent_id is not None:
        units += (_unit(event.parent_id, f"{field}.parentID"),)
    if event.type is EventType.OBJECT and event.action is Action.ADD:
        return Step(StepKind.COMMISSION, units, traits=traits)
    return _of_biz_step(event, units)


def _named(epcs: Iterable[str], field: str) -> tuple[Named, ...]:
    return tuple(_unit(epc, f"{field}[{number}]") for number, epc in enumerate(epcs))


def _unit(epc: str, field: str) -> Named:
    try:
        return Named(as_unit(parse_epc(epc), field=field), field)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field=field) from error


def _aggregation(event: EpcisEvent, field: str) -> Step:
    children = _named(event.child_epcs, f"{field}.childEPCs")
    if event.parent_id is None:
        return Step(StepKind.OBSERVE, children)
    parent = _unit(event.parent_id, f"{field}.parentID")
    if event.action is Action.OBSERVE:
        return Step(StepKind.OBSERVE, (parent, *children))
    if event.action is Action.ADD:
        return Step(StepKind.PACK, children, parent)
    if not children and event.child_quantity_list:
        return Step(StepKind.OBSERVE, (parent,))
    return Step(StepKind.UNPACK, children, parent)


def _of_biz_step(event: EpcisEvent, units: tuple[Named, ...]) -> Step:
    step, disposition = event.biz_step or "", event.disposition or ""
    if step == "shipping":
        kind = StepKind.SEND_BACK if disposition == "returned" else StepKind.SHIP
        opened = not PURPOSES_OF_OPENED.isdisjoint(texts_of(event, PURPOSE_NAME))
        return Step(kind, units, partner=party_of(event.destination_list), opened=opened)
    if step == SENSOR_REPORTING:
        # What was measured moves nothing: packs, containers or the sensor itself, wherever they are.
        return Step(StepKind.NOTHING)
    if step in _KIND_OF_STEP:
        kind = _KIND_OF_STEP[step]
        if kind is StepKind.RECEIVE and disposition == "returned":
            kind = StepKind.TAKE_BACK
        return Step(kind, units, partner=party_of(event.source_list), reason=reason_of(event))
    if step in _DISPENSING:
        kind = StepKind.DISPENSE_PART if disposition == "partially_dispensed" else StepKind.DISPENSE
        return Step(kind, units, portion=portion_of(event))
    if step in _ENDING_OF_STEP or event.action is Action.DELETE or disposition in {"stolen", "destroyed"}:
        return Step(StepKind.END, units, ending=_ending_of(event, step, disposition))
    released = texts_of(event, RELEASED_NAME)
    releases = step in _RELEASING and (disposition in _SALEABLE or bool(released))
    return Step(StepKind.RELEASE if releases else StepKind.OBSERVE, units, released=released)


def _ending_of(event: EpcisEvent, step: str, disposition: str) -> Ending:
    reason = reason_of(event)
    if disposition == "inactive" and reason in ENDINGS_BY_REASON:
        return Ending(reason)
    return _ENDING_OF_DISPOSITION.get(disposition, _ENDING_OF_STEP.get(step, Ending.DECOMMISSIONED))


def reason_of(event: EpcisEvent) -> str:
    """Return why goods are held or sent back, as the event's extension says; else its disposition or step."""
    for extension in event.extensions:
        if extension.namespace == OUR_NAMESPACE and extension.name == REASON_NAME and extension.value:
            return str(extension.value)
    return event.disposition or event.biz_step or ""


def _decimal_of(event: EpcisEvent, name: str) -> Decimal | None:
    for extension in event.extensions:
        if (extension.namespace, extension.name) == (OUR_NAMESPACE, name):
            return parse_quantity(str(extension.value), field=f"{OUR_NAMESPACE}:{name}")
    return None


def portion_of(event: EpcisEvent) -> Portion | None:
    """Return how much of each pack an event says was dispensed; None where it does not.

    Raises:
        MalformedError: It says it in no decimal number (QUANTITY_MALFORMED).
    """
    quantity = _decimal_of(event, QUANTITY_NAME)
    if quantity is None:
        return None
    uom = next(
        (str(item.value) for item in event.extensions if (item.namespace, item.name) == (OUR_NAMESPACE, UOM_NAME)), ""
    )
    return Portion(quantity, _decimal_of(event, REMAINDER_NAME), uom)


def portion_extensions(portion: Portion) -> tuple[Extension, ...]:
    """Return the extensions that say how much was taken of each pack, and what is left."""
    found = [Extension(OUR_NAMESPACE, QUANTITY_NAME, format(portion.quantity, "f"))]
    if portion.remainder is not None:
        found.append(Extension(OUR_NAMESPACE, REMAINDER_NAME, format(portion.remainder, "f")))
    return (*found, Extension(OUR_NAMESPACE, UOM_NAME, portion.uom))


def reason_extension(reason: str) -> Extension:
    """Return the extension that says why."""
    return Extension(OUR_NAMESPACE, REASON_NAME, reason)


def our_extension(name: str, text: str) -> Extension:
    """Return an extension of ours."""
    return Extension(OUR_NAMESPACE, name, text)


def texts_of(event: EpcisEvent, name: str) -> tuple[str, ...]:
    """Return what the event's extensions of ours with a name say."""
    return tuple(
        str(extension.value)
        for extension in event.extensions
        if extension.namespace == OUR_NAMESPACE and extension.name == name and extension.value
    )


def offset_of(event: EpcisEvent) -> timedelta:
    """Return the offset in force where an event happened, from its valid ``+hh:mm``."""
    return offset_of_text(event.event_time_zone_offset)


def apply_step(books: Books, step: Step, origin: Origin, *, recalls: RecallIndex) -> Received | None:
    """Change the books as an event says; a delivery returns what came of it.

    Raises:
        ConflictError: The rules forbid it (:mod:`services.custody.rules`).
    """
    received = None
    if step.kind in {StepKind.RECEIVE, StepKind.TAKE_BACK}:
        received = rules.receive(books, step.units, origin, returned=step.kind is StepKind.TAKE_BACK)
    else:
        _RULES[step.kind](books, step, origin, recalls)
    for named in step.named:
        holding = books.get(named.unit)
        if holding is not None and holding.inferred:
            # Whoever names a unit has seen it.
            books.change(holding, inferred=False)
    return received


def _contain(books: Books, step: Step, origin: Origin) -> None:
    if step.parent is None:
        message = "an aggregation that adds or takes out names its container"
        raise MalformedError(message, code="FIELD_MISSING", field="parentID")
    if step.kind is StepKind.PACK:
        rules.pack(books, step.parent, step.units, origin)
    else:
        rules.unpack(books, step.parent, step.units, origin)


def _ship(books: Books, step: Step, origin: Origin, recalls: RecallIndex) -> None:
    back = step.kind is StepKind.SEND_BACK
    rules.ship(books, step.units, origin, partner=step.partner, recalls=recalls, as_return=back, opened=step.opened)


def _dispense(books: Books, step: Step, origin: Origin, recalls: RecallIndex) -> None:
    opened = step.kind is StepKind.DISPENSE_PART
    dispensing.dispense(books, step.units, origin, recalls=recalls, partial=opened, portion=step.portion)


def _hold(books: Books, step: Step, origin: Origin, _recalls: RecallIndex) -> None:
    _one_by_one(books, step.units, origin, partial(rules.hold, reason=step.reason))


def _one_by_one(
    books: Books, units: Sequence[Named], origin: Origin, rule: Callable[[Books, Sequence[Named], Origin], None]
) -> None:
    """Apply a rule to all units, or, to what has happened, to each by itself: what it does not fit is noted."""
    if not origin.happened:
        rule(books, units, origin)
        return
    for named in units:
        try:
            rule(books, (named,), origin)
        except MedtrailError as error:
            # That it is on hold, or is not, is only said again.
            if error.code not in {"ALREADY_ON_HOLD", "NOT_ON_HOLD"}:
                object_to(books, origin, error, named.unit)


def _transform(books: Books, step: Step, origin: Origin, recalls: RecallIndex) -> None:
    rules.transform(books, step.units, step.outputs, origin, recalls=recalls, traits=step.traits)


_RULES: dict[StepKind, Callable[[Books, Step, Origin, RecallIndex], None]] = {
    StepKind.COMMISSION: lambda books, step, origin, _: rules.commission(books, step.units, origin, step.traits),
    StepKind.PACK: lambda books, step, origin, _: _contain(books, step, origin),
    StepKind.UNPACK: lambda books, step, origin, _: _contain(books, step, origin),
    StepKind.SHIP: _ship,
    StepKind.SEND_BACK: _ship,
    StepKind.VOID_SHIPPING: lambda books, step, origin, _: rules.void_shipping(books, step.units, origin),
    StepKind.ARRIVE: lambda books, step, origin, _: rules.arrive(books, step.units, origin),
    StepKind.HOLD: _hold,
    StepKind.RELEASE: lambda books, step, origin, _: _one_by_one(
        books, step.units, origin, partial(rules.release_held, reasons=step.released)
    ),
    StepKind.DISPENSE: _dispense,
    StepKind.DISPENSE_PART: _dispense,
    StepKind.END: lambda books, step, origin, _: rules.end(books, step.units, origin, ending=step.ending),
    StepKind.TRANSFORM: _transform,
    StepKind.OBSERVE: lambda books, step, origin, _: rules.observe(books, step.units, origin),
    StepKind.NOTHING: lambda _books, _step, _origin, _recalls: None,
}


_GOING = frozenset(
    {
        StepKind.SHIP,
        StepKind.SEND_BACK,
        StepKind.VOID_SHIPPING,
        StepKind.DISPENSE,
        StepKind.DISPENSE_PART,
        StepKind.END,
        StepKind.TRANSFORM,
    }
)


def takes_out(event: EpcisEvent) -> bool:
    """Tell whether the units that an event names go with it, out of any container that it does not name."""
    if event.type is EventType.TRANSFORMATION:
        return True
    if event.type not in {EventType.OBJECT, EventType.TRANSACTION} or event.action is Action.ADD:
        return False
    try:
        return _of_biz_step(event, ()).kind in _GOING
    except MalformedError:
        return False


def is_receiving(event: EpcisEvent) -> bool:
    """Tell whether an event says that goods were received."""
    return event.type in {EventType.OBJECT, EventType.TRANSACTION} and event.biz_step == "receiving"


def is_despatch(event: EpcisEvent) -> bool:
    """Tell whether an event says that goods leave for somebody."""
    return event.type in {EventType.OBJECT, EventType.TRANSACTION} and event.biz_step == "shipping"
