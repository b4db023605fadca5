"""Compares what the system answers with what is so: pack by pack, whatever is asked by whoever holds or held it."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.orders.v1 import orders_pb2
from medtrail.cli.answers import class_name, evidence_name, verdict_name
from medtrail.errors import NotFoundError, UnavailableError
from medtrail.gs1.keys import RESOLVER
from medtrail.simulation.acts import is_trade_item
from medtrail.simulation.calls import label, link, order_number
from medtrail.simulation.driver import Driver, insist
from medtrail.simulation.network import OUTSIDER, OUTSIDER_GLN
from medtrail.simulation.script import Goods
from medtrail.simulation.truth.ground import Fact
from medtrail.simulation.truth.house import Entry
from medtrail.simulation.truth.model import Truth

PAGE = 1000
UNITS_A_PAGE = 2000
ALERTS_A_PAGE = 500
CASES_A_PAGE = 100
_STATE_NAME = {value: name.removeprefix("HOLDING_STATE_").lower() for name, value in custody_pb2.HoldingState.items()}

_CODE_OF_TEXT = {"returned, not verified yet": "RETURN_UNVERIFIED"}

Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One answer that is not as it should be.

    Attributes:
        asked: What was asked: the books of a party, the ledger, its alerts, a scan, an act.
        unit: What it concerns.
        so: The truth, value by value.
        answered: What the system says instead.
    """

    asked: str
    unit: str
    so: str
    answered: str


@dataclass(slots=True)
class Comparison:
    """What was compared, and what differs.

    Attributes:
        compared: How many answers were compared, by what was asked.
    """

    differences: list[Difference] = field(default_factory=list)
    compared: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str, asked: str, unit: str, *, so: str, answered: str) -> None:
        """Compare one answer."""
        self.compared[kind] = self.compared.get(kind, 0) + 1
        if so != answered:
            self.differences.append(Difference(asked, unit, so, answered))

    def note_all(self, kind: str, asked: str, *, so: Mapping[str, Values], answered: Mapping[str, Values]) -> None:
        """Compare answers by unit; of values only those that differ are told."""
        for unit in sorted({*so, *answered}):
            wanted, found = so.get(unit), answered.get(unit)
            if wanted is None or found is None:
                self.note(kind, asked, unit, so=_words(wanted), answered=_words(found))
                continue
            differing = [key for key in sorted({*wanted, *found}) if wanted.get(key, "") != found.get(key, "")]
            self.note(
                kind,
                asked,
                unit,
                so=_words({key: wanted.get(key, "") for key in differing}),
                answered=_words({key: found.get(key, "") for key in differing}),
            )


def _words(values: Values | None) -> str:
    if values is None:
        return "nothing"
    return ", ".join(f"{key} {value or '-'}" for key, value in values.items())


def _path(epc: str) -> str:
    return epc.removeprefix(RESOLVER)


def _hold_codes(holding: custody_pb2.Holding) -> str:
    """Return the codes of the reasons, one a line; a reason without a code is OTHER."""
    if holding.exception_code and holding.hold_reason == holding.exception_code:
        return ""
    starts = {_CODE_OF_TEXT.get(line, line.partition(":")[0]) for line in holding.hold_reason.splitlines()}
    return " ".join(sorted(start if start.replace("_", "").isupper() else "OTHER" for start in starts))


