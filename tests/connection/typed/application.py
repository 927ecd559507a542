"""What users write, in all its variety."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fsm_conn import (
    AutoReconnectClient,
    CallOptions,
    CallRecord,
    Connection,
    ConnectionPool,
    ConnectionState,
    Fires,
    HealthPolicy,
    LinkState,
    ManagedConnection,
    Metrics,
    RetryPolicy,
    State,
    StateMachine,
    Transition,
    TransitionRecord,
    Trigger,
    add_state,
    insert_state,
)


class Authenticated(Connection):
    states, transitions = insert_state(
        Connection,
        "authenticating",
        trigger=Trigger.OPENED,
        before=ConnectionState.CONNECTED,
        then="authenticated",
        like=ConnectionState.CONNECTING,
    )

    async def while_authenticating(self) -> Annotated[str, Fires("authenticated")]:
        await self.call("auth.Login", token="t")
        return "authenticated"


class Throttled(Authenticated):
    states, transitions = add_state(
        Authenticated,
        LinkState("throttled", on_error="lost", serves=True),
        beside="connected",
        trigger="throttle",
        back="eased",
        back_effects="forget_probes",
    )

    async def while_throttled(self) -> str | None:
        limit = asyncio.timeout(5)
        try:
            async with limit:
                return await self.while_connected()
        except TimeoutError:
            if not limit.expired():
                raise
            return "eased"

    def may_retry(self, reason: BaseException | None) -> bool:
        return super().may_retry(reason)

    def count_attempt(self, reason: BaseException | None) -> None:
        super().count_attempt(reason)


class Door(StateMachine):
    states = (State("open", initial=True, final=True), State("closed", final=True))
    transitions = (Transition("close", "open", "closed"), Transition("open", "closed", "open"))


class Own(Connection):
    states = (*Connection.states, State("x"))
    transitions = (*Connection.transitions, Transition("go", "*", "x"), Transition("back", "x", "disconnected"))
    retry = RetryPolicy(max_attempts=3)
    health = HealthPolicy(interval=5)


async def use(conn: Connection) -> None:
    state: ConnectionState | str = conn.state
    if state == ConnectionState.CONNECTED and conn.connected:
        print(conn.pid, state.upper())
    pid: int | None = conn.pid
    link = conn.link
    if link is not None:
        print(link.pid, link.channel, pid)
    async with Connection(["x"]) as other:
        await other.calculator.Add(a=1, b=2)
        reply = await other.call("calculator.Add", CallOptions(timeout=1), a=5)
        print(reply.result)
        async for each in other.stream("a.B"):
            print(each)
        stream: AsyncIterator[object] = other.calculator.Count(n=3).__aiter__()
        print(stream)


async def watch(conn: Connection) -> None:
    def on_record(record: TransitionRecord) -> None:
        print(record.trigger, record.dest, record.reason)

    async def on_state(old: object, new: object) -> None:
        print(old, new)

    def on_call(record: CallRecord) -> None:
        print(record.method)

    conn.on_transition(on_record)
    conn.on_transition(lambda record: print(record.attempt))
    conn.on_state_change(ConnectionState.FAILED, on_state)
    conn.on_call(on_call)
    for record in conn.history:
        print(record.attempt)
    new = await conn.wait_for_state("connected", "failed")
    print(new)
    metrics = Metrics()
    metrics.watch(conn)


async def share() -> None:
    async with ConnectionPool(["x"], pool_size=2, connection_class=Authenticated) as pool, pool.acquire() as client:
        await client.calculator.Add(a=1)
        await pool.call("a.B")
        async for each in pool.stream("a.B"):
            print(each)
    managed = ManagedConnection(["x"])
    flag: bool = managed.connected
    auto = AutoReconnectClient(["x"], name="n", retry=RetryPolicy())
    auto.max_reconnect_attempts = None
    auto.max_reconnect_attempts = 3
    auto.jitter_enabled = flag


if __name__ == "__main__":
    asyncio.run(use(Connection("127.0.0.1:1")))
