"""The calls through one link, as evidence that its peer is there: any answer is a sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["Traffic"]


class Traffic:
    """The calls under way through a link, and the last sign of life of its peer.

    Args:
        now: when the link was opened, by the loop's clock; the first sign of life.

    Attributes:
        opened_at: when the link was opened.
        heard_at: when the peer gave its last sign of life.
        began: when each call under way began, in that order.
        look: called before the calls under way are counted; it removes those of stubs that have ended.
        ran_out: called with the time at which a stub's call began whose deadline has passed.
        is_left: whether another link serves in its place, after its peer began to close it in good order.
        leavers: the time limits of the calls that move to the other link; None until there is one.
    """

    __slots__ = ("_number", "began", "heard_at", "is_left", "leavers", "look", "opened_at", "ran_out")

    def __init__(self, now: float) -> None:
        self.is_left = False
        self.leavers: dict[asyncio.Timeout, None] | None = None
        self.opened_at = self.heard_at = now
        self.began: dict[Any, float] = {}
        self.look: Callable[[], object] = int
        self.ran_out: Callable[[float], object] = float
        self._number = 0

    def begin(self, now: float) -> int:
        """Begin a call; return its number."""
        self._number += 1
        self.began[self._number] = now
        return self._number

    def end(self, number: int) -> None:
        """End a call, whatever its outcome."""
        del self.began[number]

    def leave(self) -> None:
        """Note that another link serves in its place."""
        self.is_left = True
        for limit in self.leavers or ():
            limit.reschedule(0)

    def ages(self, now: float) -> tuple[float, ...]:
        """The ages of the calls under way, in seconds, the oldest first."""
        self.look()
        return tuple(now - began for began in self.began.values())

    def excuses(self, asked_at: float, now: float, limit: float) -> bool:
        """Whether a peer that did not answer a probe of `asked_at` may be busy rather than gone.

        That is so while a call that began earlier is under way, for `limit` seconds after the last sign of life.
        """
        self.look()
        oldest = next(iter(self.began.values()), asked_at)
        return oldest < asked_at and now - self.heard_at < limit
