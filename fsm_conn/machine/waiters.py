"""The callers that wait for a machine to reach one of several states."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from fsm_conn.machine.records import TransitionRecord

__all__ = ["Waiters"]


class Waiters(dict["asyncio.Future[TransitionRecord]", Collection[str]]):
    """For each waiting caller, the states that end its wait. False while nobody waits."""

    async def wait(self, states: Collection[str]) -> TransitionRecord:
        """Wait until one of `states` is entered, and return the record of that transition."""
        future: asyncio.Future[TransitionRecord] = asyncio.get_running_loop().create_future()
        self[future] = states
        try:
            return await future
        finally:
            self.pop(future, None)

    def wake(self, record: TransitionRecord) -> None:
        """Wake the callers that wait for the state that was entered."""
        for future, states in tuple(self.items()):
            if record.dest in states:
                del self[future]
                if not future.done():
                    future.set_result(record)

    def refuse(self, error: Exception) -> None:
        """End all waits: no state will be entered any more."""
        for future in tuple(self):
            del self[future]
            if not future.done():
                future.set_exception(error)
