"""Samples of sealed containers: how many packs are scanned all the same, and what comes of it when one is not there.

Which packs these are is the receiver's secret. The truth knows how many they are, and that they are inside.
"""

from collections.abc import Container
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from medtrail.simulation.truth.house import RefusedError


@dataclass(slots=True)
class Sample:
    """What is to be scanned of one sealed container.

    Attributes:
        packs: All inside.
        size: How many of them are to be scanned.
        taken: They were read from the delivery, and scanned.
        failed: Nothing inside is found by its container any more.
    """

    packs: frozenset[str]
    size: int
    taken: bool = False
    failed: bool = False

    @classmethod
    def draw(cls, packs: frozenset[str], share: Decimal) -> "Sample":
        """Return the sample of packs: the share of them, rounded up."""
        return cls(packs, int((share * len(packs)).to_integral_value(ROUND_CEILING)))

    def left(self, scanned: Container[str]) -> int:
        """Return how many are to be scanned still; it is certain where none was scanned of a part, or all of all."""
        return 0 if self.taken or self.failed else self.size - sum(pack in scanned for pack in self.packs)


class Samples:
    """The samples of one delivery, by container.

    Args:
        share: Of a sealed container's packs, 0 to 1.
    """

    def __init__(self, share: Decimal) -> None:
        self._share = share
        self._drawn: dict[str, Sample] = {}

    def seal(self, container: str, packs: frozenset[str]) -> None:
        """Draw the sample of a container that was scanned sealed, once."""
        if self._share and packs:
            self._drawn.setdefault(container, Sample.draw(packs, self._share))

    def fail(self, containers: Container[str]) -> None:
        """Let samples fail: what is not as its data say was found in their containers."""
        for container, sample in self._drawn.items():
            sample.failed = sample.failed or container in containers

    def take(self, scanned: Container[str]) -> int:
        """Scan what is to be scanned still; return how many that are."""
        count = sum(sample.left(scanned) for sample in self._drawn.values())
        for sample in self._drawn.values():
            sample.taken = True
        return count

    def finish(self, scanned: Container[str], *, missing: bool) -> frozenset[str]:
        """End sampling; return the packs that their containers do not stand for any more.

        Args:
            scanned: What was scanned.
            missing: Whether somebody says that samples that were not scanned are not there.
        """
        waiting = [sample for sample in self._drawn.values() if sample.left(scanned)]
        if waiting and not missing:
            raise RefusedError("SAMPLE_INCOMPLETE")
        for sample in waiting:
            sample.failed = True
        return frozenset(pack for sample in self._drawn.values() if sample.failed for pack in sample.packs)
