"""Reading the EVENTS stream by sequence number, and telling when it is not the stream that we read before.

JetStream can lose acknowledged messages and then give their numbers to others. So nothing here relies on a consumer or
an acknowledgement: each batch is asked for by number, must be contiguous, and must follow the message whose hash we
keep. Whatever does not fit halts the reader; to go on is the operator's act (LEDGER, section 2.1).

Source: NATS ADR-31 (Direct Get, batched).
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from nats.aio.msg import Msg

from ledger.intake import StreamMessage
from ledger.storage.log_store import State
from medtrail.errors import ConflictError, UnavailableError
from medtrail.runtime.bus import Bus
from medtrail.subjects import EVENTS_STREAM

MESSAGES_A_READ = 256
BYTES_A_READ = 2 * 1024 * 1024
ANSWER_TIMEOUT_S = 5.0
STATE_CHECK_S = 1.0
"""Pause between questions for the stream's state while nothing comes."""


class StreamHaltError(ConflictError):
    """The stream is not the one that was read before: STREAM_GAP, _SHRANK, _RECREATED or _REWRITTEN."""

    default_code = "STREAM_HALTED"


class EventStream:
    """The EVENTS stream, read in order."""

    def __init__(self, bus: Bus, *, messages_a_read: int = MESSAGES_A_READ) -> None:
        """Hold the connection; nothing is read yet.

        Args:
            bus: Of the ledger's user.
            messages_a_read: Most messages of one read, 1 or more: at most 1 MiB each, 2 MiB in all or one message.
        """
        self._bus = bus
        self._messages_a_read = messages_a_read
        self._checked: tuple[int, float] = (-1, 0.0)
        self._inbox: tuple[int, str] | None = None
        self._answers: asyncio.Queue[Msg] = asyncio.Queue()
        self._request_number = 0
        self.created = ""

    async def read(self, *, next_seq: int, last_sha256: bytes, created: str) -> list[StreamMessage]:
        """Return the messages from a sequence on, contiguous; none when there is nothing yet.

        Args:
            next_seq: First sequence wanted.
            last_sha256: Hash of message next_seq - 1 as it was read; empty when none was.
            created: The stream's creation time as it was; empty when nothing was read.

        Raises:
            StreamHaltError: It is not the stream that was read before.
            UnavailableError: The exchange does not answer now.
        """
        messages = await self._batch(next_seq)
        if not messages or self._checked[0] != self._bus.generation:
            await self._check_state(next_seq=next_seq, created=created, idle=not messages)
        messages = await self._contiguous(messages, next_seq)
        if messages and last_sha256:
            # After the read: whatever was put in the place of our last message stood there before what we hold.
            await self._check_last(next_seq - 1, last_sha256)
        return messages

    async def first_seq(self) -> int:
        """Return the sequence of the oldest message that the stream holds, or will hold; 1 or more.

        Raises:
            UnavailableError: The exchange does not answer now.
        """
        return max((await self._bus.stream_state(EVENTS_STREAM)).first_seq, 1)

    async def _batch(self, start: int) -> list[StreamMessage]:
        request = {"seq": start, "batch": self._messages_a_read, "max_bytes": BYTES_A_READ}
        prefix = await self._reply_prefix()
        self._request_number += 1
        reply = f"{prefix}.{self._request_number}"
        await self._bus.send(f"$JS.API.DIRECT.GET.{EVENTS_STREAM}", json.dumps(request).encode(), reply=reply)
        messages: list[StreamMessage] = []
        while True:
            answer = await self._answer(reply)
            headers = answer.headers or {}
            status = headers.get("Status")
            if status in {"204", "404"}:
                return messages
            if status == "503":
                raise UnavailableError("the exchange has no stream EVENTS yet", code="STREAM_MISSING")
            if status is not None:
                description = headers.get("Description", "")
                raise UnavailableError(f"the stream answered {status} {description}", code="STREAM_ANSWER")
            messages.append(_from_direct(answer, headers))

    async def _reply_prefix(self) -> str:
        if self._inbox is None or self._inbox[0] != self._bus.generation:
            generation = self._bus.generation
            prefix, _subscription = await self._bus.subscribe_inbox(self._answers.put)
            self._inbox = (generation, prefix)
        return self._inbox[1]

    async def _answer(self, reply: str) -> Msg:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    answer = await self._answers.get()
                    # Answers to a request that timed out may still come.
                    if answer.subject == reply:
                        return answer
        except TimeoutError as error:
            raise UnavailableError("the stream did not answer in time", code="EXCHANGE_TIMEOUT") from error

    async def _contiguous(self, messages: list[StreamMessage], next_seq: int) -> list[StreamMessage]:
        for expected, message in enumerate(messages, next_seq):
            if message.stream_seq == expected:
                continue
            whole = messages[: expected - next_seq]
            if whole:
                # What comes before the gap is good; the next read meets the gap.
                return whole
            # A replica may lag behind: only the leader's word makes it a gap.
            found = await self._from_leader(expected)
            if found is not None:
                return [found]
            text = f"expected message {expected}, the stream goes on with {message.stream_seq}"
            raise StreamHaltError(text, code="STREAM_GAP", expected=expected, found=message.stream_seq)
        return messages

    async def _check_state(self, *, next_seq: int, created: str, idle: bool) -> None:
        generation, checked_s = self._checked
        now_s = asyncio.get_running_loop().time()
        if idle and generation == self._bus.generation and now_s < checked_s + STATE_CHECK_S:
            return
        generation = self._bus.generation
        state = await self._bus.stream_state(EVENTS_STREAM)
        self.created = state.created
        if created and state.created != created:
            text = f"expected the stream created at {created}, found one created at {state.created}"
            raise StreamHaltError(text, code="STREAM_RECREATED")
        if next_seq > state.last_seq + 1:
            text = f"expected message {next_seq - 1} or later, the stream ends with {state.last_seq}"
            raise StreamHaltError(text, code="STREAM_SHRANK", expected=next_seq - 1, found=state.last_seq)
        if idle and state.first_seq > next_seq:
            text = f"expected message {next_seq}, the stream begins with {state.first_seq}"
            raise StreamHaltError(text, code="STREAM_GAP", expected=next_seq, found=state.first_seq)
        self._checked = (generation, now_s)

    async def _check_last(self, stream_seq: int, sha256: bytes) -> None:
        found = await self._from_leader(stream_seq)
        # It may have aged out; then the hash has done its work.
        if found is not None and found.sha256 != sha256:
            text = f"message {stream_seq} is not the one that was read under this number"
            raise StreamHaltError(text, code="STREAM_REWRITTEN", stream_seq=stream_seq)

    async def _from_leader(self, stream_seq: int) -> StreamMessage | None:
        reply = await self._bus.request(
            f"$JS.API.STREAM.MSG.GET.{EVENTS_STREAM}", json.dumps({"seq": stream_seq}).encode()
        )
        answer = json.loads(reply.data)
        if "error" in answer:
            if answer["error"].get("code") == 404:
                return None
            raise UnavailableError(f"the stream answered {answer['error']}", code="STREAM_ANSWER")
        message = answer["message"]
        data = base64.b64decode(message.get("data", ""))
        return StreamMessage(int(message["seq"]), message["subject"], message["time"], _moment(message["time"]), data)


def _from_direct(answer: Msg, headers: Mapping[str, str]) -> StreamMessage:
    try:
        stored_time = headers["Nats-Time-Stamp"]
        return StreamMessage(
            int(headers["Nats-Sequence"]), headers["Nats-Subject"], stored_time, _moment(stored_time), answer.data
        )
    except (KeyError, ValueError) as error:
        raise UnavailableError("the stream answered without sequence, subject or time", code="STREAM_ANSWER") from error


def _moment(text: str) -> datetime:
    # Go writes up to nine digits of a second; datetime reads six.
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}").replace(tzinfo=UTC)


def position_of(state: State) -> dict[str, object]:
    """Return where a reader stands, for logs."""
    return {"epoch": state.epoch, "next_seq": state.next_seq, "tree_size": state.tree.size}
