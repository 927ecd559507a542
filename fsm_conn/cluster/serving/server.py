"""`Server`: serves plugins of this machine to other machines.

Rules that hold here:

- Nothing is open to other machines without a client's certificate or a token. A token needs TLS, because an
  eavesdropper would learn it. On loopback, and on a socket of the file system, neither is required.
- The server opens completely or not at all; its address is known when all plugins are up.
- A stop is announced first, by health, then by GOAWAY. Then calls under way end, and then the plugins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated, Any, ClassVar, Self

from fsm_conn._util.keywords import explained
from fsm_conn._util.text import said
from fsm_conn.cluster.errors import ServeError
from fsm_conn.cluster.recipe import Recipe, as_recipe
from fsm_conn.cluster.serving.certificates import tls_context
from fsm_conn.cluster.serving.health import HealthServer
from fsm_conn.cluster.serving.listener import Listener, check_address, listen
from fsm_conn.cluster.serving.plugins import ServedPlugins
from fsm_conn.cluster.serving.table import SERVER_STATES, SERVER_TRANSITIONS, ServerState, ServerTrigger
from fsm_conn.links.checking import is_here
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Fires, State

__all__ = ["Server", "serve"]

_log = logging.getLogger("fsm_conn.serve")
_S, _T = ServerState, ServerTrigger


class Server(StateMachine):
    """Serves plugins of this machine at one address; each connection of a client is joined to one plugin.

    Args:
        recipe: the recipe, or just the command of a plugin.
        listen: `host:port`, or `unix:/path`; port 0: any free port, see `address`.
        health: the address of this server's standard health service, in the same form; None: none. At the main
            address the plugins answer, with their own health services.

    async with Server(recipe, "10.0.0.5:7000") as server:
        await server.wait_closed()

    A connection is joined to the plugin with the fewest connections. So a client that wants to use all plugins of a
    server opens as many connections to it: `MemberInfo(connections=...)`.

    Raises:
        ServeError: an address is wrong; or it is open to other machines, and the recipe requires neither certificates
            nor a token.
    """

    states: ClassVar[Sequence[State | str]] = SERVER_STATES
    transitions: ClassVar[Sequence[Any]] = SERVER_TRANSITIONS
    required_triggers = tuple(ServerTrigger)
    begins_at_rest = True

    def __init__(self, recipe: Any, listen: str = "127.0.0.1:0", *, health: str | None = None) -> None:
        self.recipe: Recipe = as_recipe(recipe)
        self._listen_at = listen
        self._health_at = health
        self.address = self.health_address = ""
        _check_open(self.recipe, listen)
        if health is not None:
            _check_open(self.recipe, health)
        self.keep_context()

    def __repr__(self) -> str:
        return f"<Server of {self.recipe.plugin.name!r} at {self.address or self._listen_at} {self._state}>"

    _plugins: ServedPlugins | None = None
    _listener: Listener | None = None
    _health: HealthServer | None = None
    _hurry: asyncio.Event | None = None
    _saying: asyncio.Task[None] | None = None

    # --- what applications call -----------------------------------------------------------------------------------

    async def start_serving(self) -> None:
        """Start the plugins, and listen; return when all are up.

        Raises:
            ServeError: a plugin could not be started, or the address cannot be bound. Nothing is left behind.
        """
        self.check_loop()
        if self._state == _S.CLOSED:
            self.fire(_T.START)
        try:
            record = await self.reach((_S.SERVING, _S.DRAINING, _S.CLOSED))
        except asyncio.CancelledError:
            self.fire(_T.STOP)
            raise
        if record.dest != _S.SERVING:
            await self.reach((_S.CLOSED,))
            why = "stop() was called" if record.reason is None else said(record.reason)
            raise ServeError(f"{self.recipe.plugin.name} could not be served: {why}") from record.reason

    async def stop(self) -> None:
        """Announce the end, let clients finish their calls and hang up, and end the plugins.

        A second call while it drains ends the calls under way. Cancelling the caller ends its wait only.
        """
        self.fire(_T.STOP)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        await self.reach((_S.CLOSED,))

    async def __aenter__(self) -> Self:
        await self.start_serving()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._state == _S.SERVING:
            self.fire(_T.STOP)  # stop() is then the second one, which does not wait
        await self.stop()

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of its plugins."""
        return () if self._plugins is None else self._plugins.pids

    def stats(self) -> dict[str, int]:
        """Counts: serving `plugins`, `connections` of clients, and `refused` connections, when there were too many."""
        plugins, listener = self._plugins, self._listener
        return {
            "plugins": 0 if plugins is None else plugins.serving,
            "connections": 0 if listener is None else listener.connections,
            "refused": 0 if listener is None else listener.refused,
        }

    # --- effects ----------------------------------------------------------------------------------------------------

    def hurry(self, reason: BaseException | None) -> None:
        """Do not wait for calls under way."""
        self._hurry = self._hurry or asyncio.Event()
        self._hurry.set()

    # --- activities -------------------------------------------------------------------------------------------------

    async def while_starting(self) -> Annotated[str, Fires(_T.STARTED)]:
        """Start all plugins, and listen."""
        self._hurry = asyncio.Event()
        recipe = self.recipe
        context = None if recipe.tls is None else tls_context(recipe.tls)
        token = None if recipe.token is None else recipe.token.read()
        if self._health_at is not None:
            self._health = HealthServer(recipe.tls, token, recipe.limits.max_connections)
            self.health_address = await self._health.start(self._health_at)
        self._plugins = ServedPlugins(recipe, self._plugins_changed)
        await self._plugins.start()
        listening, self.address = listen(self._listen_at)
        self._listener = Listener(listening, context, token, self._plugins, recipe.limits)
        await self._tell()
        return _T.STARTED

    async def while_draining(self) -> Annotated[str, Fires(_T.STOPPED)]:
        """Announce the end, send GOAWAY, wait for calls under way, and end everything."""
        assert self._hurry is not None
        limits = self.recipe.limits
        try:
            if self._health is not None:
                await self._health.say(is_serving=False)
            if self._listener is not None:
                await self._unless_hurried(limits.announce, asyncio.sleep(limits.announce))
                await self._listener.stop_accepting()
                self._listener.say_goaway()
                await self._unless_hurried(limits.drain_timeout, self._listener.drained(limits.drain_timeout))
        finally:
            await self._end()
        return _T.STOPPED

    async def on_loop_end(self) -> None:
        """End everything now."""
        await self._end()

    # --- how it is done ---------------------------------------------------------------------------------------------

    async def _unless_hurried(self, limit: float, waiting: Any) -> None:
        assert self._hurry is not None
        tasks = {asyncio.ensure_future(waiting), asyncio.create_task(self._hurry.wait())}
        try:
            await asyncio.wait(tasks, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _end(self) -> None:
        listener, self._listener = self._listener, None
        plugins, self._plugins = self._plugins, None
        health, self._health = self._health, None
        saying, self._saying = self._saying, None
        if listener is not None:
            await listener.close()
        if plugins is not None:
            await plugins.stop()
        if saying is not None:
            saying.cancel()
            await asyncio.wait((saying,))
        if health is not None:
            await health.stop()

    def _plugins_changed(self) -> None:
        if self._health is not None and self._state == _S.SERVING:
            self._saying = self._saying or asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        if self._health is not None and self._plugins is not None:
            await self._health.say(is_serving=self._plugins.serving > 0)
        self._saying = None


def _check_open(recipe: Recipe, address: str) -> None:
    """Refuse a wrong address, and one that would be open to other machines without protection."""
    check_address(address)
    has_certificates = recipe.tls is not None and recipe.tls.authorities is not None
    has_token = recipe.tls is not None and recipe.token is not None
    if has_certificates or has_token or is_here(address):
        return
    if recipe.token is not None:
        raise ServeError(
            f"{address} can be reached by other machines, and without TLS whoever listens would have the token: give "
            "tls=TlsFiles(certificate=..., key=...) as well"
        )
    raise ServeError(
        f"{address} can be reached by other machines: give tls=TlsFiles(certificate=..., key=..., authorities=...), so "
        "that clients need a certificate, or tls= and token=; or listen on 127.0.0.1"
    )


@explained()
def serve(recipe: Any, listen: str = "127.0.0.1:0", *, health: str | None = None) -> Server:
    """A `Server`, for `async with`. It takes the same arguments."""
    return Server(recipe, listen, health=health)
