"""The clock of a test in virtual time."""

from __future__ import annotations

import asyncio

__all__ = ["VirtualTime"]

_INSTANT = 1e-5
"""Seconds after which everybody waits, in virtual time: more than the resolution of its clock."""


class VirtualTime:
    """What the fixture `virtual_time` gives: the clock of the test's loop."""

    def now(self) -> float:
        """What the loop's clock shows, in seconds."""
        return asyncio.get_running_loop().time()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass, and then wait until everybody waits."""
        await asyncio.sleep(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Wait until everybody waits, so that nothing more can happen at the present time."""
        await asyncio.sleep(_INSTANT)
