"""The commands about returns: ``medtrail returns``."""

from pathlib import Path
from typing import Annotated

import typer

returns_app = typer.Typer(help="Goods that go back, and goods that come back.", no_args_is_help=True)

Epcs = Annotated[list[str], typer.Argument(metavar="SCAN...", help="Units: scans, EPC URNs or Digital Links.")]
To = Annotated[str, typer.Option("--to", help="GLN of the party that takes the goods back.")]
Rma = Annotated[str, typer.Option("--rma", help="Number of the return authorisation.")]
At = Annotated[str | None, typer.Option("--at", help="When it was done (ISO 8601); now when absent.")]
Location = Annotated[str, typer.Option(help="GLN of the place; the organisation's first location when absent.")]
Recall = Annotated[str, typer.Argument(metavar="RECALL_ID", help="event_id of the recall.")]


@returns_app.command("send")
def send(
    context: typer.Context,
    epcs: Epcs,
    *,
    to: To,
    reason: Annotated[str, typer.Option(help="Why.")],
    rma: Rma = "",
    purpose: Annotated[str, typer.Option(help="resale, recall or destruction.")] = "resale",
    at: At = None,
    location: Location = "",
) -> None:
    """Send units back; opened packs for recall or destruction only."""
    from medtrail.cli.returns import run_send

    run_send(context.obj, epcs, to=to, reason=reason, rma=rma, purpose=purpose, at=at, location=location)


@returns_app.command("authorise")
def authorise(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="GLN of the customer.")],
    epcs: Annotated[list[str] | None, typer.Argument(metavar="[SCAN]...", help="Units; any sold when absent.")] = None,
    *,
    number: Annotated[str, typer.Option(help="Number; one is made when absent.")] = "",
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    until: Annotated[str | None, typer.Option(help="Last moment at which the goods may be sent (ISO 8601).")] = None,
) -> None:
    """Give a customer a number under which goods may come back."""
    from medtrail.cli.returns import run_authorise

    run_authorise(context.obj, customer, epcs or [], number=number, reason=reason, until=until)


@returns_app.command("authorisations")
def authorisations(context: typer.Context) -> None:
    """List return authorisations, newest first."""
    from medtrail.cli.returns import run_authorisations

    run_authorisations(context.obj)


@returns_app.command("accept")
def accept(
    context: typer.Context,
    scans: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCAN]...", help="Packs; with - or none: a scan a line from standard input."),
    ] = None,
    *,
    file: Annotated[Path | None, typer.Option("--file", help="A scan a line.", exists=True, dir_okay=False)] = None,
    customer: Annotated[str, typer.Option(help="GLN of the customer where no despatch of theirs tells it.")] = "",
    rma: Rma = "",
    at: At = None,
    location: Location = "",
) -> None:
    """Take packs back, verify each, and restock those that pass: exit 1 when one was not."""
    from medtrail.cli.returns import run_accept

    run_accept(context.obj, scans or [], file=file, customer=customer, rma=rma, at=at, location=location)


@returns_app.command("list")
def list_returns(
    context: typer.Context,
    *,
    customer: Annotated[str, typer.Option(help="GLN; all when absent.")] = "",
    held: Annotated[bool, typer.Option("--held", help="Only what was not restocked.")] = False,
) -> None:
    """List packs that came back, newest first."""
    from medtrail.cli.returns import run_list

    run_list(context.obj, customer=customer, held=held)


@returns_app.command("recalled")
def recalled(
    context: typer.Context,
    recall_id: Recall,
    *,
    to: Annotated[str, typer.Option("--to", help="GLN of who takes the goods; who recalls when absent.")] = "",
    rma: Rma = "",
    at: At = None,
    location: Location = "",
) -> None:
    """Send all packs here under a recall back."""
    from medtrail.cli.returns import run_recalled

    run_recalled(context.obj, recall_id, to=to, rma=rma, at=at, location=location)


@returns_app.command("count")
def count(context: typer.Context, recall_id: Recall) -> None:
    """Count the packs that a recall covers here by what became of them."""
    from medtrail.cli.returns import run_count

    run_count(context.obj, recall_id)
