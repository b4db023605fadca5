"""The tree, derived anew from what is stored: SignedEvents and key lists."""

import hashlib

from sqlalchemy import Connection

from ledger.storage import entry_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.entry_store import StoredEntry
from medtrail.errors import RootMismatchError, VerificationError
from medtrail.item_map import log_entry
from medtrail.merkle import CompactRange, hash_leaf

ENTRIES_A_READ = 2048


def derive_tree(connection: Connection, newest: StoredCheckpoint | None, size: int) -> CompactRange:
    """Return the tree of the first entries, derived from the stored bytes since a checkpoint.

    Args:
        connection: In a transaction.
        newest: The checkpoint; None derives from entry 0.
        size: Number of entries, not less than the checkpoint's.

    Raises:
        VerificationError: ENTRY_CORRUPT or ENTRY_MISSING, with the index.
        RootMismatchError: The checkpoint's tree does not have its root.
    """
    derived = CompactRange() if newest is None else newest.tree
    if newest is not None and derived.root() != newest.root_hash:
        raise RootMismatchError(expected=newest.root_hash, computed=derived.root())
    while derived.size < size:
        derived = extended(connection, derived, min(derived.size + ENTRIES_A_READ, size))
    return derived


def extended(connection: Connection, tree: CompactRange, size: int) -> CompactRange:
    """Return a tree with the entries after it, derived from their stored bytes, of which few are in memory at once.

    Raises:
        VerificationError: ENTRY_CORRUPT or ENTRY_MISSING, with the index.
    """
    stored = entry_store.each_entry(connection, start=tree.size, end=size)
    derived = tree.extend([derive_leaf(entry, index) for index, entry in enumerate(stored, tree.size)])
    if derived.size != size:
        raise VerificationError(f"entry {derived.size} is missing", code="ENTRY_MISSING", leaf_index=derived.size)
    return derived


def derive_leaf(stored: StoredEntry, leaf_index: int) -> bytes:
    """Return the leaf hash of an entry, derived from its SignedEvent and key list.

    Raises:
        VerificationError: ENTRY_CORRUPT: the stored entry is another.
    """
    keys = hashlib.sha256(stored.list_salt + stored.map_keys).digest()
    # Of an erased event its hash is left, in the entry itself.
    digest = stored.entry[1:33] if stored.erased else hashlib.sha256(stored.signed_event or b"").digest()
    entry = log_entry(digest, keys)
    if entry != stored.entry or stored.leaf_index != leaf_index:
        message = f"entry {leaf_index} does not follow from its stored event and key list"
        raise VerificationError(message, code="ENTRY_CORRUPT", leaf_index=leaf_index)
    return hash_leaf(entry)
