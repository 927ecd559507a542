"""A budget of retries that many connections share, so that a common outage does not cause a storm of retries.

Jitter spreads the retries of many connections, but does not make them fewer. A budget does: it is a token bucket, as
in gRPC's retry throttling and Finagle's retry budgets. Every attempt after the first takes a token; when there is
none, it waits, first come, first served.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fsm_conn._util.keywords import explained
from fsm_conn._util.validators import is_finite, shown

__all__ = ["RetryBudget"]


class RetryBudget:
    """Limits all connections that share it to `rate` retries per second, and to `burst` retries at once.

        budget = RetryBudget(rate=20, burst=40)
        plugins = [Connection(command, budget=budget) for command in commands]

    The first attempt after `connect()` is not a retry. An attempt after a failed one, after a lost link or by
    `reconnect()` is. A budget belongs to one event loop until that is closed; a new loop begins with a full bucket.

    Args:
        rate: tokens that come back per second; more than zero.
        burst: tokens in a full bucket; 1 or more.

    Raises:
        TypeError, ValueError: a value is not a number, or out of range.
    """

    @explained()
    def __init__(self, rate: float, *, burst: int = 1) -> None:
        for name, value in (("rate", rate), ("burst", burst)):
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise TypeError(f"RetryBudget({name}={value!r}): give a number")
        if not (is_finite(rate) and rate > 0):
            raise ValueError(
                f"RetryBudget(rate={shown(rate)}): give a finite number of retries per second, more than zero"
            )
        if not (is_finite(burst) and burst >= 1):
            raise ValueError(f"RetryBudget(burst={shown(burst)}): give a finite number of retries at once, 1 or more")
        self.rate = float(rate)
        self.burst = float(burst)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()
        self._tokens = self.burst
        self._counted_at = 0.0

    async def admit(self) -> None:
        """Wait for a token and take it. When cancelled, it takes none.

        Raises:
            RuntimeError: it was used in another loop, which is not closed.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(f"{self!r} is used in another event loop; give each loop its own")
            self._loop, self._turn = loop, asyncio.Lock()
            self._tokens, self._counted_at = self.burst, loop.time()
        async with self._turn:
            # In whole microseconds: a virtual clock would not advance over less.
            await asyncio.sleep(round(max(0.0, 1 - self._count(loop.time())) / self.rate, 6))
            self._tokens = self._count(loop.time()) - 1

    def _count(self, now: float) -> float:
        self._tokens = min(self.burst, self._tokens + (now - self._counted_at) * self.rate)
        self._counted_at = now
        return self._tokens

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled; share the one object")

    def __repr__(self) -> str:
        return f"<RetryBudget rate={self.rate:g}/s burst={self.burst:g}>"
