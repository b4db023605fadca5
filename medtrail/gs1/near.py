"""Identifiers that are not the same and look as if they were meant to be: a likely data error, never a match."""

from typing import Final

_LOOK_ALIKE: Final = str.maketrans("OoIlL", "00111")
# What German and French layouts make of letters that are typed for an English one, and the other way round.
_SWAPPED: Final = str.maketrans("YZyz", "ZYzy")
_SWAPPED_FRENCH: Final = str.maketrans("AQZWaqzw", "QAWZqawz")


def near_miss(a: str, b: str) -> str | None:
    """Return in what two different serials or lots differ so little that one is likely mistyped; else None."""
    if a == b:
        return None
    signs = (
        ("case differs", a.casefold() == b.casefold()),
        ("leading zeros differ", a.lstrip("0") == b.lstrip("0")),
        ("O/0 or I/1 confusion", a.translate(_LOOK_ALIKE) == b.translate(_LOOK_ALIKE)),
        ("Y and Z are swapped (keyboard layout)", a.translate(_SWAPPED) == b),
        ("A and Q, Z and W are swapped (keyboard layout)", a.translate(_SWAPPED_FRENCH) == b),
        ("case, leading zeros, or O/0 and I/1 differ", _folded(a) == _folded(b)),
    )
    return next((sign for sign, holds in signs if holds), None)


def _folded(text: str) -> str:
    return text.translate(_LOOK_ALIKE).casefold().lstrip("0")
