"""The commands ``medtrail gs1 …``: identifiers, scans, pictures and labels, offline."""

from pathlib import Path
from typing import Annotated

import typer

gs1_app = typer.Typer(
    help="Read GS1 identifiers and pictures of codes, and draw labels, offline.", no_args_is_help=True
)


@gs1_app.command("parse")
def gs1_parse(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="STRING", help="Scan, element string, EPC URN or Digital Link.")],
    separator: Annotated[str, typer.Option(help="What the scanner is set to send for FNC1, if not GS.")] = "\x1d",
) -> None:
    """Take a GS1 identifier apart and print its spellings."""
    from medtrail.cli.gs1 import run_parse

    run_parse(context.obj.output, text, separator=separator)


@gs1_app.command("read")
def gs1_read(
    context: typer.Context,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="PNG or JPEG.", exists=True, dir_okay=False)],
) -> None:
    """Read the codes in pictures: exit 0 when each has one, and each code is GS1's."""
    from medtrail.cli.labels import run_read

    run_read(context.obj.output, images)


@gs1_app.command("label")
def gs1_label(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write: .png or .svg.")],
    gtin: Annotated[str | None, typer.Option(help="GTIN, 8, 12, 13 or 14 digits.")] = None,
    sscc: Annotated[str | None, typer.Option(help="SSCC, 18 digits, instead of a GTIN.")] = None,
    serial: Annotated[str | None, typer.Option(help="Serial number.")] = None,
    lot: Annotated[str | None, typer.Option(help="Lot.")] = None,
    expiry: Annotated[str | None, typer.Option(help="Last day of use, YYYY-MM-DD.")] = None,
    symbol: Annotated[str, typer.Option(help="datamatrix, gs1-128, or qr (with a Digital Link).")] = "datamatrix",
    module: Annotated[float | None, typer.Option(help="Width of a module in mm, 0.1 to 2.")] = None,
    stem: Annotated[str | None, typer.Option(help="Begin of the link of a QR code: https://host/path.")] = None,
) -> None:
    """Draw a label with its quiet zone and print, read back before it is written."""
    from medtrail.cli.labels import LabelOrder, run_label

    order = LabelOrder(gtin, sscc, serial, lot, expiry, symbol, module, stem)
    run_label(context.obj.output, order, out)
