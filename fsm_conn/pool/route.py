"""The way of calls that are made without a lease: through whichever slot has least to do.

The rule that holds here: the slot counts who makes a call as long as it is under way, and, however it ends, not longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from fsm_conn._util.timing import closing
from fsm_conn.connection.calling.route import RoutedCall
from fsm_conn.machine.errors import FsmConnError

if TYPE_CHECKING:
    from fsm_conn.links.base import CallOptions, Link
    from fsm_conn.machine.machine import StateMachine
    from fsm_conn.pool.slots import Slot

__all__ = ["PoolRoute", "SlotCall"]


class SlotCall:
    """A link of a slot that a call was routed to.

    Args:
        slot: whose link it is.
        link: the link.
    """

    __slots__ = ("_routed", "_slot")

    def __init__(self, slot: Slot, link: Link) -> None:
        self._slot = slot
        self._routed = RoutedCall(slot.conn, link)

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """As `Link.call`."""
        with self._slot.called():
            reply, watch = self._routed.call(method, request, fields, options), self._slot.conn._calls
            return await (watch.call(method, reply) if watch else reply)

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As `Link.stream`."""
        with self._slot.called():
            replies, watch = self._routed.stream(method, request, fields, options), self._slot.conn._calls
            async with closing(watch.stream(method, replies) if watch else replies) as watched:
                async for reply in watched:
                    yield reply


class PoolRoute:
    """The route of the calls on a pool.

    Args:
        pool: the pool.
        now: waits for a slot as long as the pool's policy says, and returns where a call goes.
        next: waits for a slot as long as it takes.
    """

    __slots__ = ("_next", "_now", "owner")

    is_patient = False
    endings = 0
    """None that a call need heed: a pool that is closed serves nobody."""

    def __init__(
        self, pool: StateMachine, now: Callable[[], Awaitable[SlotCall]], next: Callable[[], Awaitable[SlotCall]]
    ) -> None:
        self.owner = pool
        self._now = now
        self._next = next

    @property
    def reason(self) -> BaseException | None:
        """The last error that the pool met."""
        return self.owner.reason

    @property
    def may_repeat(self) -> bool:
        """Whether a call may be sent again: not that of an activity."""
        return not self.owner.in_activity()

    async def now(self) -> SlotCall:
        """Where a call goes that waits no longer than the pool's policy says. Refuses only after a turn of the loop."""
        return await _after_a_turn(self._now())

    async def next(self, end: float | None) -> SlotCall:
        """Where a call goes that waits as long as it takes. Refuses only after a turn of the loop."""
        return await _after_a_turn(self._next())


async def _after_a_turn(awaited: Awaitable[SlotCall]) -> SlotCall:
    try:
        return await awaited
    except FsmConnError:
        await asyncio.sleep(0)  # who calls again at once, for ever, must not keep the loop from all else
        raise