class Comparer:
    """Asks the system about everything, and compares."""

    def __init__(self, driver: Driver, truth: Truth, result: Comparison) -> None:
        self._driver = driver
        self._truth = truth
        self._ground = truth.ground()
        self.result = result
        self._gln = {name: member.gln for name, member in driver.parties.items()}
        self._name = {gln: name for name, gln in self._gln.items()}

    def _party(self, gln: str) -> str:
        return self._name.get(gln, OUTSIDER if gln == OUTSIDER_GLN else gln)

    # --- the books ---

    async def books(self, name: str) -> None:
        """Compare everything that one party holds, held or awaits."""
        house = self._truth.houses[name]
        recalled = self._truth.affected(house)
        so = {unit: self._entry(unit, entry, recalled) for unit, entry in house.entries.items()}
        self.result.note_all("holdings", f"books of {name}", so=so, answered=await self.held(name))

    async def held(self, name: str) -> dict[str, Values]:
        """Return what a party's books say, by unit."""
        return {_path(holding.epc): self._holding(holding) async for holding in self._holdings(name)}

    async def _holdings(self, name: str) -> AsyncIterator[custody_pb2.Holding]:
        stub = self._driver.stubs(name).custody
        request = custody_pb2.ListHoldingsRequest(page_size=PAGE)
        while True:
            answer = await insist(lambda: stub.ListHoldings(request))
            for holding in answer.holdings:
                yield holding
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    @staticmethod
    def _entry(unit: str, entry: Entry, recalled: set[str]) -> Values:
        return {
            "state": entry.state,
            "in": entry.parent,
            "lot": entry.lot,
            "expiry": entry.expiry,
            "partner": entry.partner if entry.state in {"inbound", "despatched", "returned"} else "",
            "holds": " ".join(sorted(entry.holds)),
            "exception": entry.exception if entry.state == "exception" else "",
            "inferred": str(entry.inferred and entry.state == "on_hand"),
            "left": "" if entry.remainder is None else str(entry.remainder),
            "recalled": str(unit in recalled),
            "provisional": "False",
        }

    def _holding(self, holding: custody_pb2.Holding) -> Values:
        state = _STATE_NAME[holding.state]
        return {
            "state": state,
            "in": _path(holding.parent),
            "lot": holding.lot,
            "expiry": holding.expiry,
            "partner": self._party(holding.partner) if state in {"inbound", "despatched", "returned"} else "",
            "holds": _hold_codes(holding),
            "exception": holding.exception_code,
            "inferred": str(holding.inferred and state == "on_hand"),
            "left": holding.remainder,
            "recalled": str(bool(holding.recall_ids)),
            "provisional": str(holding.provisional),
        }

    async def alerts(self, name: str) -> None:
        """Compare what a party was warned of."""
        found = await self.alerts_of(name)
        self._pairs("alerts of services", f"alerts of {name}", self._truth.houses[name].alerts, found)

    async def alerts_of(self, name: str) -> set[tuple[str, str]]:
        """Return the codes of which a party was warned, each with its unit."""
        stub = self._driver.stubs(name).custody
        request = custody_pb2.ListAlertsRequest(page_size=ALERTS_A_PAGE)
        found: set[tuple[str, str]] = set()
        while True:
            answer = await insist(lambda: stub.ListAlerts(request))
            found |= {(alert.code, _path(alert.epc)) for alert in answer.alerts}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    def _pairs(self, kind: str, asked: str, so: Iterable[tuple[str, str]], found: Iterable[tuple[str, str]]) -> None:
        wanted, has = set(so), set(found)
        for code, unit in sorted(wanted | has):
            self.result.note(
                kind,
                asked,
                unit,
                so=code if (code, unit) in wanted else f"no {code}",
                answered=code if (code, unit) in has else f"no {code}",
            )

    async def cases(self, name: str) -> None:
        """Compare the exceptions of a party: which there are, of which units, and whether they are resolved."""
        so = {(f"{code} {state}", unit) for code, unit, state in self._truth.houses[name].exceptions()}
        self._pairs("exceptions", f"exceptions of {name}", so, await self.cases_of(name))

    async def cases_of(self, name: str) -> set[tuple[str, str]]:
        """Return the codes of a party's exceptions, open or resolved, each with its unit."""
        stub = self._driver.stubs(name).exceptions
        request = exceptions_pb2.ListCasesRequest(page_size=CASES_A_PAGE, include_resolved=True)
        found: set[tuple[str, str]] = set()
        while True:
            answer = await insist(lambda: stub.ListCases(request))
            for listed in answer.cases:
                wanted = exceptions_pb2.GetCaseRequest(case_id=listed.case_id)
                case = (await insist(lambda wanted=wanted: stub.GetCase(wanted))).case  # type: ignore[misc]
                code = exceptions_pb2.ExceptionCode.Name(case.code).removeprefix("EXCEPTION_CODE_")
                resolved = case.status == exceptions_pb2.CASE_STATUS_RESOLVED
                word = f"{code} {'resolved' if resolved else 'open'}"
                found |= {(word, _path(item.epc)) for item in case.units}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    # --- orders ---

    async def orders(self) -> None:
        """Compare every order as its buyer and its seller have it."""
        for order in self._truth.orders.values():
            for who in (order.buyer, order.seller):
                request = orders_pb2.GetOrderRequest(buyer=self._gln[order.buyer], number=order_number(order.number))
                found = (await insist(lambda who=who, request=request: self._get_order(who, request))).order  # type: ignore[misc]
                (line,) = found.lines
                answered = {
                    "state": orders_pb2.OrderState.Name(found.state).removeprefix("ORDER_STATE_").lower(),
                    "ordered": line.ordered.quantity,
                    "confirmed": line.confirmed_quantity,
                    "back-ordered": line.back_ordered_quantity,
                    "shipped": line.shipped_quantity,
                    "received": line.received_quantity,
                    "invoiced": line.invoiced_quantity,
                    "open": line.open_quantity,
                    "mismatches": " ".join(sorted({item.kind for item in found.mismatches})),
                }
                asked = f"order {order.number} at {who}"
                self.result.note_all("orders", asked, so={asked: order.words()}, answered={asked: answered})

    async def _get_order(self, who: str, request: orders_pb2.GetOrderRequest) -> orders_pb2.GetOrderResponse:
        return await self._driver.stubs(who).orders.GetOrder(request)

    # --- the ledger ---

    async def lot(self, gtin: str, lot: str, *, who: str) -> None:
        """Compare what the ledger believes of every unit of a lot."""
        stub = self._driver.stubs(who).ledger
        request = ledger_pb2.TraceLotRequest(gtin=gtin, lot=lot, page_size=UNITS_A_PAGE)
        answered: dict[str, Values] = {}
        counted = 0
        while True:
            answer = await insist(lambda: stub.TraceLot(request))
            counted = answer.commissioned_count
            answered.update({_path(state.epc): self._state(state) for state in answer.units})
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        start = f"/01/{gtin}/"
        so = {
            unit: self._fact(fact)
            for unit, fact in self._ground.facts.items()
            if unit.startswith(start) and fact.lot == lot
        }
        self.result.note_all("units believed in lots", "ledger", so=so, answered=answered)
        self.result.note("lots", "ledger", f"/01/{gtin}/10/{lot}", so=str(len(so)), answered=str(counted))

    async def unit(self, unit: str, *, who: str) -> None:
        """Compare what the ledger believes of one unit: a logistic unit, or one that nobody commissioned."""
        fact = self._ground.facts.get(unit)
        believed = await self.believed(unit, who=who)
        so = {} if fact is None or not fact.phase else {unit: self._fact(fact)}
        answered = {} if believed is None else {unit: believed}
        self.result.note_all("units believed alone", "ledger", so=so, answered=answered)

    async def believed(self, unit: str, *, who: str) -> Values | None:
        """Return what the ledger tells a party of a unit; None for nothing."""
        stub = self._driver.stubs(who).ledger
        request = ledger_pb2.TracePackRequest(epc=link(unit), page_size=1)
        try:
            answer = await insist(lambda: stub.TracePack(request))
        except NotFoundError:
            return None
        return self._state(answer.state) if answer.HasField("state") else None

    def others(self) -> list[str]:
        """Return the units that stand in no lot."""
        return [unit for unit, fact in self._ground.facts.items() if not is_trade_item(unit) or not fact.lot]

    @staticmethod
    def _fact(fact: Fact) -> Values:
        return {
            "class": fact.where,
            "holder": fact.holder,
            "to": fact.destination,
            "in": fact.parent,
            "evidence": fact.evidence,
            "lot": fact.lot,
            "expiry": fact.expiry,
            "maker": fact.maker,
            "alerts": " ".join(sorted(fact.alerts)),
        }

    def _state(self, state: ledger_pb2.UnitState) -> Values:
        return {
            "class": class_name(state.unit_class),
            "holder": self._party(state.holder),
            "to": self._party(state.destination),
            "in": _path(state.parent),
            "evidence": evidence_name(state.evidence),
            "lot": state.lot,
            "expiry": state.expiry,
            "maker": self._party(state.maker),
            "alerts": " ".join(sorted({alert.code for alert in state.alerts})),
        }

    # --- scans ---

    async def scans(self, who: str, scans: Sequence[Goods]) -> None:
        """Compare what a party's scanner answers to some packs of deliveries, as their labels are."""
        labels = {
            pack: (goods.lot, goods.expiry)
            for goods in scans
            for pack in dict.fromkeys((*goods.packs[:3], goods.packs[-1]))
        }
        answered = await self.scanned(who, labels)
        for pack, (lot, expiry) in labels.items():
            so = self._truth.verdict(pack, who=who, lot=lot, expiry=expiry, ground=self._ground)
            self.result.note("verdicts", f"scan at {who}", pack, so=so, answered=answered[pack])

    async def scanned(self, who: str, labels: Mapping[str, tuple[str, str]]) -> dict[str, str]:
        """Return the verdicts of a party's scanner on packs, each with lot and expiry as on its label."""
        stub = self._driver.stubs(who).custody
        packs = list(labels)
        answered: dict[str, str] = {}

        async def asked() -> AsyncIterator[custody_pb2.ScanIncomingRequest]:
            for number, pack in enumerate(packs):
                if pack not in answered:
                    lot, expiry = labels[pack]
                    read = label(pack, lot=lot, expiry=expiry)
                    yield custody_pb2.ScanIncomingRequest(scan_number=number, scan=read)

        async def ask() -> None:
            async for answer in stub.ScanIncoming(asked()):
                # Without the ledger an answer is provisional, and says so: it is asked for again.
                if answer.verdict.tree_size:
                    answered[packs[answer.scan_number]] = verdict_name(answer.verdict.code)
            if len(answered) < len(packs):
                raise UnavailableError("the ledger was not asked", code="LEDGER_UNREACHABLE")

        await insist(ask)
        return answered
