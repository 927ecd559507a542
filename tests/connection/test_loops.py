"""A connection lives in one event loop: whoever uses it from another is told at once, whatever goes on in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer

from fsm_conn import AutoReconnectClient, CallOptions, Connection, NotConnectedError, RetryPolicy
from fsm_conn.connection.clients import ManagedConnection

WAITS = CallOptions(wait_for_ready=True, idempotent=True)


async def _streamed(conn: Any, *options: CallOptions) -> None:
    async for _ in conn.stream("a.B", *options):
        pass


async def _stubbed(conn: Any) -> None:
    conn.stub(lambda channel: channel.unary_unary("/a/B"))()


METHODS: dict[str, Callable[[Any], Any]] = {
    "connect": lambda conn: conn.connect(),
    "ensure_connected": lambda conn: conn.ensure_connected(),
    "reconnect": lambda conn: conn.reconnect(),
    "disconnect": lambda conn: conn.disconnect(),
    "aclose": lambda conn: conn.aclose(),
    "call": lambda conn: conn.call("a.B"),
    "patient call": lambda conn: conn.call("a.B", WAITS),
    "attribute": lambda conn: conn.a.B(),
    "stream": _streamed,
    "patient stream": lambda conn: _streamed(conn, WAITS),
    "stub": _stubbed,
    "probe": lambda conn: conn.probe(),
    "wait_for_state": lambda conn: conn.wait_for_state("failed"),
    "client's call": lambda conn: conn.call_with_auto_reconnect("a.B"),
}

STATES: dict[str, tuple[Any, ...]] = {
    "connected": (),
    "connecting": (HANG,),
    "reconnecting": (TRANSIENT, HANG),
}


@pytest.mark.parametrize("state", STATES)
def test_every_method_says_at_once_that_it_is_used_in_another_loop(state: str) -> None:
    """In each state that has something under way; in a thread, as that is the only way to have two loops."""

    def elsewhere(conn: Connection) -> None:
        for name, method in METHODS.items():

            async def use(method: Any = method) -> None:
                async with asyncio.timeout(5):
                    await method(conn)

            try:
                asyncio.run(use())
            except BaseException as error:
                told[name] = error
            else:
                told[name] = None

    async def life() -> None:
        conn = AutoReconnectClient(Peer(*STATES[state]), retry=RetryPolicy(initial_delay=0))  # type: ignore[arg-type]
        connecting = asyncio.create_task(conn.connect())
        await conn.wait_for_state(state)
        thread = threading.Thread(target=elsewhere, args=(conn,))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)
        assert conn.state == state
        await conn.disconnect()
        await asyncio.gather(connecting, return_exceptions=True)

    told: dict[str, BaseException | None] = {}
    asyncio.run(life())
    wrong = {
        name: error
        for name, error in told.items()
        if not (isinstance(error, RuntimeError) and "lives in another event loop" in str(error))
    }
    assert wrong == {}
    assert told.keys() == METHODS.keys()


def test_each_run_of_asyncio_ends_what_was_connected_in_it() -> None:
    """The next one is told so, and may connect again."""
    conn = ManagedConnection(Peer())

    async def first() -> None:
        await conn.connect()
        await conn.call("a.B")

    async def second() -> None:
        with pytest.raises(NotConnectedError, match=r"the event loop that it was connected in has ended, as each"):
            await conn.call("a.B")
        await conn.connect()
        assert await conn.call("a.B") == "reply"
        await conn.disconnect()
        with pytest.raises(NotConnectedError, match=r"call 'await conn\.connect\(\)' first"):
            await conn.call("a.B")

    asyncio.run(first())
    asyncio.run(second())
