"""Fuzzes one target, guided by coverage: ``make fuzz``, or ``python -m tests.fuzz.fuzz epcis_xml --seconds 600``.

New inputs that reach new code are added to the target's corpus in ``build/fuzz``; what was worth keeping is in
``tests/fuzz/corpus``, and every test run feeds it to the targets again. Real documents beside the repository are
taken as seeds where they are there.
"""

import argparse
import shutil
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # it has none

with atheris.instrument_imports(include=["medtrail"]):
    from tests.fuzz import targets

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared" / "data"
SEEDS = {
    "epcis_xml": "openepcis-test-resources/**/*.xml",
    "epcis_json": "openepcis-test-resources/**/*.json*",
}
MAX_BYTES = 16_384
MEMORY_MIB = 1024
TIMEOUT_S = 10


def main() -> None:
    """Fuzz until the time is up or something is found; libFuzzer's exit code tells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(targets.TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fuzz")
    chosen = parser.parse_args()
    work = chosen.work / chosen.target
    work.mkdir(parents=True, exist_ok=True)
    for seed in SHARED.glob(SEEDS.get(chosen.target, "nothing")):
        if seed.stat().st_size <= MAX_BYTES:
            shutil.copy(seed, work / f"seed-{seed.parent.name}-{seed.name}")
    kept = HERE / "corpus" / chosen.target
    arguments = [
        sys.argv[0],
        f"-max_total_time={chosen.seconds}",
        f"-max_len={MAX_BYTES}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={TIMEOUT_S}",
        f"-artifact_prefix={work}-found-",
        "-print_final_stats=1",
        str(work),
        str(kept),
    ]
    atheris.Setup(arguments, lambda data: targets.run(chosen.target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
