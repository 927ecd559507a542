"""`Inspector`: what applications call."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Any, Literal, Self

from fsm_conn._util.keywords import explained
from fsm_conn.inspector.acting import Acts
from fsm_conn.inspector.app import PAGE_FILES, Answers
from fsm_conn.inspector.hub import Hub
from fsm_conn.inspector.registry import Registry
from fsm_conn.inspector.replay import Recorded, Replay
from fsm_conn.inspector.security import Guarded, checked_token, is_loopback
from fsm_conn.inspector.serving import Server, bracketed
from fsm_conn.inspector.walk import Walk
from fsm_conn.inspector.wire import shown
from fsm_conn.machine.chart import chart_of
from fsm_conn.machine.machine import StateMachine

__all__ = ["Inspector"]


class Inspector:
    """Shows machines of this process in a browser, while they run.

        async with Inspector(port=8765) as inspector:
            inspector.watch(conn)
            inspector.watch(pool)

    It only observes, and keeps no machine alive. To serve it from your own service, mount `inspector.app`, an ASGI
    application. The application needs no lifespan; `await inspector.aclose()` ends its streams.

    Args:
        host: the address on which `async with` listens; by default only this machine can reach it.
        port: the TCP port; 0: any free port.
        token: the token that a browser must send, at least 16 characters. It is in `url` and in the attribute `token`.
            None: a random one. False: none; every user and program of this machine is answered, other machines never.
        hosts: names by which browsers reach it, beside `localhost`; without the port. Requests by any other name are
            refused, because they may come from a page whose name was made to point here (DNS rebinding).
        allow: what the page may do beside looking: `connect`, `disconnect` and `reconnect` connections, `fire`
            triggers. By default nothing. The page asks for a confirmation of each action, and each is logged.
        title: the page's title; by default `fsm_conn`.

    Raises:
        ValueError: `allow` names an unknown action, or the token is too short or missing where others could connect.
        ImportError: Starlette is not installed, or uvicorn, for `async with`. Both come with the extra `inspector`.
    """

    @explained()
    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8765,
        token: str | Literal[False] | None = None,
        hosts: Collection[str] = (),
        allow: Collection[str] = (),
        title: str = "fsm_conn",
    ) -> None:
        if isinstance(hosts, str):
            raise ValueError(f"hosts={hosts!r}: give a tuple of names, such as ({hosts!r},)")
        self._token = checked_token(secrets.token_urlsafe() if token is None else token)
        if self._token is None and not all(map(is_loopback, (host, *hosts))):
            raise ValueError(
                f"host={host!r}, hosts={tuple(hosts)!r}: others than this machine could reach it, so it needs a token: "
                "leave token=False away, and one is made"
            )
        self._hub = Hub()
        self._registry = Registry(self._hub)
        self._acts = Acts(allow)
        self._answers = Answers(self._registry, self._hub, self._acts, shown(title))
        self._app = Guarded(self._answers.app, map(bracketed, (host, *hosts)), self._token, PAGE_FILES)
        self._server = Server(self._app, host, port)

    @property
    def app(self) -> Any:
        """The ASGI application. It can be mounted anywhere."""
        return self._app

    @property
    def token(self) -> str | None:
        """The token; None: none is needed. A mounted page reads it from the end of its address: `#token=...`."""
        return self._token

    @property
    def url(self) -> str:
        """The address of the page while the inspector serves it. It contains the token, if there is one.

        Raises:
            RuntimeError: the inspector does not serve.
        """
        return self._server.url + ("" if self._token is None else f"#token={self._token}")

    @explained()
    def watch(self, target: StateMachine, *, name: str | None = None) -> Callable[[], None]:
        """Show a machine, a connection, or a pool with all its present and future connections.

        A dropped machine is forgotten. Watching it twice has no further effect. At most 10,000 are shown.

        Args:
            target: the machine.
            name: its name on the page; by default its own name, or that of its class.

        Returns:
            a function that stops watching.

        Raises:
            TypeError: the target is no `StateMachine`.
        """
        if not isinstance(target, StateMachine):
            raise TypeError(f"watch({target!r:.80}): give a StateMachine, such as a Connection or a ConnectionPool")
        return self._registry.watch(target, name)

    def watch_all(self) -> Callable[[], None]:
        """Show every present machine of this process, and each later one from its first transition on.

        Returns:
            a function that stops this for later machines.
        """
        return self._registry.watch_all()

    def walk(self, machine: Any) -> Walk:
        """Show a table that can be walked by hand: no code of its class runs.

        Args:
            machine: a class with a table, or a `transitions.Machine`.

        Raises:
            ChartError: it has no table.
        """
        walk = Walk(machine, self._hub)
        self._registry.add(walk)
        return walk

    @explained()
    def replay(self, lines: Iterable[Recorded], machine: Any, *, speed: float = 1.0) -> Replay:
        """Show a recorded life, from its beginning. It continues while `Replay.run()` is awaited.

        At most 10,000 machines of a trace are shown.

        Args:
            lines: the transitions, as `fsm_conn.testing.read_trace` returns them.
            machine: the class with their table.
            speed: seconds of the record per second.

        Raises:
            ValueError: there are no lines, or there is a replay already.
        """
        if self._answers.replay is not None:
            raise ValueError("there is a replay already; make another inspector")
        replay = Replay(lines, chart_of(machine), self._hub, speed)
        for recording in replay.recordings:
            self._registry.add(recording)
        self._registry.left_out += replay.left_out
        self._answers.replay = replay
        return replay

    async def start(self) -> None:
        """Serve the page until `aclose()`. `async with` does this.

        Raises:
            OSError: cannot listen on the port.
            ImportError: uvicorn is not installed.
            RuntimeError: the inspector serves already.
        """
        self._hub.open()
        await self._server.start()

    async def aclose(self) -> None:
        """Stop serving and observing. Calling this twice is harmless."""
        self._hub.close()
        await self._acts.close()
        await self._server.close()
        self._registry.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(self.aclose())
