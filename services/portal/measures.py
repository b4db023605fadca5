"""Measurements in different units of one quantity, made comparable exactly: 299.15 KEL is 26 CEL.

Each unit has a factor to a base unit chosen so that no conversion has endless decimals: temperatures are kept in ninths
of a kelvin, speeds in metres an hour. Units that are not here compare with themselves only.

Source: UN/ECE Recommendation 20 (codes and conversion factors); EPCIS 2.0, section 8.2.7.1 (parameters with uom).
"""

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

# Two numbers of 64 digits multiplied, and more.
_EXACT: Final = Context(prec=200)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit: what it measures, and base = (value + offset) x factor."""

    quantity: str
    factor: Decimal
    offset: Decimal = Decimal(0)


def _units(quantity: str, factors: str) -> dict[str, _Unit]:
    pairs = (item.split("=") for item in factors.split())
    return {code: _Unit(quantity, Decimal(factor)) for code, factor in pairs}


_UNITS: Final[dict[str, _Unit]] = {
    "KEL": _Unit("temperature", Decimal(9)),
    "CEL": _Unit("temperature", Decimal(9), Decimal("273.15")),
    "FAH": _Unit("temperature", Decimal(5), Decimal("459.67")),
    **_units("mass", "MGM=1E-3 GRM=1 KGM=1E3 TNE=1E6 ONZ=28.349523125 LBR=453.59237"),
    **_units("length", "MMT=1E-3 CMT=1E-2 DMT=0.1 MTR=1 KMT=1E3 INH=0.0254 FOT=0.3048 YRD=0.9144 SMI=1609.344"),
    **_units("area", "MMK=1E-6 CMK=1E-4 DMK=1E-2 MTK=1 KMK=1E6"),
    **_units("volume", "MMQ=1E-6 CMQ=1E-3 MLT=1E-3 CLT=1E-2 DLT=0.1 LTR=1 DMQ=1 HLT=100 MTQ=1E3"),
    **_units("time", "C26=1E-3 SEC=1 MIN=60 HUR=3600 DAY=86400"),
    **_units("pressure", "PAL=1 A97=100 MBR=100 KPA=1E3 BAR=1E5 ATM=101325 MPA=1E6"),
    **_units("speed", "KMH=1E3 MTS=3600"),
}


def in_base(value: Decimal, uom: str, *, difference: bool = False) -> Decimal:
    """Return a value in the base unit of its quantity; as it is where the unit is not known.

    Args:
        value: In the unit.
        uom: UN/ECE Rec 20 code.
        difference: It is a distance between values (a standard deviation), which has no zero point.
    """
    unit = _UNITS.get(uom)
    if unit is None:
        return value
    shifted = value if difference else _EXACT.add(value, unit.offset)
    return _EXACT.multiply(shifted, unit.factor)


def quantity_of(uom: str) -> str:
    """Return what a unit measures, in brackets, or the unit itself where it is not known."""
    unit = _UNITS.get(uom)
    return uom if unit is None else f"[{unit.quantity}]"
