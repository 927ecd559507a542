"""Lets at most one plugin start per core at a time, in the whole process.

Plugins that all start at once compete for the cores: each of them, and the event loop, becomes slower than if they
had queued. So every attempt first takes a slot of one limiter, whichever loop and thread it runs in.

Rules that hold here:

- Starts of the same thing are served first come, first served. Different things take turns, so that one plugin need
  not wait for a pool of many others. A slot is handed over under the lock, so it cannot be lost on the way or taken by
  a newcomer. A waiter that was cancelled as the slot reached it hands the slot on.
- The slots protect the cores, and a plugin that takes long is waiting for something else. So a caller that has waited
  for `patience` seconds takes back every slot that has been out for as long. The late return of a slot that was taken
  back has no effect.
- A thing hangs in its start if a slot of it was taken back and the start still goes on. Such a thing comes after all
  else; its other slots are taken back after a quarter of `patience`.
- Time is that of the waiting loop. Nobody's progress depends on another loop still running, and a limiter for which
  nobody waits needs no timer.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager, suppress

from fsm_conn._util.forks import after_fork
from fsm_conn.links.process.system import usable_cores

__all__ = ["PATIENCE", "StartLimiter", "process_limiter"]

PATIENCE = 2.0
"""Seconds: several times as long as a start takes on a machine that is not overloaded."""


QUARTERS = 4
"""How often a waiter looks for hanging starts within `patience`."""


class _Ticket:
    """One request for a slot. Compared by identity."""

    def __init__(self, loop: asyncio.AbstractEventLoop, what: Hashable) -> None:
        self.loop = loop
        self.what = what
        self.granted: asyncio.Future[None] = loop.create_future()
        self.serial = 0

    def tell(self) -> bool:
        """Wake the waiter, in its own loop. False: that loop is closed."""
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
        patience: seconds after which a waiter takes back slots that have been out for too long.
    """

    def __init__(self, capacity: int, patience: float = PATIENCE) -> None:
        if capacity < 1:
            raise ValueError(f"StartLimiter(capacity={capacity}): give at least one slot")
        self._capacity = capacity
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[_Ticket]] = {}
        """The waiters, by what they start; the one whose turn is next comes first."""
        self._late: dict[_Ticket, None] = {}
        """Those whose slot was taken back, and that are still starting."""
        self._hanging: Counter[Hashable] = Counter()
        """How many of the late ones start each thing."""
        self._out: dict[_Ticket, None] = {}
        self._serial = 0

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<StartLimiter {len(self._out)} of {self._capacity} slots out, {waiting} waiting>"

    @asynccontextmanager
    async def slot(self, what: Hashable = None) -> AsyncIterator[None]:
        """Hold a slot. Waits for one without a time limit of its own.

        Args:
            what: what is started, so that many starts of one thing leave others their turns.
        """
        ticket = _Ticket(asyncio.get_running_loop(), what)
        try:
            if not self._enter(ticket):
                await self._wait(ticket)
            yield
        finally:
            self._leave(ticket)

    def _enter(self, ticket: _Ticket) -> bool:
        with self._lock:
            # While somebody waits every slot is out, so no newcomer is served first.
            if len(self._out) >= self._capacity:
                self._waiting.setdefault(ticket.what, deque()).append(ticket)
                return False
            self._grant(ticket)
            return True

    async def _wait(self, ticket: _Ticket) -> None:
        newest = deque([self._serial], maxlen=QUARTERS)
        while not ticket.granted.done():
            await asyncio.wait((ticket.granted,), timeout=self._patience / QUARTERS)
            if not ticket.granted.done():
                self._take_back(newest[0] if len(newest) == QUARTERS else 0, newest[-1], ticket.what)
                newest.append(self._serial)

    def _leave(self, ticket: _Ticket) -> None:
        """Return whatever the ticket holds: its slot, its place in the queue, or nothing."""
        with self._lock:
            self._out.pop(ticket, None)
            self._forget_late(ticket)
            self._forget(ticket)
            self._advance()

    def _take_back(self, old: int, recent: int, mine: Hashable) -> None:
        """Take back the slots handed out up to `old`, which have been out for `patience` seconds or more. Also take
        back those up to `recent`, out for a quarter of that, whose thing is known to hang and is not `mine`.
        """
        with self._lock:
            for ticket in [each for each in self._late if each.loop.is_closed()]:
                self._forget_late(ticket)  # it will not leave by itself
            for ticket in tuple(self._out):
                is_known = ticket.what != mine and ticket.what in self._hanging
                if ticket.serial <= (recent if is_known else old):
                    del self._out[ticket]
                    self._late[ticket] = None
                    self._hanging[ticket.what] += 1
            self._advance()

    def _advance(self) -> None:
        while self._waiting and len(self._out) < self._capacity:
            what = next((each for each in self._waiting if each not in self._hanging), next(iter(self._waiting)))
            tickets = self._waiting.pop(what)
            ticket = tickets.popleft()
            if tickets:
                self._waiting[what] = tickets  # other things have their turns first
            if ticket.tell():
                self._grant(ticket)

    def _forget_late(self, ticket: _Ticket) -> None:
        if ticket in self._late:
            del self._late[ticket]
            self._hanging -= Counter((ticket.what,))

    def _forget(self, ticket: _Ticket) -> None:
        """Remove the ticket from the waiters, if it is one."""
        tickets = self._waiting.get(ticket.what, deque())
        with suppress(ValueError):
            tickets.remove(ticket)
            if not tickets:
                del self._waiting[ticket.what]

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
    """After a fork the child has none of the parent's starts, and may have copied a lock that was held."""
    global _making
    _making = threading.Lock()
    _limiters.clear()


after_fork(_after_fork)
