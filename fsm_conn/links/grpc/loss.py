"""The end of one link, declared by the first part that notices it, and reported to everybody in the same words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fsm_conn.links.errors import GoingAwayError

__all__ = ["Loss"]


class Loss:
    """Whether a link is lost, why, and since when. The first reason counts.

    Args:
        describe: adds to a reason, when it is declared, what else is known at that moment.
        explain: finds out, in bounded time, whether there is a better reason; what it returns is final.

    Attributes:
        reason: why the link is lost, as far as is known; None: it is not.
        since: when the loss was declared, by the loop's clock.
    """

    def __init__(
        self,
        describe: Callable[[Exception], Exception] | None = None,
        explain: Callable[[Exception], Awaitable[Exception]] | None = None,
    ) -> None:
        self.reason: Exception | None = None
        self.since = 0.0
        self._describe = describe
        self._explain = explain
        self._is_final = explain is None
        self._declared = asyncio.Event()

    def declare(self, reason: Exception, *, final: bool = False) -> None:
        """Declare that the link is lost.

        Args:
            reason: why. Ignored if another one was declared before.
            final: whether to keep this reason without explaining it further: the peer ends because we want it to.
        """
        if self.reason is None:
            self.since = asyncio.get_running_loop().time()
            self.reason = reason if final or self._describe is None else self._describe(reason)
            self._declared.set()
        self._is_final = self._is_final or final

    @property
    def is_going_away(self) -> bool:
        """Whether the peer closes the connection in good order, so that calls under way are finished."""
        return isinstance(self.reason, GoingAwayError)

    async def wait(self) -> Exception:
        """Wait until the link is lost, and return why. All callers get the same reason."""
        await self._declared.wait()
        assert self.reason is not None
        if not self._is_final and self._explain is not None:
            reason = await self._explain(self.reason)
            if not self._is_final:
                self.reason, self._is_final = reason, True
        return self.reason

    async def is_declared_within(self, limit: float) -> bool:
        """Wait at most `limit` seconds, and return whether the link was lost by then."""
        try:
            async with asyncio.timeout(limit):
                await self._declared.wait()
        except TimeoutError:
            pass
        return self._declared.is_set()
