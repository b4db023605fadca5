"""What happens to one delivery, act by act: the goods, and the waves in which everybody works."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from medtrail.simulation.acts import DAY, Act, Verb

OPENING_S = 8 * 3600
STEP_S = 60


class Wave(IntEnum):
    """When acts are done. All acts of a wave are done, and all is heard by everyone, before the next begins."""

    MAKE = 0
    PACK_CASES = 1
    PACK_PALLETS = 2
    SHIP_PALLETS = 3
    RECEIVE_PALLETS = 4
    PICK = 5
    EARLY = 6
    DESPATCH = 7
    RECEIVE = 8
    SHELVE = 9
    USE = 10
    ALONE = 11
    MEND = 12
    SEND_BACK = 13
    TAKE_BACK = 14
    RECALL = 15
    AFTER = 16


# Day of each wave, with room between for more than one day's deliveries; now is the end of the last.
DAY_OF: dict[Wave, int] = {wave: 2 * wave for wave in Wave} | {Wave.SEND_BACK: 28}
for _wave in (Wave.TAKE_BACK, Wave.RECALL, Wave.AFTER):
    DAY_OF[_wave] = DAY_OF[Wave(_wave - 1)] + 2
LENGTH_DAYS = DAY_OF[Wave.AFTER] + 2


@dataclass(frozen=True, slots=True)
class Goods:
    """What one delivery is about.

    Attributes:
        number: Of the delivery, from 0.
        case: The case as its maker packed it.
        packs: In the case; one lot.
        tote: A reusable tote, its own.
        now: The present, seconds since the start.
    """

    number: int
    maker: str
    pack_gtin: str
    distributor: str
    pharmacy: str
    neighbour: str
    lot: str
    expiry: str
    case: str
    packs: tuple[str, ...]
    tote: str
    sscc: str
    now: int


@dataclass(slots=True)
class Script:
    """The acts on one delivery's goods, wave by wave.

    Attributes:
        made: Goods that others make of them.
    """

    goods: Goods
    trouble: str
    acts: list[tuple[Wave, Act]] = field(default_factory=list)
    made: list[Goods] = field(default_factory=list)
    _wave: Wave = Wave.PICK
    _steps: dict[Wave, int] = field(default_factory=dict)

    def on(self, wave: Wave) -> "Script":
        """Go on in a wave."""
        self._wave = wave
        return self

    def at(self, wave: Wave | None = None) -> int:
        """Return the next moment of a wave."""
        chosen = self._wave if wave is None else wave
        step = self._steps.get(chosen, 0)
        self._steps[chosen] = step + 1
        return DAY_OF[chosen] * DAY + OPENING_S + self.goods.number % DAY + step * STEP_S

    @property
    def all_goods(self) -> tuple[Goods, ...]:
        """What the delivery is about, and what is made of it."""
        return (self.goods, *self.made)

    def name(self, what: str) -> str:
        """Return the name of an act of this delivery."""
        return f"{self.goods.number}/{what}"

    def do(  # noqa: PLR0913 - an act has as many fields
        self,
        verb: Verb,
        who: str,
        units: Sequence[str] = (),
        *,
        at: int | None = None,
        name: str = "",
        of: str = "",
        parent: str = "",
        to: str = "",
        reason: str = "",
        labelled: bool = False,
        lot: str = "",
        expiry: str = "",
        **details: str,
    ) -> None:
        """Add an act; ``labelled`` gives it lot and expiry as on the label."""
        self.acts.append(
            (
                self._wave,
                Act(
                    verb,
                    who,
                    self.at() if at is None else at,
                    tuple(units),
                    parent,
                    to,
                    lot or (self.goods.lot if labelled else ""),
                    expiry or (self.goods.expiry if labelled else ""),
                    reason,
                    name and self.name(name),
                    " ".join(self.name(item) for item in of.split()),
                    details,
                ),
            )
        )

    # --- what is done to nearly every delivery ---

    def send(
        self, units: Sequence[str] = (), *, to: str = "", name: str = "ship", at: int | None = None, order: str = ""
    ) -> None:
        """The distributor sends goods on: the case, unless units are named."""
        goods = self.goods
        chosen = units or (goods.case,)
        self.do(Verb.SHIP, goods.distributor, chosen, to=to or goods.pharmacy, name=name, at=at, of=order)

    def order(self, count: int) -> None:
        """The pharmacy orders packs from the distributor."""
        goods = self.goods
        self.do(
            Verb.ORDER,
            goods.pharmacy,
            to=goods.distributor,
            name="order",
            gtin=goods.pack_gtin,
            quantity=str(count),
        )

    def take_in(self, units: Sequence[str] = (), *, who: str = "") -> None:
        """The pharmacy takes delivery by scanning: the case, unless units are named."""
        self.do(Verb.RECEIVE, who or self.goods.pharmacy, units or (self.goods.case,))

    def deliver(
        self, units: Sequence[str] = (), *, who: str = "", of: str = "ship", name: str = "delivery", close: bool = True
    ) -> None:
        """The pharmacy opens a delivery of a despatch and scans, and closes it: the case, unless units are named."""
        where = who or self.goods.pharmacy
        self.do(Verb.OPEN_DELIVERY, where, of=of, name=name)
        self.do(Verb.SCAN_DELIVERY, where, units or (self.goods.case,), of=name, labelled=True)
        if close:
            self.close(who=where, of=name)

    def close(self, *, who: str = "", of: str = "delivery", at: int | None = None, offset: str = "+00:00") -> None:
        """The pharmacy closes a delivery; ``offset`` is that of its clocks."""
        self.do(Verb.CLOSE_DELIVERY, who or self.goods.pharmacy, at=at, of=of, offset=offset)

    def open_case(self, *, who: str = "") -> None:
        """Take all packs out of the case."""
        self.do(Verb.UNPACK, who or self.goods.pharmacy, parent=self.goods.case)

    def fill_tote(self, packs: Sequence[str] = ()) -> None:
        """The distributor opens the case and picks packs into the tote: all, unless some are named."""
        goods = self.goods
        self.open_case(who=goods.distributor)
        self.do(Verb.PACK, goods.distributor, packs or goods.packs, parent=goods.tote)
