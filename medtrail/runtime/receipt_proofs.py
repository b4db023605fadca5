"""Proves receipts in the background: that each event is in the log at the index that its receipt names.

Bundles of entries and tiles come from where the log publishes them; tiles must lead to the root of the newest
checkpoint of the history that this service follows, so whoever serves them can refuse, and cannot lie. A receipt
that is not true is an alarm (RECEIPT_FALSE), and its event is sent again.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Protocol

import httpx
from sqlalchemy import Connection

from medtrail.checkpoint import Checkpoint, SignedCheckpoint
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.errors import MalformedError, MedtrailError, UnavailableError, VerificationError
from medtrail.gs1 import Gln
from medtrail.merkle import hash_leaf
from medtrail.runtime import receipts
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.runtime.receipts import OpenReceipt
from medtrail.runtime.tokens import Clock, utc_now
from medtrail.tiles import TILE_WIDTH, EntryBundle, Tile, TileHashReader, decode_entry_bundle
from medtrail.trust import Registry

log = get_logger(__name__)

RECEIPTS_A_PASS = 4096
PAUSE_S = 1.0
RETRY_FIRST_S = 1.0
RETRY_AT_MOST_S = 60.0
FETCH_TIMEOUT_S = 10.0
MAX_FILE_BYTES = 128 * 1024
_ENTRY_BYTES = 65
_HASH_END = 33

FetchFile = Callable[[str], bytes]
"""Returns a published file by its path below the log's prefix; blocks. Raises UnavailableError."""

FetchEvent = Callable[[int], Awaitable[bytes]]
"""Returns the SignedEvent at an index, whatever its proof says: it is compared with the entry."""


class History(Protocol):
    """The one history of the log that is believed: :class:`medtrail.runtime.replica.RegistryReplica`."""

    @property
    def checkpoint(self) -> SignedCheckpoint | None:
        """The newest verified checkpoint, or None."""

    @property
    def witnessed_size(self) -> int:
        """Size of the largest that has the quorum."""

    @property
    def registry(self) -> Registry:
        """Who may say what."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the log holds where receipts put events: true ones, those with other bytes there (by hash), untrue ones."""

    proven: tuple[OpenReceipt, ...]
    other: tuple[tuple[OpenReceipt, bytes], ...]


