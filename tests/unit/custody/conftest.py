"""Houses: organisations with books of their own, that deliver each other's messages by hand."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from sqlalchemy import Connection, select

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.epcis.model import BizTransaction
from medtrail.event import Event
from medtrail.gs1 import Gln, Gtin, Sgtin, Sscc
from medtrail.gs1.checks import check_digit
from medtrail.runtime import outbox
from medtrail.runtime.tables import RUNTIME_METADATA, OutgoingRow, SignedEventRow
from medtrail.subjects import MessageKind
from medtrail.terms import unseal
from medtrail.trust import Registry
from services.custody import commands, events_store, holdings_store, inbox, letters
from services.custody.desk import Accepted, Desk, Session
from services.custody.events import Occasion
from services.custody.holding import Holding
from services.custody.tables import CUSTODY_METADATA
from services.custody.units import Named, Unit
from tests.support.books import empty_books, unsynced

if TYPE_CHECKING:
    from services.custody.recalls import KnownRecall
    from tests.conftest import Network

T = TypeVar("T")

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
GTIN = Gtin("00300010123455")
CASE_GTIN = Gtin("10300010123452")
LOT = "A123"
EXPIRY = datetime(2028, 3, 31, tzinfo=UTC).date()


def packs(*serials: int | str) -> tuple[Sgtin, ...]:
    return tuple(Sgtin(GTIN, str(serial)) for serial in serials)


def sscc(number: int) -> Sscc:
    digits = f"0030001{number:010d}"
    return Sscc(digits + check_digit(digits))


def named(units: Sequence[Unit], field: str = "epcs") -> tuple[Named, ...]:
    return tuple(Named(unit, f"{field}[{number}]") for number, unit in enumerate(units))


class Clock:
    """A clock that is set by hand; each reading is a second later, so that no two events are of one moment."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class House:
    """One organisation: its desk and its books."""

    def __init__(self, name: str, network: "Network", registry: Registry, folder: Path, clock: Clock) -> None:
        self.name = name
        self.folder = network[name]
        self.registry = registry
        self.recalls: tuple[KnownRecall, ...] = ()
        self.clock = clock
        self.path = folder / f"{name}.db"
        self.desk = Desk(
            gln=self.folder.gln,
            locations=self.folder.profile.locations,
            key=self.folder.signing_key(),
            registry=lambda: self.registry,
            recalls=lambda: self.recalls,
            clock=clock,
            unseal=lambda sealed: unseal(sealed, self.folder.sealing_key()),
        )
        self.path.write_bytes(empty_books())
        self.database = unsynced(self.path)

    def open(self) -> None:
        """Open the books as the start of a process does."""
        self.database = unsynced(self.path)
        self.database.create_tables(RUNTIME_METADATA, CUSTODY_METADATA)

    def close(self) -> None:
        self.database.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    @property
    def gln(self) -> Gln:
        return self.desk.gln

    def occasion(self, moment: datetime | None = None) -> Occasion:
        return Occasion(moment or self.clock(), "+00:00", self.desk.default_location)

    def write(self, work: Callable[[Session], T], units: Sequence[Unit] = ()) -> T:
        return self.database.write_now(lambda connection: work(Session(connection, self.desk, units)))

    def read(self, look: Callable[[Connection], T]) -> T:
        return self.database.read_now(look)

    def holding(self, unit: Unit) -> Holding | None:
        return self.read(lambda connection: holdings_store.load_books(connection, (unit,)).get(unit))

    def held(self, unit: Unit) -> Holding:
        holding = self.holding(unit)
        assert holding is not None
        return holding

    def all_holdings(self) -> dict[str, Holding]:
        query = holdings_store.HoldingQuery()
        found, _ = self.read(lambda c: holdings_store.list_holdings(c, query, after="", limit=100_000))
        return {holding.unit.path: holding for holding in found}

    def events(self) -> list[Event]:
        """All that this house signed, in order."""
        rows: list[Any] = self.read(
            lambda c: list(c.execute(select(SignedEventRow.__table__.c.data)).scalars())  # type: ignore[attr-defined]
        )
        found = []
        for data in rows:
            signed = decode_signed_event(data)
            found.append(decode_payload(signed.payload_type, signed.payload))
        return sorted(found, key=lambda event: event.header.source_seq)

    def messages(self) -> list[tuple[Gln, MessageKind, bytes]]:
        table = OutgoingRow.__table__  # type: ignore[attr-defined]
        rows: list[Any] = self.read(lambda c: list(c.execute(select(table).order_by(table.c.id)).mappings()))
        return [(Gln(row["to_gln"]), MessageKind(row["kind"]), row["data"]) for row in rows]

    def hear(self, data: bytes, *, sender: Gln) -> None:
        self.database.write_now(lambda c: inbox.take_advice(c, self.desk, data, sender=sender))

    def hear_letter(self, data: bytes, *, sender: Gln) -> None:
        self.database.write_now(lambda c: letters.take_letter(c, self.desk, data, sender=sender))

    def letters_to(self, other: "House") -> list[bytes]:
        """All letters to another house that wait here, in order."""
        return [data for to, kind, data in self.messages() if to == other.gln and kind is MessageKind.NOTICE]

    def send_to(self, other: "House") -> int:
        """Deliver what waits for another house; return how many messages."""
        found = [data for to, kind, data in self.messages() if to == other.gln and kind is MessageKind.ADVICE]
        for data in found:
            other.hear(data, sender=self.gln)
        return len(found)

    # --- verbs ---

    def commission(self, units: Sequence[Unit], *, lot: str = LOT) -> list[Accepted]:
        has_traits = any(isinstance(unit, Sgtin) for unit in units)
        occasion = self.occasion()
        return self.write(
            lambda s: commands.commission(
                s, named(units), occasion, lot=lot if has_traits else "", expiry=EXPIRY if has_traits else None
            ),
            units,
        )

    def pack(self, parent: Unit, children: Sequence[Unit]) -> list[Accepted]:
        occasion = self.occasion()
        return self.write(
            lambda s: commands.pack(s, Named(parent, "parent"), named(children, "children"), occasion),
            (parent, *children),
        )

    def unpack(self, parent: Unit, children: Sequence[Unit] = ()) -> list[Accepted]:
        occasion = self.occasion()
        return self.write(
            lambda s: commands.unpack(s, Named(parent, "parent"), named(children, "children"), occasion),
            (parent, *children),
        )

    def ship(self, units: Sequence[Unit], to: Gln, documents: Sequence[BizTransaction] = ()) -> list[Accepted]:
        occasion = self.occasion()
        consignee = commands.Consignee(to, to)
        return self.write(lambda s: commands.ship(s, named(units), occasion, consignee, documents), units)

    def send_back(self, units: Sequence[Unit], to: Gln) -> list[Accepted]:
        occasion = self.occasion()
        consignee = commands.Consignee(to, to)
        return self.write(lambda s: commands.send_back(s, named(units), occasion, consignee, reason="damaged"), units)

    def receive(self, units: Sequence[Unit]) -> commands.Delivery:
        occasion = self.occasion()
        return self.write(lambda s: commands.receive(s, named(units), occasion), units)

    def hold(self, units: Sequence[Unit]) -> list[Accepted]:
        occasion = self.occasion()
        return self.write(lambda s: commands.hold(s, named(units), occasion, reason="leaking"), units)

    def release(self, units: Sequence[Unit]) -> list[Accepted]:
        occasion = self.occasion()
        return self.write(lambda s: commands.release(s, named(units), occasion, reason="checked"), units)

    def dispense(self, units: Sequence[Unit], *, partial: bool = False) -> list[Accepted]:
        occasion = self.occasion()
        return self.write(lambda s: commands.dispense(s, named(units), occasion, partial=partial), units)

    def confirm_all(self) -> None:
        """Play the ledger: every despatch known here is in the log."""

        def confirm(connection: Connection) -> None:
            for stored in events_store.events_naming(connection, self.all_holdings()):
                inbox.confirm_despatch(connection, stored.event.header.event_id)

        self.database.write_now(confirm)

    def pending(self) -> int:
        return self.read(outbox.pending_count)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def houses(network: "Network", registry: Registry, tmp_path: Path, clock: Clock) -> Iterator[dict[str, House]]:
    made = {
        name: House(name, network, registry, tmp_path, clock)
        for name in ("maker", "distributor", "pharmacy", "repackager")
    }
    yield made
    for house in made.values():
        house.close()


@pytest.fixture
def maker(houses: dict[str, House]) -> House:
    return houses["maker"]


@pytest.fixture
def distributor(houses: dict[str, House]) -> House:
    return houses["distributor"]


@pytest.fixture
def pharmacy(houses: dict[str, House]) -> House:
    return houses["pharmacy"]
