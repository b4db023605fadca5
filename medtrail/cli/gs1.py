"""``medtrail gs1 parse``."""

from datetime import UTC, datetime

from rich.console import Console

from medtrail.cli.output import Output
from medtrail.gs1 import EpcKey, PrefixLengths, Scan, describe, parse_epc, parse_scan


def run_parse(output: Output, text: str, *, separator: str) -> None:
    """Take a scan, EPC URN, Digital Link or element string apart."""
    lengths = PrefixLengths()
    found: Scan | EpcKey
    if text.startswith("urn:"):
        found = parse_epc(text)
        lengths.learn(text)
    else:
        found = parse_scan(text.replace("\\x1d", "\x1d"), today=datetime.now(UTC).date(), separator=separator)
    document = describe(found, prefix_lengths=lengths)

    def draw(console: Console) -> None:
        width = max(map(len, document))
        for name, value in document.items():
            console.print(f"{name:<{width}}  {value}", markup=False, soft_wrap=True)

    output.answer(document, draw)
