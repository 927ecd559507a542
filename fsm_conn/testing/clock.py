"""The clock of a test in virtual time."""

from __future__ import annotations

import asyncio

__all__ = ["VirtualTime"]

_INSTANT = 1e-5
"""A moment of virtual time, in seconds: more than the resolution of the clock."""


class VirtualTime:
    """The clock of the test's loop: the value of the fixture `virtual_time`."""

    def now(self) -> float:
        """The time of the loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass, then wait until all tasks wait."""
        await asyncio.sleep(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Wait until all tasks wait, so that nothing more can happen at the current time."""
        await asyncio.sleep(_INSTANT)
