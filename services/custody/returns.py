"""Taking packs back: their arrival is recorded, then their release, or their hold with an exception case."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MalformedError
from medtrail.gs1 import Gln
from medtrail.verdict import Verdict
from services.custody import commands, events, events_store, excursions, inbound_store, returns_store, rules
from services.custody.conditions import with_inside
from services.custody.desk import Accepted, Effect, Session
from services.custody.events import Occasion, Route
from services.custody.exceptions import store as cases
from services.custody.exceptions.case import NewCase
from services.custody.exceptions.codes import ExceptionCode
from services.custody.excursions import NotedExcursion
from services.custody.expiry_watch import today
from services.custody.holding import AWAY_STATES, Books, Holding, HoldingState
from services.custody.holds import RETURN_UNVERIFIED, HoldCode, line
from services.custody.inbound_store import InboundShipment
from services.custody.origin import Origin
from services.custody.parties import organisation_gln
from services.custody.return_codes import ReturnCode, ReturnFacts, gravest_first, judge_authorisation, judge_return
from services.custody.returns_store import Authorisation, Returned
from services.custody.steps import PURPOSE_NAME, PURPOSES_OF_OPENED, texts_of
from services.custody.units import Named, Unit

_BT_URN = "urn:epcglobal:cbv:bt:"
_NOT_RECORDED = frozenset({ReturnCode.NOT_DESPATCHED, ReturnCode.UNIT_UNKNOWN, ReturnCode.UNREADABLE})
# Alone they are no exception: what goes back to its maker is never restocked by itself.
_NO_CASE = frozenset({ReturnCode.RETURNED_TO_MAKER})
# Nor what comes back for recall or destruction, for the very reason for which it comes.
_WASTE = _NO_CASE | {
    ReturnCode.RECALLED,
    ReturnCode.UNIT_OPENED,
    ReturnCode.TEMPERATURE_EXCURSION,
    ReturnCode.EXPIRED,
    ReturnCode.EXPIRY_MARGIN,
    ReturnCode.HELD,
}


@dataclass(frozen=True, slots=True)
class Item:
    """A pack that came back: its verdict, and the expiry on the pack."""

    named: Named
    verdict: Verdict
    expiry: date | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """Under what packs come back, where no despatch of the customer tells it.

    Attributes:
        customer: Party that sends them; None where nobody says.
        authorisation: Number; may be empty.
        to_maker: They come back to their maker: never restocked without release.
    """

    customer: Gln | None = None
    authorisation: str = ""
    to_maker: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a pack.

    Attributes:
        codes: Why it is not restocked, the gravest first; none: it is.
        case_id: Of the exception case; may be empty.
        recorded: Its arrival was recorded.
    """

    item: Item
    codes: tuple[ReturnCode, ...]
    case_id: str = ""
    recorded: bool = True

    @property
    def restocked(self) -> bool:
        """Whether it is saleable again."""
        return not self.codes

    def describe(self) -> str:
        """Return one line for a person."""
        if self.restocked:
            return "verified and restocked"
        if self.codes[0] in _NOT_RECORDED:
            return f"not taken back: {self.codes[0]}"
        return f"return not verified: {_told(self.codes, self.item.verdict)}"


def _told(codes: Sequence[ReturnCode], verdict: Verdict) -> str:
    return ", ".join(f"{code} ({verdict.code})" if code is ReturnCode.NOT_VERIFIED else code for code in codes)


@dataclass(frozen=True, slots=True)
class _Coming:
    """A pack on its way back: its holding, the customer's despatch, who sends it under which number, and what for.

    Attributes:
        parts: Its holding and those of all that comes back inside of it.
    """

    item: Item
    parts: tuple[Holding, ...]
    shipment: InboundShipment | None
    customer: Gln | None
    authorisation: str
    purposes: tuple[str, ...]

    @property
    def before(self) -> Holding:
        """Its own holding."""
        return self.parts[0]

    def exceptional(self, codes: Iterable[ReturnCode]) -> bool:
        """Tell whether what was found is more than why it comes."""
        return bool(set(codes) - (_NO_CASE if PURPOSES_OF_OPENED.isdisjoint(self.purposes) else _WASTE))


def take_back(
    session: Session, items: Sequence[Item], occasion: Occasion, terms: Terms
) -> tuple[list[Outcome], list[Accepted]]:
    """Take packs back; return what became of each, in order, and the events made.

    What is not on its way back, or not known here, is not recorded. A case comes back with all that is inside of it:
    it is restocked only if nothing speaks against any of it.
    """
    coming, outcomes = _sort_out(session, items, terms)
    made = _receive(session, list(coming.values()), occasion)
    paths = [part.unit.path for each in coming.values() for part in each.parts]
    noted = excursions.open_of(session.connection, paths)
    for unit, each in coming.items():
        outcomes[unit] = Outcome(each.item, _judge(session, each, noted, occasion, to_maker=terms.to_maker))
    made += _settle(session, [(each, outcomes[unit]) for unit, each in coming.items()], occasion)
    found = _open_cases(session, coming, outcomes)
    returns_store.note_returned(
        session.connection,
        (
            Returned(unit, each.customer, each.authorisation, found[unit].codes, session.now)
            for unit, each in coming.items()
        ),
    )
    return [found[item.named.unit] for item in items], made


