"""`Inspector`: what applications call."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Any, Literal, Self

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

    It observes, and keeps none of them alive. To serve it from a service of one's own, mount `inspector.app`, an ASGI
    application; it needs no lifespan, and ends its streams by `await inspector.aclose()`.

    Args:
        host: the address to listen on, by `async with`; by default this machine alone can reach it.
        port: the TCP port; 0: one that is free.
        token: what a browser must show, at least 16 characters; `url` has it, and the attribute `token`. None: one is
            made. False: nothing, and every user and program of this machine is answered, others never.
        hosts: names by which browsers reach it, beside `localhost`; without the port. Requests by any other name are
            refused, for they may come from a page whose name was made to point here.
        allow: what the page may do beside looking: `connect`, `disconnect` and `reconnect` connections, `fire`
            triggers. By default nothing. Each is asked back, and logged.
        title: what the page is called; by default `fsm_conn`.

    Raises:
        ValueError: `allow` names what there is not, the token is too short, or none while others could ask.
        ImportError: Starlette is not installed; for `async with`, uvicorn. The extra is called `inspector`.
    """

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
        """The ASGI application, to be mounted anywhere."""
        return self._app

    @property
    def token(self) -> str | None:
        """What a browser must show; None: nothing. A page that is mounted takes it behind its address: `#token=...`."""
        return self._token

    @property
    def url(self) -> str:
        """Where to look, while it serves by itself. It holds the token, if there is one.

        Raises:
            RuntimeError: it does not.
        """
        return self._server.url + ("" if self._token is None else f"#token={self._token}")

    def watch(self, target: StateMachine, *, name: str | None = None) -> Callable[[], None]:
        """Show a machine, a connection, or a pool with all connections that it has and makes.

        It is forgotten when it is dropped. Watching twice is watching once. 10,000 are shown at most.

        Args:
            target: what to show.
            name: what to call it; by default its own name, or that of its class.

        Returns:
            a function that ends it.

        Raises:
            TypeError: it is no `StateMachine`.
        """
        if not isinstance(target, StateMachine):
            raise TypeError(f"watch({target!r:.80}): give a StateMachine, such as a Connection or a ConnectionPool")
        return self._registry.watch(target, name)

    def watch_all(self) -> Callable[[], None]:
        """Show every machine that there is in this process, and each that begins from now on, by its first transition.

        Returns:
            a function that ends it for those to come.
        """
        return self._registry.watch_all()

    def walk(self, machine: Any) -> Walk:
        """Show a table that can be walked by hand: nothing of its class is run.

        Args:
            machine: a class that lives by a table, or a `transitions.Machine`.

        Raises:
            ChartError: it has no table.
        """
        walk = Walk(machine, self._hub)
        self._registry.add(walk)
        return walk

    def replay(self, lines: Iterable[Recorded], machine: Any, *, speed: float = 1.0) -> Replay:
        """Show a recorded life, from its beginning. It goes on while `Replay.run()` is awaited.

        Of a trace of many machines, 10,000 are shown at most.

        Args:
            lines: its transitions, as `fsm_conn.testing.read_trace` returns them.
            machine: the class whose table they are of.
            speed: seconds of the record in one second.

        Raises:
            ValueError: there are none, or there is a replay already.
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
        """Serve by itself, until `aclose()`. `async with` does so.

        Raises:
            OSError: the port cannot be listened on.
            ImportError: uvicorn is not installed.
            RuntimeError: it serves already.
        """
        self._hub.open()
        await self._server.start()

    async def aclose(self) -> None:
        """Serve, and observe, no longer. Harmless twice."""
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
