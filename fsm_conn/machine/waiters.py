"""The callers that wait for a machine to reach one of several states."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from fsm_conn.machine.records import TransitionRecord

__all__ = ["Waiters", "wait_in"]


class Waiters(dict["asyncio.Future[TransitionRecord]", Collection[str]]):
    """For each waiting caller, the states that end its wait. False while nobody waits."""

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


async def wait_in(machine: Any, states: Collection[str]) -> TransitionRecord:
    """Wait until `machine` enters one of `states`, and return the record of that transition."""
    waiters: Waiters = machine._fsm_waiters or Waiters()
    future: asyncio.Future[TransitionRecord] = asyncio.get_running_loop().create_future()
    machine._fsm_waiters, waiters[future] = waiters, states
    try:
        return await future
    finally:
        waiters.pop(future, None)
        if not waiters and machine._fsm_waiters is waiters:
            machine._fsm_waiters = None  # few machines are waited for often
