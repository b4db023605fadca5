"""Which packs of a sealed container are scanned as its sample: repeatable, and not to be guessed by the sender."""

import hashlib
from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal

PERMILLE = 1000


def permille_of(share: float) -> int:
    """Return a share, 0 to 1, in thousandths, rounded up: a share above nothing is never nothing."""
    return int((Decimal(str(share)) * PERMILLE).to_integral_value(ROUND_CEILING))


def sample_size(packs: int, *, permille: int) -> int:
    """Return how many of some packs make a sample: at least the share, so one of any number above none."""
    return -(-packs * permille // PERMILLE)


def choose(paths: Iterable[str], *, secret: bytes, container: str, permille: int) -> tuple[str, ...]:
    """Return the sample of a container's packs, in order of their paths.

    Each pack's rank is a hash over the delivery's secret, the container and the pack: the same delivery asks for the
    same packs after a crash and at another station, another delivery of the same case for others.

    Args:
        paths: Of all packs inside.
        secret: The delivery's, 32 random bytes made when it was opened.
        container: Path of the container.
        permille: Share of the packs.
    """
    all_paths = tuple(paths)
    seed = hashlib.sha256(secret + container.encode()).digest()
    ranked = sorted(all_paths, key=lambda path: hashlib.sha256(seed + path.encode()).digest())
    return tuple(sorted(ranked[: sample_size(len(all_paths), permille=permille)]))