class PublishedFiles:
    """A log's public files over HTTP; for one thread."""

    def __init__(self, url: str) -> None:
        """Name the prefix; nothing is asked yet."""
        self._url = url.rstrip("/")
        self._client = httpx.Client(timeout=FETCH_TIMEOUT_S)

    def __call__(self, path: str) -> bytes:
        """Return a file.

        Raises:
            UnavailableError: LOG_UNREACHABLE: it cannot be had now.
        """
        try:
            with self._client.stream("GET", f"{self._url}/{path}") as answer:
                answer.raise_for_status()
                content = b""
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > MAX_FILE_BYTES:
                        message = f"{path} has more than {MAX_FILE_BYTES} bytes"
                        raise UnavailableError(message, code="LOG_UNREACHABLE")
        except httpx.HTTPError as error:
            message = f"{path} cannot be had: {type(error).__name__}"
            raise UnavailableError(message, code="LOG_UNREACHABLE") from error
        return content

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class ReceiptProver:
    """Proves what receipts say and follows what the witnesses sign; one a database."""

    def __init__(
        self,
        database: Database,
        replica: History,
        *,
        gln: Gln,
        fetch_file: FetchFile,
        fetch_event: FetchEvent,
        on_false: Callable[[], None],
        clock: Clock = utc_now,
    ) -> None:
        """Hold the parts.

        Args:
            database: With the tables of :mod:`medtrail.runtime.tables`.
            replica: Whose checkpoints are believed.
            gln: Our party GLN.
            fetch_file: Gives the log's public files.
            fetch_event: Gives events by index, for content that was in the log already under other bytes.
            on_false: Called on the event loop when events are to be sent again.
            clock: Aware UTC.
        """
        self._database = database
        self._replica = replica
        self._gln = gln
        self._fetch_file = fetch_file
        self._fetch_event = fetch_event
        self._on_false = on_false
        self._clock = clock

    async def run(self) -> None:
        """Prove until cancelled: at most once a second, later and later while the log's files cannot be had."""
        failures = 0
        while True:
            try:
                while await self.prove_once() == RECEIPTS_A_PASS:
                    pass
                failures = 0
                pause_s = PAUSE_S
            except MedtrailError as error:
                log.log(_level(failures), "receipts not proven yet", code=error.code, reason=error.message)
                pause_s = min(RETRY_FIRST_S * 2 ** min(failures, 10), RETRY_AT_MOST_S)
                failures += 1
            await asyncio.sleep(pause_s)

    async def prove_once(self) -> int:
        """Judge the receipts that the newest checkpoint can prove, up to 4,096; return how many were looked at.

        Raises:
            UnavailableError: The log's files, or an event that is to be compared, cannot be had; the others are judged.
            NotFoundError: EVENT_ERASED, likewise.
            VerificationError: The files do not lead to the checkpoint that the log signed.
        """
        head = self._replica.checkpoint
        if head is None:
            return 0
        size = head.checkpoint.size
        failed: MedtrailError | None = None
        due = await self._database.read(partial(receipts.unproven, tree_size=size, limit=RECEIPTS_A_PASS))
        if due:
            found = await asyncio.to_thread(_look, due, head.checkpoint, self._fetch_file)
            proven = [receipt.sha256 for receipt in found.proven]
            false = []
            for receipt, there in found.other:
                try:
                    reason = await self._untruth(receipt, there)
                except MedtrailError as error:
                    # One that cannot be judged now must not hold up the others.
                    failed = failed or error
                    continue
                if reason:
                    false.append((receipt, reason))
                else:
                    proven.append(receipt.sha256)
            await self._note(proven, false)
        witnessed = self._replica.witnessed_size
        if due or witnessed:
            await self._database.write(partial(receipts.mark_witnessed, tree_size=witnessed))
        if failed is not None:
            raise failed
        return len(due)

    async def _untruth(self, receipt: OpenReceipt, there: bytes) -> str:
        """Return why an entry with other bytes is not the event, or nothing when it has the same content.

        Bytes differ where an event was signed anew, and the log had it all the same.
        """
        signed_event = await self._fetch_event(receipt.leaf_index)
        if hashlib.sha256(signed_event).digest() != there:
            message = f"the ledger gave other bytes for entry {receipt.leaf_index} than it holds"
            raise VerificationError(message, code="EVENT_MISMATCH", leaf_index=receipt.leaf_index)
        try:
            signed = decode_signed_event(signed_event)
            signer = self._replica.registry.organisation_of_key(verify_signatures(signed))
            event_id = decode_payload(signed.payload_type, signed.payload).header.event_id
        except MedtrailError as error:
            return f"entry {receipt.leaf_index} cannot be read: {error.code}"
        if signer is None or signer.gln != self._gln or event_id != receipt.event_id:
            return f"entry {receipt.leaf_index} is another event: {event_id}"
        return ""

    async def _note(self, proven: Sequence[bytes], false: Sequence[tuple[OpenReceipt, str]]) -> None:
        now = self._clock()

        def write(connection: Connection) -> None:
            receipts.mark_proven(connection, proven)
            for receipt, reason in false:
                receipts.mark_false(connection, receipt, message=reason, now=now)

        await self._database.write(write)
        for receipt, reason in false:
            log.error(
                "receipt is false",
                code="RECEIPT_FALSE",
                event_id=receipt.event_id,
                reason=reason,
                sha256=receipt.sha256,
            )
        if false:
            self._on_false()


def _level(failures: int) -> int:
    # Once is news; the same again and again is not.
    return 30 if failures == 1 else 10


def _look(due: Sequence[OpenReceipt], checkpoint: Checkpoint, fetch_file: FetchFile) -> _Found:
    """Look where receipts put events, bundle by bundle; each entry is proven to be the log's. Blocks."""

    def read_tile(tile: Tile) -> bytes:
        return fetch_file(tile.path)

    hashes = TileHashReader(read_tile, tree_size=checkpoint.size, root_hash=checkpoint.root_hash)
    proven: list[OpenReceipt] = []
    other: list[tuple[OpenReceipt, bytes]] = []
    for number, group in groupby(due, key=lambda receipt: receipt.leaf_index // TILE_WIDTH):
        entries = _bundle(number, checkpoint.size, fetch_file)
        wanted = list(group)
        leaves = hashes([(0, receipt.leaf_index) for receipt in wanted])
        for receipt, leaf_hash in zip(wanted, leaves, strict=True):
            entry = entries[receipt.leaf_index % TILE_WIDTH]
            if len(entry) != _ENTRY_BYTES or hash_leaf(entry) != leaf_hash:
                message = f"the published entry {receipt.leaf_index} is not the log's"
                raise VerificationError(message, code="ENTRY_CORRUPT", leaf_index=receipt.leaf_index)
            there = entry[1:_HASH_END]
            if there == receipt.sha256:
                proven.append(receipt)
            else:
                other.append((receipt, there))
    return _Found(tuple(proven), tuple(other))


def _bundle(number: int, tree_size: int, fetch_file: FetchFile) -> tuple[bytes, ...]:
    width = min(TILE_WIDTH, tree_size - number * TILE_WIDTH)
    entries = decode_entry_bundle(fetch_file(EntryBundle(number, width).path))
    if len(entries) != width:
        message = f"expected {width} entries in bundle {number}, got {len(entries)}"
        raise MalformedError(message, code="BUNDLE_MALFORMED", field="entries")
    return entries
