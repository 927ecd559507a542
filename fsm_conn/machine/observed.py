"""The readable side of a machine: its state, its history and its observers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, ClassVar

from fsm_conn._util.hints import did_you_mean
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.observers import Observers, TransitionCallback
from fsm_conn.machine.records import History, TransitionRecord

__all__ = ["Observed", "StateCallback"]

StateCallback = Callable[[str, str], Awaitable[None] | None]
"""Called with the state that was left and the one that was entered."""


class Observed:
    """The part of a machine that is read and observed: nothing here changes its state."""

    lifecycle: ClassVar[BoundTable]
    """The validated table of this class, created with the class."""

    history_size: int = 64
    """How many records are kept."""

    _state: str
    _fsm_visit: int = 0
    _fsm_context: Context | None = None
    _fsm_observers: Observers | None = None
    _fsm_records: History | None = None
    _fsm_reason: BaseException | None = None

    _fsm_without_await: ClassVar[str] = ""
    """What code that cannot await uses instead, for an error."""

    if not TYPE_CHECKING:  # type checkers tell of it before anything runs

        def __enter__(self) -> None:
            raise TypeError(f"{self!r}: use 'async with', in a coroutine{self._fsm_without_await}")

        def __exit__(self, *reason: object) -> None: ...

    @property
    def state(self) -> str:
        """The current state, as the table names it."""
        return self._state

    @property
    def visit(self) -> int:
        """The number of the current visit: it grows by one whenever a state is entered, also the same state again."""
        return self._fsm_visit

    def handles(self, trigger: str) -> bool:
        """Whether the current state handles `trigger`, so that `fire` would not refuse it."""
        return self.lifecycle.handles(self._state, trigger)

    @property
    def history(self) -> tuple[TransitionRecord, ...]:
        """The last transitions, oldest first; `history_size` says how many are kept.

        At most a quarter of them are internal transitions, so that successful probes do not push out the others.
        """
        return tuple(self._fsm_records or ())

    @property
    def records(self) -> Sequence[TransitionRecord]:
        """The live history, without a copy: new records are appended and old ones dropped."""
        return self._fsm_records or ()

    @property
    def last_record(self) -> TransitionRecord | None:
        """The last record, internal transitions included; None when nothing has happened yet."""
        return None if self._fsm_records is None else self._fsm_records.last

    @property
    def reason(self) -> BaseException | None:
        """The last error that caused a transition; None when there was none yet."""
        return self._fsm_reason

    @property
    def observer_errors(self) -> int:
        """How often an observer raised or was cancelled for taking too long."""
        return self._fsm_observers.errors if self._fsm_observers else 0

    def on_transition(self, callback: TransitionCallback) -> Callable[[], None]:
        """Call `callback(record)` for every transition, internal ones included.

        The callback may be a plain or an async function. What it raises is logged and counted, and never reaches the
        machine. An async one is cancelled after five seconds. A plain one runs inside the dispatch: keep it short.

        Returns:
            a function that unregisters it.
        """
        self._fsm_observers = self._fsm_observers or Observers(self._fsm_own_context())
        return self._fsm_observers.add(callback)

    def on_state_change(self, state: str, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(old, new)` each time `state` is entered from another state. The rules of `on_transition` hold.

        Raises:
            ValueError: there is no such state.
        """
        self._fsm_check_states((state,))
        if not callable(callback):
            raise TypeError(f"an observer must be callable, not {callback!r}")

        @functools.wraps(callback, updated=())
        def entered(record: TransitionRecord) -> Awaitable[None] | None:
            changed = record.dest == state and record.source != state
            return callback(record.source, record.dest) if changed else None

        return self.on_transition(entered)

    async def wait_for_observers(self) -> None:
        """Wait until the observers have been notified of everything so far, for a few seconds at most."""
        if self._fsm_observers is not None:
            await self._fsm_observers.flush()

    def keep_context(self) -> None:
        """Run activities and async observers in a copy of the caller's context (`contextvars`).

        Without this they run in the context of the first caller that starts something.
        """
        self._fsm_context = copy_context()

    def _fsm_own_context(self) -> Context:
        """The context that activities and observers run in: not that of whichever caller comes first."""
        if self._fsm_context is None:
            self._fsm_context = copy_context()
        return self._fsm_context

    def _fsm_check_states(self, names: Collection[str]) -> None:
        known = [str(name) for name in self.lifecycle.states]
        if not names:
            raise ValueError("wait_for_state: name at least one state")
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ValueError(f"{type(self).__name__} has no state {name!r}{hint}; it has: {', '.join(known)}")
