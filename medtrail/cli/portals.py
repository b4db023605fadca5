"""Portals of an embedded network, and ``medtrail portal``: tokens for them."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from medtrail.cli.network import OrganisationAddress, RunningNetwork, read_network
from medtrail.cli.ready import HOST, READY_CALL_S, connected
from medtrail.cli.supervisor import Program
from medtrail.errors import MalformedError, UnavailableError
from medtrail.runtime.files import write_secret
from medtrail.runtime.portal_tokens import Scope, add_token, remove_token

if TYPE_CHECKING:
    from medtrail.cli.main import Globals

PORTAL_PREFIX = "portal/"
TOKENS_FILE = "portal.tokens"
TOKEN_FILE = "portal.token"  # noqa: S105 - a file's name
LOCAL_TOKEN = "local"  # noqa: S105 - a token's name


def with_portals(network: RunningNetwork, ports: Mapping[str, int]) -> RunningNetwork:
    """Return a network with the portals of its organisations, each with a token in a file of its owner's only."""

    def one(item: OrganisationAddress) -> OrganisationAddress:
        url = f"http://{HOST}:{ports[item.name]}"
        return replace(item, portal_url=url, portal_token_file=str(_ensure_token(Path(item.folder))))

    return replace(network, organisations=tuple(one(item) for item in network.organisations))


def _ensure_token(folder: Path) -> Path:
    path = folder / TOKEN_FILE
    if not path.exists():
        tokens = folder / TOKENS_FILE
        if tokens.exists() and f'"name": "{LOCAL_TOKEN}"' in tokens.read_text(encoding="utf-8"):
            # A crash came between the hash and the token: nobody knows that one.
            remove_token(tokens, LOCAL_TOKEN)
        token = add_token(tokens, LOCAL_TOKEN, frozenset(Scope), created=datetime.now(UTC))
        write_secret(path, token.encode() + b"\n")
    return path


def portal_program(item: OrganisationAddress) -> Program:
    """Return the portal of an organisation, as the supervisor runs it."""
    folder = Path(item.folder)
    data = folder.parent.parent / "portals" / item.name
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    listen = item.portal_url.removeprefix("http://")
    environment = {
        "MEDTRAIL_PORTAL_ORG_DIR": item.folder,
        "MEDTRAIL_PORTAL_DATA_DIR": str(data),
        "MEDTRAIL_PORTAL_SERVICE_ADDRESS": item.address,
        "MEDTRAIL_PORTAL_TOKEN_FILE": str(folder / TOKENS_FILE),
        "MEDTRAIL_PORTAL_LISTEN": listen,
    }
    command = (sys.executable, "-m", "services.portal")
    return Program(f"{item.name}-portal", command, environment, lambda: _healthy(int(listen.rpartition(":")[2])))


async def _healthy(port: int) -> None:
    request = f"GET /health HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(READY_CALL_S), connected(port) as (reader, writer):
            writer.write(request.encode())
            answer = await reader.readline()
    except (OSError, TimeoutError) as error:
        raise UnavailableError(f"nothing answers on {HOST}:{port}", code="PROCESS_NOT_READY") from error
    if b" 200 " not in answer:
        raise UnavailableError(f"the portal on {HOST}:{port} is not serving yet", code="PROCESS_NOT_READY")


def run_token(found: "Globals", name: str, *, scopes: Sequence[str], file: Path | None) -> None:
    """Make a token and show it."""
    try:
        wanted = frozenset(Scope(scope) for scope in scopes)
    except ValueError as error:
        message = f"expected {', '.join(Scope)}"
        raise MalformedError(message, code="SCOPE_UNKNOWN", field="--scope") from error
    path = _token_file(found, file)
    token = add_token(path, name, wanted, created=datetime.now(UTC))
    body = {"name": name, "scopes": sorted(wanted), "token": token, "file": str(path)}
    found.output.line(body, token)


def run_revoke(found: "Globals", name: str, *, file: Path | None) -> None:
    """Take a token out of its file."""
    path = _token_file(found, file)
    remove_token(path, name)
    found.output.line({"name": name, "revoked": True, "file": str(path)}, f"{name} opens nothing any more")


def _token_file(found: "Globals", file: Path | None) -> Path:
    if file is not None:
        return file
    network = read_network(found.folder)
    name = found.organisation
    organisation = network.organisations[0] if name is None else network.organisation(name)
    return Path(organisation.folder) / TOKENS_FILE
