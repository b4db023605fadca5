"""fsck of events: each message in order, each of its events judged anew, each stored row compared.

What entries, duplicates and refusals say is replayed from the stored bytes with a registry of its own. Memory holds
the registry, and one message at a time.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.fsck_records import entry_record, keyed_event_id, message_record, refusal_row_record, says_the_same
from ledger.fsck_report import Report
from ledger.fsck_source import Row, Source
from ledger.fsck_stream import TreeStream
from medtrail.claims import claims_of
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.epcis import check_event
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MedtrailError
from medtrail.event import ErasureConsent, ErasureOrder, Event, Genesis, PayloadType, Statement
from medtrail.item_map import identifiers, map_key
from medtrail.trust import Registry

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
        self,
        source: Source,
        report: Report,
        tree: TreeStream,
        *,
        map_salt: bytes | None,
        authority_key_id: str,
        tell: Callable[[int, int], None],
    ) -> None:
        """Hold what is checked.

        Args:
            source: The database, in one snapshot.
            report: Gets the findings.
            tree: Gets the entries.
            map_salt: The item map's secret, 32 bytes; None: what depends on it is not checked.
            authority_key_id: did:key; empty: the genesis' own.
            tell: Is told the progress.
        """
        self._source = source
        self._report = report
        self._tree = tree
        self._map_salt = map_salt
        self._tell = tell
        self._registry = Registry(authority_key_id=authority_key_id)
        self._pinned = bool(authority_key_id)
        self._epoch_count = 0
        self._entries = _Peekable(source.rows("SELECT * FROM entry ORDER BY leaf_index"))
        self._events = _Peekable(source.rows("SELECT * FROM signed_event ORDER BY leaf_index"))
        self._erasures = _Peekable(source.rows("SELECT * FROM erasure ORDER BY leaf_index"))
        self._epochs = _Peekable(source.rows("SELECT * FROM epoch ORDER BY epoch"))
        in_order = "ORDER BY epoch, stream_seq, position"
        self._duplicates = _Peekable(source.rows(f"SELECT * FROM duplicate {in_order}"))  # noqa: S608 - a constant
        self._refusals = _Peekable(source.rows(f"SELECT * FROM refusal {in_order}"))  # noqa: S608 - a constant

    def run(self, state: Row) -> None:
        """Check everything; the entries, derived from the SignedEvents, go to the tree."""
        self._genesis(state)
        expected = {"number": 0, "epoch": 0, "next_seq": 1, "sha256": b""}
        for message in self._source.rows("SELECT * FROM message ORDER BY number"):
            self._order(message, expected)
            self._message(message)
            expected = {
                "number": message["number"],
                "epoch": message["epoch"],
                "next_seq": message["stream_seq"] + 1,
                "sha256": message["message_sha256"],
            }
            self._report.message_count += 1
            self._tell(self._tree.size, self._report.tree_size)
        self._left_over()
        self._cursor(state, expected)

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
        # Epochs in which nothing was read leave no message.
        begins = epoch > before["epoch"] and (seq == 1 if epoch == 1 else seq >= 1)
        if not follows and not begins:
            self._report.add("MESSAGE_MISSING", f"epoch {epoch}, message {seq} does not follow", index=seq)
        self._begin_epochs(up_to=epoch)

    def _begin_epochs(self, *, up_to: int) -> None:
        """Check the records of the epochs that begin here: each once, in order, at the size that the log had."""
        for row in self._epochs.take_while(lambda row: row["epoch"] <= up_to):
            self._epoch_count += 1
            if row["epoch"] != self._epoch_count or row["tree_size"] != self._tree.size or not row["reason"]:
                text = f"epoch {row['epoch']} is recorded at {row['tree_size']} entries, it begins at {self._tree.size}"
                self._report.add("EPOCH_CORRUPT", text, index=row["epoch"])

    def _cursor(self, state: Row, last: dict[str, Any]) -> None:
        report = self._report
        if state["tree_size"] != self._tree.size:
            report.add("STATE_MISMATCH", f"the log says {state['tree_size']} entries, found {self._tree.size}")
        self._begin_epochs(up_to=state["epoch"])
        if self._epoch_count != state["epoch"] or self._epochs.left is not None:
            report.add("EPOCH_CORRUPT", f"the log is in epoch {state['epoch']}, recorded are {self._epoch_count}")
        expected = (last["next_seq"], last["sha256"]) if state["epoch"] == max(last["epoch"], 1) else (1, b"")
        behind = state["epoch"] < last["epoch"]
        if behind or (state["next_seq"], bytes(state["last_message_sha256"])) != expected:
            report.add("STATE_MISMATCH", "the cursor does not follow from the last message", index=state["next_seq"])

    def _left_over(self) -> None:
        for code, rows, name in (
            ("ENTRY_UNACCOUNTED", self._entries, "leaf_index"),
            ("EVENT_UNACCOUNTED", self._events, "leaf_index"),
            ("ERASURE_UNACCOUNTED", self._erasures, "leaf_index"),
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
        if message_record(message, records) != message["outcomes_sha256"]:
            self._report.add("MESSAGE_CORRUPT", "what became of its events does not fit its record", index=seq)
        if message["tree_size"] != self._tree.size:
            text = f"says {message['tree_size']} entries after it, found {self._tree.size}"
            self._report.add("MESSAGE_CORRUPT", text, index=seq)

    def _outcome(self, kind: str, row: Row, message: Row, stream_time: datetime) -> bytes:
        digest: bytes = row["signed_event_sha256"]
        if kind == "R":
            self._report.refusal_count += 1
            self._refusal(row, message, stream_time)
            return refusal_row_record(row)
        if kind == "D":
            self._report.duplicate_count += 1
            if not 0 <= row["leaf_index"] < self._tree.size:
                self._report.add("DUPLICATE_CORRUPT", f"names entry {row['leaf_index']}", index=row["stream_seq"])
            return entry_record(digest, row["leaf_index"], duplicate=True)
        same = ("epoch", "stream_seq", "stream_time_us")
        if any(row[name] != message[name] for name in same):
            self._report.add("ENTRY_CORRUPT", "names another message than carried it", index=row["leaf_index"])
        self._entry(row, stream_time=stream_time)
        return entry_record(digest, row["leaf_index"], duplicate=False)

    # --- an entry ---

    def _entry(self, row: Row, *, stream_time: datetime, judged: bool = True) -> _Read | None:
        index = self._tree.size
        report = self._report
        if row["leaf_index"] != index:
            report.add("ENTRY_MISSING", f"expected entry {index}, found {row['leaf_index']}", index=index)
        erased = self._erasures.take_while(lambda one: one["leaf_index"] <= index)
        data = self._take_event(index, erased=bool(erased))
        for one in erased:
            self._erasure(one, row, index)
        digest = row["signed_event_sha256"] if data is None else hashlib.sha256(data).digest()
        if digest != row["signed_event_sha256"]:
            report.add("EVENT_CORRUPT", "the stored SignedEvent has another hash", index=index)
        entry = b"\x01" + digest + hashlib.sha256(row["list_salt"] + row["map_keys"]).digest()
        if entry != row["entry"]:
            report.add("ENTRY_CORRUPT", "does not follow from its SignedEvent and key list", index=index)
        self._tree.add(entry)
        if data is None:
            return None
        read = self._read_entry(data, index, stream_time if judged else None)
        if read is not None:
            self._compare(read, row, index=index)
        return read

    def _take_event(self, index: int, *, erased: bool) -> bytes | None:
        found = self._events.take_while(lambda row: row["leaf_index"] <= index)
        data: list[bytes] = [row["data"] for row in found if row["leaf_index"] == index]
        if len(found) > len(data) or (not data and not erased):
            self._report.add("EVENT_MISSING", f"expected one event, found {len(found)}", index=index)
        if data and erased:
            self._report.add("ERASURE_CORRUPT", "the event is said to be erased, and stands", index=index)
        return data[0] if data else None

    def _erasure(self, erasure: Row, row: Row, index: int) -> None:
        report = self._report
        report.erasure_count += 1
        if erasure["leaf_index"] != index or row["event_id"]:
            report.add("ERASURE_CORRUPT", "names another entry, or its event id still stands", index=index)
        elif not self._ordered(erasure, row):
            report.add("ERASURE_UNFOUNDED", "no order or consent in the log says what the erasure does", index=index)

    def _ordered(self, erasure: Row, row: Row) -> bool:
        """Tell whether order and consent are entries that name the erased bytes, the order by who signed them."""
        if erasure["signer_gln"] != row["signer_gln"] or erasure["order_index"] <= row["leaf_index"]:
            return False
        order = self._erasure_statement(erasure["order_index"], row["signer_gln"])
        wanted = ErasureOrder(row["signed_event_sha256"], erasure["reason"])
        if not isinstance(order, ErasureOrder) or order != wanted:
            return False
        consent_index = erasure["consent_index"]
        if consent_index is None:
            return True
        consent = self._erasure_statement(consent_index, None)
        return (
            consent_index < erasure["order_index"]
            and isinstance(consent, ErasureConsent)
            and consent.signed_event_sha256 == row["signed_event_sha256"]
        )

    def _erasure_statement(self, index: int, signer_gln: str | None) -> Statement | None:
        rows = self._source.rows(
            "SELECT data, signer_gln FROM signed_event JOIN entry USING (leaf_index) WHERE leaf_index = ?", index
        )
        for row in list(rows):
            if signer_gln in {None, row["signer_gln"]}:
                try:
                    signed = decode_signed_event(row["data"])
                    return decode_payload(signed.payload_type, signed.payload).statement
                except MedtrailError:
                    return None
        return None

    def _read_entry(self, data: bytes, index: int, stream_time: datetime | None) -> _Read | None:
        try:
            read = self._read(data)
            if stream_time is not None:
                self._registry.judge(claims_of(read.event), key_id=read.key_id, stream_time=stream_time)
            if read.event.payload_type == PayloadType.TRUST:
                self._registry.apply(index, read.key_id, read.event)
        except MedtrailError as error:
            self._report.add("EVENT_REFUSABLE", f"{error.code}: {error}", index=index)
            return None
        return read

    def _compare(self, read: _Read, row: Row, *, index: int) -> None:
        event, report = read.event, self._report
        if row["payload_type"] != event.payload_type:
            report.add("ENTRY_CORRUPT", "names another payload type than its event has", index=index)
        if row["list_salt"] != hashlib.sha256(b"keys" + event.header.salt).digest():
            report.add("KEY_LIST_CORRUPT", "the list salt does not follow from the event's salt", index=index)
        expected = (event.header.event_id, read.signer_gln, event.is_declaration)
        if (row["event_id"], row["signer_gln"], bool(row["declaration"])) != expected:
            report.add("DUPLICATE_KEY_CORRUPT", "does not follow from the event and its signer", index=index)
        salt = self._map_salt
        if salt is None:
            return
        if row["map_keys"] != b"".join(sorted(map_key(salt, name) for name in identifiers(event))):
            report.add("KEY_LIST_CORRUPT", "the keys do not follow from the event's identifiers", index=index)
        if row["event_id_hash"] != keyed_event_id(salt, event.header.event_id):
            report.add("DUPLICATE_KEY_CORRUPT", "the hash of the event id does not follow from it", index=index)

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
        if not data and self._was_erased(row):
            return
        if hashlib.sha256(data).digest() != row["signed_event_sha256"]:
            self._report.add("REFUSAL_CORRUPT", "the stored bytes have another hash", index=seq)
            return
        code = self._why_refused(data, stream_time)
        whole_message = message["event_count"] == 1 and row["code"] in _BATCH_CODES
        if code != row["code"] and not whole_message:
            text = f"refused with {row['code']}, derived {code or 'nothing against it'}"
            self._report.add("REFUSAL_UNFOUNDED", text, index=seq)

    def _was_erased(self, row: Row) -> bool:
        """Tell whether a refusal has no bytes because they, or what stood under its event id, were erased."""
        if row["code"] == "EVENT_ERASED":
            return any(True for _ in self._source.rows("SELECT leaf_index FROM erasure"))
        query = "SELECT leaf_index FROM erasure JOIN entry USING (leaf_index) WHERE signed_event_sha256 = ?"
        return any(True for _ in self._source.rows(query, row["signed_event_sha256"]))

    def _why_refused(self, data: bytes, stream_time: datetime) -> str:
        try:
            read = self._read(data)
            self._registry.judge(claims_of(read.event), key_id=read.key_id, stream_time=stream_time)
            if self._conflicts(read):
                return _CONFLICT
            if read.event.payload_type == PayloadType.TRUST:
                # A statement against the rules changes nothing; a good one would not stand among the refusals.
                self._registry.apply(self._tree.size, read.key_id, read.event)
        except MedtrailError as error:
            return error.code
        return ""

    def _conflicts(self, read: _Read) -> bool:
        header = read.event.header
        stored = self._source.rows(
            "SELECT data FROM signed_event JOIN entry USING (leaf_index)"
            " WHERE event_id = ? AND signer_gln = ? AND declaration = ?",
            header.event_id,
            read.signer_gln,
            read.event.is_declaration,
        )
        for row in list(stored):
            signed = decode_signed_event(row["data"])
            if not says_the_same(decode_payload(signed.payload_type, signed.payload), read.event):
                return True
        return self._conflicted_with_erased(read)

    def _conflicted_with_erased(self, read: _Read) -> bool:
        # What it said cannot be compared any more; that something stood under the event id can.
        if self._map_salt is None:
            return False
        erased = self._source.rows(
            "SELECT leaf_index FROM entry JOIN erasure USING (leaf_index)"
            " WHERE event_id_hash = ? AND entry.signer_gln = ? AND declaration = ?",
            keyed_event_id(self._map_salt, read.event.header.event_id),
            read.signer_gln,
            read.event.is_declaration,
        )
        return any(True for _ in erased)
