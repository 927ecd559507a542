"""The calls through one link, as far as they tell whether its peer is there: an answer does, whatever it says."""

from __future__ import annotations

import asyncio

__all__ = ["Traffic"]


class Traffic:
    """Calls under way through a link, and when its peer was last heard.

    Args:
        now: when the link was opened, by the loop's clock: the first sign of life.

    Attributes:
        opened_at: when the link was opened.
        heard_at: when the peer gave its last sign of life.
        is_left: whether another link serves in its place, after its peer has begun to close it in good order.
        leavers: the limits of those who leave it then.
    """

    __slots__ = ("_began", "_number", "heard_at", "is_left", "leavers", "opened_at")

    def __init__(self, now: float) -> None:
        self.is_left = False
        self.leavers: dict[asyncio.Timeout, None] = {}
        self.opened_at = self.heard_at = now
        self._began: dict[int, float] = {}
        self._number = 0

    def begin(self, now: float) -> int:
        """A call begins; return its number."""
        self._number += 1
        self._began[self._number] = now
        return self._number

    def end(self, number: int) -> None:
        """That call has ended, however."""
        del self._began[number]

    def leave(self) -> None:
        """Another link serves in its place."""
        self.is_left = True
        for limit in self.leavers:
            limit.reschedule(0)

    def ages(self, now: float) -> tuple[float, ...]:
        """Seconds since each call that is under way began, the oldest first."""
        return tuple(now - began for began in self._began.values())

    def excuses(self, asked_at: float, now: float, limit: float) -> bool:
        """Whether a peer that has not answered what it was asked at `asked_at` may be busy rather than gone.

        So it is while a call that began earlier is under way, for `limit` seconds after the last sign of life.
        """
        oldest = next(iter(self._began.values()), asked_at)
        return oldest < asked_at and now - self.heard_at < limit
