"""Checking a log from its stored bytes alone, by another way than that which wrote them.

Row by row through SQLite's own interface, by the definitions of the formats: no compact ranges, no bulk statements, no
code of storage or ingest. Every row of the evidence is read; a changed byte anywhere in it is told with a code and its
place. The database is opened for reading only, so that nothing here mends what it should report.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ledger.fsck_events import EventChecks
from ledger.fsck_report import Evidence, Report
from ledger.fsck_tree import TreeChecks
from medtrail.errors import MalformedError, NotFoundError
from medtrail.note import NoteSigner, NoteVerifier, parse_vkey
from medtrail.runtime.folder import OrganisationFolder

DATABASE_NAME = "ledger.db"
PUBLIC_NAME = "public"
ORGANISATION_NAME = "org"

Tell = Callable[[int, int], None]
"""Takes how many entries are checked, and of how many."""


def check_folder(
    folder: Path, *, vkey: str = "", authority_key_id: str = "", tell: Tell = lambda _done, _total: None
) -> Report:
    """Check the log of a ledger's data folder: ledger.db, public/ and, for the keys, org/.

    Args:
        folder: The data folder.
        vkey: The log's verifier key; empty: that of org/log.key.
        authority_key_id: The pinned authority key (did:key); empty: the one that the genesis names.
        tell: Is told the progress.

    Raises:
        NotFoundError: There is no log, or no key to check it with.
        MalformedError: The folder or a key cannot be read.
    """
    path = folder / DATABASE_NAME
    if not path.is_file():
        raise NotFoundError(f"{path} is missing", code="FILE_MISSING", field="dir")
    verifier, map_salt = _keys(folder, vkey)
    report = Report()
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            # One snapshot, whatever a running ledger adds meanwhile.
            connection.execute("BEGIN")
            evidence = Evidence(connection, public=folder / PUBLIC_NAME, map_salt=map_salt)
            damage = evidence.damage()
            if damage:
                report.add("DATABASE_DAMAGED", damage)
            state = evidence.state()
            report.tree_size = state["tree_size"]
            leaf_hashes = EventChecks(evidence, report, authority_key_id=authority_key_id, tell=tell).run(state)
            TreeChecks(evidence, report, verifier=verifier).run(state, leaf_hashes)
    except sqlite3.DatabaseError as error:
        report.add("DATABASE_DAMAGED", f"the database cannot be read: {error}")
    return report


def _keys(folder: Path, vkey: str) -> tuple[NoteVerifier, bytes | None]:
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
    return NoteSigner(_origin(folder), organisation.log_seed()).verifier, map_salt


def _origin(folder: Path) -> str:
    try:
        with closing(sqlite3.connect(f"{(folder / DATABASE_NAME).resolve().as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT origin FROM log_state").fetchone()
    except sqlite3.DatabaseError as error:
        raise MalformedError(f"the database cannot be read: {error}", code="DATABASE_DAMAGED", field="dir") from error
    if row is None:
        raise NotFoundError("no log was created in this database", code="LOG_MISSING", field="dir")
    return str(row[0])
