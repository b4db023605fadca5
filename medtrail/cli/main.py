"""The command ``medtrail``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medtrail.cli.books_commands import alerts, dispense, holding, undo
from medtrail.cli.exceptions_commands import exceptions_app
from medtrail.cli.gs1_commands import gs1_app
from medtrail.cli.holds_commands import add_hold_commands, holds_app, requests_app
from medtrail.cli.orders_commands import orders_app
from medtrail.cli.output import Output
from medtrail.cli.pack_commands import fmd_app, vrs_app
from medtrail.cli.partner_commands import export, report_app
from medtrail.cli.portal_commands import portal_app
from medtrail.cli.receive_commands import receive_app
from medtrail.cli.returns_commands import returns_app
from medtrail.cli.station_commands import station_app
from medtrail.errors import MalformedError, MedtrailError

DEFAULT_DIR = Path("medtrail-network")

app = typer.Typer(
    name="medtrail",
    help="Run a traceability network for medicines, and ask it questions whose answers prove themselves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
trace_app = typer.Typer(help="Where a pack has been, and where every pack of a lot is now.", no_args_is_help=True)
epcis_app = typer.Typer(help="Work on EPCIS files, offline.", no_args_is_help=True)
app.add_typer(trace_app, name="trace")
app.add_typer(epcis_app, name="epcis")
app.add_typer(gs1_app, name="gs1")
app.add_typer(vrs_app, name="vrs")
app.add_typer(fmd_app, name="fmd")
app.add_typer(report_app, name="report")
app.add_typer(portal_app, name="portal")
app.add_typer(station_app, name="station")
app.add_typer(exceptions_app, name="exceptions")
app.add_typer(holds_app, name="holds")
app.add_typer(requests_app, name="release-requests")
app.add_typer(returns_app, name="returns")
add_hold_commands(app)
app.add_typer(orders_app, name="orders")
app.add_typer(receive_app, name="receive")


@dataclass(frozen=True, slots=True)
class Globals:
    """Options that every command takes, before its name or after it."""

    folder: Path
    organisation: str | None
    output: Output


@app.callback()
def options(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Option("--dir", envvar="MEDTRAIL_DIR", help="Folder of the network.", show_default=True)
    ] = DEFAULT_DIR,
    organisation: Annotated[
        str | None, typer.Option("--as", envvar="MEDTRAIL_AS", help="Name of the organisation to act as.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")] = False,
) -> None:
    """Keep the options for the command."""
    context.obj = Globals(folder, organisation, Output.create(as_json=as_json))


@app.command()
def up(
    context: typer.Context,
    portals: Annotated[
        bool, typer.Option("--portals/--no-portals", help="Start a portal (EPCIS REST) for each organisation.")
    ] = True,
) -> None:
    """Run the network of network.toml in --dir until Ctrl-C; a sample is written when there is none."""
    from medtrail.cli.up import run_up

    found: Globals = context.obj
    run_up(found.folder, found.output, portals=portals)


@app.command()
def demo(
    context: typer.Context,
    example: Annotated[
        Path | None, typer.Option(help="EPCIS file to import; the built-in example when absent.")
    ] = None,
    packs: Annotated[int, typer.Option(min=2000, help="Packs in the generated story.")] = 2400,
) -> None:
    """Show the whole job on a fresh network in --dir: import, ship, scan, recall, trace, prove, detect forgery."""
    from medtrail.cli.demo import run_demo

    found: Globals = context.obj
    run_demo(found.folder, found.output, example=example, packs=packs)


@app.command()
def simulate(
    context: typer.Context,
    packs: Annotated[int, typer.Option(min=240, help="Packs, at least so many.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and size play the same world.")] = 1,
    kill: Annotated[bool, typer.Option("--kill", help="Kill processes of the network at random meanwhile.")] = False,
    late: Annotated[bool, typer.Option("--late", help="Let data come late and in any order.")] = False,
) -> None:
    """Play a network of known truth in --dir, and compare all that it answers with it: exit 1 at any difference."""
    from medtrail.cli.simulate import run_simulate
    from medtrail.simulation.staging import Options

    found: Globals = context.obj
    run_simulate(found.folder, found.output, Options(packs, seed, kill=kill, late=late))


@app.command()
def keygen(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Short name of the organisation: a-z, 0-9, -.")],
    *,
    gln: Annotated[str, typer.Option(help="GLN of the party, 13 digits.")],
    role: Annotated[str, typer.Option(help="Role: manufacturer, distributor, pharmacy, …")],
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to create; DIR/orgs/NAME when absent.")] = None,
) -> None:
    """Create an organisation's folder with new keys, enrolled by the authority of --dir."""
    from medtrail.cli.keygen import run_keygen

    run_keygen(context.obj, name=name, display_name=display_name, gln=gln, role=role, out=out)


