"""The commands about an organisation's own books: ``medtrail dispense``, ``undo``, ``holding`` and ``alerts``."""

from typing import Annotated

import typer

from medtrail.cli.pack_commands import At, Location, Scan


def dispense(
    context: typer.Context,
    scan: Scan,
    *,
    quantity: Annotated[str, typer.Option(help="How much of it, such as 12 or 2.5; all that is left if absent.")] = "",
    unit: Annotated[str, typer.Option(help="Unit of the quantity: UN/ECE code such as EA or MLT.")] = "",
    pack_size: Annotated[
        str, typer.Option(help="What a whole pack holds, at its opening, where its product does not say so.")
    ] = "",
    partial: Annotated[bool, typer.Option("--partial", help="A part of it, which nobody counted.")] = False,
    at: At = None,
    location: Location = "",
) -> None:
    """Hand a pack out, whole or a part of it: exit 0 when recorded."""
    from medtrail.cli.books import Portion, run_dispense

    portion = Portion(quantity, unit, pack_size, partial)
    run_dispense(context.obj, scan, portion, at=at, location=location)


def undo(
    context: typer.Context,
    scan: Scan,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is signed with the undoing.")],
    not_supplied: Annotated[
        bool, typer.Option("--not-supplied", help="State that the pack was not handed to the public.")
    ] = False,
    location: Location = "",
) -> None:
    """Undo, at the same premises and within 10 days, a dispensing or decommissioning: exit 0 when done."""
    from medtrail.cli.books import run_undo

    run_undo(context.obj, scan, reason=reason, not_supplied=not_supplied, location=location)


def holding(context: typer.Context, scan: Scan) -> None:
    """Show what the organisation's books say of a unit."""
    from medtrail.cli.books import run_holding

    run_holding(context.obj, scan)


def alerts(
    context: typer.Context,
    *,
    code: Annotated[str, typer.Option(help="Only this code, such as PARENT_NOT_UNPACKED.")] = "",
    unit: Annotated[str, typer.Option("--of", metavar="SCAN", help="Only of this unit.")] = "",
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="Withdrawn ones, too.")] = False,
) -> None:
    """List what was recorded in the books although a rule speaks against it, newest first."""
    from medtrail.cli.books import run_alerts

    run_alerts(context.obj, code=code, unit=unit, withdrawn=withdrawn)
