"""The inspector's own server, in the caller's loop: uvicorn, without its signal handlers and its logging.

The number of connections is limited, and idle ones are closed. So no client, with or without the token, can use up the
application's file descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any

from fsm_conn._util.extras import needed
from fsm_conn._util.timing import finish

__all__ = ["Server"]

MOST_CONNECTIONS = 256
"""The most connections at one time. A window has one for its stream, and a few briefly. More are closed at once."""
SILENCE = 10.0
"""Seconds within which a request must be complete; its connection is closed after one to two times this."""
GRACE = 3
"""Seconds for which answers under way may continue when the server ends."""


class Server:
    """A server, which listens once it is started.

    Args:
        app: the ASGI application.
        host: the address.
        port: the port; 0: any free port.
    """

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._server: Any = None
        self._task: asyncio.Task[None] | None = None
        self._bound: int | None = None

    @property
    def url(self) -> str:
        """The address at which the server listens.

        Raises:
            RuntimeError: the server does not listen.
        """
        if self._bound is None:
            raise RuntimeError("the inspector does not serve; use 'async with Inspector(...)', or its start()")
        return f"http://{bracketed(self._host)}:{self._bound}/"

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: cannot listen on the address.
            ImportError: uvicorn is not installed.
            RuntimeError: the server listens already.
        """
        if self._task is not None:
            raise RuntimeError("the inspector serves already")
        uvicorn = needed("uvicorn", "inspector", "an inspector that serves by itself")
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.create_server((self._host, self._port), family=family)
        self._bound = bound.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            access_log=False,
            date_header=False,
            http=_bounded(needed("uvicorn.protocols.http.auto", "inspector", "an inspector").AutoHTTPProtocol),
            lifespan="off",
            log_config=None,
            log_level="error",
            server_header=False,
            timeout_graceful_shutdown=GRACE,
            ws="none",
        )
        self._server = _made(uvicorn.Server)(config)
        self._task = asyncio.ensure_future(self._server.serve(sockets=[bound]))
        task, ready = self._task, asyncio.ensure_future(self._server.ready.wait())
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            self._forget()
            bound.close()
            raise RuntimeError("the inspector's server did not start") from task.exception()

    async def close(self) -> None:
        """Stop listening, and end the answers under way."""
        task = self._task
        if task is not None:
            self._server.should_exit = True
            await finish(task)
            self._forget()

    def _forget(self) -> None:
        self._task = self._bound = self._server = None


def bracketed(host: str) -> str:
    """A host as it is written in a URL and in `Host`."""
    return f"[{host}]" if ":" in host else host


def _bounded(kind: Any) -> Any:
    """A subclass of uvicorn's connection class that limits their number and closes idle ones."""

    class Bounded(kind):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.seen: Any = None
            self.looking = self.loop.call_later(SILENCE, self.look)
            if len(self.connections) > MOST_CONNECTIONS:
                transport.abort()

        def look(self) -> None:
            is_idle = self.cycle is None or self.cycle.response_complete
            if is_idle and self.cycle is self.seen:
                self.transport.abort()
            else:
                self.seen = self.cycle
                self.looking = self.loop.call_later(SILENCE, self.look)

        def connection_lost(self, error: Exception | None) -> None:
            self.looking.cancel()
            super().connection_lost(error)

    return Bounded


def _made(kind: Any) -> Any:
    """A subclass of uvicorn's server that tells when it listens, and leaves the process's signals alone."""

    class Listening(kind):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.ready = asyncio.Event()

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            self.ready.set()

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    return Listening
