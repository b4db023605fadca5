import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.errors import MalformedError, MedtrailError, UnavailableError, VerificationError
from medtrail.merkle import CompactRange, hash_leaf, verify_consistency
from medtrail.monitor import Audited, AuditState, LogContradictionError, Monitor, trusted
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.note_format import add_signatures, decode_base64
from medtrail.policy import parse_policy
from medtrail.tiles import TileEdge, encode_entry_bundle, new_entry_bundles

LOG = NoteSigner("ledger.example/eu1", bytes(range(32)))
COSIGNER = Cosigner("witness.example/w1", bytes(32))
NOW_S = 1_800_000_000


class Published:
    """A log's public files in memory, as it publishes them growing from size to size."""

    def __init__(self, *sizes: int, name: str = "entry") -> None:
        self.files: dict[str, bytes] = {}
        self.edge = TileEdge()
        self.entries: list[bytes] = []
        self.name = name
        self.asked: list[str] = []
        for size in sizes:
            self.grow(size)

    def grow(self, size: int) -> bytes:
        old = self.edge.size
        self.entries += [f"{self.name} {number}".encode() for number in range(old, size)]
        self.edge, full = self.edge.extend([hash_leaf(entry) for entry in self.entries[old:]])
        self.files |= {tile.path: content for tile, content in full}
        self.files |= {tile.path: content for tile, content in self.edge.partial_tiles(old_size=old)}
        for bundle in new_entry_bundles(old, size):
            first = 256 * bundle.index
            self.files[bundle.path] = encode_entry_bundle(self.entries[first : first + bundle.width])
        self.files["checkpoint"] = self.sign(self.edge.compact_range().root())
        return self.files["checkpoint"]

    def sign(self, root_hash: bytes, *, signer: NoteSigner = LOG) -> bytes:
        return sign_checkpoint(Checkpoint(signer.name, self.edge.size, root_hash), signer)

    def drop_partials(self) -> None:
        """Drop partial files where the full one stands, as a log may."""
        for path in list(self.files):
            if ".p/" in path and path.partition(".p/")[0] in self.files:
                del self.files[path]

    def fetch(self, paths: Sequence[str]) -> list[bytes | None]:
        self.asked += paths
        return [self.files.get(path) for path in paths]

    def audit(self, state: AuditState | None = None, *, now_s: int = NOW_S) -> Audited:
        return Monitor(self.fetch, verifier=LOG.verifier).audit(state, now_s=now_s)

    def seen(self) -> AuditState:
        """Return the state of a monitor that has read all."""
        return self.audit().state


def refusal(audit: Callable[[], object]) -> MedtrailError:
    with pytest.raises(MedtrailError) as caught:
        audit()
    return caught.value


def contradiction(audit: Callable[[], object]) -> LogContradictionError:
    with pytest.raises(LogContradictionError) as caught:
        audit()
    return caught.value


@pytest.mark.parametrize("sizes", [(1,), (5, 5, 9), (255, 256, 257), (3, 300, 70_000), (8_192, 8_193)])
def test_follows_an_honest_log_and_reads_each_entry_once(sizes: tuple[int, ...]) -> None:
    log = Published()
    told: list[tuple[int, int]] = []
    kept: list[AuditState] = []
    monitor = Monitor(
        log.fetch, verifier=LOG.verifier, keep=kept.append, tell=lambda done, total: told.append((done, total))
    )
    state, read = None, 0
    for size in sizes:
        log.grow(size)
        log.drop_partials()
        log.asked.clear()
        audited = monitor.audit(state, now_s=NOW_S)
        assert (audited.signed.checkpoint.size, audited.entries_read) == (size, size - read)
        bundles = [path for path in log.asked if "entries" in path]
        assert len(bundles) == len(set(bundles))
        assert kept[-1] == audited.state
        assert audited.state.read == log.edge.compact_range()
        # What is kept goes through a file.
        state, read = AuditState.decode(audited.state.encode(LOG.verifier), LOG.verifier), size
    assert told[-1] == (sizes[-1], sizes[-1])
    log.asked.clear()
    assert log.audit(state).entries_read == 0
    assert log.asked == ["checkpoint"]


