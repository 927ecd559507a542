"""Subscriptions through a pool: each uses one slot at a time, and moves to another when it must.

The rules that hold here:

- A subscription counts as a call of its slot: nobody can lease the slot meanwhile, but calls share it.
- It moves when its link is lost, goes away in good order, or is to be replaced; the subscriber receives a `Gap`.
- It waits through an outage, regardless of `acquire_timeout`. It ends with the pool; closing does not wait for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from fsm_conn._util.timing import closing
from fsm_conn.links.errors import GoingAwayError
from fsm_conn.pool.leasing.calls import PoolRoute, SlotCall

if TYPE_CHECKING:
    from fsm_conn.links.base import CallOptions
    from fsm_conn.pool.leasing.leases import Leases
    from fsm_conn.pool.slots.slot import Slot
    from fsm_conn.pool.users import TaskRef

__all__ = ["SubscriptionRoute"]


class SubscriptionRoute(PoolRoute):
    """The route of one subscription, through one slot after another.

    Args:
        leases: hands out the slots.
    """

    __slots__ = ()

    def __init__(self, leases: Leases) -> None:
        super().__init__(leases, waits_through_outage=True)

    async def next(self, end: float | None) -> SubscribedSlot:
        """As `PoolRoute.next`, but through another slot than before, if there is one."""
        del self._tried[:-1]
        call = await super().next(math.inf if end is None else end)
        return SubscribedSlot(self._leases, call.slot, call.caller)


class SubscribedSlot(SlotCall):
    """The link of a slot, for one stream of a subscription. Arguments as for `SlotCall`."""

    def __init__(self, leases: Leases, slot: Slot, caller: TaskRef) -> None:
        super().__init__(leases, slot, caller)
        self._told = slot.subscribers.told
        self._is_over = False
        self._way = self._routed()

    async def find(self, method: str, options: CallOptions | None) -> None:
        """As `Link.find`."""
        try:
            await self._way.find(method, options)
        except BaseException:
            self._end()
            raise

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As `Link.stream`."""
        try:
            async with closing(self._watched(self._way, method, request, fields, options)) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._end()

    async def before_leaving(self, reply: Awaitable[Any]) -> Any:
        """As `RoutedCall.before_leaving`; the subscription also leaves the slot when the link is to be replaced.

        Raises:
            GoingAwayError: the link was replaced, or is to be.
            PoolClosed: the pool is being closed.
        """
        subscribers = self.slot.subscribers
        limit = asyncio.timeout(None if self._told == subscribers.told else 0)
        try:
            async with limit:
                subscribers.waiting[limit] = None
                try:
                    return await self._way.before_leaving(reply)
                finally:
                    del subscribers.waiting[limit]
        except TimeoutError:
            if not limit.expired():
                raise
            self._leases.gate.admit()
            raise GoingAwayError("the pool replaces this link") from None
        finally:
            del limit  # it holds the task, which holds its exception, which holds this frame

    @property
    def is_gone(self) -> bool:
        """Whether the link no longer belongs to the slot."""
        return self._way.is_gone

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._leases.end_call(self.slot, self.caller)
