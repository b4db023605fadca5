"""What a despatch or a receiving holds, trade item by trade item, through all containers."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.gs1 import Gln, Gtin, Sgtin
from services.custody import holdings_store
from services.custody.holding import Books
from services.custody.orders.links import add_links, event_target
from services.custody.orders.tables import GoodsRow
from services.custody.units import Unit

MAX_LOTS = 100


@dataclass(slots=True)
class Tally:
    """How many of which trade items, by what they are inside of.

    Attributes:
        chains: By the GTINs from the outermost trade item inwards, joined by ``/``: how many units there are, and how
            many of them hold nothing. Containers without GTIN do not show.
        lots: Lots of a trade item, at most 100.
    """

    chains: dict[str, tuple[int, int]] = field(default_factory=dict)
    lots: dict[str, list[str]] = field(default_factory=dict)

    def add(self, chain: str, *, lot: str, empty: bool) -> None:
        """Count one unit."""
        count, empties = self.chains.get(chain, (0, 0))
        self.chains[chain] = (count + 1, empties + empty)
        lots = self.lots.setdefault(chain.rpartition("/")[2], [])
        if lot and lot not in lots and len(lots) < MAX_LOTS:
            lots.append(lot)

    def counts(self, wanted: Iterable[Gtin] = ()) -> dict[Gtin, int]:
        """Return how many of each trade item.

        Args:
            wanted: Trade items to be counted as such, not by what is inside of them; what is in none of them is
                counted by its smallest units.
        """
        asked = {str(gtin) for gtin in wanted}
        found: dict[Gtin, int] = {}
        for chain, (count, empties) in self.chains.items():
            *above, gtin = chain.split("/")
            if asked.intersection(above):
                continue
            number = count if gtin in asked else empties
            if number:
                found[Gtin(gtin)] = found.get(Gtin(gtin), 0) + number
        return found


@dataclass(frozen=True, slots=True)
class Content:
    """A unit of a shipment, and its container in it."""

    unit: Unit
    parent: Unit | None
    lot: str


def tally_of(contents: Iterable[Content]) -> Tally:
    """Return the tally of units, containers before their contents."""
    items = tuple(contents)
    holding = {item.parent for item in items}
    chains: dict[Unit, str] = {}
    tally = Tally()
    for item in items:
        chain = "" if item.parent is None else chains.get(item.parent, "")
        if isinstance(item.unit, Sgtin):
            chain = f"{chain}/{item.unit.gtin}" if chain else str(item.unit.gtin)
            tally.add(chain, lot=item.lot, empty=item.unit not in holding)
        chains[item.unit] = chain
    return tally


def _inside(books: Books, units: Iterable[Unit], event_id: str) -> Iterator[tuple[str, Content]]:
    """Yield what an event did to units and all that is inside of them, with the despatch that brought each."""
    chosen = dict.fromkeys(units)
    # What is named beside its container came inside of it, and counts there.
    waiting: list[tuple[Unit, Unit | None]] = [
        (unit, None) for unit in chosen if not any(box.unit in chosen for box in books.containers(unit))
    ]
    while waiting:
        unit, parent = waiting.pop()
        holding = books.get(unit)
        if holding is None:
            continue
        if holding.event_id == event_id:
            yield holding.despatch_id, Content(unit, parent, holding.lot)
        waiting += [(inner.unit, unit) for inner in books.contents(unit)]


def note_despatch(connection: Connection, event_number: int, event_id: str, party: Gln, tally: Tally) -> None:
    """Keep what a despatch holds."""
    _put(connection, event_number, event_id, party, tally, receiving=False)


def note_own_despatch(
    connection: Connection, event_number: int, event_id: str, party: Gln, *, books: Books, units: Iterable[Unit]
) -> None:
    """Keep what a despatch of ours holds, by the books after it."""
    tally = tally_of(content for _, content in _inside(books, units, event_id))
    note_despatch(connection, event_number, event_id, party, tally)


def note_receiving(
    connection: Connection, event_number: int, event_id: str, party: Gln, *, books: Books, units: Iterable[Unit]
) -> None:
    """Keep what a receiving of ours brought of each despatch that it answers, by the books after it.

    What was received before it brings no more: it was said again, or put aside since and accepted.
    """
    befores = holdings_store.befores(connection, event_number)
    brought: dict[str, list[Content]] = {}
    for despatch_id, content in _inside(books, units, event_id):
        before = befores.get(content.unit.path)
        if before is not None and before.received:
            continue
        brought.setdefault(despatch_id, []).append(content)
    for despatch_id, contents in brought.items():
        if despatch_id:
            _put(connection, event_number, despatch_id, party, tally_of(contents), receiving=True)
            add_links(connection, event_number, [event_target(despatch_id)])


def _put(
    connection: Connection, event_number: int, despatch_id: str, party: Gln, tally: Tally, *, receiving: bool
) -> None:
    row = {
        "event_number": event_number,
        "despatch_id": despatch_id,
        "receiving": receiving,
        "party": str(party),
        "tally": json.dumps({"chains": tally.chains, "lots": tally.lots}, separators=(",", ":")),
    }
    connection.execute(insert(GoodsRow).values(row).on_conflict_do_nothing())


def forget(connection: Connection, event_number: int) -> None:
    """Forget what an event holds, with the event."""
    connection.execute(delete(GoodsRow).where(col(GoodsRow.event_number) == event_number))


def tally_from(text: str) -> Tally:
    """Return a tally from its column."""
    read: Mapping[str, Mapping[str, list[int]]] = json.loads(text)
    chains = {chain: (count, empties) for chain, (count, empties) in read["chains"].items()}
    return Tally(chains, {gtin: [str(lot) for lot in lots] for gtin, lots in read["lots"].items()})


def received_of(connection: Connection, despatch_id: str) -> list[tuple[int, Tally]]:
    """Return what was received of a despatch: number of each receiving, and what it brought."""
    rows = connection.execute(
        select(col(GoodsRow.event_number), col(GoodsRow.tally))
        .where(col(GoodsRow.despatch_id) == despatch_id, col(GoodsRow.receiving).is_(True))
        .order_by(col(GoodsRow.event_number))
    )
    return [(number, tally_from(text)) for number, text in rows]