def _sort_out(session: Session, items: Sequence[Item], terms: Terms) -> tuple[dict[Unit, _Coming], dict[Unit, Outcome]]:
    coming: dict[Unit, _Coming] = {}
    outcomes: dict[Unit, Outcome] = {}
    for item in items:
        unit = item.named.unit
        before = session.books.get(unit)
        if before is None:
            outcomes[unit] = Outcome(item, (ReturnCode.UNIT_UNKNOWN,), recorded=False)
        elif not _is_coming(before):
            outcomes[unit] = Outcome(item, (ReturnCode.NOT_DESPATCHED,), recorded=False)
        else:
            coming[unit] = _coming(session, item, before, terms)
    return coming, outcomes


def _is_coming(holding: Holding) -> bool:
    return holding.state is HoldingState.INBOUND or holding.state in AWAY_STATES


def _coming(session: Session, item: Item, before: Holding, terms: Terms) -> _Coming:
    shipment = None
    if before.state is HoldingState.INBOUND and before.despatch_id:
        shipment = inbound_store.find(session.connection, before.despatch_id)
    customer = terms.customer if shipment is None else shipment.sender
    if customer is not None:
        customer = organisation_gln(customer, session.desk.registry())
    number = _number_of(shipment) or terms.authorisation
    parts = tuple(part for part in with_inside(session.books, before.unit) if _is_coming(part))
    return _Coming(item, parts, shipment, customer, number, _purposes(session, shipment))


def _judge(
    session: Session,
    coming: _Coming,
    noted: Mapping[str, Sequence[NotedExcursion]],
    occasion: Occasion,
    *,
    to_maker: bool,
) -> tuple[ReturnCode, ...]:
    """Return why a unit that came back, or anything inside of it, may not be restocked."""
    found: set[ReturnCode] = set()
    authorisation = _judge_authorisation(session, coming, occasion)
    for before in coming.parts:
        now_held = session.books.get(before.unit)
        facts = ReturnFacts(
            before=before,
            sold_to=_sold_to(session, before),
            customer=coming.customer,
            verdict=coming.item.verdict,
            expiry=_earliest(before.expiry, coming.item.expiry),
            today=today(session.now, session.desk.zone),
            margin=timedelta(days=session.desk.holds.return_margin_days),
            hold_reasons="" if now_held is None else now_held.hold_reason,
            excursion=before.unit.path in noted,
            authorisation=authorisation,
            to_maker=to_maker,
        )
        found.update(judge_return(facts))
    return gravest_first(found)


def _purposes(session: Session, shipment: InboundShipment | None) -> tuple[str, ...]:
    """Return what a despatch says that the goods come back for."""
    if shipment is None:
        return ()
    for stored in events_store.find_by_id(session.connection, shipment.despatch_id):
        if isinstance(stored.event.statement, EpcisEvent) and stored.signer == shipment.signer:
            return texts_of(stored.event.statement, PURPOSE_NAME)
    return ()


def _number_of(shipment: InboundShipment | None) -> str:
    """Return the number of the return authorisation that a despatch names; empty where it names none."""
    for document in () if shipment is None else shipment.documents:
        if document.type == "rma":
            return document.id.removeprefix(_BT_URN).partition(":")[2] or document.id
    return ""


def _sold_to(session: Session, before: Holding) -> Gln | None:
    # Books of earlier versions know the partner of a despatch alone.
    sold = before.sold_to or (before.partner if before.state is HoldingState.DESPATCHED else None)
    return None if sold is None else organisation_gln(sold, session.desk.registry())


def _earliest(one: date | None, other: date | None) -> date | None:
    known = [day for day in (one, other) if day is not None]
    return min(known) if known else None


def _judge_authorisation(session: Session, coming: _Coming, occasion: Occasion) -> ReturnCode | None:
    given: Authorisation | None = None
    if coming.authorisation:
        given = returns_store.find_authorisation(session.connection, coming.authorisation)
    return judge_authorisation(
        named=coming.authorisation,
        required=session.desk.holds.require_authorisation,
        customer=coming.customer,
        authorised=None if given is None else organisation_gln(given.customer, session.desk.registry()),
        covers=given is not None and (not given.units or coming.item.named.unit in given.units),
        expire_time=None if given is None else given.expire_time,
        sent_time=occasion.time if coming.shipment is None else coming.shipment.despatch_time,
    )


