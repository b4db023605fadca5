"""Asking one witness over HTTP. Nothing that it answers is believed unchecked.

Source: C2SP tlog-witness v1.0.
"""

import asyncio
import hashlib
import time
from dataclasses import dataclass

import httpx

from ledger.witness.app import SIZE_TYPE
from ledger.witness.service import AddCheckpoint
from medtrail.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from medtrail.errors import MedtrailError, UnavailableError, VerificationError
from medtrail.note import NoteVerifier, VerifiedSignature
from medtrail.note_format import parse_decimal, parse_signature_line
from medtrail.policy import KnownWitness

MAX_ANSWER_BYTES = 64 * 1024
MAX_AHEAD_S = 300
MAX_BEHIND_S = 3600
CONFLICT = 409


@dataclass(frozen=True, slots=True)
class SizeTold:
    """The witness knows another size than the request named."""

    size: int


class WitnessClient:
    """A connection to one witness."""

    def __init__(self, witness: KnownWitness, *, timeout_s: float) -> None:
        """Name the witness; nothing is sent yet.

        Args:
            witness: Its key, and where it answers.
            timeout_s: For each request.
        """
        self.witness = witness
        # Plain bytes: what is sent packed may be a thousand times as long when it is unpacked.
        self._client = httpx.AsyncClient(
            timeout=timeout_s, follow_redirects=False, headers={"Accept-Encoding": "identity"}
        )
        self._timeout_s = timeout_s

    async def add_checkpoint(self, request: AddCheckpoint, checkpoint: Checkpoint) -> VerifiedSignature | SizeTold:
        """Return the witness's verified cosignature, or the size that it knows.

        Raises:
            UnavailableError: WITNESS_UNREACHABLE.
            VerificationError: WITNESS_REFUSED, with the status; WITNESS_LIED: no valid cosignature of it, or one of
                another time, came.
        """
        answer = await self._send("POST", "/add-checkpoint", request.encode())
        if answer.status_code == CONFLICT and answer.headers.get("content-type") == SIZE_TYPE:
            return SizeTold(self._size(answer.content))
        if answer.status_code != httpx.codes.OK:
            reason = answer.text.strip()[:200]
            message = f"{self.witness.name} answered {answer.status_code}: {reason}"
            raise VerificationError(message, code="WITNESS_REFUSED", status=answer.status_code)
        return self._verified(answer.content, checkpoint)

    async def known(self, log: NoteVerifier) -> SignedCheckpoint | None:
        """Return the newest checkpoint of a log that the witness shows, verified with the log's key; None: none.

        Raises:
            UnavailableError: WITNESS_UNREACHABLE.
            MedtrailError: What it shows is not signed by the log.
        """
        name = hashlib.sha256(log.name.encode()).hexdigest()
        answer = await self._send("GET", f"/{name}/checkpoint", b"")
        if answer.status_code != httpx.codes.OK:
            return None
        return open_checkpoint(answer.content, origin=log.name, verifiers=[log])

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _send(self, method: str, path: str, body: bytes) -> httpx.Response:
        try:
            # In all: a witness that sends a byte now and then is one that does not answer.
            async with asyncio.timeout(self._timeout_s):
                return await self._answer(self._client.build_request(method, f"{self.witness.url}{path}", content=body))
        except (httpx.HTTPError, TimeoutError) as error:
            message = f"{self.witness.name} does not answer: {type(error).__name__}"
            raise UnavailableError(message, code="WITNESS_UNREACHABLE") from error

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._client.send(request, stream=True)
        try:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise VerificationError(f"{self.witness.name} answered packed, unasked", code="WITNESS_LIED")
            content = b""
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    message = f"{self.witness.name} answered more than {MAX_ANSWER_BYTES} bytes"
                    raise VerificationError(message, code="WITNESS_LIED")
        finally:
            await answer.aclose()
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)

    def _size(self, content: bytes) -> int:
        text, newline, rest = content.decode("latin-1").partition("\n")
        try:
            # Without its newline the text may have been cut.
            return parse_decimal(text if newline and not rest else "", field="size")
        except MedtrailError as error:
            raise VerificationError(f"{self.witness.name} told no size", code="WITNESS_LIED") from error

    def _verified(self, content: bytes, checkpoint: Checkpoint) -> VerifiedSignature:
        verifier = self.witness.verifier
        try:
            for line in content.decode("utf-8").splitlines():
                signature = parse_signature_line(line)
                if (signature.name, signature.key_id) == (verifier.name, verifier.key_id):
                    verified = verifier.verify(checkpoint.text, signature)
                    self._check_time(verified.timestamp or 0)
                    return verified
        except (MedtrailError, UnicodeDecodeError) as error:
            raise VerificationError(f"{self.witness.name}: {error}", code="WITNESS_LIED") from error
        raise VerificationError(f"{self.witness.name} answered without its signature", code="WITNESS_LIED")

    def _check_time(self, timestamp: int) -> None:
        ahead_s = timestamp - time.time()
        if not -MAX_BEHIND_S <= ahead_s <= MAX_AHEAD_S:
            message = f"{self.witness.name} signed for a time {ahead_s:.0f} s from ours"
            raise VerificationError(message, code="WITNESS_LIED")
