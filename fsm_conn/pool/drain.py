"""The end of a pool's life: waits for users up to a limit, then closes all connections."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.pool.gate import Gate
from fsm_conn.pool.slots.slot import SOON, Slot
from fsm_conn.pool.slots.table import SlotState, SlotTrigger
from fsm_conn.pool.supervisor import Supervisor
from fsm_conn.pool.users import TaskRef

__all__ = ["DRAIN_TIMEOUT", "Drain"]

_log = logging.getLogger("fsm_conn.pool")

DRAIN_TIMEOUT = 10.0
"""Seconds for which closing waits for leases by default."""


class Drain:
    """Waits for a pool's leases and for calls under way, except for those of the tasks that wait for the closing.

    Args:
        gate: the pool's.
        supervisor: the pool's.

    Attributes:
        until: when the rest is cut off, by the loop's clock; None: never.
        closers: the tasks that wait for the closing.
    """

    def __init__(self, gate: Gate, supervisor: Supervisor) -> None:
        self.until: float | None = None
        self.closers: list[TaskRef] = []
        self._gate = gate
        self._supervisor = supervisor

    def limit(self, until: float | None) -> None:
        """Another caller asks to close the pool by `until` at the latest: the earliest limit counts."""
        if until is not None and (self.until is None or until < self.until):
            self.until = until
        self._supervisor.news.set()

    async def run(self) -> None:
        """Wait for the users of the slots up to the limit, then close all slots, even those in use."""
        try:
            await self._returned_by_all()
        finally:
            for slot in self._supervisor.slots:
                slot.fire(SlotTrigger.RETIRE)
        await self.closed()

    async def closed(self) -> None:
        """Wait until the last slot is closed."""
        for slot in (*self._supervisor.slots, *self._supervisor.slots.leaving):
            await slot.wait_for_state(SlotState.CLOSED)

    async def removed(self, slots: Sequence[Slot], timeout: float | None) -> None:
        """Wait until the slots of a removed target are closed; when the time is up, close the rest."""

        async def closed() -> None:
            for slot in slots:
                await slot.wait_for_state(SlotState.CLOSED)

        try:
            await within(timeout, closed())
        except ExpiredError:
            held = [slot for slot in slots if slot in self._supervisor.slots]
            if held:
                _log.warning(
                    "%r: %d connections to a removed target are closed under who uses them", self._gate, len(held)
                )
            for slot in held:
                self._supervisor.retire(slot)
            await closed()

    async def _returned_by_all(self) -> None:
        news = self._supervisor.news
        while users := self._awaited():
            news.clear()
            left = None if self.until is None else self.until - self._supervisor.now()
            if left is not None and left < SOON:
                _log.warning(
                    "%r: %d leases and calls did not end in time, and lose their connections", self._gate, users
                )
                return
            with suppress(ExpiredError):
                await within(left, news.wait())

    def _awaited(self) -> int:
        """How many users it waits for, without the tasks that wait for the closing."""
        closers = [*self.closers, *(closer() for closer in self.closers)]
        return sum(user not in closers for slot in self._supervisor.slots for user in slot.users())
