"""The commands that hand things to others outside the network: ``medtrail export`` and ``medtrail report``."""

from pathlib import Path
from typing import Annotated

import typer

report_app = typer.Typer(help="Reports of an organisation's own doings.", no_args_is_help=True)


def export(
    context: typer.Context,
    despatch: Annotated[str, typer.Argument(metavar="DESPATCH_EVENT_ID", help="The shipment, by its despatch's id.")],
    *,
    file: Annotated[Path, typer.Option("--file", help="File to write: EPCIS 1.2 XML.", dir_okay=False)],
    profile: Annotated[
        str, typer.Option("--profile", help="dscsa: affirm the transaction statement and hold the file to GS1 US R1.3.")
    ] = "",
    allow_gaps: Annotated[bool, typer.Option("--allow-gaps", help="Write the file in spite of gaps.")] = False,
) -> None:
    """Write a shipment for a partner outside: exit 0 when written, 1 when gaps were found and none are allowed."""
    from medtrail.cli.export import run_export

    run_export(context.obj, despatch, path=file, profile=profile, allow_gaps=allow_gaps)


@report_app.command("shipments")
def report_shipments(
    context: typer.Context,
    *,
    start: Annotated[str | None, typer.Option("--from", help="First day or moment, ISO 8601, UTC.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="First day or moment that is not reported any more.")] = None,
    file_format: Annotated[str, typer.Option("--format", help="csv.")] = "csv",
    rows: Annotated[str, typer.Option(help="A row a run of serial numbers (range), or a row each (serial).")] = "range",
    bom: Annotated[bool, typer.Option("--bom", help="Begin with a byte order mark, for Excel.")] = False,
    file: Annotated[Path | None, typer.Option("--file", help="File to write; standard output when absent.")] = None,
) -> None:
    """List shipments, returns, destructions, corrections and cancellations, as CSV."""
    from medtrail.cli.report import run_shipments

    run_shipments(context.obj, start=start, end=end, file_format=file_format, rows=rows, bom=bom, path=file)
