"""Lets at most one plugin start per core at a time, in the whole process.

Plugins that all start at once fight for the cores: each of them, and the event loop, becomes slower than if they
had queued. So every attempt takes a slot of one limiter first, whichever loop and thread it runs in.

Rules that hold here:

- First come, first served. A slot goes from hand to hand under the lock, so none can be lost on the way or taken by
  a newcomer; a waiter that was cancelled as the slot reached it hands it on.
- A slot serves to protect the cores, and a plugin that takes long waits for something else: who has waited for
  `patience` seconds takes back every slot that has been out for as long. Giving back a slot that was taken back
  does nothing.
- Time is that of the waiting loop. Nobody's progress depends on another loop still running, and a limiter for which
  nobody waits costs no timer.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fsm_conn._util.forks import after_fork
from fsm_conn.links.process.system import usable_cores

__all__ = ["PATIENCE", "StartLimiter", "process_limiter"]

PATIENCE = 2.0
"""Seconds: several times what a start takes on a machine that is not overloaded."""


class _Ticket:
    """One wish for a slot. Compared by identity."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.granted: asyncio.Future[None] = loop.create_future()
        self.serial = 0

    def tell(self) -> bool:
        """Wake who waits, in its own loop. False: that loop is closed."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._wake)
            return True
        return False

    def _wake(self) -> None:
        if not self.granted.done():
            self.granted.set_result(None)


class StartLimiter:
    """A counting limiter for any number of event loops and threads.

    Args:
        capacity: how many slots there are.
        patience: seconds after which a waiter takes back slots that are out for too long.
    """

    def __init__(self, capacity: int, patience: float = PATIENCE) -> None:
        if capacity < 1:
            raise ValueError(f"StartLimiter(capacity={capacity}): give at least one slot")
        self._capacity = capacity
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._out: dict[_Ticket, None] = {}
        self._serial = 0

    def __repr__(self) -> str:
        return f"<StartLimiter {len(self._out)} of {self._capacity} slots out, {len(self._waiting)} waiting>"

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot. Waits for one without a time limit of its own."""
        ticket = _Ticket(asyncio.get_running_loop())
        try:
            if not self._enter(ticket):
                await self._wait(ticket)
            yield
        finally:
            self._leave(ticket)

    def _enter(self, ticket: _Ticket) -> bool:
        with self._lock:
            # While somebody waits every slot is out, so nobody who comes now is served first.
            if len(self._out) >= self._capacity:
                self._waiting.append(ticket)
                return False
            self._grant(ticket)
            return True

    async def _wait(self, ticket: _Ticket) -> None:
        while not ticket.granted.done():
            newest = self._serial
            await asyncio.wait((ticket.granted,), timeout=self._patience)
            if not ticket.granted.done():
                self._take_back(newest)

    def _leave(self, ticket: _Ticket) -> None:
        """Whatever the ticket holds goes back: its slot, its place in the queue, or nothing."""
        with self._lock:
            self._out.pop(ticket, None)
            with suppress(ValueError):
                self._waiting.remove(ticket)
            self._advance()

    def _take_back(self, newest: int) -> None:
        """Take back the slots handed out up to `newest`: they have been out for `patience` seconds or more."""
        with self._lock:
            for ticket in [ticket for ticket in self._out if ticket.serial <= newest]:
                del self._out[ticket]
            self._advance()

    def _advance(self) -> None:
        while self._waiting and len(self._out) < self._capacity:
            ticket = self._waiting.popleft()
            if ticket.tell():
                self._grant(ticket)

    def _grant(self, ticket: _Ticket) -> None:
        self._serial += 1
        ticket.serial = self._serial
        self._out[ticket] = None


_limiters: list[StartLimiter] = []
_making = threading.Lock()


def process_limiter() -> StartLimiter:
    """The limiter of this process: as many slots as it has cores."""
    with _making:
        if not _limiters:
            _limiters.append(StartLimiter(usable_cores()))
        return _limiters[0]


def _after_fork() -> None:
    """After a fork the child has none of the parent's starts, and a lock may have been copied while it was held."""
    global _making
    _making = threading.Lock()
    _limiters.clear()


after_fork(_after_fork)
