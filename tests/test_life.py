"""Random lives, in virtual time: whatever is done and whenever, the promises hold."""

from __future__ import annotations

import asyncio
from typing import Any

import async_solipsism
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import HANG, TRANSIENT, Peer, Permanent

from fsm_conn import CallOptions, Connection, FsmConnError, LinkLostError, RetryPolicy

ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["connect", "disconnect", "reconnect", "probe", "call"]), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.5, 1.0, 5.0, 60.0])),
    st.tuples(st.just("lose"), st.just(0)),
)
OPENS = st.lists(st.sampled_from([None, None, TRANSIENT, HANG, Permanent("no")]), max_size=8)


class Life:
    """One connection, and whoever uses it, driven by a list of actions."""

    def __init__(self, opens: list[Any], delay: float, close_delay: float) -> None:
        self.peer = Peer(*opens, delay=delay, close_delay=close_delay)
        policy = RetryPolicy(max_attempts=3, initial_delay=1, stable_after=30)
        self.conn = Connection(self.peer, retry=policy, start_timeout=3, history=10_000)
        self.users: list[asyncio.Task[Any]] = []
        self.seen: list[Any] = []
        self.conn.on_transition(self.seen.append)

    async def run(self, actions: list[tuple[str, Any]]) -> None:
        for name, argument in actions:
            await self.act(name, argument)
            self.check()
        await self.end()

    async def act(self, name: str, argument: Any) -> None:
        if name == "sleep":
            await asyncio.sleep(argument)
        elif name == "lose":
            if self.peer.made and not self.peer.link.gone.done():
                self.peer.lose(LinkLostError("gone"))
        elif name == "cancel":
            if self.users:
                self.users[argument % len(self.users)].cancel()
        elif name == "call":
            self.users.append(asyncio.create_task(self.conn.call("s.M", CallOptions(idempotent=True, timeout=10))))
        else:
            self.users.append(asyncio.create_task(getattr(self.conn, name)()))

    def check(self) -> None:
        conn, peer = self.conn, self.peer
        rows = conn.lifecycle.machine.events
        assert tuple(self.seen) == conn.history
        for record in conn.history:
            dests = [row.dest or row.source for row in rows[record.trigger].transitions[record.source]]
            assert record.dest in dests
        for before, after in zip(conn.history, conn.history[1:], strict=False):
            assert before.dest == after.source
        assert 0 <= peer.open_now <= 1
        if conn.lifecycle.states[conn._state].owns_link:
            assert peer.open_now == 1
        assert conn.attempt <= 3

    async def end(self) -> None:
        """After a last disconnect() there is nothing left, and everybody who waited has been answered."""
        self.peer.then, self.peer.script = None, []
        await asyncio.sleep(0)  # whoever was about to call has called
        await self.conn.disconnect()
        assert self.conn.state == "disconnected"
        outcomes = await asyncio.gather(*self.users, return_exceptions=True)
        for outcome in outcomes:
            assert not isinstance(outcome, Exception) or isinstance(outcome, FsmConnError), outcome
        await asyncio.sleep(100)
        assert self.conn.state == "disconnected"
        assert self.peer.open_now == 0
        assert len(asyncio.all_tasks()) == 1
        self.check()


@settings(max_examples=300, deadline=None)
@given(OPENS, st.sampled_from([0, 0.5]), st.sampled_from([0, 0.5, 20]), st.lists(ACTIONS, max_size=30))
def test_every_life_keeps_the_promises(
    opens: list[Any], delay: float, close_delay: float, actions: list[tuple[str, Any]]
) -> None:
    """Every move is a row of the table; a link is open exactly where one is owned; nothing is left at the end."""

    async def live() -> None:
        await Life(opens, delay, close_delay).run(actions)

    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(live())
