"""Calls through a pool without a lease: each goes through the least busy slot that nobody leases.

The rules that hold here:

- A slot counts a caller from the moment in which it is handed over until the call has ended, however it ends.
- A call whose link is lost fails only after the slot knows of the loss, so that it is not repeated through that slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from fsm_conn._util.timing import ExpiredError, closing, within
from fsm_conn.connection.calling.route import RoutedCall
from fsm_conn.links.errors import ConnectionLostError
from fsm_conn.pool.errors import PoolError
from fsm_conn.pool.leasing.leases import Leases

if TYPE_CHECKING:
    from fsm_conn.links.base import CallOptions
    from fsm_conn.pool.slots.slot import Slot
    from fsm_conn.pool.users import TaskRef

__all__ = ["PoolRoute", "SlotCall"]


class PoolRoute:
    """The route of one call to a slot.

    Args:
        leases: hands out the slots.
        waits_through_outage: whether the call waits through an outage, rather than failing at once.
    """

    __slots__ = ("_leases", "_tried", "_waits_through_outage")

    is_patient = True
    """Every call waits for a slot; its timeout covers that."""
    may_repeat = True
    endings = excused = 0
    """A call need not observe any: a closed pool serves nobody."""

    def __init__(self, leases: Leases, *, waits_through_outage: bool) -> None:
        self._leases = leases
        self._waits_through_outage = waits_through_outage
        self._tried: list[Slot] = []

    @property
    def owner(self) -> Leases:
        """The pool, for messages."""
        return self._leases

    @property
    def reason(self) -> BaseException | None:
        """The last error of a slot."""
        return self._leases.slots.cause

    def ready(self) -> None:
        """None: the route has to look for a slot each time."""

    async def now(self) -> SlotCall:
        """As `next`."""
        return await self.next(None)

    async def next(self, end: float | None) -> SlotCall:
        """A slot to call through. `end`, by the loop's clock, is when the caller is cancelled.

        Raises:
            PoolTimeoutError: the call has no timeout, and the policy's has passed.
            PoolError: as `acquire`.
        """
        limit = self._leases.policy.acquire_timeout if end is None else None
        try:
            caller = self._leases.user()
            found = self._leases.slot_for_call(caller, is_patient=self._waits_through_outage, avoided=self._tried)
            slot = await within(limit, found)
        except ExpiredError:
            raise self._leases.timed_out(limit or 0.0) from self.reason
        except PoolError:
            await asyncio.sleep(0)  # a caller that repeats at once, for ever, must not block the loop
            raise
        self._tried.append(slot)  # a repeated call prefers another slot
        return SlotCall(self._leases, slot, caller)


class SlotCall:
    """The link of a slot, for one call.

    Args:
        leases: the object that handed out the slot.
        slot: the slot, which counts the caller already.
        caller: the calling task.

    Attributes:
        slot, caller: as given.
    """

    def __init__(self, leases: Leases, slot: Slot, caller: TaskRef) -> None:
        self._leases = leases
        self.slot = slot
        self.caller = caller

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """As `Link.call`."""
        try:
            reply, watch = self._routed().call(method, request, fields, options), self.slot.conn._calls
            return await (watch.call(method, reply) if watch else reply)
        finally:
            self._leases.end_call(self.slot, self.caller)

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As `Link.stream`."""
        try:
            async with closing(self._watched(self._routed(), method, request, fields, options)) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._leases.end_call(self.slot, self.caller)

    def _watched(
        self, way: RoutedCall, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        replies, watch = way.stream(method, request, fields, options), self.slot.conn._calls
        return watch.stream(method, replies) if watch else replies

    def _routed(self) -> RoutedCall:
        conn = self.slot.conn
        if conn.link is None:
            raise ConnectionLostError(f"{conn.name}: the link was lost before the call was sent")
        return RoutedCall(conn, conn.link)

    def is_unavailable(self, error: Exception) -> bool:
        """As `Link.is_unavailable`."""
        link = self.slot.conn.link
        return link is not None and link.is_unavailable(error)
