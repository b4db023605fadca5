"""fsck of events: each message in order, each of its events judged anew, each stored row compared.

What entries, duplicates and refusals say is replayed from the stored bytes with a registry of its own. Memory holds the
leaf hashes, and one message at a time.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.fsck_report import Evidence, Report
from ledger.judgement import index_record, outcomes_sha256, refusal_record, same_content
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.epcis import check_event
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MedtrailError
from medtrail.event import Event, Genesis, PayloadType
from medtrail.item_map import identifiers, map_key
from medtrail.trust import Registry

Row = sqlite3.Row
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
_CONFLICT = "EVENT_ID_CONFLICT"
_BATCH_CODES = frozenset({"BATCH_EMPTY", "BATCH_TOO_LARGE", "MESSAGE_MALFORMED", "FIELD_UNKNOWN", "TOO_LARGE"})


class _Peekable:
    """Rows in order, of which those that belong to one key are taken at a time."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def take_while(self, belongs: Callable[[Row], bool]) -> list[Row]:
        taken: list[Row] = []
        while self._next is not None and belongs(self._next):
            taken.append(self._next)
            self._next = next(self._rows, None)
        return taken

    @property
    def left(self) -> Row | None:
        return self._next


@dataclass(frozen=True, slots=True)
class _Read:
    """An event read anew from its bytes."""

    event: Event
    key_id: str
    signer_gln: str


