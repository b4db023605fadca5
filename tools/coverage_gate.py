"""Hold the coverage that the project promises: 100 % of what makes or checks evidence, 90 % of the rest.

Usage: ``python tools/coverage_gate.py build/coverage.json``. Coverage is of lines and branches together. Exit 1 when a
gate fails.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

EVIDENCE = (
    "medtrail/checkpoint",
    "medtrail/claims",
    "medtrail/cold_chain",
    "medtrail/document",
    "medtrail/envelope",
    "medtrail/epcis",
    "medtrail/event",
    "medtrail/gs1",
    "medtrail/item_map",
    "medtrail/merkle",
    "medtrail/monitor",
    "medtrail/note",
    "medtrail/note_format",
    "medtrail/policy",
    "medtrail/terms",
    "medtrail/tiles",
    "medtrail/tlog_proof",
    "medtrail/trust",
)
GATES = {"evidence": 100.0, "rest": 90.0}


@dataclass(frozen=True, slots=True)
class Count:
    """What was wanted and what was run, lines plus branches."""

    wanted: int = 0
    covered: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.wanted + other.wanted, self.covered + other.covered)

    @property
    def percent(self) -> float:
        """Per cent covered; 100 when there is nothing to cover."""
        return 100.0 * self.covered / self.wanted if self.wanted else 100.0


def gate_of(name: str) -> str:
    """Return the gate that a source file stands under."""
    return "evidence" if any(name == f"{part}.py" or name.startswith(f"{part}/") for part in EVIDENCE) else "rest"


def area_of(name: str) -> str:
    """Return the row that a source file is summed into: ``medtrail/gs1``, ``services/custody``."""
    parts = Path(name).parts
    return "/".join(parts[:2]).removesuffix(".py")


def read_counts(report: Path) -> dict[str, Count]:
    """Return the count of each source file in a report of ``coverage json``.

    Raises:
        SystemExit: The report was made without branches.
    """
    content = json.loads(report.read_text(encoding="utf-8"))
    if not content["meta"]["branch_coverage"]:
        raise SystemExit(f"{report}: made without branch coverage")
    counts = {}
    for name, entry in content["files"].items():
        summary = entry["summary"]
        wanted = summary["num_statements"] + summary["num_branches"]
        counts[name] = Count(wanted, summary["covered_lines"] + summary["covered_branches"])
    return counts


def main() -> int:
    """Print the table; return the exit code."""
    files = read_counts(Path(sys.argv[1]))
    areas: dict[tuple[str, str], Count] = {}
    gates = dict.fromkeys(GATES, Count())
    for name, count in files.items():
        key = (gate_of(name), area_of(name))
        areas[key] = areas.get(key, Count()) + count
        gates[key[0]] += count
    print(f"\n{'coverage':<34}{'wanted':>8}{'covered':>9}{'percent':>10}")
    for (gate, area), count in sorted(areas.items()):
        mark = "" if count.percent >= GATES[gate] else "  below the gate"
        print(f"  {area:<32}{count.wanted:>8}{count.covered:>9}{count.percent:>9.2f}%{mark}")
    failed = False
    for gate, count in gates.items():
        # An evidence file short of one line is never hidden by rounding: the counts decide.
        passed = count.wanted * GATES[gate] <= 100 * count.covered
        failed |= not passed
        outcome = "passes" if passed else "FAILS"
        print(f"{gate:<34}{count.wanted:>8}{count.covered:>9}{count.percent:>9.2f}%  {outcome} ({GATES[gate]:.0f} %)")
    for name, count in sorted(files.items()):
        if gate_of(name) == "evidence" and count.covered < count.wanted:
            print(f"  {name}: {count.wanted - count.covered} of {count.wanted} lines and branches not run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
