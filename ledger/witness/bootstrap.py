"""A witness's process, from its settings; and the making of its key."""

import asyncio
import secrets
import time
from pathlib import Path

from ledger.web import WebServer
from ledger.witness.app import witness_app
from ledger.witness.service import Witness
from medtrail.errors import MalformedError, MedtrailError
from medtrail.note import Cosigner, format_vkey
from medtrail.policy import parse_policy
from medtrail.runtime.database import Database
from medtrail.runtime.files import read_file, read_secret, write_secret
from medtrail.runtime.logging import configure_logging, get_logger
from medtrail.runtime.server import wait_for_signal
from medtrail.runtime.settings import WitnessSettings, load_settings

log = get_logger(__name__)

DATABASE_NAME = "witness.db"
SEED_BYTES = 32


def make_key(path: Path, name: str) -> str:
    """Write a new witness key, readable by its owner only, and return its verifier key.

    Raises:
        FileExistsError: There is a file already.
        MalformedError: The name cannot be a key's.
    """
    cosigner = Cosigner(name, secrets.token_bytes(SEED_BYTES))
    write_secret(path, cosigner.seed.hex().encode() + b"\n")
    return format_vkey(cosigner.verifier)


def read_cosigner(path: Path, name: str) -> Cosigner:
    """Return a witness's key from its file.

    Raises:
        MalformedError: KEY_MALFORMED.
        AuthorizationError: KEY_FILE_EXPOSED.
        NotFoundError: FILE_MISSING.
    """
    try:
        return Cosigner(name, bytes.fromhex(read_secret(path).decode()))
    except ValueError:
        # Neither the content nor the original error, which quotes it, goes on.
        raise MalformedError(f"{path.name} is not hex", code="KEY_MALFORMED", field=path.name) from None


def open_witness(settings: WitnessSettings) -> tuple[Witness, Database]:
    """Return a witness and its database, which is to be closed. Blocks.

    Raises:
        MedtrailError: A setting, the key or the policy is not right, or the database cannot be opened.
    """
    cosigner = read_cosigner(settings.key_file, settings.name)
    policy = parse_policy(read_file(settings.policy_file).decode("utf-8", "replace"))
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.data_dir / DATABASE_NAME)
    return Witness(database, cosigner, policy, clock_s=time.time), database


def serve_from_environment() -> int:
    """Run a witness from its settings until SIGTERM; return the exit code."""
    try:
        settings = load_settings(WitnessSettings)
        configure_logging(process="witness", level=settings.log_level)
        witness, database = open_witness(settings)
        server = WebServer(witness_app(witness), listen=settings.listen, field="MEDTRAIL_WITNESS_LISTEN")
    except MedtrailError as error:
        configure_logging(process="witness")
        log.error("witness cannot start", code=error.code, field=error.field, reason=error.message)  # noqa: TRY400 - its own message tells all
        return 2
    log.info("witness serves", address=server.address)
    asyncio.run(_serve(server))
    database.close()
    return 0


async def _serve(server: WebServer) -> None:
    serving = asyncio.create_task(server.run())
    await wait_for_signal()
    server.stop()
    await serving
