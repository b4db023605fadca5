"""What fsck reads and what it reports."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medtrail.errors import NotFoundError

MOST_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold: a stable code, where (leaf index, stream sequence or tree size), and what."""

    code: str
    index: int | None
    message: str


@dataclass(slots=True)
class Report:
    """What was checked and found; at most 1,000 findings are kept, all are counted."""

    tree_size: int = 0
    message_count: int = 0
    duplicate_count: int = 0
    refusal_count: int = 0
    checkpoint_count: int = 0
    file_count: int = 0
    finding_count: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: str, message: str, *, index: int | None = None) -> None:
        """Note a finding."""
        self.finding_count += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(code, index, message))

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return asdict(self)


class Evidence:
    """The stored rows, read in order, and who may vouch for them."""

    def __init__(self, connection: sqlite3.Connection, *, public: Path, map_salt: bytes | None) -> None:
        """Hold an open database, the public folder, and the item map's salt when it is at hand."""
        self._connection = connection
        self.public = public
        self.map_salt = map_salt

    def rows(self, table: str, order: str, *, where: str = "") -> Iterator[sqlite3.Row]:
        """Yield the rows of a table in an order; all three texts are constants of the checks."""
        condition = f" WHERE {where}" if where else ""
        with closing(self._connection.execute(f"SELECT * FROM {table}{condition} ORDER BY {order}")) as cursor:  # noqa: S608 - constants of the checks
            yield from cursor

    def state(self) -> sqlite3.Row:
        """Return the log's one row.

        Raises:
            NotFoundError: LOG_MISSING.
        """
        row: sqlite3.Row | None = self._connection.execute("SELECT * FROM log_state").fetchone()
        if row is None:
            raise NotFoundError("no log was created in this database", code="LOG_MISSING")
        return row

    def damage(self) -> str:
        """Return what SQLite finds wrong with its own pages and indices, or an empty text."""
        found = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check(10)")]
        return "" if found == ["ok"] else "; ".join(found)

    def event_of_key(self, event_id: str, signer_gln: str, *, declaration: bool) -> bytes | None:
        """Return the SignedEvent that stands under a duplicate key, or None."""
        row = self._connection.execute(
            "SELECT data FROM signed_event JOIN entry USING (leaf_index)"
            " WHERE event_id = ? AND signer_gln = ? AND declaration = ?",
            (event_id, signer_gln, declaration),
        ).fetchone()
        return None if row is None else row[0]
