"""The commands ``medtrail station …``: a receiving bay or a till, as those beside it use it."""

from pathlib import Path
from typing import Annotated

import typer

station_app = typer.Typer(
    help="A receiving bay or a till that goes on while everything else is away.", no_args_is_help=True
)

_STATION = typer.Option("--station", envvar="MEDTRAIL_STATION", help="Name of the station; the first when absent.")
_FOLDER = typer.Option("--folder", help="The station's folder, where no network runs on this machine.")
_ADDRESS = typer.Option("--address", help="host:port of the station, likewise.")
_UNITS = typer.Argument(help="Units as scanned; from standard input, one a line, when absent.", metavar="[UNIT]...")

_KEY_OF = typer.Argument(help="Name of the station of --as, or the id of an added key: did:key:…")

KeyOf = Annotated[str, _KEY_OF]
Name = Annotated[str | None, _STATION]
Folder = Annotated[Path | None, _FOLDER]
Address = Annotated[str | None, _ADDRESS]
Units = Annotated[list[str] | None, _UNITS]


@station_app.command("add")
def station_add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the station: a-z, 0-9, -; the source of its events.")],
) -> None:
    """Make a station for the organisation of --as, with its own key; the next `medtrail up` enrols and starts it."""
    from medtrail.cli.station import run_add

    run_add(context.obj, name)


@station_app.command("keys")
def station_keys(context: typer.Context) -> None:
    """List the keys of stations of --as, and those further ones that name no station and so speak for all of it."""
    from medtrail.cli.station_keys import run_keys

    run_keys(context.obj)


@station_app.command("retire")
def station_retire(context: typer.Context, name: KeyOf) -> None:
    """End a station's key in good order, as the authority: before it gets a new one, or is given up."""
    from medtrail.cli.station_keys import run_retire

    run_retire(context.obj, name)


@station_app.command("revoke")
def station_revoke(
    context: typer.Context,
    name: KeyOf,
    since: Annotated[str, typer.Option("--since", help="From when on what it signed is in doubt; ISO 8601.")],
) -> None:
    """End a station's key that may be in wrong hands, as the authority: a stolen till."""
    from medtrail.cli.station_keys import run_revoke

    run_revoke(context.obj, name, since=since)


@station_app.command("scan")
def station_scan(
    context: typer.Context,
    scans: Annotated[list[str] | None, typer.Argument(help="Scans; from standard input when absent.")] = None,
    station: Name = None,
    folder: Folder = None,
    address: Address = None,
) -> None:
    """Judge scans, one verdict a line: exit 0 when all may be accepted, 1 when not."""
    from medtrail.cli.station import Door, run_scan

    run_scan(context.obj, Door(station, folder, address), scans)


@station_app.command("receive")
def station_receive(
    context: typer.Context, units: Units = None, station: Name = None, folder: Folder = None, address: Address = None
) -> None:
    """Take delivery of units; each line of standard input by itself."""
    from medtrail.cli.station import Door, run_verb

    run_verb(context.obj, Door(station, folder, address), "receive", units)


@station_app.command("dispense")
def station_dispense(
    context: typer.Context,
    units: Units = None,
    *,
    partial: Annotated[bool, typer.Option("--partial", help="Only a part was handed out.")] = False,
    station: Name = None,
    folder: Folder = None,
    address: Address = None,
) -> None:
    """Hand packs to patients; each line of standard input by itself."""
    from medtrail.cli.station import Door, run_verb

    run_verb(context.obj, Door(station, folder, address), "dispense", units, partial=partial)


@station_app.command("hold")
def station_hold(
    context: typer.Context,
    units: Units = None,
    *,
    reason: Annotated[str, typer.Option(help="Why.")],
    station: Name = None,
    folder: Folder = None,
    address: Address = None,
) -> None:
    """Put units aside; each line of standard input by itself."""
    from medtrail.cli.station import Door, run_verb

    run_verb(context.obj, Door(station, folder, address), "hold", units, reason=reason)


@station_app.command("observe")
def station_observe(
    context: typer.Context, units: Units = None, station: Name = None, folder: Folder = None, address: Address = None
) -> None:
    """State that units were seen here; each line of standard input by itself."""
    from medtrail.cli.station import Door, run_verb

    run_verb(context.obj, Door(station, folder, address), "observe", units)


@station_app.command("status")
def station_status(
    context: typer.Context, station: Name = None, folder: Folder = None, address: Address = None
) -> None:
    """Tell how old the station's knowledge is and what waits: exit 1 when something should be looked at."""
    from medtrail.cli.station import Door, run_status

    run_status(context.obj, Door(station, folder, address))


@station_app.command("sync")
def station_sync(
    context: typer.Context,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=60, help="Longest to wait, seconds.")] = 10.0,
    station: Name = None,
    folder: Folder = None,
    address: Address = None,
) -> None:
    """Try at once to reach the service, and wait until all that was signed has its answer: exit 3 when it has not."""
    from medtrail.cli.station import Door, run_sync

    run_sync(context.obj, Door(station, folder, address), timeout_s=timeout)
