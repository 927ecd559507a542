"""The life of a pool: the effects and activities that its table names, and when callers are served.

The rules that hold here:

- Opening is all or nothing: when one connection has given up, all are closed, and the error has all causes.
- Once the pool is told to close, it serves nobody. It waits for leases and calls under way up to the timeout, except
  for those of the tasks that wait for the closing.
- However the life ends, even with the loop, every slot is retired and its connection is closed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar

from fsm_conn._util.forks import after_fork
from fsm_conn._util.timing import ExpiredError, finish, within
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.machine.table import Fires, State
from fsm_conn.pool.drain import DRAIN_TIMEOUT, Drain
from fsm_conn.pool.errors import PoolClosed
from fsm_conn.pool.gate import Gate
from fsm_conn.pool.hooks import Hooks
from fsm_conn.pool.leasing.leases import Leases
from fsm_conn.pool.opening import Opening
from fsm_conn.pool.options import MakeSlot
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.reasons import closed, closed_for
from fsm_conn.pool.slots.made import ConnectionCallback, SlotMaker
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.supervisor import Supervisor
from fsm_conn.pool.table import POOL_STATES, POOL_TRANSITIONS, PoolState, PoolTrigger
from fsm_conn.pool.targets.targets import Targets

__all__ = ["SERVING", "PoolMachine"]

SERVING = frozenset({PoolState.OPENING, PoolState.OPEN})
"""The states in which acquiring is not refused."""


class PoolMachine(StateMachine):
    """A pool, driven by its table.

    Args:
        name: the pool's name in messages.
        policy: the pool's policy.
        targets: the targets of its connections.
        make: makes its slots.
        hooks: the application's hooks.
    """

    states: ClassVar[Sequence[State | str]] = POOL_STATES
    transitions: ClassVar[Sequence[Any]] = POOL_TRANSITIONS
    required_triggers = tuple(PoolTrigger)
    begins_at_rest = True
    _fsm_without_await = "; fsm_conn.blocking.ConnectionPool needs no await"

    _was_forked: bool = False

    def __init__(self, name: str, policy: PoolPolicy, targets: Targets, make: MakeSlot, hooks: Hooks) -> None:
        self.name = name
        self.keep_context()
        self._policy = policy
        self._counts = PoolStats()
        self._targets = targets
        gate = Gate(self)
        self._maker = SlotMaker(make)
        self._supervisor = Supervisor(gate, policy, targets, self._maker, self._counts)
        self._line = self._supervisor.waiters
        self._slots = self._supervisor.slots
        self._leases = Leases(gate, self._supervisor, hooks, self._counts)
        self._opening = Opening(self._supervisor)
        self._closing = Drain(gate, self._supervisor)
        _pools.add(self)

    @property
    def policy(self) -> PoolPolicy:
        """The pool's policy, as it was given to the constructor."""
        return self._policy

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The current slots: each is one connection and its users. For reading only."""
        return tuple(self._slots)

    def on_connection(self, callback: ConnectionCallback) -> Callable[[], None]:
        """Have `callback(conn)` called for each connection of the pool: the current ones, and each new one.

        Use it to observe the connections, with `conn.on_transition` for instance. What it raises is logged only.

        Returns:
            a function that unregisters the callback.

        Raises:
            TypeError: the callback cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"an observer must be callable, not {callback!r}")
        for slot in self._slots:
            callback(slot.conn)
        return self._maker.add(callback)

    # --- effects --------------------------------------------------------------------------------------------

    def make_slots(self, reason: BaseException | None) -> None:
        """Make the regular slots and the standby. None is awake yet."""
        self._closing.until = asyncio.get_running_loop().time() + DRAIN_TIMEOUT
        self._opening.begin()
        self._supervisor.begin()
        self._leases.begin()

    def begin_service(self, reason: BaseException | None) -> None:
        """From now on open more slots for callers that wait."""
        self._opening.end()
        self._supervisor.open()
        self._leases.hurry()

    def end_service(self, reason: BaseException | None) -> None:
        """Tell all waiting callers that the pool is closing, and why."""
        self._leases.is_slow = True
        self._supervisor.end()
        self._counts.refused += self._line.refuse(lambda: closed_for(self, reason))

    def forget_slots(self, reason: BaseException | None) -> None:
        """All slots are closed: forget them."""
        self._slots.clear()
        self._opening.end()

    # --- activities -----------------------------------------------------------------------------------------

    async def while_opening(self) -> Annotated[str, Fires(PoolTrigger.OPENED)]:
        """Wake all slots, and wait until they are in service. The first that fails ends the opening."""
        await self._opening.run()
        return PoolTrigger.OPENED

    async def while_open(self) -> None:
        """Replace links that are too old, and close connections that nobody needs."""
        news = self._supervisor.news
        self._supervisor.provide()
        while True:
            news.clear()
            due = self._supervisor.clean_up()
            with suppress(ExpiredError):
                await within(None if due is None else due - self._supervisor.now(), news.wait())

    async def while_draining(self) -> Annotated[str, Fires(PoolTrigger.DRAINED)]:
        """Wait for the leases up to the timeout, then close all connections, leased ones too."""
        await self._closing.run()
        return PoolTrigger.DRAINED

    # --- the end of the loop --------------------------------------------------------------------------------

    async def on_loop_end(self) -> None:
        """Close all connections."""
        for slot in (*self._slots, *self._slots.leaving):
            await slot.end()

    def come_to_rest(self) -> None:
        """Close, without running the activities."""
        for trigger in (PoolTrigger.CLOSE, PoolTrigger.DRAINED):
            if self.handles(trigger):
                self.fire(trigger)

    def on_loop_lost(self) -> None:
        """The loop is gone, and all connections with it."""
        self._line.forget()
        self._supervisor.news = asyncio.Event()
        self._disown_slots()

    # --- opening and closing ----------------------------------------------------------------------------------

    async def _outcome_of_opening(self) -> TransitionRecord:
        """Wait until the pool is open, or closed again.

        When the last waiting caller is cancelled, the opening is abandoned, even if it succeeds in that moment: nobody
        would close the pool.
        """
        self._opening.callers += 1
        try:
            record = await self.reach((PoolState.OPEN, PoolState.DRAINING, PoolState.CLOSED))
            if record.dest != PoolState.OPEN:
                await self.reach((PoolState.CLOSED,))
            await self.wait_for_observers()
            return record
        except asyncio.CancelledError:
            if self._opening.callers == 1 and not self._opening.is_claimed and self._state in SERVING:
                self._begin_closing(0.0)
                await finish(asyncio.ensure_future(self.reach((PoolState.CLOSED,))))
            raise
        finally:
            self._opening.callers -= 1

    def _begin_closing(self, timeout: float | None) -> None:
        until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        if self._state in SERVING:
            self._closing.until = until
            self.fire(PoolTrigger.CLOSE)
        else:
            self._closing.limit(until)

    # --- serving callers --------------------------------------------------------------------------------------

    def admit(self) -> asyncio.AbstractEventLoop:
        """The running loop, if the pool serves callers in it.

        Raises:
            PoolClosed: the pool serves no callers.
            RuntimeError: the pool lives in another loop.
        """
        loop = asyncio.get_running_loop()
        if loop is self.loop and self._state in SERVING and not self._was_forked:
            return loop
        if not self._was_forked:
            self.check_loop()
        if self._was_forked or self._state not in SERVING:
            self._counts.refused += 1
            raise self.why_closed()
        return loop

    def why_closed(self) -> PoolClosed:
        """The error that says that the pool is closed, and what to do."""
        return closed(self, self._state, was_forked=self._was_forked)

    def disown(self) -> None:
        """This process is a child of the process that opened the pool."""
        if self._state != PoolState.CLOSED:
            self._was_forked = self._leases.is_slow = True
            self._disown_slots()

    def _disown_slots(self) -> None:
        self._slots.free.clear()
        self._supervisor.is_serving = self._supervisor.is_open = False
        for slot in self._slots:
            slot.cut_off(None)


_pools: weakref.WeakSet[PoolMachine] = weakref.WeakSet()


def _after_fork() -> None:
    """A child shares its parent's sockets and knows none of its processes: it must not use open connections."""
    for pool in tuple(_pools):
        pool.disown()


after_fork(_after_fork)
