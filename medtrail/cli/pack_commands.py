"""The commands that ask about, or change, one scanned pack: ``medtrail vrs`` and ``medtrail fmd``."""

from typing import Annotated

import typer

vrs_app = typer.Typer(
    help="Verification requests to the makers of packs (GS1 Lightweight Messaging).", no_args_is_help=True
)
fmd_app = typer.Typer(help="Verify, supply, decommission, undo (Falsified Medicines Directive).", no_args_is_help=True)

Scan = Annotated[str, typer.Argument(metavar="SCAN", help="What the scanner sent; brackets and links work too.")]
Location = Annotated[str, typer.Option(help="GLN of the premises; the organisation's first location when absent.")]
At = Annotated[str | None, typer.Option("--at", help="When it was done (ISO 8601); now when absent.")]


@vrs_app.command("lookup")
def vrs_lookup(context: typer.Context, gtin: Annotated[str, typer.Argument(help="GTIN, 14 digits.")]) -> None:
    """Show who answers verification requests for a product."""
    from medtrail.cli.vrs import run_lookup

    run_lookup(context.obj, gtin)


@vrs_app.command("verify")
def vrs_verify(
    context: typer.Context,
    scan: Scan,
    why: Annotated[
        str, typer.Option("--context", help="Why it is asked, such as dscsaExceptionVerification.")
    ] = "dscsaSaleableReturn",
) -> None:
    """Ask the maker of a scanned pack: exit 0 when it may be accepted, 1 when not."""
    from medtrail.cli.vrs import run_verify

    run_verify(context.obj, scan, context=why)


@vrs_app.command("log")
def vrs_log(context: typer.Context) -> None:
    """List who asked what about packs, why, and what was answered, oldest first."""
    from medtrail.cli.vrs import run_log

    run_log(context.obj)


@fmd_app.command("verify")
def fmd_verify(context: typer.Context, scan: Scan) -> None:
    """Tell the state of a pack: exit 0 when it may be supplied, 1 when not."""
    from medtrail.cli.fmd import run_verify

    run_verify(context.obj, scan)


@fmd_app.command("supply")
def fmd_supply(context: typer.Context, scan: Scan, at: At = None, location: Location = "") -> None:
    """Supply a pack to the public: exit 0 when done."""
    from medtrail.cli.fmd import run_supply

    run_supply(context.obj, scan, at=at, location=location)


@fmd_app.command("decommission")
def fmd_decommission(
    context: typer.Context,
    scan: Scan,
    *,
    state: Annotated[str, typer.Option("--state", help="sample, free_sample, locked, exported, destroyed or stolen.")],
    at: At = None,
    location: Location = "",
) -> None:
    """Decommission a pack for another reason than supply: exit 0 when done."""
    from medtrail.cli.fmd import run_decommission

    run_decommission(context.obj, scan, state=state, at=at, location=location)


@fmd_app.command("undo")
def fmd_undo(
    context: typer.Context,
    scan: Scan,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is signed with the undoing.")],
    state: Annotated[str, typer.Option("--state", help="State that is to be undone; any when absent.")] = "",
    not_supplied: Annotated[
        bool, typer.Option("--not-supplied", help="State that the pack was not handed to the public.")
    ] = False,
    location: Location = "",
) -> None:
    """Undo, at the same premises and within 10 days, what was done to a pack: exit 0 when done."""
    from medtrail.cli.fmd import run_undo

    run_undo(context.obj, scan, reason=reason, state=state, not_supplied=not_supplied, location=location)
