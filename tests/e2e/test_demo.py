"""The demo, as a newcomer runs it: every claim is checked as it is made, and it ends by itself."""

import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.e2e.conftest import run_process, unmeasured
from tests.support.command import Run, run_command

# What the demo promises to show, in its own words.
CLAIMS = (
    r"10 processes run, every call over TLS",
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


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, example_path: Path) -> tuple[Run, Path]:
    """One run of the demo: under --json it says on standard error what it else says on standard output."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    arguments = ("demo", "--json", "--packs", "2000", "--example", str(example_path))
    with mock.patch.dict(os.environ, unmeasured(), clear=True):
        return run_command("--dir", str(folder), *arguments), folder


@pytest.mark.timeout(900)
def test_demo_holds_all_its_claims_and_ends(demo: tuple[Run, Path]) -> None:
    run, folder = demo
    assert run.code == 0, run.errors
    assert run.errors.rstrip().endswith("all claims held")
    assert missing(run.errors) == []
    assert list((folder / "proofs").glob("*.tlog-proof"))
    assert not (folder / "network" / "network.json").exists()


def test_demo_gives_its_facts_to_machines(demo: tuple[Run, Path]) -> None:
    facts: list[dict[str, Any]] = demo[0].document["proved"]
    words = "\n".join(str(fact["proved"]) for fact in facts)
    assert missing(words) == []
    times = [fact["elapsed_s"] for fact in facts]
    assert times == sorted(times)
    (classes,) = [fact["classes"] for fact in facts if "classes" in fact]
    total = re.search(r"where all (\d+) packs", words)
    assert total is not None
    assert sum(classes.values()) == int(total[1])
    (clean,) = [fact for fact in facts if "tree_size" in fact]
    assert clean["tree_size"] > 0


def test_demo_leaves_a_folder_alone_that_holds_something_else(tmp_path: Path) -> None:
    kept = tmp_path / "thesis.txt"
    kept.write_text("years of work", encoding="utf-8")
    run = run_process("--dir", str(tmp_path), "demo", "--json")
    assert (run.code, run.out) == (1, "")
    assert (run.error["code"], run.error["field"]) == ("FOLDER_TAKEN", "--dir")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
