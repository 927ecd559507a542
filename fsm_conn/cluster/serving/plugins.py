"""The plugins of a server: each has a connection that keeps it up, and knows which clients are connected to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from fsm_conn.cluster.recipe import Recipe
from fsm_conn.cluster.serving.relay import Relay
from fsm_conn.connection.connection import Connection

if TYPE_CHECKING:
    from fsm_conn.machine.records import TransitionRecord

__all__ = ["ServedPlugin", "ServedPlugins"]


class ServedPlugin:
    """One process of the plugin.

    Attributes:
        conn: the connection that starts it, watches it, and starts it again.
        relays: the clients' connections to it.
    """

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.relays: set[Relay] = set()

    @property
    def where(self) -> tuple[str, str] | None:
        """The network and the address at which it serves; None while it does not."""
        if not self.conn.is_connected():
            return None
        link: Any = self.conn.link
        where: tuple[str, str] | None = link.announced
        return where


class ServedPlugins:
    """All plugins of a server.

    Args:
        recipe: what to serve.
        changed: called whenever a plugin has come or gone.
    """

    def __init__(self, recipe: Recipe, changed: Callable[[], None]) -> None:
        # No TLS: the socket is in a directory that only this user may enter, and the relay passes on what it says.
        target = attrs.evolve(recipe.plugin, mtls=False)
        self._all = [
            ServedPlugin(
                Connection(
                    target,
                    retry=recipe.retry,
                    health=recipe.health,
                    start_timeout=recipe.start_timeout,
                    name=f"{target.name}#{number}",
                )
            )
            for number in range(1, recipe.plugins + 1)
        ]
        self._changed = changed
        self._news = asyncio.Event()
        self._unwatch = [plugin.conn.on_transition(self._moved) for plugin in self._all]

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the plugins that run."""
        return tuple(plugin.conn.pid for plugin in self._all if plugin.conn.pid is not None)

    @property
    def serving(self) -> int:
        """How many plugins serve."""
        return sum(plugin.where is not None for plugin in self._all)

    async def start(self) -> None:
        """Start all plugins. If one cannot be started, none is left running.

        Raises:
            ConnectFailedError: for the first plugin that could not be started, with the reason.
        """
        starts = [asyncio.create_task(plugin.conn.connect()) for plugin in self._all]
        try:
            await asyncio.gather(*starts)
        finally:
            for start in starts:
                start.cancel()
            await asyncio.wait(starts)

    async def least_used(self) -> ServedPlugin:
        """The serving plugin with the fewest connections; waits until there is one."""
        while True:
            serving = [plugin for plugin in self._all if plugin.where is not None]
            if serving:
                return min(serving, key=lambda plugin: len(plugin.relays))
            self._news.clear()
            await self._news.wait()

    async def stop(self) -> None:
        """End all plugins."""
        for unwatch in self._unwatch:
            unwatch()
        await asyncio.gather(*(plugin.conn.disconnect() for plugin in self._all))

    def _moved(self, record: TransitionRecord) -> None:
        if record.source != record.dest:
            self._news.set()
            self._changed()
