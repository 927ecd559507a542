"""What a machine lets others see: what has happened, and what is happening."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import Context, copy_context
from typing import ClassVar

from fsm_conn._util.hints import did_you_mean
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.observers import Observers, TransitionCallback
from fsm_conn.machine.records import History, TransitionRecord

__all__ = ["Observed", "StateCallback"]

StateCallback = Callable[[str, str], Awaitable[None] | None]
"""Is given the state that was left, and the one that was entered."""


class Observed:
    """The part of a machine that is read and observed: nothing here changes its state."""

    lifecycle: ClassVar[BoundTable]
    """The table, validated and bound to this class; made with the class."""

    history_size: int = 64
    """How many records are kept."""

    _state: str
    _fsm_visit: int = 0
    _fsm_context: Context | None = None
    _fsm_observers: Observers | None = None
    _fsm_records: History | None = None
    _fsm_last: TransitionRecord | None = None
    _fsm_reason: BaseException | None = None

    @property
    def state(self) -> str:
        """The present state, as the table names it."""
        return self._state

    @property
    def visit(self) -> int:
        """Which stay in a state this is: one more whenever a state is entered, be it the same again."""
        return self._fsm_visit

    def handles(self, trigger: str) -> bool:
        """Whether the present state handles `trigger`, so that `fire` would not refuse it."""
        return self.lifecycle.handles(self._state, trigger)

    @property
    def history(self) -> tuple[TransitionRecord, ...]:
        """The last transitions, oldest first; `history_size` says how many are kept.

        At most a quarter of them are internal ones, so that the probes of a quiet day do not push out what happened.
        """
        return tuple(self._fsm_records or ())

    @property
    def records(self) -> Sequence[TransitionRecord]:
        """The same as `history`, without a copy: it grows, and lets go of old ones."""
        return self._fsm_records or ()

    @property
    def last_record(self) -> TransitionRecord | None:
        """The last record, internal transitions included; None when nothing has happened yet."""
        return self._fsm_last

    @property
    def reason(self) -> BaseException | None:
        """The last error that was behind a transition; None when there was none yet."""
        return self._fsm_reason

    @property
    def observer_errors(self) -> int:
        """How many times an observer raised, or was cancelled for taking too long."""
        return self._fsm_observers.errors if self._fsm_observers else 0

    def on_transition(self, callback: TransitionCallback) -> Callable[[], None]:
        """Have `callback(record)` told of every row that is taken, internal ones included.

        It may be a plain or an async function. It cannot hurt: what it raises is logged and counted, and an async
        one that takes more than five seconds is cancelled. A plain one runs inside the dispatch, so keep it short.

        Returns:
            a function that unregisters it.
        """
        self._fsm_observers = self._fsm_observers or Observers(self._fsm_own_context())
        return self._fsm_observers.add(callback)

    def on_state_change(self, state: str, callback: StateCallback) -> Callable[[], None]:
        """Have `callback(old, new)` called each time `state` is entered from another. Otherwise as `on_transition`.

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
        """Wait until the observers have been told of everything so far, in bounded time."""
        if self._fsm_observers is not None:
            await self._fsm_observers.flush()

    def keep_context(self) -> None:
        """Have activities and async observers run in a copy of the caller's context, such as that of who made this.

        Otherwise it is the context of who needs it first.
        """
        self._fsm_context = copy_context()

    def _fsm_own_context(self) -> Context:
        """What activities and observers run in: not the context of whoever happened to call."""
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
