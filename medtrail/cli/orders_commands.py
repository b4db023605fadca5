"""The commands about orders and the documents that follow them: ``medtrail orders``."""

from pathlib import Path
from typing import Annotated

import typer

orders_app = typer.Typer(
    help="Orders, confirmations, despatch and receiving advice, invoices; quantities of every line.",
    no_args_is_help=True,
)

Number = Annotated[str, typer.Argument(metavar="NUMBER", help="Number of the document.")]
Lines = Annotated[
    Path | None, typer.Option("--lines", help="File of lines: .json or .csv.", exists=True, dir_okay=False)
]
Buyer = Annotated[str, typer.Option("--buyer", help="GLN of the buyer.")]
OrderNumber = Annotated[str, typer.Option("--order", help="Number of the order.")]
Note = Annotated[str, typer.Option("--note", help="For a person at the partner's.")]


@orders_app.command("place")
def place(
    context: typer.Context,
    number: Number,
    *,
    seller: Annotated[str, typer.Option("--seller", help="GLN of the seller.")],
    lines: Annotated[Path, typer.Option("--lines", help="File of lines: .json or .csv.", exists=True, dir_okay=False)],
    ship_to: Annotated[str, typer.Option("--ship-to", help="GLN of the place to which to deliver.")] = "",
    note: Note = "",
) -> None:
    """Order goods from a seller."""
    from medtrail.cli.orders import run_place

    run_place(context.obj, number, seller=seller, lines=lines, ship_to=ship_to, note=note)


@orders_app.command("confirm")
def confirm(
    context: typer.Context, number: Number, *, buyer: Buyer, order: OrderNumber, lines: Lines = None, note: Note = ""
) -> None:
    """Answer an order line by line (status accepted, changed, rejected, back_ordered); without lines accept all."""
    from medtrail.cli.orders import run_confirm

    run_confirm(context.obj, number, buyer=buyer, order=order, lines=lines, note=note)


@orders_app.command("cancel")
def cancel(context: typer.Context, number: Number, note: Note = "") -> None:
    """Withdraw an order of which nothing was despatched."""
    from medtrail.cli.orders import run_cancel

    run_cancel(context.obj, number, note=note)


@orders_app.command("close")
def close(context: typer.Context, number: Number, note: Note = "") -> None:
    """End an order: nothing more is expected."""
    from medtrail.cli.orders import run_close

    run_close(context.obj, number, note=note)


@orders_app.command("list")
def list_orders(
    context: typer.Context,
    *,
    state: Annotated[list[str] | None, typer.Option("--state", help="Such as placed or partly_shipped.")] = None,
    partner: Annotated[str, typer.Option("--partner", help="GLN of the other side.")] = "",
    event: Annotated[str, typer.Option("--event", help="Despatch or receiving, by its event id.")] = "",
    only_open: Annotated[bool, typer.Option("--open", help="Only with something still to be despatched.")] = False,
) -> None:
    """List orders, newest first."""
    from medtrail.cli.orders import run_list

    run_list(context.obj, states=state or [], partner=partner, event=event, only_open=only_open)


@orders_app.command("show")
def show(
    context: typer.Context,
    number: Number,
    buyer: Annotated[str, typer.Option("--buyer", help="GLN of the buyer; the organisation itself when absent.")] = "",
) -> None:
    """Show an order: quantities of each line, documents, despatches, and what does not fit."""
    from medtrail.cli.orders import run_show

    run_show(context.obj, number, buyer=buyer)


@orders_app.command("despatch-advice")
def despatch_advice(
    context: typer.Context,
    number: Number,
    events: Annotated[list[str], typer.Argument(metavar="EVENT_ID...", help="Our despatches.")],
    *,
    buyer: Buyer = "",
    order: OrderNumber = "",
    lines: Lines = None,
    note: Note = "",
) -> None:
    """Tell the buyer what despatches hold; without lines as counted in them."""
    from medtrail.cli.orders import run_despatch_advice

    run_despatch_advice(context.obj, number, events=events, buyer=buyer, order=order, lines=lines, note=note)


@orders_app.command("receiving-advice")
def receiving_advice(
    context: typer.Context,
    number: Number,
    event: Annotated[str, typer.Argument(metavar="EVENT_ID", help="The partner's despatch.")],
    *,
    lines: Lines = None,
    note: Note = "",
) -> None:
    """Tell the seller what came of a despatch; without lines as counted in our receivings of it."""
    from medtrail.cli.orders import run_receiving_advice

    run_receiving_advice(context.obj, number, event=event, lines=lines, note=note)


@orders_app.command("invoice")
def invoice(
    context: typer.Context, number: Number, *, buyer: Buyer, order: OrderNumber, lines: Lines = None, note: Note = ""
) -> None:
    """Invoice what was shipped of an order; without lines all that is not invoiced yet."""
    from medtrail.cli.orders import run_invoice

    run_invoice(context.obj, number, buyer=buyer, order=order, lines=lines, note=note)


@orders_app.command("documents")
def documents(
    context: typer.Context,
    *,
    kind: Annotated[str, typer.Option("--kind", help="po, poc, desadv, recadv or inv.")] = "",
    partner: Annotated[str, typer.Option("--partner", help="GLN of the other side.")] = "",
    number: Annotated[str, typer.Option("--number", help="Number of the document.")] = "",
    event: Annotated[str, typer.Option("--event", help="About this event, by its id.")] = "",
    terms: Annotated[bool, typer.Option("--terms", help="With their lines and prices.")] = False,
) -> None:
    """List documents, our own and those made to us, newest first."""
    from medtrail.cli.orders import run_documents

    run_documents(context.obj, kind=kind, partner=partner, number=number, event=event, terms=terms)
