import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GATE = ROOT / "tools/coverage_gate.py"


def run_gate(report: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, GATE, report], capture_output=True, text=True, check=False)


def write_report(path: Path, *, files: dict[str, tuple[int, int]], branches: bool = True) -> Path:
    """Write a report of ``coverage json`` with (lines wanted, lines covered) a file."""
    summaries = {
        name: {
            "summary": {
                "num_statements": wanted,
                "covered_lines": covered,
                "num_branches": 0,
                "covered_branches": 0,
            }
        }
        for name, (wanted, covered) in files.items()
    }
    path.write_text(json.dumps({"meta": {"branch_coverage": branches}, "files": summaries}), encoding="utf-8")
    return path


def test_coverage_gate_passes_what_is_promised(tmp_path: Path) -> None:
    files = {"medtrail/merkle.py": (50, 50), "medtrail/gs1/gtin.py": (20, 20), "ledger/ingest.py": (100, 90)}

    outcome = run_gate(write_report(tmp_path / "coverage.json", files=files))

    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"medtrail/merkle.py": (100_000, 99_999)}, id="one-evidence-line-of-100000"),
        pytest.param({"medtrail/gs1/gtin.py": (20, 19), "medtrail/merkle.py": (900, 900)}, id="one-line-in-a-package"),
        pytest.param({"ledger/ingest.py": (1000, 899)}, id="rest-below-90"),
    ],
)
def test_coverage_gate_refuses_one_line_too_few(tmp_path: Path, files: dict[str, tuple[int, int]]) -> None:
    outcome = run_gate(write_report(tmp_path / "coverage.json", files=files))

    assert outcome.returncode == 1
    assert "FAILS" in outcome.stdout


def test_coverage_gate_refuses_a_report_without_branches(tmp_path: Path) -> None:
    report = write_report(tmp_path / "coverage.json", files={"medtrail/merkle.py": (1, 1)}, branches=False)

    outcome = run_gate(report)

    assert outcome.returncode == 1
    assert "without branch coverage" in outcome.stderr


def test_evidence_of_the_gate_is_the_evidence_of_the_import_contract() -> None:
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    gate = GATE.read_text(encoding="utf-8").split("EVIDENCE = (", 1)[1].split(")", 1)[0]
    contract = contracts.split('id = "evidence"', 1)[1].split("source_modules = [", 1)[1].split("]", 1)[0]

    assert {line.strip(' ",').replace("/", ".") for line in gate.splitlines() if line} == {
        line.strip(' ",') for line in contract.splitlines() if line
    }


def test_locks_answer_pyproject() -> None:
    outcome = subprocess.run(
        [sys.executable, ROOT / "tools/check_locks.py"], capture_output=True, text=True, check=False
    )

    assert outcome.returncode == 0, outcome.stderr


def test_lock_check_refuses_a_registry_address_and_a_missing_hash(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "requirements", "tools"):
        source = ROOT / name
        paths = [source] if source.is_file() else sorted(p for p in source.iterdir() if p.is_file())
        for path in paths:
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    lock = tmp_path / "requirements/runtime.lock"
    lock.write_text(f"--index-url https://registry.example/simple\n{lock.read_text(encoding='utf-8')}nothing==1\n")

    outcome = subprocess.run(
        [sys.executable, tmp_path / "tools/check_locks.py"], capture_output=True, text=True, check=False
    )

    assert outcome.returncode == 1
    assert "https://registry.example/simple" in outcome.stderr
    assert "nothing has no hash" in outcome.stderr


def test_generated_code_is_what_the_contracts_generate() -> None:
    outcome = subprocess.run(
        [sys.executable, ROOT / "tools/protos.py", "--check"], capture_output=True, text=True, check=False
    )

    assert outcome.returncode == 0, outcome.stderr
