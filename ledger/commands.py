"""The command line of the ledger: ``serve``, ``fsck``, ``new-epoch``, ``rebuild``, ``witness``….

Exit codes: 0 all is well; 1 the evidence does not hold; 2 wrong use, or it cannot start.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ledger.bootstrap import serve_from_environment
from ledger.fsck import check_files, check_folder
from ledger.fsck_report import Report
from ledger.intake import to_us
from ledger.progress import progress
from ledger.projections.projector import PROJECTION_NAME, Projector, open_projection
from ledger.projections.store import ChainedEvent
from ledger.projector_process import project_from_environment, read_chained
from ledger.storage import log_store
from ledger.storage.migrate import require_current
from ledger.storage.open import DATABASE_NAME, open_storage
from ledger.witness.bootstrap import make_key
from ledger.witness.bootstrap import serve_from_environment as witness_from_environment
from medtrail.errors import MalformedError, MedtrailError, NotFoundError
from medtrail.policy import parse_policy
from medtrail.runtime.database import Database
from medtrail.runtime.files import read_file
from medtrail.runtime.tokens import utc_now

MOST_REASON = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except FileExistsError:
        print("FILE_EXISTS: an existing key is never overwritten", file=sys.stderr)  # noqa: T201 - a command speaks to its user
        return 2
    except MedtrailError as error:
        print(f"{error.code}: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to its user
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ledger", description="The ledger of a medtrail network.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add(
        "serve", lambda _: serve_from_environment(), "run the ledger, configured by MEDTRAIL_… variables, until SIGTERM"
    )
    add("project", lambda _: project_from_environment(), "fill the projection; serve starts this by itself")
    add(
        "witness",
        lambda _: witness_from_environment(),
        "run a witness, configured by MEDTRAIL_WITNESS_… variables, until SIGTERM",
    )
    key = add("witness-key", _witness_key, "make a witness's key and print its verifier key")
    key.add_argument("--name", required=True, help="the key's name, such as witness.example/w1")
    key.add_argument("--to", type=Path, required=True, help="the file to write; it must not exist")
    fsck = add("fsck", _fsck, "derive everything anew from the stored bytes and compare")
    where = fsck.add_mutually_exclusive_group(required=True)
    where.add_argument("--dir", type=Path, help="the ledger's data folder (ledger.db, public/, org/)")
    where.add_argument("--files", type=Path, help="public files alone (checkpoint, tile/); needs --vkey")
    fsck.add_argument("--database", default="", help="URL of the log's database; default: ledger.db in the folder")
    fsck.add_argument("--policy", type=Path, help="policy file whose witnesses' cosignatures are verified")
    fsck.add_argument("--json", action="store_true", help="print the report as one JSON document")
    fsck.add_argument("--vkey", default="", help="the log's verifier key; default: that of org/log.key")
    fsck.add_argument("--authority", default="", help="the authority's key (did:key); default: the genesis' own")
    epoch = add("new-epoch", _new_epoch, "after the stream was lost or restored: read it from its first message again")
    epoch.add_argument("--dir", type=Path, required=True, help="the ledger's data folder")
    epoch.add_argument("--database", default="", help="URL of the log's database; default: ledger.db in the folder")
    epoch.add_argument("--reason", required=True, help="what happened, for the record: 1 to 500 characters")
    rebuild = add("rebuild", _rebuild, "forget the projection and fill it anew; the ledger is stopped")
    rebuild.add_argument("--dir", type=Path, required=True, help="the ledger's data folder")
    rebuild.add_argument("--database", default="", help="URL of the log's database; default: ledger.db in the folder")
    return parser


def _witness_key(parsed: argparse.Namespace) -> int:
    print(make_key(parsed.to, parsed.name))  # noqa: T201 - the command's output
    return 0


def _fsck(parsed: argparse.Namespace) -> int:
    policy = None if parsed.policy is None else parse_policy(read_file(parsed.policy).decode("utf-8", "replace"))
    began = time.perf_counter()
    with progress("checking entries") as tell:
        if parsed.files is not None:
            report = check_files(parsed.files, vkey=parsed.vkey, policy=policy, tell=tell)
        else:
            report = check_folder(
                parsed.dir,
                vkey=parsed.vkey,
                authority_key_id=parsed.authority,
                database_url=parsed.database,
                policy=policy,
                tell=tell,
            )
    speed = report.tree_size / max(time.perf_counter() - began, 1e-9)
    if parsed.json:
        print(json.dumps(report.document(), indent=2))  # noqa: T201 - the command's output
    else:
        _print_report(report)
        print(f"{speed:,.0f} entries/s", file=sys.stderr)  # noqa: T201 - a command speaks to its user
    return 1 if report.findings else 0


def _print_report(report: Report) -> None:
    for finding in report.findings:
        place = "" if finding.index is None else f" at {finding.index}"
        print(f"{finding.code}{place}: {finding.message}")  # noqa: T201 - the command's output
    verdict = f"{report.finding_count} findings" if report.findings else "clean"
    print(  # noqa: T201 - the command's output
        f"{verdict}: {report.tree_size} entries, {report.message_count} messages, {report.duplicate_count} duplicates, "
        f"{report.refusal_count} refusals, {report.checkpoint_count} checkpoints, {report.file_count} files"
    )


def _new_epoch(parsed: argparse.Namespace) -> int:
    folder, database_url, reason = parsed.dir, parsed.database, parsed.reason
    if not 1 <= len(reason) <= MOST_REASON or not reason.isprintable():
        message = f"expected a reason of 1 to {MOST_REASON} printable characters"
        raise MalformedError(message, code="REASON_INVALID", field="reason")
    database = _open(folder, database_url)
    try:
        require_current(database)
        epoch = database.write_now(partial(log_store.begin_epoch, reason=reason, now_us=to_us(utc_now())))
    finally:
        database.close()
    print(  # noqa: T201 - the command's output
        f"epoch {epoch} begins: the stream is read from its first message, what is chained counts as duplicate, "
        "and producers send again what has no receipt"
    )
    return 0


def _open(folder: Path, database_url: str) -> Database:
    """Open a database that stands: a command makes none."""
    if not database_url and not (folder / DATABASE_NAME).is_file():
        raise NotFoundError(f"{folder / DATABASE_NAME} is missing", code="FILE_MISSING", field="dir")
    return open_storage(folder, database_url)


def _rebuild(parsed: argparse.Namespace) -> int:
    folder = parsed.dir
    database = _open(folder, parsed.database)
    projection = open_projection(folder / PROJECTION_NAME)
    try:
        newest = database.read_now(log_store.newest_checkpoint)
        size = 0 if newest is None else newest.tree.size
        with progress("taking in entries") as tell:

            async def read_entries(start: int, stop: int) -> list[ChainedEvent]:
                found = await read_chained(database, start, stop)
                tell(stop, size)
                return found

            count = asyncio.run(Projector(projection, read_entries).rebuild(size))
    finally:
        projection.close()
        database.close()
    print(f"rebuilt the projection from {count} entries")  # noqa: T201 - the command's output
    return 0
