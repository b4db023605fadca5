"""The demo, as a newcomer runs it: every claim is checked as it is made, and it ends by itself."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import REFERENCE_EXAMPLE, run_process

# What the demo promises to show, in its own words.
CLAIMS = (
    r"9 processes run, every call over TLS",
    r"8 events of \S+ captured, signed and sent",
    r"the way of pack 11: commissioning, packing, packing, shipping; 4 events, each proven",
    r"GTIN 00300010123455, lot A123: 12 in transit, none on hand",
    r"GTIN 10300010123452, lot A123: 3 in transit, none on hand",
    r"packs received by scanning pallets only: \d{3,}",
    r"genuine: \d+ packs",
    r"unknown: ",
    r"lot mismatch: ",
    r"expired: ",
    r"already dispensed: ",
    r"recalled: ",
    r"where all \d+ packs are, in [0-9.]+ s: ",
    r"refused by the exchange",
    r"refused by the ledger",
    r"exported events verified offline",
    r"one bit of the event changed: refused",
    r"fsck re-derived \d+ entries from the stored bytes: clean",
    r"one bit changed in the stored event of entry \d+: fsck says [A-Z_, ]+",
)


def missing(text: str) -> list[str]:
    return [claim for claim in CLAIMS if not re.search(claim, text)]


@pytest.mark.timeout(300)
def test_demo_holds_all_its_claims_in_words(tmp_path: Path) -> None:
    run = run_process("--dir", str(tmp_path / "demo"), "demo", "--packs", "2000")
    assert run.code == 0, run.out + run.errors
    assert run.out.rstrip().endswith("all claims held")
    assert missing(run.out) == []
    assert (tmp_path / "demo" / "proofs").is_dir()
    assert not (tmp_path / "demo" / "network" / "network.json").exists()


@pytest.mark.timeout(300)
def test_demo_gives_its_facts_to_machines(tmp_path: Path) -> None:
    if not REFERENCE_EXAMPLE.exists():
        pytest.skip(f"the published GS1 example is not at {REFERENCE_EXAMPLE}")
    arguments = ("demo", "--json", "--packs", "2000", "--example", str(REFERENCE_EXAMPLE))
    run = run_process("--dir", str(tmp_path / "demo"), *arguments)
    assert run.code == 0, run.errors
    facts: list[dict[str, Any]] = json.loads(run.out)["proved"]
    assert missing("\n".join(str(fact["proved"]) for fact in facts)) == []
    times = [fact["elapsed_s"] for fact in facts]
    assert times == sorted(times)
    (lot,) = [fact["classes"] for fact in facts if "classes" in fact]
    total = re.search(r"where all (\d+) packs", run.out)
    assert total is not None
    assert sum(lot.values()) == int(total[1])
    (clean,) = [fact for fact in facts if "tree_size" in fact]
    assert clean["tree_size"] > 0


def test_demo_leaves_a_folder_alone_that_holds_something_else(tmp_path: Path) -> None:
    kept = tmp_path / "thesis.txt"
    kept.write_text("years of work", encoding="utf-8")
    run = run_process("--dir", str(tmp_path), "demo", "--json")
    assert (run.code, run.out) == (1, "")
    assert (run.error["code"], run.error["field"]) == ("FOLDER_TAKEN", "--dir")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
