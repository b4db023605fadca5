"""The commands ``medtrail portal …``: tokens of an organisation's portal."""

from pathlib import Path
from typing import Annotated

import typer

portal_app = typer.Typer(help="Tokens of an organisation's portal (EPCIS REST).", no_args_is_help=True)

_FILE = typer.Option(help="Token file; that of the organisation of --as when absent.")


@portal_app.command("token")
def portal_token(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose token it is, such as erp.")],
    scopes: Annotated[
        list[str], typer.Option("--scope", help="What it is for: capture, query or verify; repeat for more.")
    ],
    file: Annotated[Path | None, _FILE] = None,
) -> None:
    """Make a token and show it once; the file keeps its hash only."""
    from medtrail.cli.portals import run_token

    run_token(context.obj, name, scopes=scopes, file=file)


@portal_app.command("revoke")
def portal_revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the token.")],
    file: Annotated[Path | None, _FILE] = None,
) -> None:
    """Take a token out of the file; from then on it opens nothing."""
    from medtrail.cli.portals import run_revoke

    run_revoke(context.obj, name, file=file)
