"""HTTP servers inside our processes: uvicorn without its signal handlers, on a socket that is bound at once."""

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from medtrail.errors import UnavailableError

GRACE_S = 2


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves an application until it is stopped."""

    def __init__(self, app: Starlette, *, listen: str, field: str = "http_listen") -> None:
        """Bind host:port; port 0 takes a free one.

        Args:
            app: What to serve.
            listen: host:port.
            field: The setting's name, for errors.

        Raises:
            UnavailableError: LISTEN_FAILED.
        """
        host, _, port = listen.rpartition(":")
        try:
            self._socket = socket.create_server((host, int(port)))
        except OSError as error:
            raise UnavailableError(f"cannot listen on {listen}", code="LISTEN_FAILED", field=field) from error
        # Accepted connections inherit it. asyncio sets it only on sockets that name their protocol, which this one does
        # not; without it an answer's body waits for the acknowledgement of its head, 40 ms on Linux.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE_S
        )
        self._server = _QuietServer(config)

    async def run(self) -> None:
        """Serve until :meth:`stop`."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            # uvicorn leaves it open when it was stopped before it had started.
            for server in getattr(self._server, "servers", ()):
                server.close()
            self._socket.close()

    def stop(self) -> None:
        """Take no new requests and let :meth:`run` end."""
        self._server.should_exit = True
