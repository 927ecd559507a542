"""Code of an application that ignores its cancellation: its time is up all the same, and it costs the pool nothing.

It need not be written that way: plain `asyncio.wait_for` loses a cancellation now and then, on Python 3.11.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from peer import Peer

from fsm_conn import Connection, GoingAwayError, HealthPolicy, PoolPolicy

from .conftest import begun, make, now, settled

DEAF = 600.0
"""Seconds for which it does not hear."""
GONE = GoingAwayError("the peer goes away")
METHODS = ("open", "close", "drained", "lost", "watch")


async def ignore_cancellation() -> None:
    end = now() + DEAF
    while now() < end - 0.01:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(end - now())


class Deaf(Peer):
    """A peer of whose links one method, when it is called next, ignores its cancellation."""

    def __init__(self) -> None:
        super().__init__()
        self.method = ""

    def __call__(self) -> Any:
        link = super().__call__()
        for name in METHODS:
            setattr(link, name, self._heeding(name, getattr(link, name)))
        return link

    def _heeding(self, name: str, method: Any) -> Any:
        async def deaf(*words: Any) -> Any:
            if self.method == name:
                self.method = ""
                await ignore_cancellation()
                if name == "lost":
                    return GONE
            return await method(*words)

        async def deaf_watch(*words: Any) -> Any:
            if self.method == name:
                self.method = ""
                await ignore_cancellation()
            async for each in method(*words):
                yield each

        return deaf_watch if name == "watch" else deaf


async def has_all(pool: Any, size: int) -> None:
    """As many leases can be had at a time as ever."""
    async with asyncio.timeout(60):
        leases = [await pool.acquire() for _ in range(size)]
    for lease in leases:
        lease.release()


async def closes(pool: Any) -> None:
    began = now()
    await pool.close_all(timeout=1)
    assert now() - began <= 20
    await asyncio.sleep(DEAF)
    await settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_close_that_ignores_its_cancellation_costs_no_slot(caplog: Any) -> None:
    """However a link is given up, another is opened in its place when the time for closing is up."""
    for give_up in ("lose", "expire", "discard"):
        peer = Deaf()
        pool = make(peer, 2)
        await pool.initialize()
        peer.method = "close"
        if give_up == "lose":
            peer.lose()
        elif give_up == "expire":
            pool.expire()
        else:
            (await pool.acquire()).discard()
        await asyncio.sleep(30)
        await has_all(pool, 2)
        assert "close() of its link ignores its cancellation and is left behind" in caplog.text
        caplog.clear()
        await closes(pool)
        assert peer.open_now == 0


@pytest.mark.parametrize("size", [1, 2])
async def test_a_close_that_ignores_its_cancellation_does_not_hang_the_closing(size: int) -> None:
    """Nor does it hang `resize`, after which nobody waits for it."""
    peer = Deaf()
    pool = make(peer, 2)
    await pool.initialize()
    peer.method = "close"
    if size == 1:
        pool.resize(1)
    await closes(pool)
    assert peer.open_now == 0


@pytest.mark.parametrize("how", ["expire", "lose"])
async def test_an_open_that_ignores_its_cancellation_costs_no_slot(how: str, caplog: Any) -> None:
    """It is a failed attempt; what it opens long afterwards is closed."""
    peer = Deaf()
    pool = make(peer, 2, start_timeout=10)
    await pool.initialize()
    peer.method = "open"
    pool.expire() if how == "expire" else peer.lose()
    await asyncio.sleep(60)
    await has_all(pool, 2)
    assert "ignores its cancellation and is left behind" in caplog.text
    await asyncio.sleep(DEAF)
    assert (peer.open_now, peer.opened) == (2, peer.closed + 2)
    await closes(pool)


async def test_calls_of_a_retired_link_that_never_end_do_not_keep_it_open() -> None:
    """Its time is up when it is, and when the pool is closed."""
    for patience in (60, 1):
        peer = Deaf()
        pool = make(peer, 1)
        await pool.initialize()
        await asyncio.sleep(10)
        peer.method = "drained"
        peer.lose(GONE)
        await asyncio.sleep(patience)
        assert peer.closed == (patience == 60)
        await has_all(pool, 1)
        await closes(pool)
        assert peer.open_now == 0


@pytest.mark.parametrize("method", ["watch", "lost"])
async def test_a_link_whose_methods_ignore_their_cancellation_is_replaced(method: str) -> None:
    """When a link is lost, or given up, nothing else is waited for."""
    peer = Deaf()
    pool = make(peer, 1, health=HealthPolicy(interval=5, timeout=1, failure_threshold=1))
    peer.method = method
    await pool.initialize()
    if method == "watch":
        await asyncio.sleep(1)
        peer.lose()
    elif method == "lost":
        pool.expire()
    await asyncio.sleep(60)
    assert (peer.opened, peer.open_now) == (2, 1)
    await has_all(pool, 1)
    await closes(pool)


@pytest.mark.parametrize("is_deaf", [False, True], ids=["swallows", "deaf"])
@pytest.mark.parametrize("hook", ["on_open", "on_acquire", "on_release", "of the class"])
async def test_a_hook_that_ignores_its_cancellation_has_failed(hook: str, is_deaf: bool) -> None:
    """Whatever it returns: what it did to the link is half done. The link is replaced, and the slot comes back."""
    armed = False

    async def work(conn: Connection) -> None:
        nonlocal armed
        if armed:
            armed = False
            with contextlib.suppress(asyncio.CancelledError):
                await (ignore_cancellation() if is_deaf else asyncio.sleep(DEAF))

    class Working(Connection):
        async def on_open(self) -> None:
            await work(self)

    peer = Peer()
    options: dict[str, Any] = {"connection_class": Working} if hook == "of the class" else {hook: work}
    pool = make(peer, 1, start_timeout=3, policy=PoolPolicy(hook_timeout=3), **options)
    await pool.initialize()
    for slot in pool.slots:
        slot.conn.hook_timeout = 3
    armed, first = True, peer.link
    if hook in ("on_open", "of the class"):
        peer.lose()
    else:
        began = now()
        (using,) = begun(_used(pool))
        await using
        assert now() - began <= 10
    await asyncio.sleep(30)
    await has_all(pool, 1)
    assert peer.link is not first
    assert all(each.closes for each in peer.made[:-1])
    assert len(peer.made) >= 2 + (hook in ("on_open", "of the class"))
    await closes(pool)


async def _used(pool: Any) -> None:
    async with pool.acquire(timeout=60):
        pass
