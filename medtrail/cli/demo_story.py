"""The demo's story: goods made, shipped, received, scanned, dispensed, recalled, and a forgery refused."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import payload_pb2, verdict_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.cli.answers import class_name, verdict_name
from medtrail.cli.capture import import_document
from medtrail.cli.demo_forgery import forged_commissioning
from medtrail.cli.demo_waiting import WAIT_S, advised, confirmed, demand, logged, request_id, touch
from medtrail.cli.epcis_files import read_file
from medtrail.cli.network import RunningNetwork
from medtrail.cli.scan import judge, judge_all
from medtrail.cli.session import Session, open_session
from medtrail.cli.story import (
    CASE_GTIN,
    EXPIRED_LOT,
    PACK_GTIN,
    PACKS_PER_CASE,
    RECALLED_LOT,
    Case,
    Lot,
    Pallet,
    in_chunks,
    make_pallets,
    pack_link,
    pack_scan,
)
from medtrail.cli.trace import export_proofs, trace_unit, trace_whole_lot
from medtrail.epcis import EpcisEvent
from medtrail.errors import AuthorizationError, NotFoundError, VerificationError
from medtrail.gs1 import Gln
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.folder import OrganisationFolder
from medtrail.subjects import events_subject

if TYPE_CHECKING:
    from medtrail.cli.demo import Stage

MAKER = "gs1-pharma"
DISTRIBUTORS = ("gs1-drug-distributor", "riverside-wholesale")
PHARMACIES = ("elm-street-pharmacy", "harbour-pharmacy", "hilltop-pharmacy", "station-pharmacy")
EXAMPLE_PACK = "urn:epc:id:sgtin:030001.0012345.11"
EXAMPLE_LOTS = (("00300010123455", "A123", 12), ("10300010123452", "A123", 3))
SERIALS_A_CALL = 1000

# Cases of each pallet at its distributor: the first four go to one pharmacy, the next four to another, two stay.
CASES_TO_EACH = 4


class Story:
    """The goods of the demo and the sessions of everyone who handles them."""

    def __init__(self, sessions: dict[str, Session], stage: "Stage", *, packs: int) -> None:
        self._sessions = sessions
        self._stage = stage
        self._pallets = make_pallets(packs, today=datetime.now(UTC).date())
        self._cases_at: dict[str, list[Case]] = {name: [] for name in PHARMACIES}
        self._dispensed: list[tuple[str, Lot]] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, running: RunningNetwork, stage: "Stage", *, packs: int) -> AsyncIterator["Story"]:
        """Open a session for every organisation; they close at the end."""
        async with AsyncExitStack() as stack:
            sessions = {
                item.name: await stack.enter_async_context(open_session(running, item))
                for item in running.organisations
            }
            yield cls(sessions, stage, packs=packs)

    @property
    def _maker(self) -> Session:
        return self._sessions[MAKER]

    def _gln(self, name: str) -> str:
        return self._sessions[name].organisation.gln

    # --- the GS1 example ---

    async def import_example(self, path: Path) -> None:
        """Import the GS1 US example as its maker, and trace what it says."""
        stage = self._stage
        stage.title("A real document: the GS1 US example comes in by import")
        document = read_file(path)
        result = await import_document(self._maker, document)
        demand(not result.errors, f"no event of the example is refused: {result.errors}")
        stage.proved(f"{result.accepted} events of {path.name} captured, signed and sent")
        await logged(self._maker, result.event_ids[-1])
        trace = await trace_unit(self._maker, EXAMPLE_PACK)
        steps = [step.event.statement.biz_step for step in trace.steps if isinstance(step.event.statement, EpcisEvent)]
        demand(steps == ["commissioning", "packing", "packing", "shipping"], f"the pack's way: {steps}")
        stage.proved(f"the way of pack 11: {', '.join(str(step) for step in steps)}; {len(steps)} events, each proven")
        for gtin, lot, count in EXAMPLE_LOTS:
            answer = (await trace_whole_lot(self._maker, gtin, lot)).answer
            classes = {class_name(group.unit_class): group.unit_count for group in answer.groups}
            demand(classes == {"in_transit": count}, f"GTIN {gtin} lot {lot}: {classes}")
            stage.proved(f"GTIN {gtin}, lot {lot}: {count} in transit, none on hand")

    # --- making and shipping ---

    async def make_and_ship(self) -> None:
        """Commission, pack and ship the generated goods."""
        stage = self._stage
        packs = sum(pallet.pack_count for pallet in self._pallets)
        stage.title(f"A story: {packs} packs in {packs // PACKS_PER_CASE} cases on {len(self._pallets)} pallets")
        await self._register()
        await stage.timed("packs, cases and pallets commissioned", self._commission(), count=lambda number: number)
        await stage.timed("packings", self._pack(), count=lambda number: number)
        event_ids = await stage.timed("pallets shipped to two distributors", self._ship(), count=len)
        await logged(self._maker, event_ids[-1])
        stage.proved("the ledger has chained them all")

    async def _register(self) -> None:
        pack = payload_pb2.Product(gtin=str(PACK_GTIN), level=payload_pb2.PACK_LEVEL_PACK, name="Trailomycin")
        case = payload_pb2.Product(
            gtin=str(CASE_GTIN),
            level=payload_pb2.PACK_LEVEL_CASE,
            name="Trailomycin, case",
            content=payload_pb2.ProductContent(gtin=str(PACK_GTIN), count=PACKS_PER_CASE),
        )
        for product in (pack, case):
            await self._maker.manufacturer.RegisterProduct(
                manufacturer_pb2.RegisterProductRequest(request_id=request_id(), product=product)
            )

    async def _commission(self) -> int:
        count = 0
        lots = {pallet.lot for pallet in self._pallets}
        for lot in sorted(lots, key=lambda lot: lot.number):
            cases = [case for pallet in self._pallets if pallet.lot == lot for case in pallet.cases]
            serials = tuple(serial for case in cases for serial in case.pack_serials)
            for gtin, numbers in ((PACK_GTIN, serials), (CASE_GTIN, tuple(case.serial for case in cases))):
                for chunk in in_chunks(numbers, SERIALS_A_CALL):
                    await self._maker.manufacturer.Commission(
                        manufacturer_pb2.CommissionRequest(
                            request_id=request_id(),
                            gtin=str(gtin),
                            lot=lot.number,
                            expiry=lot.expiry.isoformat(),
                            serials=chunk,
                        )
                    )
                    count += len(chunk)
        ssccs = [pallet.sscc for pallet in self._pallets]
        await self._maker.manufacturer.Commission(
            manufacturer_pb2.CommissionRequest(request_id=request_id(), ssccs=ssccs)
        )
        return count + len(ssccs)

    async def _pack(self) -> int:
        packings = [(case.link, case.pack_links) for pallet in self._pallets for case in pallet.cases] + [
            (pallet.link, tuple(case.link for case in pallet.cases)) for pallet in self._pallets
        ]
        for parent, children in packings:
            await self._maker.custody.Pack(
                custody_pb2.PackRequest(request_id=request_id(), parent=parent, children=children)
            )
        return len(packings)

    def _way(self) -> list[tuple[str, Pallet]]:
        """Pair all pallets but the last two with distributors: one stays at the maker, one stays on the road."""
        return [(DISTRIBUTORS[number % 2], pallet) for number, pallet in enumerate(self._pallets)][:-1]

    async def _ship(self) -> list[str]:
        event_ids = []
        for distributor, pallet in self._way():
            answer = await self._maker.custody.Ship(
                custody_pb2.ShipRequest(
                    request_id=request_id(), epcs=[pallet.link], destination_party=self._gln(distributor)
                )
            )
            event_ids += [event.event_id for event in answer.events]
        return event_ids

    # --- receiving and sending on ---

    async def receive_and_send_on(self) -> None:
        """Receive pallets by SSCC, break them, send cases to pharmacies, receive and open those."""
        stage = self._stage
        stage.title("Receiving: a pallet by its SSCC, a case by its label, down to every pack")
        received = await stage.timed(
            "packs received by scanning pallets only", self._receive_pallets(), count=lambda number: number
        )
        demand(received > 0, "pallets bring packs")
        await stage.timed("packs in cases sent on to four pharmacies", self._send_on(), count=lambda number: number)
        await stage.timed("packs received at pharmacies", self._receive_cases(), count=lambda number: number)

    async def _receive_pallets(self) -> int:
        count = 0
        # The last pallet on its way stays there: not everything arrives.
        for distributor, pallet in self._way()[:-1]:
            session = self._sessions[distributor]
            await advised(session, pallet.link)
            answer = await session.custody.Receive(
                custody_pb2.ReceiveRequest(request_id=request_id(), epcs=[pallet.link])
            )
            count += answer.unit_count
        return count

    async def _send_on(self) -> int:
        count = 0
        for number, (distributor, pallet) in enumerate(self._way()[:-1]):
            session = self._sessions[distributor]
            await confirmed(session, pallet.link)
            await session.custody.Unpack(custody_pb2.UnpackRequest(request_id=request_id(), parent=pallet.link))
            for part in range(2):
                pharmacy = PHARMACIES[(2 * number + part) % len(PHARMACIES)]
                cases = pallet.cases[part * CASES_TO_EACH : (part + 1) * CASES_TO_EACH]
                await session.custody.Ship(
                    custody_pb2.ShipRequest(
                        request_id=request_id(),
                        epcs=[case.link for case in cases],
                        destination_party=self._gln(pharmacy),
                    )
                )
                self._cases_at[pharmacy] += cases
                count += sum(len(case.pack_serials) for case in cases)
        return count

    async def _receive_cases(self) -> int:
        counts = await asyncio.gather(*(self._receive_at(name) for name in PHARMACIES))
        return sum(counts)

    async def _receive_at(self, pharmacy: str) -> int:
        session = self._sessions[pharmacy]
        count = 0
        for case in self._cases_at[pharmacy]:
            await advised(session, case.link)
            answer = await session.custody.Receive(
                custody_pb2.ReceiveRequest(request_id=request_id(), epcs=[case.link])
            )
            count += answer.unit_count
        for case in self._cases_at[pharmacy][:2]:
            await confirmed(session, case.link)
            await session.custody.Unpack(custody_pb2.UnpackRequest(request_id=request_id(), parent=case.link))
        return count

    # --- scanning ---

    async def handle(self) -> None:
        """Dispense packs, whole and in part, hold some, and end the life of some."""
        stage = self._stage
        stage.title("A day at four pharmacies")
        for name in PHARMACIES:
            await self._dispense(self._sessions[name], self._cases_at[name][0].pack_serials[:5])
            self._dispensed += [
                (serial, self._cases_at[name][0].lot) for serial in self._cases_at[name][0].pack_serials[:5]
            ]
        await self._sessions[PHARMACIES[1]].pharmacy.Dispense(
            pharmacy_pb2.DispenseRequest(
                request_id=request_id(), epcs=[pack_link(self._opened(PHARMACIES[1], 1))], partial=True
            )
        )
        stage.proved(f"{len(self._dispensed)} packs dispensed, 1 in part")
        for name, reason, count in (
            (PHARMACIES[2], custody_pb2.DECOMMISSION_REASON_DESTROYED, 3),
            (PHARMACIES[3], custody_pb2.DECOMMISSION_REASON_STOLEN, 2),
        ):
            epcs = [pack_link(self._opened(name, number)) for number in range(count)]
            await self._sessions[name].custody.Decommission(
                custody_pb2.DecommissionRequest(request_id=request_id(), epcs=epcs, reason=reason)
            )
        held = [pack_link(self._opened(PHARMACIES[0], number)) for number in range(2)]
        await self._sessions[PHARMACIES[0]].custody.Hold(
            custody_pb2.HoldRequest(request_id=request_id(), epcs=held, reason="carton crushed")
        )
        stage.proved("3 packs destroyed, 2 reported stolen, 2 put aside")

    def _opened(self, name: str, number: int) -> str:
        """Return the serial of a loose pack: the first two cases of each pharmacy were opened."""
        return self._cases_at[name][1].pack_serials[number]

    async def _dispense(self, session: Session, serials: tuple[str, ...]) -> None:
        await session.pharmacy.Dispense(
            pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[pack_link(serial) for serial in serials])
        )

    async def scan(self) -> None:
        """Show every kind of verdict."""
        stage = self._stage
        stage.title("Scanning at a pharmacy: a verdict at once")
        name = PHARMACIES[0]
        session = self._sessions[name]
        case = self._cases_at[name][0]
        await self._synced()
        genuine = [(pack_scan(serial, case.lot), None) for serial in case.pack_serials[5:]]
        began = time.monotonic()
        verdicts = [answer.verdict async for answer in judge_all(session, list(genuine))]
        names = {verdict_name(verdict.code) for verdict in verdicts}
        demand(names == {"genuine"}, f"packs on hand are genuine: {names}, {verdicts[0]}")
        each = (time.monotonic() - began) / len(verdicts)
        stage.proved(f"genuine: {len(verdicts)} packs, {each * 1000:.0f} ms each, against the whole log")
        wrong_lot = replace(case.lot, number="MT9999")
        expired = self._pallets[-1].cases[0]
        after = datetime.combine(case.lot.expiry, datetime.min.time(), UTC) + timedelta(days=2)
        demand(expired.lot.number == EXPIRED_LOT, "the last pallet has expired")
        for expected, text, moment in (
            ("unknown", pack_scan("NEVERMADE1", case.lot), None),
            ("lot_mismatch", pack_scan(case.pack_serials[6], wrong_lot), None),
            ("expired", pack_scan(case.pack_serials[7], case.lot), after),
            ("already_dispensed", pack_scan(self._dispensed[0][0], case.lot), None),
            ("held", pack_scan(self._opened(name, 0), self._cases_at[name][1].lot), None),
            ("stolen", pack_scan(self._opened(PHARMACIES[3], 0), self._cases_at[PHARMACIES[3]][1].lot), None),
            ("unreadable", pack_scan(case.pack_serials[8], case.lot).replace("\x1d", ""), None),
        ):
            verdict = await judge(session, text, moment)
            found = {verdict_name(code) for code in (verdict.code, *verdict.further_codes)}
            demand(verdict_name(verdict.code) == expected, f"expected {expected}, got {found}: {verdict.message}")
            demand(verdict.action != verdict_pb2.VERDICT_ACTION_ACCEPT, f"{expected} is not accepted")
            stage.proved(f"{expected.replace('_', ' ')}: {verdict.message}")

    # --- recall ---

    async def recall(self) -> None:
        """Recall a lot, see scans refused, and find every pack of it."""
        stage = self._stage
        stage.title(f"A recall of lot {RECALLED_LOT}")
        now = datetime.now(UTC)
        recall = payload_pb2.Recall(
            number="R-2401",
            recall_class="II",
            depth="retail",
            reason="Dissolution below specification.",
            instruction="Put the packs aside and return them to your distributor.",
            start_time=codec.to_timestamp(now),
            scopes=[payload_pb2.RecallScope(gtin=str(PACK_GTIN), lot=RECALLED_LOT)],
        )
        answer = await self._maker.recall.IssueRecall(
            recall_pb2.IssueRecallRequest(request_id=request_id(), recall=recall)
        )
        await logged(self._maker, answer.event.event_id)
        name = next(
            name for name in PHARMACIES if any(case.lot.number == RECALLED_LOT for case in self._cases_at[name])
        )
        case = next(case for case in self._cases_at[name] if case.lot.number == RECALLED_LOT)
        text = pack_scan(case.pack_serials[-1], case.lot)
        verdict = await judge(self._sessions[name], text, None)
        demand(verdict_name(verdict.code) == "recalled", f"a pack of the lot is recalled: {verdict}")
        stage.proved(f"recalled: {verdict.message}")
        await self._synced()
        began = time.monotonic()
        trace = await trace_whole_lot(self._maker, str(PACK_GTIN), RECALLED_LOT, units=True)
        seconds = time.monotonic() - began
        expected = sum(pallet.pack_count for pallet in self._pallets if pallet.lot.number == RECALLED_LOT)
        classes: dict[str, int] = {}
        for group in trace.answer.groups:
            found = class_name(group.unit_class)
            classes[found] = classes.get(found, 0) + group.unit_count
        demand(trace.answer.commissioned_count == expected, f"{expected} packs of the lot were commissioned")
        demand(sum(classes.values()) == expected, f"every pack has exactly one class: {classes}")
        demand(len({unit.epc for unit in trace.units}) == expected, "every pack is listed once")
        listed = ", ".join(f"{count} {found.replace('_', ' ')}" for found, count in sorted(classes.items()))
        stage.proved(f"where all {expected} packs are, in {seconds:.2f} s: {listed}", classes=classes)
        holders: dict[str, int] = {}
        for group in trace.answer.groups:
            holders[group.holder] = holders.get(group.holder, 0) + group.unit_count
        for item in self._maker.network.organisations:
            if item.gln in holders:
                stage.note(f"{holders[item.gln]:>5} {item.display_name}")

    # --- forgery ---

    async def forge(self) -> None:
        """Publish a forged event past the services, and see the ledger refuse it."""
        stage = self._stage
        stage.title("Forgeries")
        forger = self._sessions[DISTRIBUTORS[1]]
        folder = OrganisationFolder(Path(forger.organisation.folder))
        bus = await connect_bus(
            forger.network.nats_url, seed=folder.nats_seed(), gln=folder.gln, name="forger", timeout_s=WAIT_S
        )
        try:
            data = forged_commissioning(folder, actor=Gln(self._gln(MAKER)), epc=pack_link("FORGED0001"))
            await bus.publish(events_subject(folder.gln), codec.encode_batch([data]))
            try:
                await bus.publish(events_subject(Gln(self._gln(MAKER))), codec.encode_batch([data]))
            except AuthorizationError as error:
                stage.proved(f"publishing in the maker's place: refused by the exchange ({error.code})")
            else:
                raise VerificationError("the exchange let one publish as another", code="DEMO_FAILED")
        finally:
            await bus.close()
        # A later event of the same organisation is in the log, so the forged one has been judged before it.
        await self._synced(DISTRIBUTORS[1])
        try:
            request = ledger_pb2.GetInclusionProofRequest(signed_event_sha256=hashlib.sha256(data).digest())
            await forger.ledger.GetInclusionProof(request)
        except NotFoundError:
            stage.proved("a commissioning in the maker's name, signed by a distributor: refused by the ledger")
        else:
            raise VerificationError("a forged event is in the log", code="DEMO_FAILED")
        text = pack_scan("FORGED0001", self._pallets[0].lot)
        verdict = await judge(forger, text, None)
        demand(verdict_name(verdict.code) == "unknown", f"a forged pack stays unknown: {verdict}")
        stage.proved("the forged pack stays unknown to every scan")

    # --- evidence ---

    async def export(self, folder: Path) -> None:
        """Export the history of a dispensed pack with its proofs."""
        self._stage.title("A provenance to take away")
        session = self._sessions[PHARMACIES[0]]
        await self._synced()
        trace = await trace_unit(session, pack_link(self._dispensed[0][0]))
        steps = [step.event.statement.biz_step for step in trace.steps if isinstance(step.event.statement, EpcisEvent)]
        demand(steps[0] == "commissioning" and steps[-1] == "dispensing", f"from making to dispensing: {steps}")
        files = await export_proofs(session, trace, folder)
        self._stage.proved(f"{len(trace.steps)} events from commissioning to dispensing, {len(files)} files exported")

    async def _synced(self, name: str = MAKER) -> None:
        """Wait until what everyone has said so far is in the log and believed."""
        for session in [self._sessions[name]] if name != MAKER else self._sessions.values():
            holdings = await session.custody.ListHoldings(custody_pb2.ListHoldingsRequest(page_size=1))
            if holdings.holdings:
                await touch(session)
