"""The benchmark runs, at sizes that measure nothing: what it prints and writes is complete."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"1 EPC", "5 EPCs", "1 EPC, signed alone"}


@pytest.mark.timeout(300)
def test_small_benchmark_measures_everything_and_writes_it_down(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench", "--small", "--folder", tmp_path / "network", "--output", output],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    document = json.loads(output.read_text(encoding="utf-8"))
    assert document["format"] == 1
    assert document["sizes"]["packs"] == 40
    assert document["machine"]["cores"] >= 1
    figures = document["figures"]
    assert document["ceiling"]["value"] == max(document["ceiling"]["rounds"])
    assert len(document["ceiling"]["rounds"]) == 10
    assert len(figures) == 57
    assert [log["database"] for log in document["logs"]] == ["sqlite", "postgresql"]
    assert all(set(log["chain_events_per_s"]) == KINDS for log in document["logs"])
    for figure in figures:
        assert figure["value"] > 0
        assert (figure["ratio"] is None) == (figure["unit"] != "1/s")
        assert figure["name"].split(",")[0] in ended.stdout