def _receive(session: Session, coming: Sequence[_Coming], occasion: Occasion) -> list[Accepted]:
    fields = {each.item.named.unit: each.item.named.field for each in coming}
    made = commands.take_out(
        session, [each.item.named for each in coming if each.before.state is HoldingState.INBOUND], occasion
    )
    routes: dict[Route | None, list[Unit]] = {}
    for each in coming:
        routes.setdefault(_route(session, each, occasion), []).append(each.item.named.unit)
    for route, units in routes.items():
        made += [
            session.record(events.receiving(group, occasion, route, disposition="returned"), fields=fields)
            for group in events.split(units)
        ]
    commands.count_received(session)
    return made


def _route(session: Session, coming: _Coming, occasion: Occasion) -> Route | None:
    own = (session.desk.gln, occasion.location)
    if coming.shipment is not None:
        return Route(coming.shipment.sender, coming.shipment.source_location, *own)
    partner = coming.customer or coming.before.partner
    return None if partner is None else Route(partner, partner, *own)


def _settle(session: Session, found: Sequence[tuple[_Coming, Outcome]], occasion: Occasion) -> list[Accepted]:
    """Release what may be restocked, and say of the rest why it stays on hold."""
    made = _restock(session, [each.item.named for each, outcome in found if outcome.restocked], occasion)
    groups: dict[tuple[HoldCode, str], list[Named]] = {}
    for each, outcome in found:
        if not outcome.restocked:
            groups.setdefault(_reason(each, outcome), []).append(each.item.named)
    for (code, text), units in groups.items():
        made += _hold(session, units, occasion, reason=line(code, text))
    return made


def _restock(session: Session, good: Sequence[Named], occasion: Occasion) -> list[Accepted]:
    # Nobody has put them on hold: they only waited for this, and nothing else ends by it.
    approved, session.approved = session.approved, True
    made = [
        session.record(
            events.releasing(group, occasion, reason="return verified", ended=(RETURN_UNVERIFIED,)),
            fields={named.unit: named.field for named in good},
        )
        for group in events.split([named.unit for named in good])
    ]
    session.approved = approved
    return made


def _hold(session: Session, units: Sequence[Named], occasion: Occasion, *, reason: str) -> list[Accepted]:
    fields = {named.unit: named.field for named in units}
    return [
        session.record(
            events.holding(group, occasion, reason=reason),
            fields=fields,
            effect=_holding([Named(unit, fields[unit]) for unit in group], reason),
        )
        for group in events.split([named.unit for named in units])
    ]


def _holding(units: Sequence[Named], reason: str) -> Effect:
    def effect(books: Books, origin: Origin) -> None:
        rules.hold_return(books, units, origin, reason=reason)

    return effect


def _reason(coming: _Coming, outcome: Outcome) -> tuple[HoldCode, str]:
    if coming.exceptional(outcome.codes):
        return HoldCode.RETURN_UNVERIFIED, outcome.describe()
    told = ", ".join(outcome.codes)
    if ReturnCode.RECALLED in outcome.codes:
        return HoldCode.RECALLED, f"came back: {told}"
    alone = ReturnCode.RETURNED_TO_MAKER in outcome.codes
    return HoldCode.RETURNED_TO_MAKER if alone else HoldCode.RETURN_UNVERIFIED, f"came back: {told}"


def _open_cases(
    session: Session, coming: Mapping[Unit, _Coming], outcomes: Mapping[Unit, Outcome]
) -> dict[Unit, Outcome]:
    """Open a case for what cannot be verified, one a customer's despatch and finding."""
    found = dict(outcomes)
    groups: dict[tuple[str, Gln | None, tuple[ReturnCode, ...]], list[Unit]] = {}
    for unit, each in coming.items():
        if each.exceptional(outcomes[unit].codes):
            despatch_id = "" if each.shipment is None else each.shipment.despatch_id
            groups.setdefault((despatch_id, each.customer, outcomes[unit].codes), []).append(unit)
    for (despatch_id, customer, _), units in groups.items():
        detail = outcomes[units[0]].describe()
        new = NewCase(ExceptionCode.RETURN_UNVERIFIED, detail, units, customer, despatch_id=despatch_id)
        opened = cases.open_cases(session.connection, session.desk.gln, new, now=session.now)
        for case_id, inside in opened.items():
            found.update({unit: replace(found[unit], case_id=case_id) for unit in inside})
    return found


def check_twice(items: Sequence[Item]) -> None:
    """Refuse packs that are named twice.

    Raises:
        MalformedError: UNIT_TWICE.
    """
    seen: set[Unit] = set()
    for item in items:
        if item.named.unit in seen:
            message = f"{item.named.unit.path} is named twice"
            raise MalformedError(message, code="UNIT_TWICE", field=item.named.field)
        seen.add(item.named.unit)
