"""How often a caller may ask."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    seen: float


class RateLimiter:
    """Lets each caller ask so often a second on average, and twice as often for a moment.

    For one event loop. Callers are names of tokens, so that there are never more than tokens in the file.
    """

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets; the clock tells seconds."""
        self._per_second = per_second
        self._most = max(1.0, 2 * per_second)
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def wait_s(self, caller: str) -> float:
        """Count a question and return 0, or return after how many seconds the caller may ask again."""
        now = self._clock()
        bucket = self._buckets.setdefault(caller, _Bucket(self._most, now))
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.seen) * self._per_second)
        bucket.seen = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._per_second
        bucket.tokens -= 1
        return 0.0
