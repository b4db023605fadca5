"""The commands of a receiving bay: ``medtrail receive``."""

from typing import Annotated

import typer

receive_app = typer.Typer(
    help="Deliveries: open, scan, show, close, and what was found concealed.", no_args_is_help=True
)

DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="Id of the delivery; 'last': the newest.")]


@receive_app.command("open")
def open_delivery(
    context: typer.Context,
    *,
    despatch: Annotated[
        list[str] | None, typer.Option("--despatch", help="Event id of a despatch; none: before any data are here.")
    ] = None,
    sample: Annotated[
        float | None, typer.Option("--sample", min=0, max=1, help="Share of sealed packs to scan; else the setting.")
    ] = None,
    location: Annotated[str, typer.Option("--location", help="GLN of the place; the first location when absent.")] = "",
) -> None:
    """Begin a delivery and print its id."""
    from medtrail.cli.receive import run_open

    run_open(context.obj, despatch or [], sample=sample, location=location)


@receive_app.command("list")
def list_deliveries(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Deliveries shown at most.")] = 20,
) -> None:
    """List deliveries, newest first."""
    from medtrail.cli.receive import run_list

    run_list(context.obj, limit=limit)


@receive_app.command("scan")
def scan(
    context: typer.Context,
    delivery: DeliveryId,
    *,
    station: Annotated[str, typer.Option("--station", help="Name of the station; its scans are numbered.")] = "bay",
) -> None:
    r"""Record what a scanner types, a line a scan, until the end of input: exit 0 when all was as advised.

    A line may be a command: ":damaged" (the next scan's pack is damaged), ":unreadable" (a label cannot be read by any
    means), ":from SCAN" (packs come out of this container from here on; ":from" alone: not said), ":undo" (take the
    last scan back). When the service goes away what has no answer is sent again.
    """
    from medtrail.cli.receive_scan import run_scan

    run_scan(context.obj, delivery, station=station)


@receive_app.command("show")
def show(
    context: typer.Context,
    delivery: DeliveryId,
    *,
    only: Annotated[
        str, typer.Option("--only", help="Units listed: all, expected, scanned, missing, excepted or sample.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Units listed at most.")] = 1000,
) -> None:
    """Show how far a delivery is, and some of its units."""
    from medtrail.cli.receive import run_show

    run_show(context.obj, delivery, only=only, limit=limit)


@receive_app.command("close")
def close(
    context: typer.Context,
    delivery: DeliveryId,
    *,
    samples_missing: Annotated[
        bool, typer.Option("--samples-missing", help="Sampled packs that were not scanned are not there.")
    ] = False,
) -> None:
    """End a delivery: receive what is good, put the rest aside, tell the senders."""
    from medtrail.cli.receive import run_close

    run_close(context.obj, delivery, samples_missing=samples_missing)


@receive_app.command("reopen")
def reopen(
    context: typer.Context,
    delivery: DeliveryId,
    identifiers: Annotated[list[str], typer.Argument(metavar="ID...", help="Units that are missing.")],
) -> None:
    """Open a closed delivery again for units that were missing."""
    from medtrail.cli.receive import run_reopen

    run_reopen(context.obj, delivery, identifiers)


@receive_app.command("concealed")
def concealed(
    context: typer.Context,
    delivery: DeliveryId,
    *,
    short: Annotated[
        list[str] | None, typer.Option("--short", help="A pack that was in no sealed case after all.")
    ] = None,
    over: Annotated[list[str] | None, typer.Option("--over", help="Scan of a pack that nobody advised.")] = None,
) -> None:
    """Tell what was found wrong in sealed containers after closing."""
    from medtrail.cli.receive import run_concealed

    run_concealed(context.obj, delivery, short=short or [], over=over or [])
