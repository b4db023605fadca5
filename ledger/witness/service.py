"""What a witness decides, apart from HTTP: read a request, check it, remember, sign.

Check and memory are one transaction, durable before the answer, so that no two requests, no crash and no restart can
make a witness sign two histories of one log.

Source: C2SP tlog-witness v1.0, add-checkpoint; C2SP tlog-cosignature v1.0.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from sqlalchemy import BigInteger, Connection, MetaData, func, insert, select, update
from sqlmodel import Field, SQLModel

from medtrail.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from medtrail.errors import MalformedError, MedtrailError, RootMismatchError, SignatureError, VerificationError
from medtrail.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from medtrail.note import Cosigner, NoteVerifier
from medtrail.note_format import decode_base64, encode_base64, format_note, parse_decimal
from medtrail.policy import Policy
from medtrail.runtime.database import Database

MAX_REQUEST_BYTES = 16 * 1024
MAX_PROOF_LINES = 63
MOST_EVIDENCE = 100
"""Contradicting checkpoints that are kept of one log: the first is proof enough."""

WITNESS_METADATA = MetaData()


class WitnessTable(SQLModel):
    """Base of the witness's tables."""

    metadata: ClassVar[MetaData] = WITNESS_METADATA


class KnownCheckpoint(WitnessTable, table=True):
    """The newest checkpoint of a log that was cosigned: its note with the log's signatures and ours."""

    __tablename__: ClassVar[str] = "known_checkpoint"

    origin: str = Field(primary_key=True)
    tree_size: int = Field(sa_type=BigInteger)
    root_hash: bytes
    note: bytes
    time_s: int = Field(sa_type=BigInteger)


class Contradiction(WitnessTable, table=True):
    """A checkpoint that the log signed beside another of the same size: proof that it forked."""

    __tablename__: ClassVar[str] = "contradiction"

    origin: str = Field(primary_key=True)
    root_hash: bytes = Field(primary_key=True)
    tree_size: int = Field(sa_type=BigInteger)
    note: bytes


KNOWN = WITNESS_METADATA.tables["known_checkpoint"]
CONTRADICTION = WITNESS_METADATA.tables["contradiction"]


