"""The opening of a pool: all connections together, with progress reports, and what ends the opening."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.pool.slots.table import SlotState, SlotTrigger
from fsm_conn.pool.supervisor import Supervisor

__all__ = ["Opening"]

Progress = Callable[[int, int], None]


class Opening:
    """One opening, which all callers of `initialize()` share.

    Args:
        supervisor: the pool's.

    Attributes:
        callers: how many callers wait for the opening.
        is_claimed: whether a caller has returned with success, and so has to close the pool.
        at_least: how many connections to wait for; the others come up afterwards. None: all of them.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self.callers = 0
        self.is_claimed = False
        self.at_least: int | None = None
        self._supervisor = supervisor
        self._progress: tuple[Progress, ...] = ()

    def begin(self) -> None:
        """Start another opening."""
        self.is_claimed = False

    def watch(self, progress: Progress) -> None:
        """Have `progress` called with how many connections are up, and how many there will be."""
        self._progress = (*self._progress, progress)

    def end(self) -> None:
        """The opening is over: drop the progress callbacks."""
        self._progress = ()

    async def run(self) -> None:
        """Wake all slots, and wait until `at_least` of them are in service.

        Raises:
            PoolUnavailableError: too many of them failed.
        """
        supervisor, news = self._supervisor, self._supervisor.news
        size = len(tuple(supervisor.slots))
        needed = size if self.at_least is None else min(self.at_least, size)
        for slot in tuple(supervisor.slots):
            slot.fire(SlotTrigger.WAKE)
        told = -1
        while (ready := sum(slot.in_service and not slot.is_replaced for slot in supervisor.slots)) < needed:
            if ready != told:
                self._tell(min(ready, size), size)
                told = ready
            given_up = [slot for slot in supervisor.slots if slot.state == SlotState.BACKING_OFF]
            if size - len(given_up) < needed:
                raise supervisor.why_unavailable("could not be opened")
            news.clear()
            due = min(supervisor.moves.clean_up(supervisor.now()), default=None)
            with suppress(ExpiredError):
                await within(None if due is None else due - supervisor.now(), news.wait())
        self._tell(min(ready, size), size)

    def _tell(self, ready: int, of: int) -> None:
        for progress in self._progress:
            progress(ready, of)
