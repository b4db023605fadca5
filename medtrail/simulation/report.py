"""What a simulation showed, for people and for machines."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medtrail.simulation.acts import DAY, Act
from medtrail.simulation.comparison import Comparison, Difference
from medtrail.simulation.troubles import PLAIN
from medtrail.simulation.world import LEAST_SHARE, World

SHOWN = 50
_UNITS_SHOWN = 3


@dataclass(slots=True)
class Report:
    """One simulation.

    Attributes:
        seconds: How long each phase took.
        kills: How often each process was killed.
        stops: How often each stood still.
    """

    world: World
    comparison: Comparison
    seed: int
    acts: int
    seconds: dict[str, float]
    kills: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        """Share of each kind of delivery."""
        deliveries = len(self.world.scripts)
        return {kind: count / deliveries for kind, count in sorted(self.world.shares.items())}

    @property
    def rare(self) -> tuple[str, ...]:
        """Kinds of trouble that happened to fewer than one delivery in a hundred."""
        return tuple(kind for kind, share in self.shares.items() if kind != PLAIN and share < LEAST_SHARE)

    @property
    def ok(self) -> bool:
        """Whether nothing differs and every trouble was common enough."""
        return not self.comparison.differences and not self.rare

    def story(self, unit: str) -> list[Act]:
        """Return what was done to a unit, and to all that it was ever in."""
        wanted = {unit}
        acts = [act for wave in self.world.waves for chain in wave for act in chain]
        while True:
            above = {act.parent for act in acts if act.parent and wanted & {*act.units}} - wanted
            if not above:
                break
            wanted |= above
        return [act for act in acts if wanted & {*act.units, act.parent}]

    def document(self) -> dict[str, Any]:
        """Return the report for machines."""
        compared = self.comparison.compared
        total = sum(self.seconds.values())
        return {
            "ok": self.ok,
            "seed": self.seed,
            "packs": self.world.packs,
            "deliveries": len(self.world.scripts),
            "acts": self.acts,
            "shares": {kind: round(share, 4) for kind, share in self.shares.items()},
            "too_rare": list(self.rare),
            "seconds": {phase: round(seconds, 1) for phase, seconds in self.seconds.items()},
            "packs_per_second": round(self.world.packs / total, 1) if total else 0,
            "kills": dict(self.kills),
            "stops": dict(self.stops),
            "compared": compared,
            "difference_count": len(self.comparison.differences),
            "differences": [self._told(item) for item in self.comparison.differences[:SHOWN]],
        }

    def _told(self, item: Difference) -> dict[str, Any]:
        return {
            "asked": item.asked,
            "unit": item.unit,
            "so": item.so,
            "answered": item.answered,
            "trouble": self._trouble(item.unit),
            "story": list(self._lines(item.unit)),
        }

    def _trouble(self, unit: str) -> str:
        for script in self.world.scripts:
            for goods in script.all_goods:
                if unit in {*goods.packs, goods.case, goods.tote, goods.sscc}:
                    return script.trouble
        return ""

    def _lines(self, unit: str) -> Iterator[str]:
        for act in self.story(unit):
            named = act.units if unit not in act.units else (unit,)
            units = " ".join(named[:_UNITS_SHOWN]) + (" …" if len(named) > _UNITS_SHOWN else "")
            extra = " ".join(
                part
                for part in (
                    f"in {act.parent}" if act.parent else "",
                    f"to {act.to}" if act.to else "",
                    act.reason,
                    " ".join(f"{key}={value}" for key, value in act.details.items()),
                )
                if part
            )
            yield f"day {act.at // DAY:>2} {act.who}: {act.verb.replace('_', ' ')} {units} {extra}".rstrip()

    def draw(self, console: Console) -> None:
        """Write the report for people."""
        table = Table(title="deliveries by kind", title_justify="left")
        for heading in ("kind", "deliveries", "share"):
            table.add_column(heading)
        for kind, count in sorted(self.world.shares.items()):
            table.add_row(kind.replace("_", " "), str(count), f"{self.shares[kind]:.1%}")
        console.print(table)
        phases = ", ".join(f"{phase.replace('_', ' ')} {seconds:.0f} s" for phase, seconds in self.seconds.items())
        console.print(phases, markup=False, soft_wrap=True)
        total = sum(self.seconds.values())
        console.print(f"{self.world.packs} packs, {self.acts} acts in {total:.0f} s", markup=False)
        for word, counts in (("killed", self.kills), ("stopped for a while", self.stops)):
            if counts:
                told = ", ".join(f"{name} {count} times" for name, count in sorted(counts.items()))
                console.print(f"{word}: {told}", markup=False, soft_wrap=True)
        for kind, count in self.comparison.compared.items():
            console.print(f"compared: {count} {kind}", markup=False)
        for kind in self.rare:
            console.print(f"[bold red]too rare[/]: {kind} in {self.shares[kind]:.2%} of deliveries, below 1 %")
        self._draw_differences(console)

    def _draw_differences(self, console: Console) -> None:
        found = self.comparison.differences
        if not found:
            console.print("[bold green]no difference[/]")
            return
        console.print(f"[bold red]{len(found)} differences[/]; the first {min(SHOWN, len(found))}:")
        for item in found[:SHOWN]:
            console.print(f"[bold]{escape(item.unit)}[/] {escape(item.asked)} ({self._trouble(item.unit) or 'bulk'})")
            console.print(f"  is so:    {item.so or '-'}", markup=False, soft_wrap=True)
            console.print(f"  answered: {item.answered or '-'}", markup=False, soft_wrap=True)
            for line in self._lines(item.unit):
                console.print(f"    {line}", markup=False, style="dim", soft_wrap=True)