@app.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="EPCIS document: .json, .jsonld or .xml.", exists=True, dir_okay=False)],
    second_hand: Annotated[
        bool, typer.Option("--second-hand", help="Pass on what another party did, as its counterpart.")
    ] = False,
    happened: Annotated[
        bool, typer.Option("--happened", help="It has happened: what breaks a rule is recorded, with an alert.")
    ] = False,
) -> None:
    """Send the events of an EPCIS document through the organisation's CaptureEvents."""
    from medtrail.cli.capture import run_import

    run_import(context.obj, file, second_hand=second_hand, happened=happened)


app.command()(export)
app.command()(dispense)
app.command()(undo)
app.command()(holding)
app.command()(alerts)


@app.command()
def erase(
    context: typer.Context,
    event: Annotated[str, typer.Argument(metavar="EVENT_ID|INDEX", help="The event, by its id or its index.")],
    *,
    reason: Annotated[str, typer.Option(help="Why. It stays in the log for all to read: name nobody.")],
) -> None:
    """Order an event of the organisation's own to be erased; the log stays whole, and tells by whom and why."""
    from medtrail.cli.erasure import run_erase

    run_erase(context.obj, event, reason=reason)


@app.command()
def consent(
    context: typer.Context,
    event: Annotated[str, typer.Argument(metavar="EVENT_ID|INDEX", help="The event, by its id or its index.")],
    *,
    reason: Annotated[str, typer.Option(help="Why. It stays in the log for all to read: name nobody.")],
) -> None:
    """Consent, as the authority of --dir, to an event's erasure before its retention period is over."""
    from medtrail.cli.erasure import run_consent

    run_consent(context.obj, event, reason=reason)


@app.command()
def scan(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="STRING", help="What the scanner sent; brackets and links work too.")],
    at: Annotated[str | None, typer.Option("--at", help="Judge for this moment (ISO 8601) instead of now.")] = None,
) -> None:
    """Judge a scanned pack: exit 0 when it may be accepted, 1 when not."""
    from medtrail.cli.scan import run_scan

    run_scan(context.obj, text, at=at)


@trace_app.command("pack")
def trace_pack(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="EPC URN, Digital Link or element string.")],
    at: Annotated[str | None, typer.Option("--at", help="What was true at this moment (ISO 8601).")] = None,
    known: Annotated[int, typer.Option("--known", min=0, help="What was known at this tree size; 0: the newest.")] = 0,
    export: Annotated[
        Path | None, typer.Option(help="Write each event and its proof into this folder, for `medtrail verify`.")
    ] = None,
) -> None:
    """Show the complete history of a pack, case or pallet, each event with its proof checked here."""
    from medtrail.cli.trace import run_trace_pack

    run_trace_pack(context.obj, identifier, at=at, known=known, export=export)


@trace_app.command("lot")
def trace_lot(
    context: typer.Context,
    gtin: Annotated[str, typer.Argument(help="GTIN, 14 digits.")],
    lot: Annotated[str, typer.Argument(help="Lot.")],
    *,
    at: Annotated[str | None, typer.Option("--at", help="What was true at this moment (ISO 8601).")] = None,
    known: Annotated[int, typer.Option("--known", min=0, help="What was known at this tree size; 0: the newest.")] = 0,
    units: Annotated[bool, typer.Option("--units", help="List every unit, too.")] = False,
) -> None:
    """Show where every unit of a lot is now."""
    from medtrail.cli.trace import run_trace_lot

    run_trace_lot(context.obj, gtin, lot, at=at, known=known, units=units)


@app.command()
def status(context: typer.Context) -> None:
    """Tell what waits for the ledger or for partners, and how far the ledger is: exit 1 when something is an alarm."""
    from medtrail.cli.status import run_status

    run_status(context.obj)


@app.command()
def proof(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="EVENT", help="Index, event id, or SHA-256 of its bytes in hex.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the proof (.tlog-proof) here.")] = None,
    event_out: Annotated[Path | None, typer.Option("--event-out", help="Write the signed event's bytes here.")] = None,
) -> None:
    """Fetch the offline proof of an event and check it, for `medtrail verify` anywhere."""
    from medtrail.cli.proof import run_proof

    run_proof(context.obj, name, out=out, event_out=event_out)


