"""The connection to the exchange: NATS with JetStream, reconnecting for ever, with our errors.

The server tells a forbidden publish on another way than the reply, so that a publisher would see a timeout only; here
the two are put together again. Nothing of nats-py's own default callbacks, which print tracebacks, is used.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.js import JetStreamContext

from medtrail.errors import AuthorizationError, MedtrailError, UnavailableError
from medtrail.gs1 import Gln
from medtrail.runtime.cancelling import cancellable, disregard, end, outcome
from medtrail.runtime.logging import get_logger
from medtrail.runtime.nats_config import inbox_prefix
from medtrail.runtime.stream_messages import (
    Stored,
    StoredMessage,
    StreamState,
    from_api,
    stored_message,
    translated,
)

__all__ = ["Bus", "Stored", "StoredMessage", "StreamState", "connect_bus", "stored_message"]

log = get_logger(__name__)

T = TypeVar("T")

REQUEST_TIMEOUT_S = 5.0
RECONNECT_WAIT_S = 0.25
LOOK_EVERY_S = 1.0
"""Between looks at a connection whose end nobody told of."""
CLOSE_TIMEOUT_S = 2.0
"""For what is still to be sent when a connection is closed."""

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)


class Bus:
    """A connection that its owner starts once and that then keeps itself up until it is closed."""

    def __init__(self, url: str, *, seed: bytes, gln: Gln, name: str) -> None:
        """Hold what is needed to connect; nothing connects yet.

        Args:
            url: ``nats://host:port``.
            seed: NATS user seed (``SU…``).
            gln: Party GLN of the user; its replies come under its own prefix.
            name: Of the connection, for the server's monitoring.
        """
        self._url = url
        self._seed = seed.decode()
        self._gln = gln
        self._name = name
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Requests without an answer by subject in lower case; their futures tell why none will come.
        self._unanswered: dict[str, set[asyncio.Future[MedtrailError]]] = {}
        self._listeners: list[tuple[str, Callable[[Msg], Awaitable[None]]]] = []
        self._watchers: set[Callable[[], None]] = set()
        self.generation = 0

    # --- life ---

    def start(self) -> None:
        """Begin to connect, and go on trying."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_up(), name="bus")

    async def ready(self, timeout_s: float | None = None) -> None:
        """Return when connected.

        Raises:
            UnavailableError: EXCHANGE_UNREACHABLE: not within ``timeout_s`` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            message = f"no connection to the exchange at {self._url} within {timeout_s} s"
            raise UnavailableError(message, code="EXCHANGE_UNREACHABLE") from None

    @property
    def connected(self) -> bool:
        """Whether a connection is up now."""
        return self._up.is_set()

    async def close(self) -> None:
        """End the connection. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)
        client, self._client = self._client, None
        if self.connected:
            self._note_down()
        if client is not None:
            await _close(client)

    async def _keep_up(self) -> None:
        # A new client for each connection. nats-py would reconnect by itself, but a reconnection that meets its own end
        # leaves sockets open, and may live on beside the close that cancelled it.
        while True:
            gone = asyncio.Event()
            client = Client()
            # Before it connects: whoever closes us meanwhile closes it too.
            self._client = client
            try:
                await cancellable(self._connect(client, gone))
                for subject, callback in self._listeners:
                    await cancellable(client.subscribe(subject, cb=callback))
            except Exception as error:  # noqa: BLE001 - whatever answers there may be no exchange, and may be one later
                log.warning("exchange refused the connection", reason=str(error)[:200] or type(error).__name__)
                await _close(client)
                await asyncio.sleep(RECONNECT_WAIT_S)
                continue
            self._note_up()
            # nats-py says so late in its own close, which fails where a connection was reset with data yet to be sent,
            # and stands still as long as a server does that takes none. Its status tells from the beginning.
            while not (gone.is_set() or client.is_closed):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await gone.wait()
            self._note_down()
            await _close(client)
            await asyncio.sleep(RECONNECT_WAIT_S)

    async def _connect(self, client: Client, gone: asyncio.Event) -> None:
        async def on_error(error: Exception) -> None:
            self._note_error(error)

        async def on_disconnected() -> None:
            gone.set()

        await client.connect(
            self._url,
            name=self._name,
            nkeys_seed_str=self._seed,
            inbox_prefix=inbox_prefix(self._gln),
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            allow_reconnect=False,
            # Of the first connection: it tries until the exchange is there.
            max_reconnect_attempts=-1,
            # nats-py takes fractions, though it says int.
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]
            ping_interval=10,
            max_outstanding_pings=2,
        )

    def _note_up(self) -> None:
        self.generation += 1
        self._up.set()
        for watcher in tuple(self._watchers):
            watcher()
        log.info("exchange connected", url=self._url)

    def _note_down(self) -> None:
        self._up.clear()
        log.info("exchange disconnected")
        # No answer comes over a new connection: waiting for it would only cost time.
        message = "the exchange went away before it answered"
        self._fail(None, lambda: UnavailableError(message, code="EXCHANGE_TIMEOUT"))

    def _note_error(self, error: Exception) -> None:
        found = _VIOLATION.search(str(error))
        if found is None:
            log.info("exchange reports", reason=str(error) or type(error).__name__)
            return
        log.error("exchange forbids", action=found[1].lower(), subject=found[2])
        message = f"the exchange does not let this user publish on {found[2]}"
        # nats-py hands the text on in lower case.
        self._fail(found[2].lower(), lambda: AuthorizationError(message, code="SUBJECT_FORBIDDEN", field="subject"))

    # --- publishing ---

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        message_id: str | None = None,
        expected_last: int | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Stored:
        """Publish to a stream and return when the stream has it on its disk.

        Args:
            subject: A subject of a stream.
            data: At most 1 MiB less headers.
            message_id: Nats-Msg-Id: a second one within two minutes is stored once.
            expected_last: Sequence of this subject's last message (0: none); another one refuses the publish, and the
                server looks at this before it looks at the message id.
            timeout_s: For the answer. After a timeout nobody knows whether it was stored.

        Raises:
            AuthorizationError: SUBJECT_FORBIDDEN.
            ConflictError: SEQUENCE_MISMATCH: the subject's last message is another one.
            TooLargeError: More than the server takes.
            UnavailableError: EXCHANGE_UNREACHABLE, EXCHANGE_TIMEOUT, STREAM_MISSING, SUBJECT_FULL, STREAM_FULL.
        """
        headers: dict[str, str] = {}
        if message_id is not None:
            headers["Nats-Msg-Id"] = message_id
        if expected_last is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expected_last)
        reply = await self.request(subject, data, headers=headers, timeout_s=timeout_s)
        answer = json.loads(reply.data)
        if "error" in answer:
            raise from_api(answer["error"], subject)
        return Stored(int(answer["seq"]), bool(answer.get("duplicate", False)))

    async def send(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Publish without an answer; lost when the connection is down.

        Raises:
            AuthorizationError: SUBJECT_FORBIDDEN, where that is told in time.
            UnavailableError: EXCHANGE_UNREACHABLE; EXCHANGE_TIMEOUT: it takes nothing for 5 s, or went away.
        """
        await self._ended(subject, self._connected_client().publish(subject, data, reply=reply), REQUEST_TIMEOUT_S)

    async def request(
        self, subject: str, data: bytes, *, headers: dict[str, str] | None = None, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> Msg:
        """Return the first answer to a request.

        Raises:
            AuthorizationError: SUBJECT_FORBIDDEN.
            UnavailableError: EXCHANGE_UNREACHABLE, EXCHANGE_TIMEOUT, STREAM_MISSING (nobody listens).
            TooLargeError: More than the server takes.
        """
        client = self._connected_client()
        work = client.request(subject, data, timeout=timeout_s, headers=headers or None)
        return await self._ended(subject, work, timeout_s)

    async def _ended(self, subject: str, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        # nats-py waits for ever where a server takes nothing, or where the connection went away meanwhile.
        failed: asyncio.Future[MedtrailError] = asyncio.get_running_loop().create_future()
        waiting = self._unanswered.setdefault(subject.lower(), set())
        waiting.add(failed)
        answer = asyncio.ensure_future(cancellable(work))
        try:
            either: list[asyncio.Future[Any]] = [answer, failed]
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if failed.done() and not answer.done():
                raise failed.result()
            with translated():
                if not answer.done():
                    raise TimeoutError
                return outcome(answer)
        finally:
            failed.cancel()
            waiting.discard(failed)
            if not waiting:
                self._unanswered.pop(subject.lower(), None)
            await end(answer)

    def _fail(self, subject: str | None, make: Callable[[], MedtrailError]) -> None:
        """End the requests on a subject, or all of them, with an error."""
        chosen = self._unanswered.values() if subject is None else [self._unanswered.get(subject, set())]
        for waiting in chosen:
            for failed in waiting:
                if not failed.done():
                    failed.set_result(make())

    # --- reading ---

    async def last_message(self, stream: str, subject: str) -> StoredMessage | None:
        """Return the last message of a subject (Direct Get), or None when the stream holds none.

        Raises:
            AuthorizationError, UnavailableError: As :meth:`request`.
        """
        reply = await self.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")
        status = (reply.headers or {}).get("Status")
        if status == "404":
            return None
        return stored_message(reply)

    async def stream_state(self, stream: str) -> StreamState:
        """Return a stream's life as its leader tells it; for the ledger's user.

        Raises:
            UnavailableError: STREAM_MISSING, and as :meth:`request`.
        """
        reply = await self.request(f"$JS.API.STREAM.INFO.{stream}", b"")
        answer = json.loads(reply.data)
        if "error" in answer:
            raise from_api(answer["error"], stream)
        return StreamState(answer["created"], int(answer["state"]["first_seq"]), int(answer["state"]["last_seq"]))

    async def listen(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> None:
        """Call back for each message of a subject, over all reconnects; lossy, so for wake-ups only."""
        self._listeners.append((subject, callback))
        if self._client is not None and self.connected:
            with translated():
                await cancellable(self._client.subscribe(subject, cb=callback))

    @contextlib.contextmanager
    def watching(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Have a function called on each later (re)connect, when the server has forgotten what was asked of it."""
        self._watchers.add(watcher)
        try:
            yield
        finally:
            self._watchers.discard(watcher)

    async def subscribe_inbox(self, callback: Callable[[Msg], Awaitable[None]]) -> tuple[str, Subscription]:
        """Hear all under a new reply prefix of our own, in order, and return the prefix and the subscription.

        It ends at the latest when :attr:`generation` changes.

        Raises:
            UnavailableError: EXCHANGE_UNREACHABLE.
        """
        client = self._connected_client()
        prefix = client.new_inbox()
        with translated():
            return prefix, await cancellable(client.subscribe(f"{prefix}.*", cb=callback))

    @property
    def jetstream(self) -> JetStreamContext:
        """nats-py's JetStream interface over the present connection, for declaring streams.

        Raises:
            UnavailableError: EXCHANGE_UNREACHABLE.
        """
        return self._connected_client().jetstream(timeout=REQUEST_TIMEOUT_S)

    def _connected_client(self) -> Client:
        if self._client is None or not self.connected or not self._client.is_connected:
            raise UnavailableError(f"the exchange at {self._url} is not connected", code="EXCHANGE_UNREACHABLE")
        return self._client

    def __repr__(self) -> str:
        """Name the server, not the seed."""
        return f"Bus({self._url!r}, gln={str(self._gln)!r})"


async def connect_bus(url: str, *, seed: bytes, gln: Gln, name: str, timeout_s: float | None = None) -> Bus:
    """Return a started bus, connected.

    Args:
        url: ``nats://host:port``.
        seed: NATS user seed.
        gln: Party GLN of the user.
        name: Of the connection.
        timeout_s: None waits for ever, so that processes start in any order.

    Raises:
        UnavailableError: EXCHANGE_UNREACHABLE.
    """
    bus = Bus(url, seed=seed, gln=gln, name=name)
    bus.start()
    try:
        await bus.ready(timeout_s)
    except BaseException:
        await bus.close()
        raise
    return bus


async def _close(client: Client) -> None:
    # nats-py's close waits for a server that stands still, and what fails or cancels it half way leaves the connection
    # open and its tasks running or unheard for good: a second close does nothing. What cannot be closed in good order
    # is closed without, and nothing public tells of it.
    # ruff: disable[SLF001]
    try:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await cancellable(client.close())
    finally:
        transport = client._transport
        if isinstance(transport, TcpTransport) and transport._io_writer is not None:
            transport._io_writer.transport.abort()
        hearing = [subscription._wait_for_msgs_task for subscription in client._subs.values()]
        for task in (client._reading_task, client._flusher_task, client._ping_interval_task, *hearing):
            if task is not None:
                disregard(task)
    # ruff: enable[SLF001]
