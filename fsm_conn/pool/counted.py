"""The link of a slot, for calls that are made without a lease.

The rule that holds here: the slot counts who makes a call as long as it is under way, and, however it ends, not longer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from fsm_conn._util.timing import closing
from fsm_conn.links.base import CallOptions, Link

if TYPE_CHECKING:
    from fsm_conn.pool.slots import Slot

__all__ = ["CountedLink"]


class CountedLink(Link):
    """A link that tells its slot of the calls that go through it.

    Args:
        slot: whose link it is.
        link: the link itself.
    """

    def __init__(self, slot: Slot, link: Link) -> None:
        self.slot = slot
        self.link = link

    async def open(self) -> None:
        """Refuse: it is open already."""
        raise TypeError("a link of a pool is opened by its slot")

    async def close(self) -> None:
        """Refuse: others use it."""
        raise TypeError("a link of a pool is closed by its slot")

    async def lost(self) -> Exception:
        """As the link."""
        return await self.link.lost()

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """As the link."""
        with self.slot.called():
            reply, watch = self.link.call(method, request, fields, options), self.slot.conn._calls
            return await (watch.call(method, reply) if watch else reply)

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As the link."""
        with self.slot.called():
            replies, watch = self.link.stream(method, request, fields, options), self.slot.conn._calls
            async with closing(watch.stream(method, replies) if watch else replies) as watched:
                async for reply in watched:
                    yield reply
