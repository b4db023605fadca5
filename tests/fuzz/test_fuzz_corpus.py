"""What fuzzing found worth keeping is read, or refused, as everything else."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, run

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_kept_inputs_are_read_or_refused(target: str) -> None:
    kept = sorted((CORPUS / target).iterdir())

    assert kept, "the corpus is empty"
    for path in kept:
        run(target, path.read_bytes())