class EventChecks:
    """One run over all messages and entries."""

    def __init__(
        self, evidence: Evidence, report: Report, *, authority_key_id: str, tell: Callable[[int, int], None]
    ) -> None:
        """Hold what is checked; the authority key is the genesis' own when empty."""
        self._evidence = evidence
        self._report = report
        self._tell = tell
        self._registry = Registry(authority_key_id=authority_key_id)
        self._pinned = bool(authority_key_id)
        self._leaf_hashes: list[bytes] = []
        self._entries = _Peekable(evidence.rows("entry", "leaf_index"))
        self._events = _Peekable(evidence.rows("signed_event", "leaf_index"))
        self._duplicates = _Peekable(evidence.rows("duplicate", "epoch, stream_seq, position"))
        self._refusals = _Peekable(evidence.rows("refusal", "epoch, stream_seq, position"))

    def run(self, state: Row) -> list[bytes]:
        """Check everything; return the leaf hashes, derived from the SignedEvents."""
        self._genesis(state)
        expected = {"number": 0, "epoch": 0, "next_seq": 1, "sha256": b""}
        for message in self._evidence.rows("message", "number"):
            self._order(message, expected)
            self._message(message)
            expected = {
                "number": message["number"],
                "epoch": message["epoch"],
                "next_seq": message["stream_seq"] + 1,
                "sha256": message["message_sha256"],
            }
            self._report.message_count += 1
            self._tell(len(self._leaf_hashes), self._report.tree_size)
        self._left_over()
        self._cursor(state, expected)
        return self._leaf_hashes

    # --- the whole ---

    def _genesis(self, state: Row) -> None:
        for row in self._entries.take_while(lambda row: row["leaf_index"] == 0):
            statement = self._genesis_statement(row)
            if statement is not None and statement.origin != state["origin"]:
                self._report.add(
                    "STATE_MISMATCH", f"the log is of {state['origin']!r}, the genesis of another", index=0
                )
            if row["epoch"] or row["stream_seq"] or row["position"]:
                self._report.add("ENTRY_CORRUPT", "no message carried the genesis", index=0)

    def _genesis_statement(self, row: Row) -> Genesis | None:
        data = self._peek_event(0)
        if not self._pinned and data is not None:
            try:
                signed = decode_signed_event(data)
                statement = decode_payload(signed.payload_type, signed.payload).statement
                if isinstance(statement, Genesis):
                    self._registry = Registry(authority_key_id=statement.authority_key_id)
            except MedtrailError as error:
                self._report.add("EVENT_CORRUPT", f"the genesis cannot be read: {error}", index=0)
        read = self._entry(row, stream_time=_EPOCH_START, judged=False)
        return read.event.statement if read is not None and isinstance(read.event.statement, Genesis) else None

    def _peek_event(self, leaf_index: int) -> bytes | None:
        row = self._events.left
        return row["data"] if row is not None and row["leaf_index"] == leaf_index else None

    def _order(self, message: Row, before: dict[str, Any]) -> None:
        seq, epoch = message["stream_seq"], message["epoch"]
        if message["number"] != before["number"] + 1:
            self._report.add("MESSAGE_MISSING", f"no message {before['number'] + 1}", index=seq)
        follows = epoch == before["epoch"] and seq == before["next_seq"]
        begins = epoch == before["epoch"] + 1 and seq >= 1
        if not follows and not begins:
            self._report.add("MESSAGE_MISSING", f"epoch {epoch}, message {seq} does not follow", index=seq)

    def _cursor(self, state: Row, last: dict[str, Any]) -> None:
        report = self._report
        if state["tree_size"] != len(self._leaf_hashes):
            report.add("STATE_MISMATCH", f"the log says {state['tree_size']} entries, found {len(self._leaf_hashes)}")
        expected = (max(last["epoch"], 1), last["next_seq"], last["sha256"])
        if (state["epoch"], state["next_seq"], state["last_message_sha256"]) != expected:
            report.add("STATE_MISMATCH", "the cursor does not follow from the last message", index=state["next_seq"])

    def _left_over(self) -> None:
        for code, rows, name in (
            ("ENTRY_UNACCOUNTED", self._entries, "leaf_index"),
            ("EVENT_UNACCOUNTED", self._events, "leaf_index"),
            ("DUPLICATE_UNACCOUNTED", self._duplicates, "stream_seq"),
            ("REFUSAL_UNACCOUNTED", self._refusals, "stream_seq"),
        ):
            for row in rows.take_while(lambda _row: True):
                self._report.add(code, "belongs to no message, or stands out of order", index=row[name])

    # --- a message ---

    def _message(self, message: Row) -> None:
        place = (message["epoch"], message["stream_seq"])
        entries = self._entries.take_while(lambda row: row["leaf_index"] < message["tree_size"])
        duplicates = self._duplicates.take_while(lambda row: (row["epoch"], row["stream_seq"]) == place)
        refusals = self._refusals.take_while(lambda row: (row["epoch"], row["stream_seq"]) == place)
        outcomes = sorted(
            [(row["position"], "E", row) for row in entries]
            + [(row["position"], "D", row) for row in duplicates]
            + [(row["position"], "R", row) for row in refusals],
            key=lambda outcome: outcome[:2],
        )
        seq = message["stream_seq"]
        if [position for position, _, _ in outcomes] != list(range(message["event_count"])):
            text = f"{message['event_count']} events, accounted for {len(outcomes)}, each exactly once"
            self._report.add("EVENTS_UNACCOUNTED", text, index=seq)
        stream_time = _EPOCH_START + timedelta(microseconds=message["stream_time_us"])
        records = [self._outcome(kind, row, message, stream_time) for _, kind, row in outcomes]
        derived = outcomes_sha256(
            epoch=message["epoch"],
            stream_seq=seq,
            stream_time_us=message["stream_time_us"],
            subject=message["subject"],
            message_sha256=message["message_sha256"],
            tree_size=message["tree_size"],
            records=records,
        )
        if derived != message["outcomes_sha256"]:
            self._report.add("MESSAGE_CORRUPT", "what became of its events does not fit its record", index=seq)
        if message["tree_size"] != len(self._leaf_hashes):
            text = f"says {message['tree_size']} entries after it, found {len(self._leaf_hashes)}"
            self._report.add("MESSAGE_CORRUPT", text, index=seq)

    def _outcome(self, kind: str, row: Row, message: Row, stream_time: datetime) -> bytes:
        digest: bytes = row["signed_event_sha256"]
        if kind == "R":
            self._report.refusal_count += 1
            self._refusal(row, message, stream_time)
            error = (row["code"], row["field"], row["message"])
            return refusal_record(digest, event_id=row["event_id"], error=error, signer=row["signer_gln"])
        if kind == "D":
            self._report.duplicate_count += 1
            if not 0 <= row["leaf_index"] < len(self._leaf_hashes):
                self._report.add("DUPLICATE_CORRUPT", f"names entry {row['leaf_index']}", index=row["stream_seq"])
            return index_record(digest, row["leaf_index"], resend=True)
        same = ("epoch", "stream_seq", "stream_time_us")
        if any(row[name] != message[name] for name in same):
            self._report.add("ENTRY_CORRUPT", "names another message than carried it", index=row["leaf_index"])
        self._entry(row, stream_time=stream_time)
        return index_record(digest, row["leaf_index"], resend=False)

    # --- an entry ---

    def _entry(self, row: Row, *, stream_time: datetime, judged: bool = True) -> _Read | None:
        index = len(self._leaf_hashes)
        report = self._report
        if row["leaf_index"] != index:
            report.add("ENTRY_MISSING", f"expected entry {index}, found {row['leaf_index']}", index=index)
        data = self._take(self._events, index, "EVENT_MISSING", "data")
        keys = (row["list_salt"], row["map_keys"])
        named = (row["event_id"], row["signer_gln"], row["declaration"])
        digest = hashlib.sha256(data[0] if data else b"").digest()
        if digest != row["signed_event_sha256"]:
            report.add("EVENT_CORRUPT", "the stored SignedEvent has another hash", index=index)
        key_list = hashlib.sha256(keys[0] + keys[1]).digest()
        entry = b"\x01" + digest + key_list
        if entry != row["entry"]:
            report.add("ENTRY_CORRUPT", "does not follow from its SignedEvent and key list", index=index)
        self._leaf_hashes.append(hashlib.sha256(b"\x00" + entry).digest())
        if data is None:
            return None
        read = self._read_entry(data[0], index, stream_time if judged else None)
        if read is not None:
            self._compare(read, row, keys=keys, named=named, index=index)
        return read

    def _take(self, rows: _Peekable, index: int, code: str, *names: str) -> tuple[Any, ...] | None:
        found = rows.take_while(lambda row: row["leaf_index"] <= index)
        match = [row for row in found if row["leaf_index"] == index]
        if len(found) != 1 or not match:
            self._report.add(code, f"expected one row, found {len(found)}", index=index)
        return tuple(match[0][name] for name in names) if match else None

    def _read_entry(self, data: bytes, index: int, stream_time: datetime | None) -> _Read | None:
        try:
            read = self._read(data)
            if stream_time is not None:
                self._registry.judge(read.event, key_id=read.key_id, stream_time=stream_time)
            if read.event.payload_type == PayloadType.TRUST:
                self._registry.apply(index, read.key_id, read.event)
        except MedtrailError as error:
            self._report.add("EVENT_REFUSABLE", f"{error.code}: {error}", index=index)
            return None
        return read

    def _compare(
        self, read: _Read, row: Row, *, keys: tuple[Any, ...] | None, named: tuple[Any, ...] | None, index: int
    ) -> None:
        event, report = read.event, self._report
        if row["payload_type"] != event.payload_type:
            report.add("ENTRY_CORRUPT", "names another payload type than its event has", index=index)
        if keys is not None:
            if keys[0] != hashlib.sha256(b"keys" + event.header.salt).digest():
                report.add("KEY_LIST_CORRUPT", "the list salt does not follow from the event's salt", index=index)
            salt = self._evidence.map_salt
            if salt is not None and keys[1] != b"".join(sorted(map_key(salt, name) for name in identifiers(event))):
                report.add("KEY_LIST_CORRUPT", "the keys do not follow from the event's identifiers", index=index)
        expected = (event.header.event_id, read.signer_gln, event.is_declaration)
        if named is not None and (named[0], named[1], bool(named[2])) != expected:
            report.add("DUPLICATE_KEY_CORRUPT", "does not follow from the event and its signer", index=index)

    def _read(self, data: bytes) -> _Read:
        signed = decode_signed_event(data)
        key_id = verify_signatures(signed)
        event = decode_payload(signed.payload_type, signed.payload)
        if isinstance(event.statement, EpcisEvent):
            check_event(event.statement)
        organisation = self._registry.organisation_of_key(key_id)
        if organisation is not None:
            signer = str(organisation.gln)
        else:
            signer = str(event.header.actor) if key_id == self._registry.authority_key_id else ""
        return _Read(event, key_id, signer)

    # --- a refusal ---

    def _refusal(self, row: Row, message: Row, stream_time: datetime) -> None:
        seq = row["stream_seq"]
        data: bytes = row["signed_event"]
        if hashlib.sha256(data).digest() != row["signed_event_sha256"]:
            self._report.add("REFUSAL_CORRUPT", "the stored bytes have another hash", index=seq)
            return
        code = self._why_refused(data, stream_time)
        whole_message = message["event_count"] == 1 and row["code"] in _BATCH_CODES
        if code != row["code"] and not whole_message:
            text = f"refused with {row['code']}, derived {code or 'nothing against it'}"
            self._report.add("REFUSAL_UNFOUNDED", text, index=seq)

    def _why_refused(self, data: bytes, stream_time: datetime) -> str:
        try:
            read = self._read(data)
            self._registry.judge(read.event, key_id=read.key_id, stream_time=stream_time)
            if self._conflicts(read):
                return _CONFLICT
            if read.event.payload_type == PayloadType.TRUST:
                # A statement against the rules changes nothing; a good one would not stand among the refusals.
                self._registry.apply(len(self._leaf_hashes), read.key_id, read.event)
        except MedtrailError as error:
            return error.code
        return ""

    def _conflicts(self, read: _Read) -> bool:
        header = read.event.header
        stored = self._evidence.event_of_key(header.event_id, read.signer_gln, declaration=read.event.is_declaration)
        if stored is None:
            return False
        signed = decode_signed_event(stored)
        return not same_content(decode_payload(signed.payload_type, signed.payload), read.event)
