"""Days in the life of a network, written by hand with their answers: read from TOML, told, and asked.

A day names its goods briefly: ``P1`` is a pack, ``C1`` a case with a number, ``S1`` a logistic unit (SSCC), ``T1`` a
reusable tote. Parties are maker, wholesaler, pharmacy and neighbour. Answers are short, too: of the books
``state [in C1] [hold CODE] [exception CODE] [left 5]``, of the ledger ``class holder [to party] [in C1]
[alerts CODE]``.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtrail.simulation.acts import DAY, HOUR, Act, Verb
from medtrail.simulation.network import Member, members
from medtrail.simulation.truth.ground import Fact
from medtrail.simulation.truth.house import Entry

FOLDER = Path(__file__).parent / "days"
PARTIES = {
    "maker": "meadow-pharma",
    "wholesaler": "north-wholesale",
    "pharmacy": "elm-pharmacy",
    "neighbour": "harbour-pharmacy",
    "trader": "corner-trade",
}
NAMES = {party: name for name, party in PARTIES.items()}
EXPIRY = "2031-12-31"
FIELDS = frozenset({"does", "who", "day", "units", "in", "to", "lot", "expiry", "reason", "name", "of", "at", "gives"})


@dataclass(frozen=True)
class Day:
    """A day: what is done in each of its hours, how each act is answered, and the answers in the end.

    Answers are by kind (books, ledger, exceptions, alerts, scans), party (empty for the ledger), and unit.
    """

    name: str
    title: str
    hours: tuple[tuple[Act, ...], ...]
    given: Mapping[int, str]
    answers: Mapping[tuple[str, str], Mapping[str, str]]
    goods: "Goods"

    @property
    def lots(self) -> set[tuple[str, str]]:
        """(GTIN, lot) of what is made."""
        made = [act for hour in self.hours for act in hour if act.verb is Verb.COMMISSION and act.lot]
        return {(act.units[0].split("/")[2], act.lot) for act in made}


class Goods:
    """Brief names of one day's goods and their paths."""

    def __init__(self, number: int, member: Member, *, distributor: Member) -> None:
        self._number = number
        self._maker = member
        self._distributor = distributor
        self._names: dict[str, str] = {}

    def path(self, name: str) -> str:
        kind, digits = name[0], name[1:]
        serial = f"D{self._number:02d}{name}"
        made = {
            "P": f"/01/{self._maker.pack_gtin}/21/{serial}",
            "C": f"/01/{self._maker.case_gtin}/21/{serial}",
            "S": self._distributor.sscc(900_000 + self._number * 100 + int(digits)),
            "T": self._distributor.tote(900_000 + self._number * 100 + int(digits)),
        }[kind]
        self._names[made] = name
        return made

    def name(self, path: str) -> str:
        return self._names.get(path, path)


def read_days() -> list[Day]:
    """Return the days."""
    return [_read(number, path) for number, path in enumerate(sorted(FOLDER.glob("*.toml")))]


def _read(number: int, path: Path) -> Day:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    known = members()
    goods = Goods(number, known[PARTIES["maker"]], distributor=known[PARTIES["wholesaler"]])
    given: dict[int, str] = {}
    hours = []
    count = 0
    for hour in table["hour"]:
        acts = []
        for row in hour["acts"]:
            acts.append(_act(row, goods, number, count, lot=f"D{number:02d}"))
            given[id(acts[-1])] = row.get("gives", "")
            count += 1
        hours.append(tuple(acts))
    answers = {}
    for kind, by_party in table["answers"].items():
        if kind == "ledger":
            answers[kind, ""] = by_party
        else:
            answers |= {(kind, party): units for party, units in by_party.items()}
    return Day(path.stem, table["title"], tuple(hours), given, answers, goods)


def _act(row: dict[str, Any], goods: Goods, number: int, count: int, *, lot: str) -> Act:
    verb = Verb(row["does"].replace(" ", "_"))
    details = {key: str(value) for key, value in row.items() if key not in FIELDS}
    for field in ("over", "outputs"):
        if field in details:
            details[field] = " ".join(goods.path(name) for name in details[field].split())
    if "gtin" in details:
        details["gtin"] = goods.path("P0").split("/")[2]
    units = tuple(goods.path(name) for name in row.get("units", "").split())
    labelled = verb is Verb.HOLD_LOT or any(unit.startswith("/01/") for unit in units)
    return Act(
        verb,
        PARTIES[row["who"]],
        row["day"] * DAY + 9 * HOUR + count * 60,
        units,
        goods.path(row["in"]) if "in" in row else "",
        PARTIES[row["to"]] if "to" in row else "",
        row.get("lot", lot if labelled else ""),
        row.get("expiry", EXPIRY if labelled else ""),
        row.get("reason", ""),
        f"{number}/{row['name']}" if "name" in row else "",
        " ".join(f"{number}/{name}" for name in row.get("of", "").split()),
        details,
    )


# --- answers in few words ---


def _words(first: str, **more: str) -> str:
    return " ".join([first, *(f"{word} {value}" for word, value in more.items() if value)]).replace("_of", "")


def entry_words(entry: Entry | None, goods: Goods) -> str:
    """Return what the truth says of a unit in a house."""
    if entry is None:
        return "nothing"
    left = "" if entry.remainder is None else str(entry.remainder)
    values = {"state": entry.state, "in": entry.parent, "holds": " ".join(sorted(entry.holds)), "left": left}
    return book_words({**values, "exception": entry.exception}, goods)


def book_words(values: Mapping[str, str] | None, goods: Goods) -> str:
    """Return what books say of a unit."""
    if values is None:
        return "nothing"
    parent = goods.name(values["in"])
    parts = {"in": parent, "hold": values["holds"], "exception": values["exception"], "left": values["left"]}
    return _words(values["state"], **parts)


def fact_words(fact: Fact | None, goods: Goods) -> str:
    """Return what the truth says of where a unit is."""
    if fact is None:
        return "nothing"
    values = {"class": fact.where, "holder": fact.holder, "to": fact.destination, "in": fact.parent}
    return ledger_words({**values, "alerts": " ".join(sorted(fact.alerts))}, goods)


def ledger_words(values: Mapping[str, str] | None, goods: Goods) -> str:
    """Return what the ledger says of a unit."""
    if values is None:
        return "nothing"
    holder, to = NAMES.get(values["holder"], values["holder"]), NAMES.get(values["to"], values["to"])
    parts = {"to": to, "in": goods.name(values["in"]), "alerts": values["alerts"]}
    return _words(f"{values['class']} {holder}", **parts)