def test_goes_on_after_a_crash_at_any_step() -> None:
    log = Published(10_000)
    kept: list[AuditState] = []
    Monitor(log.fetch, verifier=LOG.verifier, keep=kept.append).audit(None, now_s=NOW_S)
    assert [state.read and state.read.size for state in kept] == [0, 4096, 8192, 10_000]
    log.grow(12_345)
    log.drop_partials()
    for state in kept:
        assert state.read is not None
        audited = log.audit(AuditState.decode(state.encode(LOG.verifier), LOG.verifier))
        assert audited.entries_read == 12_345 - state.read.size


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300])
def test_begins_at_a_trusted_checkpoint_and_reads_what_follows(size: int) -> None:
    log = Published()
    state = trusted(log.grow(size), LOG.verifier, now_s=NOW_S)
    log.grow(600)
    audited = log.audit(AuditState.decode(state.encode(LOG.verifier), LOG.verifier))
    assert audited.entries_read == 600 - size
    assert audited.state.read == log.edge.compact_range()
    if size:
        other = Published(size, name="other").files["checkpoint"]
        assert contradiction(lambda: log.audit(trusted(other, LOG.verifier, now_s=NOW_S))).code == "LOG_FORKED"


def test_age_of_a_size_is_counted_from_its_first_sight() -> None:
    log = Published(4)
    state = log.audit().state
    audited = log.audit(state, now_s=NOW_S + 30)
    assert (audited.age_s, audited.state.first_seen_s) == (30, NOW_S)
    # A clock that was set back makes nothing older than it is.
    assert log.audit(audited.state, now_s=NOW_S - 5).age_s == 0
    log.grow(5)
    assert log.audit(audited.state, now_s=NOW_S + 40).age_s == 0


def test_log_may_drop_a_partial_file_once_the_full_one_stands() -> None:
    log = Published(3, 300)
    stale = log.files["checkpoint"]
    log.grow(600)
    log.drop_partials()
    log.files["checkpoint"] = stale
    assert log.audit().signed.checkpoint.size == 300


def test_empty_log_is_no_misbehaviour() -> None:
    log = Published()
    error = refusal(log.audit)
    assert isinstance(error, UnavailableError)
    assert error.code == "CHECKPOINT_MISSING"
    log.grow(0)
    state = log.audit().state
    log.grow(4)
    assert log.audit(state).entries_read == 4


def test_shrunk_log_is_told_with_both_notes() -> None:
    log, shorter = Published(9), Published(4)
    state = log.seen()
    error = contradiction(lambda: shorter.audit(state))
    assert (error.code, error.older, error.newer) == ("LOG_SHRANK", state.note, shorter.files["checkpoint"])
    assert error.proof_document() is None


@pytest.mark.parametrize("old", [1, 9, 8, 256, 300])
@pytest.mark.parametrize("more", [0, 1, 291, 1000])
def test_forked_log_is_told_with_a_proof_for_anybody(old: int, more: int) -> None:
    log, other = Published(old), Published(old + more, name="other")
    state = log.seen()
    error = contradiction(lambda: other.audit(state))
    assert (error.code, error.older, error.newer) == ("LOG_FORKED", state.note, other.files["checkpoint"])
    document = error.proof_document()
    if not more:
        assert document is None
        return
    # Whoever has the two notes and this needs nobody's word: the newer root holds another tree of the older size.
    assert document is not None
    shown = json.loads(document)
    older_root = decode_base64(shown["older_root"], field="older_root")
    assert older_root != log.edge.compact_range().root()
    verify_consistency(
        [decode_base64(one, field="proof") for one in shown["proof"]],
        size1=old,
        size2=old + more,
        root1=older_root,
        root2=other.edge.compact_range().root(),
    )


def test_entry_that_was_rewritten_under_a_new_root_is_a_fork() -> None:
    log, rewritten = Published(300), Published()
    state = log.seen()
    rewritten.entries = [*log.entries[:17], b"another", *log.entries[18:]]
    rewritten.edge, full = TileEdge().extend([hash_leaf(entry) for entry in rewritten.entries])
    rewritten.files = {tile.path: content for tile, content in (*full, *rewritten.edge.partial_tiles())}
    rewritten.grow(301)
    assert contradiction(lambda: rewritten.audit(state)).code == "LOG_FORKED"


@pytest.mark.parametrize("seen_size", [0, 4, 258])
def test_every_changed_cut_or_missing_file_is_told(seen_size: int) -> None:
    log = Published(3, 260, 520)
    log.drop_partials()
    honest = dict(log.files)
    state = Published(seen_size).seen() if seen_size else None
    # Full places that were read before are not read again: the tree above vouches for them.
    passed = {"checkpoint", *(("tile/0/000", "tile/entries/000") if seen_size >= 256 else ())}
    for path in sorted(set(honest) - passed):
        content = honest[path]
        # What came before the last size in a place that is full now is not needed by this checkpoint.
        needed = ".p/" not in path or path.endswith((".p/8", "1/000.p/2"))
        for changed in (None, content[:-1], content[:-1] + bytes((content[-1] ^ 1,)), content[:40], b""):
            log.files = {name: held for name, held in honest.items() if name != path}
            if changed is not None:
                log.files[path] = changed
            if needed:
                error = refusal(lambda: log.audit(state))
                assert error.code in {"BAD_TILE", "BAD_BUNDLE", "TILE_MISSING"}, path
                assert error.field is not None
                assert error.field in path
            else:
                log.audit(state)


