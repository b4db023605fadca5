"""Checking a log from its stored bytes alone, by another way than that which wrote them.

Row by row through the drivers' own interfaces, by the definitions of the formats: no compact ranges, no bulk
statements, no code of storage or ingest. Every row of the evidence is read; a changed byte anywhere in it is told with
a code and its place. The public files are checked on the same way, or by themselves where there is no database. Memory
is bounded, however large the log is.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from ledger.fsck_events import EventChecks
from ledger.fsck_report import Report
from ledger.fsck_source import Row, Source, open_source
from ledger.fsck_stream import SignedRow, TreeStream, entries_of_files
from medtrail.errors import MalformedError, NotFoundError, VerificationError
from medtrail.note import NoteSigner, NoteVerifier, parse_vkey
from medtrail.policy import Policy
from medtrail.runtime.folder import OrganisationFolder

DATABASE_NAME = "ledger.db"
PUBLIC_NAME = "public"
ORGANISATION_NAME = "org"
TELL_EVERY = 256

Tell = Callable[[int, int], None]
"""Takes how many entries are checked, and of how many."""


def check_folder(
    folder: Path,
    *,
    vkey: str = "",
    authority_key_id: str = "",
    database_url: str = "",
    policy: Policy | None = None,
    with_files: bool = True,
    tell: Tell = lambda _done, _total: None,
) -> Report:
    """Check the log of a ledger's data folder: its database, public/ and, for the keys, org/.

    Args:
        folder: The data folder.
        vkey: The log's verifier key; empty: that of org/log.key.
        authority_key_id: The pinned authority key (did:key); empty: the one that the genesis names.
        database_url: ``postgresql://…``; empty: ledger.db in the folder.
        policy: Its witnesses' keys verify the cosignatures.
        with_files: False checks the database alone, as in a backup.
        tell: Is told the progress.

    Raises:
        NotFoundError: There is no log, or no key to check it with.
        MalformedError: The folder or a key cannot be read.
        UnavailableError: The database cannot be reached.
    """
    report = Report()
    with open_source(folder / DATABASE_NAME, database_url) as source:
        try:
            state = _state(source)
            verifier, map_salt = _keys(folder, vkey, origin=state["origin"])
            damage = source.damage()
            if damage:
                report.add("DATABASE_DAMAGED", damage)
            report.tree_size = state["tree_size"]
            tree = TreeStream(
                report,
                origin=state["origin"],
                verifier=verifier,
                policy=policy,
                public=folder / PUBLIC_NAME if with_files else None,
                signed=_signed(source, report),
            )
            EventChecks(source, report, tree, map_salt=map_salt, authority_key_id=authority_key_id, tell=tell).run(
                state
            )
            tree.finish(bytes(state["tree_range"]))
            _check_steering(source, state, report)
        except source.errors as error:
            report.add("DATABASE_DAMAGED", f"the database cannot be read: {error}")
    return report


def check_files(
    public: Path, *, vkey: str, policy: Policy | None = None, tell: Tell = lambda _done, _total: None
) -> Report:
    """Check public files by themselves: entries against tiles, tiles against the checkpoint, its signatures.

    Args:
        public: The folder with ``checkpoint`` and ``tile/``.
        vkey: The log's verifier key.
        policy: Its witnesses' keys verify the cosignatures, and its quorum is demanded.
        tell: Is told the progress.

    Raises:
        MalformedError: The key cannot be read.
    """
    verifier = parse_vkey(vkey)
    report = Report()
    tree = TreeStream(report, origin=verifier.name, verifier=verifier, policy=policy, public=public, signed=None)
    report.tree_size = tree.published_size
    if report.findings:
        # Without a checkpoint to believe there is nothing that the files could be compared with.
        return report
    try:
        for entry in entries_of_files(public, tree.published_size):
            tree.add(entry)
            if tree.size % TELL_EVERY == 0:
                tell(tree.size, tree.published_size)
    except VerificationError as error:
        report.add(error.code, error.message, index=tree.size)
    tree.finish(None)
    return report


def _state(source: Source) -> Row:
    row = next(source.rows("SELECT * FROM log_state"), None)
    if row is None:
        raise NotFoundError("no log was created in this database", code="LOG_MISSING", field="dir")
    return row


def _signed(source: Source, report: Report) -> Iterator[SignedRow]:
    lines = source.rows("SELECT * FROM cosignature ORDER BY tree_size, witness")
    line = next(lines, None)
    for row in source.rows("SELECT * FROM checkpoint ORDER BY tree_size"):
        size, found = row["tree_size"], []
        while line is not None and line["tree_size"] <= size:
            if line["tree_size"] == size:
                found.append(line["line"])
            else:
                _no_checkpoint(line, report)
            line = next(lines, None)
        yield SignedRow(size, bytes(row["root_hash"]), bytes(row["tree_range"]), bytes(row["note"]), tuple(found))
    for left in [] if line is None else [line, *lines]:
        _no_checkpoint(left, report)


def _no_checkpoint(line: Row, report: Report) -> None:
    size = line["tree_size"]
    report.add("COSIGNATURE_CORRUPT", f"{line['witness']} signed a checkpoint that does not stand", index=size)


def _check_steering(source: Source, state: Row, report: Report) -> None:
    lease = next(source.rows("SELECT * FROM lease"), None)
    if lease is None or lease["fence"] > state["fence"]:
        report.add("STATE_MISMATCH", "the lease is missing, or ahead of the log's fence")
    if state["must_reach_size"] and not state["frozen"]:
        report.add("STATE_MISMATCH", "a tree must be reached, and nothing says why")


def _keys(folder: Path, vkey: str, *, origin: str) -> tuple[NoteVerifier, bytes | None]:
    organisation = None
    try:
        organisation = OrganisationFolder(folder / ORGANISATION_NAME)
    except NotFoundError:
        if not vkey:
            message = f"neither --vkey nor {folder / ORGANISATION_NAME} tells the log's key"
            raise NotFoundError(message, code="KEY_MISSING", field="vkey") from None
    map_salt = None if organisation is None else organisation.map_salt()
    if vkey:
        return parse_vkey(vkey), map_salt
    if organisation is None:  # pragma: no cover - refused above
        raise MalformedError("no key", code="KEY_MISSING")
    return NoteSigner(origin, organisation.log_seed()).verifier, map_salt
