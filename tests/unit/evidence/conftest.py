import hashlib
from collections.abc import Sequence

import pytest


class Oracle:
    """A tree written straight from RFC 6962, section 2.1, which shares nothing with the code under test.

    D[start:end] stands for the entries of that range; results are kept, nothing else is clever.
    """

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries
        self.known: dict[tuple[int, int], bytes] = {}

    def mth(self, start: int, end: int) -> bytes:
        """Return MTH(D[start:end])."""
        if (start, end) not in self.known:
            self.known[start, end] = self._mth(start, end)
        return self.known[start, end]

    def _mth(self, start: int, end: int) -> bytes:
        n = end - start
        if n == 0:
            return hashlib.sha256(b"").digest()
        if n == 1:
            return hashlib.sha256(b"\x00" + self.entries[start]).digest()
        k = self.split(n)
        return hashlib.sha256(b"\x01" + self.mth(start, start + k) + self.mth(start + k, end)).digest()

    def path(self, m: int, start: int, end: int) -> list[bytes]:
        """Return PATH(m, D[start:end])."""
        n = end - start
        if n == 1:
            return []
        k = self.split(n)
        if m < k:
            return [*self.path(m, start, start + k), self.mth(start + k, end)]
        return [*self.path(m - k, start + k, end), self.mth(start, start + k)]

    def turns(self, m: int, n: int) -> str:
        """Return on which side of leaf m's path each hash of PATH(m, D[0:n]) lies, from leaf to root."""
        if n == 1:
            return ""
        k = self.split(n)
        return self.turns(m, k) + "R" if m < k else self.turns(m - k, n - k) + "L"

    def proof(self, m: int, n: int) -> list[bytes]:
        """Return PROOF(m, D[0:n])."""
        return self._subproof(m, 0, n, whole=True)

    def _subproof(self, m: int, start: int, end: int, *, whole: bool) -> list[bytes]:
        n = end - start
        if m == n:
            return [] if whole else [self.mth(start, end)]
        k = self.split(n)
        if m <= k:
            return [*self._subproof(m, start, start + k, whole=whole), self.mth(start + k, end)]
        return [*self._subproof(m - k, start + k, end, whole=False), self.mth(start, start + k)]

    def read(self, nodes: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the hashes of complete subtrees (level, index)."""
        return [self.mth(index << level, (index + 1) << level) for level, index in nodes]

    @staticmethod
    def split(n: int) -> int:
        k = 1
        while 2 * k < n:
            k *= 2
        return k


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return Oracle([f"entry {number}".encode() for number in range(700)])
