"""The commands about exceptions: ``medtrail exceptions``."""

from pathlib import Path
from typing import Annotated

import typer

exceptions_app = typer.Typer(
    help="What is wrong with goods or their data: cases, talks with partners, suspect product.", no_args_is_help=True
)

Case = Annotated[str, typer.Argument(metavar="CASE", help="Id of the case; its beginning will do.")]
Epcs = Annotated[list[str], typer.Argument(metavar="SCAN...", help="Units: scans, EPC URNs or Digital Links.")]
By = Annotated[str, typer.Option("--by", envvar="MEDTRAIL_PERSON", help="Who says it.")]
Email = Annotated[str, typer.Option(envvar="MEDTRAIL_CONTACT_EMAIL", help="E-mail address at which we are reached.")]
Phone = Annotated[str, typer.Option(envvar="MEDTRAIL_CONTACT_PHONE", help="Telephone at which we are reached.")]
Reason = Annotated[str, typer.Option(help="Why.")]
Location = Annotated[str, typer.Option(help="GLN of the place; the organisation's first location when absent.")]


@exceptions_app.command("list")
def list_cases(
    context: typer.Context,
    *,
    status: Annotated[str, typer.Option(help="open, proposed, agreed, disputed, illegitimate, resolved.")] = "",
    code: Annotated[str, typer.Option(help="Such as OVERAGE.")] = "",
    partner: Annotated[str, typer.Option(help="GLN of the partner.")] = "",
    owner: Annotated[str, typer.Option(help="Who sees to them.")] = "",
    unit: Annotated[str, typer.Option(help="Scan, EPC URN or Digital Link of a unit.")] = "",
    overdue: Annotated[bool, typer.Option("--overdue", help="Past their due time only.")] = False,
    include_resolved: Annotated[bool, typer.Option("--all", help="Resolved ones, too.")] = False,
) -> None:
    """List cases, newest first."""
    from medtrail.cli.exceptions import Filters, run_list

    run_list(context.obj, Filters(status, code, partner, owner, unit, overdue, include_resolved))


@exceptions_app.command("show")
def show(context: typer.Context, case: Case) -> None:
    """Show a case with its units, what was proposed, and the conversation."""
    from medtrail.cli.exceptions import run_show

    run_show(context.obj, case)


@exceptions_app.command("open")
def open_case(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="What is the matter, such as DAMAGED.")],
    epcs: Annotated[list[str] | None, typer.Argument(metavar="[SCAN]...", help="Units.")] = None,
    *,
    detail: Annotated[str, typer.Option(help="What is the matter, in words.")],
    partner: Annotated[str, typer.Option(help="GLN; that of who sent the goods when absent.")] = "",
    despatch: Annotated[str, typer.Option(help="event_id of the despatch.")] = "",
    order: Annotated[str, typer.Option(help="Number of the purchase order.")] = "",
    owner: Annotated[str, typer.Option(help="Who sees to it.")] = "",
    due: Annotated[str | None, typer.Option(help="Until when (ISO 8601); by the code when absent.")] = None,
    expected: Annotated[int, typer.Option(min=0, help="How many were advised, without telling units apart.")] = 0,
    counted: Annotated[int, typer.Option(min=0, help="How many came.")] = 0,
) -> None:
    """Open a case."""
    from medtrail.cli.exceptions import NewCase, run_open

    new = NewCase(code, epcs or [], detail, partner, despatch, order, owner, due, expected, counted)
    run_open(context.obj, new)


@exceptions_app.command("assign")
def assign(
    context: typer.Context, case: Case, owner: Annotated[str, typer.Argument(help="A person or desk; empty: nobody.")]
) -> None:
    """Say who sees to a case."""
    from medtrail.cli.exceptions import run_assign

    run_assign(context.obj, case, owner)


@exceptions_app.command("due")
def due(
    context: typer.Context, case: Case, moment: Annotated[str, typer.Argument(help="Until when (ISO 8601).")]
) -> None:
    """Say until when a case is to be resolved."""
    from medtrail.cli.exceptions import run_due

    run_due(context.obj, case, moment)


@exceptions_app.command("message")
def message(
    context: typer.Context,
    case: Case,
    text: Annotated[str, typer.Argument(help="What to say.")],
    internal: Annotated[bool, typer.Option("--internal", help="For this organisation only.")] = False,
    by: By = "",
) -> None:
    """Add a remark to a case, signed and sent to the partner."""
    from medtrail.cli.exceptions import run_message

    run_message(context.obj, case, text, internal=internal, person=by)


@exceptions_app.command("propose")
def propose(
    context: typer.Context,
    case: Case,
    *,
    request: Annotated[
        str, typer.Option(help="send-new-data, send-product, return-product, send-back-product, credit-account, …")
    ] = "",
    text: Annotated[str, typer.Option(help="In words.")] = "",
    email: Email = "",
    phone: Phone = "",
    by: By = "",
) -> None:
    """Report a case to its partner and ask for a resolution."""
    from medtrail.cli.exceptions import Speaker, run_propose

    run_propose(context.obj, case, request, Speaker(email, phone, by, text))