@app.command()
def verify(
    context: typer.Context,
    proof: Annotated[Path, typer.Argument(help="Proof file (.tlog-proof).")],
    event: Annotated[Path, typer.Option("--event", help="The signed event's bytes.")],
    key: Annotated[str, typer.Option("--key", help="The log's verifier key, or a file that holds it.")],
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Policy file whose quorum of witnesses is demanded, too.")
    ] = None,
) -> None:
    """Prove offline, with the kernel alone, that a signed event is in the log."""
    from medtrail.cli.verify import run_verify

    run_verify(context.obj.output, proof, event=event, key=key, policy=policy)


@app.command()
def audit(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="The log's prefix: where it serves `checkpoint` and `tile/`.")],
    *,
    key: Annotated[str, typer.Option("--key", help="The log's verifier key, or a file that holds it.")],
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Policy file whose quorum of witnesses is demanded, too.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Where to remember what was seen; a file by origin when absent.")
    ] = None,
    from_checkpoint: Annotated[
        Path | None, typer.Option("--from-checkpoint", help="At first: trust this checkpoint, read what follows.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One round instead of following the log until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between rounds.")] = 10.0,
) -> None:
    """Follow a log from outside: exit 1 on a fork, a shrunk log, or files that its signed root does not vouch for."""
    from medtrail.cli.audit import AuditOptions, run_audit

    options = AuditOptions(url, key, policy, state, from_checkpoint, once, interval)
    run_audit(context.obj.output, options)


@epcis_app.command("hash")
def epcis_hash(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="EPCIS document: .json, .jsonld or .xml.")],
) -> None:
    """Print the CBV 2.0 event hash of each event, one a line, in document order."""
    from medtrail.cli.epcis_files import run_hash

    run_hash(context.obj.output, file)


@epcis_app.command("convert")
def epcis_convert(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="EPCIS document.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; its ending says the format.")],
    xml_version: Annotated[str, typer.Option(help="Version of XML to write: 2.0 or 1.2.")] = "2.0",
) -> None:
    """Convert an EPCIS document between JSON-LD (.json, .jsonld) and XML (.xml)."""
    from medtrail.cli.epcis_files import run_convert

    run_convert(context.obj.output, source, target, xml_version=xml_version)


@epcis_app.command("validate")
def epcis_validate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="EPCIS document: .json, .jsonld or .xml, of any size.")],
    *,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help="Rules beside those of the standards: dscsa.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Findings printed at most; all are counted.")] = 1000,
) -> None:
    """Hold an EPCIS document to the rules and print every finding with its place: exit 0 accepted, 1 refused."""
    from medtrail.cli.epcis_validate import run_validate

    run_validate(context.obj.output, file, profiles=profile or [], limit=limit)


@epcis_app.command("rules")
def epcis_rules(context: typer.Context) -> None:
    """Print the rules that EPCIS documents are held to."""
    from medtrail.cli.epcis_validate import run_rules

    run_rules(context.obj.output)


_VALUE_OPTIONS = frozenset({"--dir", "--as"})
_FLAG_OPTIONS = frozenset({"--json"})


def hoist(arguments: list[str]) -> list[str]:
    """Return the arguments with the options of every command in front, wherever they stood.

    ``medtrail trace pack ID --json`` then means what ``medtrail --json trace pack ID`` means; what follows ``--``
    stays.
    """
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif argument in _FLAG_OPTIONS or ("=" in argument and argument.split("=", 1)[0] in _VALUE_OPTIONS):
            front.append(argument)
        elif argument in _VALUE_OPTIONS:
            front += [argument, *(value for value in [next(remaining, None)] if value is not None)]
        else:
            rest.append(argument)
    return front + rest


def main() -> None:
    """Run the command line; every foreseen failure ends with one line and its exit code."""
    from medtrail.runtime.logging import configure_logging

    arguments = hoist(sys.argv[1:])
    # A command speaks for itself; what its connections log is for those who run a network, and then in its log files.
    configure_logging(process="medtrail", level="critical")
    output = Output.create(as_json="--json" in arguments)
    try:
        app(args=arguments, prog_name="medtrail", standalone_mode=True)
    except MedtrailError as error:
        output.fail(error)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        output.fail(MalformedError(f"{name}{error.strerror}", code="FILE"))


if __name__ == "__main__":
    main()