class WitnessRefusedError(MedtrailError):
    """A request that is answered with an HTTP status other than 200.

    Attributes:
        status: 400, 403, 404, 409 or 422.
        known_size: The size that the witness knows, where the answer tells it (409).
    """

    default_code = "WITNESS_REFUSED"

    def __init__(self, status: int, message: str, *, code: str, known_size: int | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.known_size = known_size


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request: the size that the witness is thought to know, the proof from there, and the signed checkpoint."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """Return the request's body."""
        lines = [f"old {self.old_size}", *(encode_base64(item) for item in self.proof), "", ""]
        return "\n".join(lines).encode() + self.note


def parse_request(body: bytes) -> AddCheckpoint:
    """Return the request that a body spells.

    Raises:
        WitnessRefusedError: 400.
    """
    head, separator, note = body.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
        if not separator or not lines[0].startswith("old ") or len(lines) > MAX_PROOF_LINES + 1:
            message = f"expected 'old <size>', at most {MAX_PROOF_LINES} lines of proof, an empty line, a checkpoint"
            raise MalformedError(message, code="REQUEST_MALFORMED")
        old_size = parse_decimal(lines[0].removeprefix("old "), field="old")
        proof = tuple(decode_base64(line, field="proof") for line in lines[1:])
        if any(len(item) != HASH_BYTES for item in proof):
            raise MalformedError("expected hashes of 32 bytes", code="REQUEST_MALFORMED")
    except (MedtrailError, UnicodeDecodeError) as error:
        raise WitnessRefusedError(400, str(error), code="REQUEST_MALFORMED") from error
    return AddCheckpoint(old_size, proof, note)


class Witness:
    """A witness's key, the logs that it knows, and its memory."""

    def __init__(self, database: Database, cosigner: Cosigner, policy: Policy, *, clock_s: Callable[[], float]) -> None:
        """Make the tables where they are absent. Blocks.

        Args:
            database: The witness's own.
            cosigner: Its key.
            policy: Its ``log`` lines name the logs that it knows.
            clock_s: Seconds since 1970.
        """
        self._database = database
        self._cosigner = cosigner
        self._policy = policy
        self._clock_s = clock_s
        database.create_tables(WITNESS_METADATA)

    async def add_checkpoint(self, body: bytes) -> bytes:
        """Return the cosignature line for a request, with LF.

        Raises:
            WitnessRefusedError: With the status to answer.
            UnavailableError: Nothing can be stored now: nothing is signed.
        """
        request = parse_request(body)
        signed = self._opened(request.note)
        checkpoint = signed.checkpoint
        if request.old_size > checkpoint.size:
            message = f"old is {request.old_size}, the checkpoint has {checkpoint.size}"
            raise WitnessRefusedError(400, message, code="REQUEST_MALFORMED")
        step = partial(self._remember, request=request, signed=signed)
        outcome = await self._database.write(step)
        if isinstance(outcome, WitnessRefusedError):
            raise outcome
        return outcome

    async def known_note(self, origin_sha256: str) -> bytes | None:
        """Return the newest cosigned checkpoint of the log whose origin has this SHA-256 (hex), or None."""
        names = {log.verifier.name for log in self._policy.logs}
        origin = next((name for name in names if hashlib.sha256(name.encode()).hexdigest() == origin_sha256), None)
        if origin is None:
            return None
        return await self._database.read(
            lambda connection: connection.execute(
                select(KNOWN.c.note).where(KNOWN.c.origin == origin)
            ).scalar_one_or_none()
        )

    def _opened(self, note: bytes) -> SignedCheckpoint:
        origin = note.partition(b"\n")[0].decode("utf-8", "replace")
        keys: list[NoteVerifier] = [log.verifier for log in self._policy.logs if log.verifier.name == origin]
        if not keys:
            raise WitnessRefusedError(404, f"the log {origin[:100]!r} is not known here", code="LOG_UNKNOWN")
        try:
            signed = open_checkpoint(note, origin=origin, verifiers=keys)
        except (RootMismatchError, MalformedError) as error:
            status = 422 if isinstance(error, RootMismatchError) else 400
            raise WitnessRefusedError(status, str(error), code=error.code) from error
        except (SignatureError, VerificationError) as error:
            raise WitnessRefusedError(403, str(error), code=error.code) from error
        return signed

    def _remember(
        self, connection: Connection, *, request: AddCheckpoint, signed: SignedCheckpoint
    ) -> bytes | WitnessRefusedError:
        """Check a request against what is known, remember the checkpoint, and return our signature line.

        A refusal is returned, not raised: what it keeps as evidence is to be committed.
        """
        checkpoint = signed.checkpoint
        known = connection.execute(select(KNOWN).where(KNOWN.c.origin == checkpoint.origin)).one_or_none()
        known_size, known_root = (0, EMPTY_ROOT) if known is None else (known.tree_size, known.root_hash)
        if known_size == checkpoint.size and known_root != checkpoint.root_hash:
            _keep_evidence(connection, signed)
            message = f"another root is known at {known_size} entries: the log forked"
            return WitnessRefusedError(409, message, code="LOG_FORKED", known_size=known_size)
        if known_size != request.old_size:
            message = f"{known_size} entries are known, not {request.old_size}"
            return WitnessRefusedError(409, message, code="OLD_SIZE_DIFFERS", known_size=known_size)
        try:
            _check_proof(request.proof, size1=known_size, root1=known_root, checkpoint=checkpoint)
        except MedtrailError as error:
            return WitnessRefusedError(422, str(error), code="CONSISTENCY_UNPROVEN")
        # A clock that goes back does not take a signature back.
        time_s = max(int(self._clock_s()), 0 if known is None else known.time_s)
        line = self._cosigner.cosign(checkpoint.text, timestamp=time_s)
        note = format_note(checkpoint.text, [*(one.signature for one in signed.signatures), line])
        values = {"tree_size": checkpoint.size, "root_hash": checkpoint.root_hash, "note": note, "time_s": time_s}
        if known is None:
            connection.execute(insert(KNOWN).values(origin=checkpoint.origin, **values))
        else:
            connection.execute(update(KNOWN).where(KNOWN.c.origin == checkpoint.origin).values(**values))
        return f"{line.line}\n".encode()


def _check_proof(proof: tuple[bytes, ...], *, size1: int, root1: bytes, checkpoint: Checkpoint) -> None:
    if size1 in {0, checkpoint.size}:
        if proof:
            raise VerificationError("expected no proof: nothing, or this tree, is known", code="PROOF_LENGTH")
        return
    verify_consistency(proof, size1=size1, size2=checkpoint.size, root1=root1, root2=checkpoint.root_hash)


def _keep_evidence(connection: Connection, signed: SignedCheckpoint) -> None:
    checkpoint = signed.checkpoint
    of_log = CONTRADICTION.c.origin == checkpoint.origin
    kept = connection.execute(select(func.count()).select_from(CONTRADICTION).where(of_log)).scalar_one()
    same = connection.execute(
        select(CONTRADICTION.c.origin).where(of_log, CONTRADICTION.c.root_hash == checkpoint.root_hash)
    ).first()
    if kept < MOST_EVIDENCE and same is None:
        connection.execute(
            insert(CONTRADICTION).values(
                origin=checkpoint.origin,
                root_hash=checkpoint.root_hash,
                tree_size=checkpoint.size,
                note=signed.note,
            )
        )
