"""Measures how fast codes are read: scans as scanners send them, scanners at fault, and pictures of labels."""

import time
from collections.abc import Callable, Iterable
from datetime import date

from medtrail.errors import MalformedError
from medtrail.gs1 import (
    Expiry,
    Gtin,
    Sgtin,
    elements_of,
    format_element_string,
    parse_scan,
    require_pack,
    to_digital_link,
)
from medtrail.labels import draw_png, make_label, read_image

TODAY = date(2026, 6, 1)
EXPIRY = Expiry(date(2028, 6, 30))
GTIN = Gtin("09521321000018")
# For each picture, this many scans.
SCANS_A_PICTURE = 500


def measure_gs1(count: int, speed: Callable[[str, int, float], None]) -> None:
    """Measure so many scans, a tenth of it of scanners at fault, and a five-hundredth of pictures; one thread.

    Args:
        count: At least 10.
        speed: Takes a name, how many, and in how many seconds.
    """
    packs = [Sgtin(GTIN, f"4711AB{number:08d}") for number in range(count)]
    symbols = ["]d2" + format_element_string(pack, lot="LOT42", expiry=EXPIRY) for pack in packs]
    links = [to_digital_link(pack, lot="LOT42", expiry=EXPIRY) for pack in packs]
    speed("parse_scan: packs, GS1 DataMatrix", count, _read_all(symbols))
    speed("parse_scan: packs, GS1 Digital Link", count, _read_all(links))
    faults = [text.swapcase() for text in symbols[: count // 10]]
    began = time.perf_counter()
    diagnosed = sum(map(_is_diagnosed, faults))
    speed("parse_scan: scanners at fault, with suggestion", diagnosed, time.perf_counter() - began)
    pictures = [
        draw_png(make_label(elements_of(pack, lot="LOT42", expiry=EXPIRY)))
        for pack in packs[: max(1, count // SCANS_A_PICTURE)]
    ]
    began = time.perf_counter()
    read = sum(len(read_image(picture)) for picture in pictures)
    speed("read_image: labels of one GS1 DataMatrix", read, time.perf_counter() - began)


def _read_all(texts: Iterable[str]) -> float:
    began = time.perf_counter()
    for text in texts:
        require_pack(parse_scan(text, today=TODAY))
    return time.perf_counter() - began


def _is_diagnosed(text: str) -> bool:
    try:
        parse_scan(text, today=TODAY)
    except MalformedError as error:
        return "suggestion" in error.facts
    return False
