"""Policies: which logs and witnesses are known, and how many witnesses must have seen a checkpoint.

One directive a line; ``#`` begins a comment, blank lines are passed over::

    log <verifier key> [<url>]
    witness <name> <verifier key> [<url>]
    group <name> <k>|any|all <witness or group> …
    quorum <witness or group>|none

A name is given before it is used and stands in one group at most. There is exactly one quorum. A log's key is of type
0x01 and a witness's of type 0x04; the name in a witness line is the policy's own, the key has one too.

Source: C2SP tlog-policy (draft).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from medtrail.checkpoint import SignedCheckpoint
from medtrail.errors import MalformedError, TooLargeError, VerificationError
from medtrail.note import KeyType, NoteVerifier, parse_vkey

MAX_POLICY_BYTES = 64 * 1024
MAX_WITNESSES = 64
"""Most witnesses of a policy, so that a note can hold all their lines beside the log's."""

NO_QUORUM = "none"
_NAME = re.compile(r"[^\s#+]{1,100}")
_URL = re.compile(r"https?://[^\s?#]{1,500}")
_COUNT = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log's key, and where it serves its files (empty: not told)."""

    verifier: NoteVerifier
    url: str = ""


@dataclass(frozen=True, slots=True)
class KnownWitness:
    """A witness: its name in the policy, its key, and where it answers (empty: not told)."""

    name: str
    verifier: NoteVerifier
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """So many of these members, witnesses or groups by name, must agree."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy.

    Attributes:
        logs: In the file's order.
        witnesses: In the file's order.
        groups: Each after its members.
        quorum: Name of a witness or group, or ``none``.
    """

    logs: tuple[KnownLog, ...]
    witnesses: tuple[KnownWitness, ...]
    groups: tuple[Group, ...]
    quorum: str

    @property
    def verifiers(self) -> tuple[NoteVerifier, ...]:
        """All keys: logs' and witnesses'."""
        return (*(log.verifier for log in self.logs), *(witness.verifier for witness in self.witnesses))

    def log(self, origin: str) -> KnownLog:
        """Return the first log of an origin.

        Raises:
            VerificationError: LOG_UNKNOWN: the policy names none.
        """
        for known in self.logs:
            if known.verifier.name == origin:
                return known
        raise VerificationError(f"the policy names no log {origin}", code="LOG_UNKNOWN", field="origin")

    def met(self, cosigned: Iterable[NoteVerifier]) -> bool:
        """Tell whether these keys, whose cosignatures were verified, make the quorum."""
        keys = set(cosigned)
        holds: dict[str, bool] = {witness.name: witness.verifier in keys for witness in self.witnesses}
        for group in self.groups:
            holds[group.name] = sum(holds[member] for member in group.members) >= group.threshold
        return self.quorum == NO_QUORUM or holds[self.quorum]

    def check(self, signed: SignedCheckpoint) -> None:
        """Check that the witnesses of a checkpoint, opened with :attr:`verifiers`, make the quorum.

        Raises:
            VerificationError: QUORUM_NOT_MET.
        """
        cosigned = [one.verifier for one in signed.cosignatures]
        if not self.met(cosigned):
            seen = ", ".join(witness.name for witness in self.witnesses if witness.verifier in cosigned) or "none"
            message = f"the quorum {self.quorum} is not met: of the policy's witnesses signed {seen}"
            raise VerificationError(message, code="QUORUM_NOT_MET", field="checkpoint")


