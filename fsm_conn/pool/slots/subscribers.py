"""The subscriptions that go through one slot. They leave it when they are told to."""

from __future__ import annotations

import asyncio

__all__ = ["Subscribers"]


class Subscribers:
    """The tasks that wait for a reply of a subscription through one slot.

    Attributes:
        waiting: the time limits of their waits; none of them expires on its own.
        told: how many times they were told to leave.
    """

    __slots__ = ("told", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[asyncio.Timeout, None] = {}
        self.told = 0

    def dismiss(self) -> None:
        """Tell all of them to leave: the link is to be replaced, or the pool is being closed."""
        self.told += 1
        for limit in self.waiting:
            limit.reschedule(0)