def test_bundle_of_other_entries_is_told_with_the_entry() -> None:
    log, other = Published(4), Published(4, name="other")
    log.files["tile/entries/000.p/4"] = other.files["tile/entries/000.p/4"]
    error = refusal(log.audit)
    assert (error.code, error.field) == ("BAD_BUNDLE", "tile/entries/000.p/4")
    assert "entry 0" in error.message


@pytest.mark.parametrize("size", [4, 256])
def test_bundle_that_lacks_entries_is_told(size: int) -> None:
    log = Published(size)
    path = "tile/entries/000" + (".p/4" if size == 4 else "")
    log.files[path] = encode_entry_bundle(log.entries[:-1])
    assert refusal(log.audit).code == "BAD_BUNDLE"


def test_checkpoint_that_the_log_did_not_sign_is_told() -> None:
    log = Published(4)
    root = log.edge.compact_range().root()
    for note in (
        log.sign(root, signer=NoteSigner(LOG.name, bytes(32))),
        log.sign(root, signer=NoteSigner("ledger.example/eu2", bytes(range(32)))),
        b"<html>log in first</html>",
        b"",
    ):
        log.files["checkpoint"] = note
        error = refusal(log.audit)
        assert isinstance(error, VerificationError)
        assert (error.code, error.field) == ("BAD_CHECKPOINT", "checkpoint")


def test_quorum_is_demanded_but_a_fork_is_told_first() -> None:
    log = Published(4)
    state = log.seen()
    policy = parse_policy(f"witness w1 {format_vkey(COSIGNER.verifier)}\nquorum w1\n")
    monitor = Monitor(log.fetch, verifier=LOG.verifier, policy=policy)
    assert refusal(lambda: monitor.audit(None, now_s=NOW_S)).code == "QUORUM_NOT_MET"
    other = Published(4, name="other").files["checkpoint"]
    honest, log.files["checkpoint"] = log.files["checkpoint"], other
    assert refusal(lambda: monitor.audit(state, now_s=NOW_S)).code == "LOG_FORKED"
    text = honest.partition(b"\n\n")[0].decode() + "\n"
    log.files["checkpoint"] = add_signatures(honest, [COSIGNER.cosign(text, timestamp=1)])
    (cosignature,) = monitor.audit(state, now_s=NOW_S).signed.cosignatures
    assert cosignature.verifier == COSIGNER.verifier


def test_checkpoint_binds_the_log_even_if_its_entries_cannot_be_read() -> None:
    log = Published(4)
    del log.files["tile/entries/000.p/4"]
    kept: list[AuditState] = []
    monitor = Monitor(log.fetch, verifier=LOG.verifier, keep=kept.append)
    assert refusal(lambda: monitor.audit(None, now_s=NOW_S)).code == "TILE_MISSING"
    assert contradiction(lambda: Published(4, name="other").audit(kept[-1])).code == "LOG_FORKED"


def test_state_that_counts_other_entries_as_read_is_refused() -> None:
    log, other = Published(4), Published(4, name="other")
    for size in (4, 9):
        log.grow(size)
        wrong = replace(log.seen(), read=other.edge.compact_range())
        error = refusal(lambda wrong=wrong: log.audit(wrong))  # type: ignore[misc]
        assert (type(error), error.code) == (MalformedError, "AUDIT_STATE_MALFORMED")


def test_refuses_what_is_no_state_of_this_log() -> None:
    state = Published(4).seen()
    honest = json.loads(state.encode(LOG.verifier))
    beyond = CompactRange().extend([bytes(32)] * 5).to_bytes().hex()
    broken: list[object] = [
        [],
        {},
        None,
        {**honest, "version": 2},
        {**honest, "vkey": format_vkey(NoteSigner(LOG.name, bytes(32)).verifier)},
        {**honest, "note": 3},
        {**honest, "note": "nothing"},
        {**honest, "read": "00"},
        {**honest, "read": "zz"},
        {**honest, "read": beyond},
        {**honest, "first_seen_s": "now"},
    ]
    for data in (b"", b"\xff", *(json.dumps(one).encode() for one in broken)):
        error = refusal(lambda data=data: AuditState.decode(data, LOG.verifier))  # type: ignore[misc]
        assert (type(error), error.code) == (MalformedError, "AUDIT_STATE_MALFORMED")


def test_trusted_checkpoint_must_be_the_log_s() -> None:
    with pytest.raises(VerificationError):
        trusted(Published(4).files["checkpoint"], NoteSigner(LOG.name, bytes(32)).verifier, now_s=NOW_S)