def parse_policy(text: str) -> Policy:
    """Return the policy that a text spells.

    Raises:
        MalformedError: POLICY_MALFORMED, with the line; a key's own code where a key is none.
        TooLargeError: More than 64 KiB.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_POLICY_BYTES:
        raise TooLargeError(f"a policy has at most {MAX_POLICY_BYTES} bytes", field="policy")
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split()
        if words:
            reader.read(number, words)
    return reader.policy()


class _Reader:
    """What was read so far."""

    def __init__(self) -> None:
        self._logs: list[KnownLog] = []
        self._witnesses: list[KnownWitness] = []
        self._groups: list[Group] = []
        self._free: dict[str, bool] = {}
        self._quorum = ""

    def read(self, number: int, words: list[str]) -> None:
        directive, *rest = words
        readers = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._set_quorum}
        reader = readers.get(directive)
        if reader is None:
            raise _malformed(number, f"expected log, witness, group or quorum, got {directive!r}")
        reader(number, rest)

    def policy(self) -> Policy:
        if not self._quorum:
            raise MalformedError("expected a quorum line", code="POLICY_MALFORMED", field="quorum")
        return Policy(tuple(self._logs), tuple(self._witnesses), tuple(self._groups), self._quorum)

    def _log(self, number: int, words: list[str]) -> None:
        if not 1 <= len(words) <= 2:
            raise _malformed(number, "expected: log <verifier key> [<url>]")
        verifier = _key(number, words[0], KeyType.ED25519)
        if any(log.verifier == verifier for log in self._logs):
            raise _malformed(number, f"the log {verifier.name} stands twice with this key")
        self._logs.append(KnownLog(verifier, _url(number, words[1:])))

    def _witness(self, number: int, words: list[str]) -> None:
        if not 2 <= len(words) <= 3:
            raise _malformed(number, "expected: witness <name> <verifier key> [<url>]")
        if len(self._witnesses) == MAX_WITNESSES:
            raise _malformed(number, f"expected at most {MAX_WITNESSES} witnesses")
        self._name(number, words[0])
        verifier = _key(number, words[1], KeyType.COSIGNATURE_V1)
        # One voice must not count twice under two names.
        if any(witness.verifier.public_key == verifier.public_key for witness in self._witnesses):
            raise _malformed(number, f"the key of {words[0]} is another witness's")
        self._witnesses.append(KnownWitness(words[0], verifier, _url(number, words[2:])))

    def _group(self, number: int, words: list[str]) -> None:
        if len(words) < 3:
            raise _malformed(number, "expected: group <name> <k>|any|all <member> …")
        name, count, *members = words
        for member in members:
            if member not in self._free:
                raise _malformed(number, f"no witness or group {member!r} stands above")
            if not self._free[member]:
                raise _malformed(number, f"{member} is a member already")
            self._free[member] = False
        self._name(number, name)
        self._groups.append(Group(name, _threshold(number, count, len(members)), tuple(members)))

    def _set_quorum(self, number: int, words: list[str]) -> None:
        if self._quorum or len(words) != 1:
            raise _malformed(number, "expected one line: quorum <name>|none")
        if words[0] != NO_QUORUM and words[0] not in self._free:
            raise _malformed(number, f"no witness or group {words[0]!r} stands above")
        self._quorum = words[0]

    def _name(self, number: int, name: str) -> None:
        if name == NO_QUORUM or not _NAME.fullmatch(name):
            raise _malformed(number, f"{name!r} cannot be a name")
        if name in self._free:
            raise _malformed(number, f"the name {name} is taken")
        self._free[name] = True


def _threshold(number: int, text: str, members: int) -> int:
    words: Mapping[str, int] = {"any": 1, "all": members}
    if text in words:
        return words[text]
    if not _COUNT.fullmatch(text) or int(text) > members:
        raise _malformed(number, f"expected any, all or 1 to {members}, got {text!r}")
    return int(text)


def _key(number: int, text: str, wanted: KeyType) -> NoteVerifier:
    verifier = parse_vkey(text)
    if verifier.key_type is not wanted:
        raise _malformed(number, f"expected a key of type {wanted:#04x}, got {verifier.key_type:#04x}")
    return verifier


def _url(number: int, words: list[str]) -> str:
    if not words:
        return ""
    if not _URL.fullmatch(words[0]):
        raise _malformed(number, f"{words[0]!r} is no http address")
    return words[0].rstrip("/")


def _malformed(number: int, reason: str) -> MalformedError:
    return MalformedError(f"line {number}: {reason}", code="POLICY_MALFORMED", field=f"line {number}")
