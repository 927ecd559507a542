"""What a nanny or a worker serves: a `Server`, in its own loop, kept up by a task of its own.

Rules that hold here:

- Nothing here holds up its host: to host something is to begin a task, and to return.
- A start that fails is told, and tried again after a pause.
- What is hosted ends with its host, or when nobody has asked for it for a long time and nobody is connected.
- When the scheduler has gone, calls that work go on: who closes its host for that waits for them, for a while.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import attrs

from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.cluster.errors import ServeError
from fsm_conn.cluster.recipe import Recipe
from fsm_conn.cluster.serving.server import Server
from fsm_conn.cluster.serving.table import ServerState

__all__ = ["Hosted", "Hosting", "end", "ensure", "hosted_by", "on_end"]

_log = logging.getLogger("fsm_conn.cluster.dask")
FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0
"""Seconds until a start that failed is tried again; doubled each time, up to the second."""
LOOK = 1.0
"""Seconds between two looks at whether anybody still wants it."""
UNUSED_AFTER = 12.0
"""Seconds without a connection after which nobody uses it any more. A client whose connection broke, because a plugin
has ended, tries again within 10 seconds (`MEMBER_RETRY`)."""


@attrs.frozen(kw_only=True)
class Hosting:
    """What is to be hosted. It is sent to all nannies and workers, so it can be pickled."""

    name: str
    """What it is called, once in a cluster."""
    watch: str = ""
    """Which watch of the client wants it: what one has ended, a late question of it does not begin again."""
    recipe: Recipe
    """What is served."""
    per_worker: int
    """How many processes of the plugin each host has."""
    orphaned_after: float
    """Seconds without a question from the client, and without a connection, after which it ends."""
    outlives: float
    """Seconds for which connections keep it up when its host ends because the scheduler has gone."""

    @property
    def topic(self) -> str:
        """The topic of Dask's events on which hosts tell of it."""
        return f"fsm-conn-{self.name}"


class Hosted:
    """One server in one nanny or worker.

    Args:
        hosting: what to host.
        host: the nanny or the worker.
    """

    def __init__(self, hosting: Hosting, host: Any) -> None:
        self.hosting = hosting
        self._host = host
        self._error = ""
        self._asked_at = self._used_at = asyncio.get_running_loop().time()
        recipe = attrs.evolve(hosting.recipe, plugins=hosting.per_worker)
        self._server = Server(recipe, f"{_address_of(host)}:0")
        self._server.on_transition(lambda record: self._tell())
        self._task = asyncio.create_task(self._keep_up())

    @property
    def has_ended(self) -> bool:
        """Whether nothing keeps it up any more."""
        return self._task.done()

    def asked(self) -> None:
        """Somebody still wants it."""
        self._asked_at = asyncio.get_running_loop().time()

    def report(self) -> dict[str, Any]:
        """How it is, as plain values."""
        return {
            "host": str(self._host.address),
            "state": str(self._server.state),
            "address": self._server.address,
            "connections": self.hosting.per_worker,
            "error": self._error,
            "stats": self._server.stats(),
        }

    async def _keep_up(self) -> None:
        pause = FIRST_PAUSE
        while not self._is_orphaned():
            try:
                await self._server.start_serving()
                self._error, pause = "", FIRST_PAUSE
                await self._until_unwanted()
                await self._server.stop()
                return
            except ServeError as error:
                self._error = said(error)
                _log.warning("%s cannot be served here; tried again in %.3g s: %s", self.hosting.name, pause, error)
                self._tell()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_PAUSE)

    async def _until_unwanted(self) -> None:
        while self._server.state == ServerState.SERVING and not self._is_orphaned():
            with suppress(ExpiredError):
                await within(LOOK, self._server.wait_closed())

    def _is_orphaned(self) -> bool:
        is_unused = self._is_unused()
        return is_unused and asyncio.get_running_loop().time() - self._asked_at > self.hosting.orphaned_after

    def _is_unused(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._server.stats()["connections"]:
            self._used_at = now
        return now - self._used_at > UNUSED_AFTER

    async def stop(self, *, scheduler_is_gone: bool) -> None:
        """End it; when the scheduler has gone, once nobody uses it any more."""
        if scheduler_is_gone:
            with suppress(ExpiredError):
                await within(self.hosting.outlives, self._until_unused())
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._server.stop()

    async def _until_unused(self) -> None:
        while not self._is_unused():
            with suppress(ExpiredError):
                await within(LOOK, self._server.wait_closed())

    def _tell(self) -> None:
        """Tell the client, by an event of Dask's. Best effort: it asks, too."""
        with suppress(Exception):  # of Dask's, when its connection has gone
            self._host.log_event(self.hosting.topic, self.report())


_hosted: weakref.WeakKeyDictionary[Any, dict[str, Hosted]] = weakref.WeakKeyDictionary()
_ended: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()
_ENDING = frozenset({"closing", "closing_gracefully", "closed", "failed"})
"""States of a nanny or a worker that hosts nothing more."""
_closers: weakref.WeakKeyDictionary[Any, dict[str, Callable[[], Awaitable[None]]]] = weakref.WeakKeyDictionary()


def ensure(hosting: Hosting, host: Any) -> dict[str, Any]:
    """Host it, unless that is done; return how it is. Returns at once, and raises nothing."""
    found = _hosted.setdefault(host, {})
    if hosting.name not in found or found[hosting.name].has_ended:
        if hosting.watch in _ended.get(host, ()) or getattr(host.status, "name", "") in _ENDING:
            return _none(host, "closed", "")
        try:
            found[hosting.name] = Hosted(hosting, host)
        except Exception as error:  # of a recipe that cannot be served here: told, for Dask would be silent
            return _none(host, "failed", said(error))
    found[hosting.name].asked()
    return found[hosting.name].report()


def _none(host: Any, state: str, error: str) -> dict[str, Any]:
    return {"host": str(host.address), "state": state, "address": "", "connections": 0, "error": error, "stats": {}}


def on_end(name: str, host: Any, closer: Callable[[], Awaitable[None]]) -> None:
    """Have `closer` called before what a host has under a name ends."""
    _closers.setdefault(host, {})[name] = closer


async def end(hosting: Hosting, host: Any) -> None:
    """End it, if it is hosted, and what uses it."""
    _ended.setdefault(host, set()).add(hosting.watch)
    closer = _closers.get(host, {}).pop(hosting.name, None)
    if closer is not None:
        await closer()
    found = _hosted.get(host, {}).pop(hosting.name, None)
    if found is not None:
        await found.stop(scheduler_is_gone=await _is_scheduler_gone(host))


def hosted_by(host: Any, name: str | None) -> Hosted | None:
    """What a host serves under a name; None as the name: the only one there is."""
    found = _hosted.get(host, {})
    if name is None:
        return next(iter(found.values())) if len(found) == 1 else None
    return found.get(name)


async def _is_scheduler_gone(host: Any) -> bool:
    try:
        await within(2.0, host.scheduler.identity(n_workers=0))
    except Exception:  # of Dask's: whatever it is, nobody answers
        return True
    return False


def _address_of(host: Any) -> str:
    """Where a host can be reached, without its port; workers of this process have no address but loopback."""
    found = urlsplit(str(host.address)).hostname if "://" in str(host.address) else None
    is_here = str(host.address).startswith("inproc:") or not found
    return "127.0.0.1" if is_here else f"[{found}]" if ":" in str(found) else str(found)
