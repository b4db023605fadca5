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

from ledger.backup import make_backup, read_manifest, restore_backup
from ledger.bootstrap import serve_from_environment
from ledger.fsck import check_files, check_folder
from ledger.fsck_report import Report
from ledger.intake import to_us
from ledger.progress import progress
from ledger.projections.erasures import ProjectedErasures
from ledger.projections.projector import PROJECTION_NAME, Projector, open_projection
from ledger.projections.store import ChainedEvent
from ledger.projector_process import project_from_environment, read_chained
from ledger.published import fetch_checkpoint
from ledger.storage import checkpoint_store, log_store
from ledger.storage.migrate import require_current
from ledger.storage.open import open_standing
from ledger.witness.bootstrap import make_key
from ledger.witness.bootstrap import serve_from_environment as witness_from_environment
from ledger.witnessing import shown_by_witnesses
from medtrail.errors import MalformedError, MedtrailError
from medtrail.note import NoteSigner
from medtrail.policy import parse_policy
from medtrail.runtime.files import read_file
from medtrail.runtime.folder import OrganisationFolder
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
    except OSError as error:
        # A folder that may not be written, a disk that is full: its own words tell.
        print(f"FILE_FAILED: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to its user
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
    backup = add("backup", _backup, "copy the log's database, also while the ledger runs; no keys are in it")
    backup.add_argument("--dir", type=Path, required=True, help="the ledger's data folder")
    backup.add_argument("--database", default="", help="URL of the log's database; default: ledger.db in the folder")
    backup.add_argument("--to", type=Path, required=True, help="a new folder")
    restore = add("restore", _restore, "put a backup in the place of a database that is lost")
    restore.add_argument("--from", dest="backup", type=Path, required=True, help="the backup's folder")
    restore.add_argument("--dir", type=Path, required=True, help="the data folder, with org/ in it, without ledger.db")
    restore.add_argument("--database", default="", help="URL of an empty database; default: ledger.db in the folder")
    restore.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FILE|URL",
        help="checkpoint that was published: a file, or where the log is still served",
    )
    restore.add_argument("--policy", type=Path, help="policy file whose witnesses are asked what they saw")
    restore.add_argument(
        "--nothing-newer", action="store_true", help="nobody holds a newer checkpoint: you are sure of it"
    )
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
        f"{report.refusal_count} refusals, {report.erasure_count} erasures, {report.checkpoint_count} checkpoints, "
        f"{report.cosignature_count} cosignatures, {report.file_count} files"
    )


def _new_epoch(parsed: argparse.Namespace) -> int:
    folder, database_url, reason = parsed.dir, parsed.database, parsed.reason
    if not 1 <= len(reason) <= MOST_REASON or not reason.isprintable():
        message = f"expected a reason of 1 to {MOST_REASON} printable characters"
        raise MalformedError(message, code="REASON_INVALID", field="reason")
    database = open_standing(folder, database_url)
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


def _backup(parsed: argparse.Namespace) -> int:
    with progress("copying rows") as tell:
        manifest = make_backup(parsed.dir, parsed.to, now=utc_now(), database_url=parsed.database, tell=tell)
    print(  # noqa: T201 - the command's output
        f"backup of {manifest.tree_size} entries, checkpoint {manifest.signed_size}, in {parsed.to}\n"
        "the keys in org/ are not in it: keep them elsewhere"
    )
    return 0


def _restore(parsed: argparse.Namespace) -> int:
    manifest = read_manifest(parsed.backup)
    organisation = OrganisationFolder(parsed.dir / "org")
    verifier = NoteSigner(manifest.origin, organisation.log_seed()).verifier
    notes = [_published(where) for where in parsed.checkpoint]
    if parsed.policy is not None:
        policy = parse_policy(read_file(parsed.policy).decode("utf-8", "replace"))
        notes += asyncio.run(shown_by_witnesses(policy, verifier))
    if not notes and not parsed.nothing_newer:
        message = (
            "what the log's key has signed since the backup is not known: name the checkpoint that was published last"
            " (--checkpoint FILE or URL) or the policy whose witnesses saw it (--policy FILE), or say --nothing-newer"
        )
        raise MalformedError(message, code="RESTORE_UNCHECKED", field="checkpoint")
    with progress("copying rows") as tell:
        reach = restore_backup(
            parsed.backup,
            parsed.dir,
            verifier=verifier,
            known_notes=notes,
            map_salt=organisation.map_salt(),
            database_url=parsed.database,
            tell=tell,
        )
    print(f"restored {manifest.tree_size} entries; the stream is read on from message {manifest.next_seq}")  # noqa: T201 - the command's output
    if reach is not None:
        print(  # noqa: T201 - the command's output
            f"{reach.size} entries were signed: nothing is signed before the log has that tree again. If the stream "
            "does not have those messages any more, begin a successor log (docs/operations.md)"
        )
    return 0


def _published(where: str) -> bytes:
    return asyncio.run(fetch_checkpoint(where)) if "://" in where else read_file(Path(where))


def _rebuild(parsed: argparse.Namespace) -> int:
    folder = parsed.dir
    database = open_standing(folder, parsed.database)
    projection = open_projection(folder / PROJECTION_NAME)
    try:
        newest = database.read_now(checkpoint_store.newest_checkpoint)
        size = 0 if newest is None else newest.tree.size
        with progress("taking in entries") as tell:

            async def read_entries(start: int, stop: int) -> list[ChainedEvent]:
                found = await read_chained(database, start, stop)
                tell(stop, size)
                return found

            async def rebuild() -> int:
                count = await Projector(projection, read_entries).rebuild(size)
                await ProjectedErasures(database, projection).catch_up()
                return count

            count = asyncio.run(rebuild())
    finally:
        projection.close()
        database.close()
    print(f"rebuilt the projection from {count} entries")  # noqa: T201 - the command's output
    return 0
