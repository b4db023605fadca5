"""The commands about holds: ``medtrail hold``, ``release``, ``expiring``, ``holds`` and ``release-requests``."""

from typing import Annotated

import typer

holds_app = typer.Typer(help="What is on hold and why, lots on hold, what sensors reported.", no_args_is_help=True)
requests_app = typer.Typer(help="Releases that two persons make: one asks, another decides.", no_args_is_help=True)

Epcs = Annotated[list[str], typer.Argument(metavar="SCAN...", help="Units: scans, EPC URNs or Digital Links.")]
Code = Annotated[str, typer.Option("--code", help="Why, by code, such as DAMAGED or QUALITY; a text alone is OTHER.")]
Codes = Annotated[list[str] | None, typer.Option("--code", help="Holds that end, by code; all when absent.")]
By = Annotated[str, typer.Option("--by", envvar="MEDTRAIL_PERSON", help="Who does it: [A-Za-z0-9._@-].")]
At = Annotated[str | None, typer.Option("--at", help="When it was done (ISO 8601); now when absent.")]
Location = Annotated[str, typer.Option(help="GLN of the place; the organisation's first location when absent.")]
Reason = Annotated[str, typer.Option(help="Why.")]
Request = Annotated[str, typer.Argument(metavar="REQUEST", help="Id of the request; its beginning will do.")]
LotHold = Annotated[str, typer.Argument(metavar="LOT_HOLD", help="Id of the lot hold; its beginning will do.")]


def add_hold_commands(app: typer.Typer) -> None:
    """Add the commands that stand by themselves."""
    app.command("hold")(hold)
    app.command("release")(release)
    app.command("expiring")(expiring)


def hold(
    context: typer.Context, epcs: Epcs, *, code: Code = "", reason: Reason = "", at: At = None, location: Location = ""
) -> None:
    """Put units on hold, for one more reason."""
    from medtrail.cli.holds import run_hold

    run_hold(context.obj, epcs, code=code, reason=reason, at=at, location=location)


def release(
    context: typer.Context,
    epcs: Epcs,
    *,
    reason: Reason,
    code: Codes = None,
    request: Annotated[
        bool, typer.Option("--request", help="Ask for it: another person approves (medtrail release-requests).")
    ] = False,
    by: By = "",
    at: At = None,
    location: Location = "",
) -> None:
    """End holds of units, or ask another person to."""
    from medtrail.cli.holds import run_release, run_request

    if request:
        run_request(context.obj, epcs, codes=code or [], reason=reason, by=by)
    else:
        run_release(context.obj, epcs, codes=code or [], reason=reason, at=at, location=location)


def expiring(
    context: typer.Context,
    *,
    days: Annotated[int, typer.Option(min=0, max=36500, help="Within so many days; 0: as holds.toml says.")] = 0,
    gtin: Annotated[str, typer.Option(help="Of this GTIN only.")] = "",
    free: Annotated[bool, typer.Option("--free", help="Leave out what is on hold.")] = False,
) -> None:
    """List packs here by expiry, first expired first."""
    from medtrail.cli.holds_lists import run_expiring

    run_expiring(context.obj, days=days, gtin=gtin, free=free)


@holds_app.command("list")
def list_holds(context: typer.Context, *, code: Code = "") -> None:
    """List units on hold here, each with its reasons."""
    from medtrail.cli.holds_lists import run_list

    run_list(context.obj, code=code)


@holds_app.command("lot")
def hold_lot(
    context: typer.Context,
    gtin: Annotated[str, typer.Argument(help="GTIN, 14 digits.")],
    lot: Annotated[str, typer.Argument(help="Lot.")],
    *,
    reason: Reason,
    code: Code = "",
) -> None:
    """Put a lot on hold: its packs here, and those to come."""
    from medtrail.cli.holds import run_hold_lot

    run_hold_lot(context.obj, gtin, lot, code=code, reason=reason)


@holds_app.command("lots")
def list_lots(
    context: typer.Context,
    *,
    include_released: Annotated[bool, typer.Option("--all", help="Released ones, too.")] = False,
) -> None:
    """List lots on hold, newest first."""
    from medtrail.cli.holds import run_lots

    run_lots(context.obj, include_released=include_released)


@holds_app.command("release-lot")
def release_lot(
    context: typer.Context,
    lot_hold: LotHold,
    *,
    reason: Reason,
    request: Annotated[bool, typer.Option("--request", help="Ask for it: another person approves.")] = False,
    by: By = "",
) -> None:
    """End the hold of a lot, or ask another person to."""
    from medtrail.cli.holds import run_release_lot

    run_release_lot(context.obj, lot_hold, reason=reason, request=request, by=by)


@holds_app.command("excursions")
def list_excursions(
    context: typer.Context,
    scan: Annotated[str, typer.Argument(metavar="[SCAN]", help="Of this unit only.")] = "",
) -> None:
    """List what sensors reported outside of storage limits, newest first."""
    from medtrail.cli.holds_lists import run_excursions

    run_excursions(context.obj, scan)


@requests_app.command("list")
def list_requests(
    context: typer.Context,
    *,
    state: Annotated[str, typer.Option(help="open, approved, rejected; all when empty.")] = "open",
) -> None:
    """List requests for release, newest first."""
    from medtrail.cli.holds import run_requests

    run_requests(context.obj, state=state)


@requests_app.command("approve")
def approve(
    context: typer.Context,
    request: Request,
    *,
    reason: Reason = "",
    by: By = "",
    at: At = None,
    location: Location = "",
) -> None:
    """Approve a request of another person, and release."""
    from medtrail.cli.holds import run_approve

    run_approve(context.obj, request, reason=reason, by=by, at=at, location=location)


@requests_app.command("reject")
def reject(context: typer.Context, request: Request, *, reason: Reason, by: By = "") -> None:
    """End a request without release."""
    from medtrail.cli.holds import run_reject

    run_reject(context.obj, request, reason=reason, by=by)
