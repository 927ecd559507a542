"""What callers were told of their calls, held against a ledger of what plugins have executed."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

from fsm_conn import CallOptions, ConnectionLostError

__all__ = ["IDEMPOTENT", "OTHER", "Told", "broken_promises", "sent"]

IDEMPOTENT = "idempotent"
OTHER = "not idempotent"
ALLOWED = {
    IDEMPOTENT: {"answered": range(1, sys.maxsize)},
    OTHER: {"answered": range(1, 2), "maybe executed": range(2), "not sent": range(1)},
}
"""How often a call may have been executed, after what its caller was told."""


class Called(Protocol):
    """A pool, of plugins or of members."""

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call a method."""


class Told:
    """What callers were told of each call, by its number. Even ones are idempotent."""

    def __init__(self) -> None:
        self._outcomes: list[str] = []

    def __len__(self) -> int:
        return len(self._outcomes)

    async def call(self, pool: Called) -> None:
        number = len(self._outcomes)
        self._outcomes.append("nothing")
        try:
            options = CallOptions(idempotent=number % 2 == 0, timeout=120)
            reply = await pool.call("calculator.Add", options, a=number, b=1)
        except ConnectionLostError as error:
            self._outcomes[number] = "maybe executed" if error.maybe_executed else "not sent"
        else:
            self._outcomes[number] = "answered" if reply.result == number + 1 else "answered wrongly"

    async def go_on(self, pool: Called, is_over: Callable[[], bool]) -> None:
        while not is_over():
            await self.call(pool)

    def held_against(self, executed: Counter[int]) -> Counter[tuple[str, str, int]]:
        """How many calls of a kind were told what, and were executed how often."""
        kinds = (IDEMPOTENT, OTHER)
        return Counter((kinds[n % 2], told, executed[n]) for n, told in enumerate(self._outcomes))

    def unknown_to(self, executed: Counter[int]) -> int:
        """The executions that no caller asked for."""
        return sum(times for number, times in executed.items() if number >= len(self._outcomes))


def broken_promises(calls: Counter[tuple[str, str, int]], unknown: int, missing: Collection[str]) -> Iterator[str]:
    """The promises that were broken, and the faults that the run was too short for."""
    for (kind, told, times), count in sorted(calls.items()):
        if times not in ALLOWED[kind].get(told, ()):
            yield f"{count} calls, {kind}: told {told!r}, executed {times} times"
    if unknown:
        yield f"{unknown} executions of what nobody called"
    if missing:
        yield f"too short for: {', '.join(sorted(missing))}"


def sent(pid: int, number: signal.Signals) -> bool:
    """Send a signal, unless the process has just gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