@exceptions_app.command("respond")
def respond(
    context: typer.Context,
    case: Case,
    *,
    accept: Annotated[bool, typer.Option("--accept/--reject", help="The answer.")],
    item: Annotated[list[str] | None, typer.Option(help="Id of an item; every item when absent.")] = None,
    alternative: Annotated[str, typer.Option(help="What is offered instead, as for propose.")] = "",
    comments: Annotated[str, typer.Option(help="In words.")] = "",
    email: Email = "",
    phone: Phone = "",
    by: By = "",
) -> None:
    """Answer what the partner proposed."""
    from medtrail.cli.exceptions import Speaker, run_respond

    speaker = Speaker(email, phone, by, comments)
    run_respond(context.obj, case, item or [""], accepted=accept, alternative=alternative, speaker=speaker)


@exceptions_app.command("resolve")
def resolve(
    context: typer.Context,
    case: Case,
    resolution: Annotated[str, typer.Argument(help="corrected-data, accepted, returned, destroyed, withdrawn.")],
    *,
    reason: Reason,
    location: Location = "",
    by: By = "",
) -> None:
    """Resolve a case, with its effect on the goods."""
    from medtrail.cli.exceptions import run_resolve

    run_resolve(context.obj, case, resolution, reason=reason, location=location, person=by)


@exceptions_app.command("suspect")
def mark_suspect(context: typer.Context, epcs: Epcs, *, reason: Reason, by: By, location: Location = "") -> None:
    """Say that units are suspect product: they are quarantined."""
    from medtrail.cli.exceptions import run_suspect

    run_suspect(context.obj, epcs, reason=reason, person=by, location=location)


@exceptions_app.command("clear")
def clear(
    context: typer.Context,
    case: Case,
    *,
    verified: Annotated[list[str] | None, typer.Option(help="A pack that was verified with its maker.")] = None,
    reason: Annotated[str, typer.Option(help="Why it is not illegitimate.")] = "",
    partial: Annotated[bool, typer.Option("--partial", help="Only note the verified packs.")] = False,
    by: By,
    location: Location = "",
) -> None:
    """End the investigation of suspect product: it is not illegitimate, and is released."""
    from medtrail.cli.exceptions import run_clear

    run_clear(context.obj, case, verified or [], reason=reason, partial=partial, person=by, location=location)


@exceptions_app.command("illegitimate")
def illegitimate(
    context: typer.Context,
    case: Case,
    *,
    reason: Reason,
    by: By,
    at: Annotated[str | None, typer.Option("--at", help="When it was determined (ISO 8601); now when absent.")] = None,
    partner: Annotated[list[str] | None, typer.Option(help="GLN of a further partner to notify.")] = None,
) -> None:
    """Say that suspect product is illegitimate, and notify those who may have it."""
    from medtrail.cli.exceptions import run_illegitimate

    run_illegitimate(context.obj, case, reason=reason, person=by, at=at, partners=partner or [])


@exceptions_app.command("form3911")
def form3911(
    context: typer.Context,
    case: Case,
    *,
    details: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON object of fields that people fill.")
    ] = None,
    pdf: Annotated[Path | None, typer.Option(help="Write the form as PDF here.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the form as JSON here.")] = None,
    submitted: Annotated[bool, typer.Option("--submitted", help="Record that the form was submitted.")] = False,
    at: Annotated[str | None, typer.Option("--at", help="When it was submitted (ISO 8601); now when absent.")] = None,
    incident: Annotated[str, typer.Option(help="Number that the FDA gave the incident.")] = "",
) -> None:
    """Fill Form FDA 3911 from a case: exit 1 while fields are missing; or record that it was submitted."""
    from medtrail.cli.exceptions_files import run_form, run_submitted

    if submitted or incident:
        run_submitted(context.obj, case, at=at, incident=incident)
        return
    run_form(context.obj, case, details=details, pdf=pdf, out=out)


@exceptions_app.command("export")
def export_messages(
    context: typer.Context,
    case: Case,
    out: Annotated[Path, typer.Option(help="Folder for the files.", file_okay=False)] = Path(),
) -> None:
    """Write the PDG messages of a case as files, for partners outside the network."""
    from medtrail.cli.exceptions_files import run_export

    run_export(context.obj, case, out)


@exceptions_app.command("import")
def import_message(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="PDG message.", exists=True, dir_okay=False)],
    partner: Annotated[str, typer.Option(help="GLN of who sent it; as the message says when absent.")] = "",
) -> None:
    """Take in a PDG message that a partner sent by other ways."""
    from medtrail.cli.exceptions_files import run_import

    run_import(context.obj, file, partner=partner)
