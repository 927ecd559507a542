"""`StateMachine`: an object whose life is a table.

The table decides, the machine does. The rules that hold here:

- Dispatch runs to completion. A trigger fired while another is being decided waits in this object's own queue; triggers
  that fire one another for ever are found, and end in an error.
- What a trigger does is compiled (`dispatch`); what takes time runs in the activity of the state (`activity`).
- A machine without activities and time limits needs no event loop.
- An idle machine has no task, and is freed when nobody refers to it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

from fsm_conn._util.keywords import explained, limits
from fsm_conn._util.timing import now
from fsm_conn.machine.activity import Run, refuse_own_wait
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.dispatch import CLOSED, CORE, Step
from fsm_conn.machine.errors import EndlessDispatchError, MachineClosedError
from fsm_conn.machine.guardian import outlast
from fsm_conn.machine.observed import Observed
from fsm_conn.machine.observers import is_observing
from fsm_conn.machine.records import Snapshot, TransitionRecord, unwritten
from fsm_conn.machine.table import FAULT, seconds_of
from fsm_conn.machine.validation import RowLike, StateLike, one_table
from fsm_conn.machine.waiters import Waiters, wait_in

__all__ = ["StateMachine"]

MOST_QUEUED = 1000
"""How many triggers may follow from one that was fired, before `EndlessDispatchError` is raised."""
_Fired = tuple[str, BaseException | None, dict[str, Any]]

_log = logging.getLogger("fsm_conn")
_running_loop = asyncio._get_running_loop


class StateMachine(Observed):
    """An object whose life is a table.

    A subclass declares `states` and `transitions`, and a coroutine method `while_<state>` for each state whose work
    takes time. It needs no `__init__`; if it has one, that need not call `super().__init__()`.

        class Door(StateMachine):
            states = (State("closed", initial=True), State("open"))
            transitions = (Transition("push", "closed", "open"), Transition("pull", "open", "closed"))

        door = Door()
        door.fire("push")
        assert door.state == "open"

    Where no state has an activity or a time limit, no event loop is needed. Otherwise use it in one:
    `async with Upload() as job:` starts the activity of the first state and, at its end, ends the current one.

    Not thread-safe: use it from one event loop, or from one thread, at a time.
    """

    states: ClassVar[Sequence[StateLike]]
    """The states of the table."""
    transitions: ClassVar[Sequence[RowLike]]
    """The rows of the table, in the order in which alternatives are tried."""
    required_triggers: ClassVar[tuple[str, ...]] = ()
    """Triggers that the class fires itself; a table that handles one of them nowhere is refused."""
    begins_at_rest: ClassVar[bool] = False
    """Whether such machines are idle in the first state until a method fires a trigger. They cannot be restored."""
    accepted_findings: ClassVar[Mapping[str, str]] = {}
    """Accepted findings of `fsm_conn.checks`: the code, or the code and place, of each, and the reason."""
    record_type: ClassVar[type[TransitionRecord]] = TransitionRecord
    """The class of the records. Fields that it adds are read from the machine's attributes of the same name."""

    abandoned_activities: int = 0
    """How many activities were left behind because they ignored their cancellation. Each is a bug."""

    # Initial values are class attributes, so that creating an instance costs next to nothing.
    _fsm_steps: dict[tuple[str, str], Step]
    _fsm_steps_aloud: dict[tuple[str, str], Step]
    _fsm_since: float | None = None
    _fsm_elapsed: float = 0.0
    _fsm_dispatching: bool = False
    _fsm_halting: bool = False
    _fsm_is_closed: bool = False
    _fsm_run: Run | None = None
    _fsm_queue: deque[_Fired] | None = None
    _fsm_waiters: Waiters | None = None

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if abstract:
            return
        one_table(cls, StateMachine)
        table = BoundTable(cls, cls.states, cls.transitions, cls.required_triggers)
        table.hears_of_entering = cls.entered is not StateMachine.entered
        cls.check_table(table)
        cls.lifecycle = table
        cls._state = table.initial
        cls._fsm_steps, cls._fsm_steps_aloud = table.steps, table.steps_aloud

    def snapshot(self) -> Snapshot:
        """The current condition as plain values: to look at, or to store and continue from with `restored`."""
        run, since = self._fsm_run, self._fsm_since
        return Snapshot(
            state=str(self._state),
            elapsed=self._fsm_elapsed if since is None else now() - since,
            visit=self._fsm_visit,
            since=since,
            activity=None if run is None else run.activity,
            is_resting=run is not None and run.is_resting,
            time_left=None if run is None else run.time_left,
        )

    @classmethod
    def restored(cls, at: str | Snapshot, /, *args: Any, **kwargs: Any) -> Self:
        """Make a machine that continues where another one was: `Order.restored(snapshot, number=7)`.

        No effect runs. The activity of the state starts anew, as always by `start()` or `async with`; its time limit
        continues.

        Args:
            at: a snapshot, or the name of a state.
            *args: positional arguments for the class.
            **kwargs: keyword arguments for the class.

        Raises:
            ValueError: there is no such state.
            TypeError: machines of this kind begin idle.
        """
        if cls.begins_at_rest:
            raise TypeError(f"{cls.__name__} cannot be restored, because it begins idle; make a new one")
        snapshot = at if isinstance(at, Snapshot) else Snapshot(state=at)
        machine = cls(*args, **kwargs)
        machine._fsm_check_states((snapshot.state,))
        machine._state = cls.lifecycle.states[snapshot.state].name
        machine._fsm_elapsed = snapshot.elapsed
        return machine

    @explained(limits)
    async def wait_for_state(self, *states: str) -> str:
        """Wait until one of `states` is entered, and return it; at once when it is the current state.

        The state may have been left again by the time this returns. For a time limit, use `asyncio.timeout`.

        Raises:
            ValueError: there is no such state, or none was named.
            MachineClosedError: the machine was closed meanwhile.
            RuntimeError: the caller is the current activity, which ends when its state is left.
        """
        self._fsm_check_states(states)
        refuse_own_wait(self, states)
        self.check_loop()
        return (await self.reach(states)).dest

    def fire(self, trigger: str, /, reason: BaseException | None = None, **data: Any) -> None:
        """Dispatch `trigger` now; inside a guard, an effect or a plain observer, right after the current transition.

        Args:
            trigger: the name of the trigger.
            reason: the error behind it, for the record, and for guards and effects with a parameter `reason`.
            data: named values for guards and effects with a parameter of that name: `fire("paid", amount=5)`.

        Raises:
            IllegalTriggerError: the current state does not handle it. Nothing was changed.
            MissingDataError: a guard or an effect needs data that was not given. Nothing was changed.
            MachineClosedError: the machine was closed. Nothing was changed.
            EndlessDispatchError: triggers fire one another in a circle.
            RuntimeError: the table has activities or time limits, and no loop or another than theirs runs here.
            TypeError: the reason is not an exception.
        """
        if reason is not None and not isinstance(reason, BaseException):
            raise TypeError(f"fire({str(trigger)!r}, {reason!r}): give an exception as the reason, or None")
        if self._fsm_dispatching:
            if self._fsm_queue is None:
                self._fsm_queue = deque()  # and never another: while it is emptied, an empty one is still the queue
            self._fsm_queue.append((trigger, reason, data))
            return
        loop = _running_loop()
        if loop is None or self._fsm_run is not None:
            self._fsm_check_fired_in(loop)
        aloud = CORE.level and CORE.level <= logging.INFO
        steps = self._fsm_steps_aloud if aloud else self._fsm_steps
        self._fsm_dispatching = True
        try:
            at = loop.time() if loop is not None else time.monotonic()
            steps[self._state, trigger](self, reason, data, at)
        finally:
            if self._fsm_queue:
                self._fsm_drain(self._fsm_queue)
            self._fsm_dispatching = False

    def start(self) -> None:
        """Start the activity and the time limit of the current state. Calling it twice is harmless.

        `async with`, the first trigger and the first wait do this as well.

        Raises:
            RuntimeError: the table has activities or time limits, and no event loop runs here.
        """
        if self._fsm_is_closed:
            del self._fsm_steps, self._fsm_steps_aloud, self._fsm_is_closed
        elif self._fsm_since is not None:
            return
        self._fsm_check_fired_in(_running_loop())
        self._fsm_since = now() - self._fsm_elapsed
        state = self.lifecycle.states[self._state]
        limit = state.timeout
        if isinstance(limit, str):
            limit = seconds_of(self, limit)
        if limit is not None or self._state in self.lifecycle.activities:
            self._fsm_turn(None if limit is None else max(0.0, limit - self._fsm_elapsed))

    async def aclose(self) -> None:
        """End the current activity and wait for it; the state stays. Calling it twice is harmless.

        Afterwards `fire` and the waits raise `MachineClosedError`. `start()` continues the machine.
        """
        if self.in_activity():
            raise RuntimeError(
                f"{self!r}: aclose() was called from an activity of the same machine, which it would wait for; "
                "return a trigger from the activity instead"
            )
        self.check_loop()
        if not self._fsm_is_closed:
            self._fsm_is_closed = True
            self._fsm_elapsed = 0.0 if self._fsm_since is None else now() - self._fsm_since
            self._fsm_steps = self._fsm_steps_aloud = CLOSED
        if self._fsm_run is not None:
            await self._fsm_run.close()
        if self._fsm_waiters:
            self._fsm_waiters.refuse(self.closed_error())
        await self.wait_for_observers()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> Any:
        instead = f"store its snapshot(), and make another one by {type(self).__name__}.restored(snapshot, ...)"
        raise TypeError(f"{self!r} cannot be copied or pickled, because an activity may be running; {instead}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state}>"

    # --- for subclasses -----------------------------------------------------------------------------------

    @classmethod
    def check_table(cls, table: BoundTable) -> None:
        """For subclasses: raise `DeclarationError` for a sound table that lacks what this kind of machine needs."""

    def entered(self, reason: BaseException | None) -> None:
        """For subclasses: called inside the dispatch whenever a state was entered, after its `entry` effects."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the current activity; None when there is none."""
        return None if self._fsm_run is None else self._fsm_run.loop

    @property
    def activity_task(self) -> asyncio.Task[Any] | None:
        """The task of the current activity, or of the last one while it cleans up; None when none runs."""
        return None if self._fsm_run is None else self._fsm_run.task

    def is_ending(self) -> bool:
        """Whether the loop ends or the machine is being closed, so that nothing new is started."""
        return self._fsm_halting or (self._fsm_run is not None and self._fsm_run.is_ending)

    def in_activity(self) -> bool:
        """Whether the caller is the current activity, or a task that it created."""
        acts = self._fsm_run is not None and self._fsm_run.acts()
        return acts and not is_observing(self._fsm_observers)

    def rest(self) -> None:
        """For an activity that only waits from here on: `wait_for_rest` returns."""
        if self._fsm_run is not None:
            self._fsm_run.rest()

    async def wait_for_rest(self) -> None:
        """Wait until the current activity has ended or has called `rest()`, or its state was left."""
        if self._fsm_run is not None:
            await self._fsm_run.rested()

    async def reach(self, states: Collection[str]) -> TransitionRecord:
        """Wait until one of `states` is the current state, and return the record of the last transition.

        As `wait_for_state`, but it returns the record and does not check the names.
        """
        if self._fsm_dispatching:
            await asyncio.sleep(0)  # an observer has made an eager task of us, and what we have fired is still queued
        if self._fsm_since is None and not self._fsm_is_closed and self.lifecycle.has_work(self._state):
            self.start()
        if self._state in states:
            return self.last_record or unwritten(self)
        if self._fsm_is_closed:
            raise self.closed_error()
        return await wait_in(self, states)

    def check_loop(self) -> None:
        """Check that the running loop is the machine's own.

        When the machine's loop was closed, its activity ended with it, and the machine moves to the running loop.

        Raises:
            RuntimeError: no loop runs here, or an activity runs in another one.
        """
        self._fsm_check_loop(asyncio.get_running_loop())

    def on_loop_lost(self) -> None:
        """For subclasses: the loop was closed; drop what belonged to it. Nothing can be awaited in it any more."""

    async def on_loop_end(self) -> None:
        """For subclasses: the loop ends; release what must not outlive it. The activity has ended by then."""

    async def give_up(self) -> None:
        """Do now what is done when the loop ends: end the activity, release resources, and come to rest."""
        self._fsm_halting = True
        try:
            if self._fsm_run is not None:
                await self._fsm_run.give_up()
            else:
                await outlast(asyncio.ensure_future(self.on_loop_end()))
                self._fsm_rest_at_once()
        finally:
            self._fsm_halting = False

    def come_to_rest(self) -> None:
        """For subclasses: then come to rest. By default `fault` is fired where the state handles it."""
        if self.handles(FAULT) and not self._fsm_is_closed:
            self.fire(FAULT)

    # --- how it is done -----------------------------------------------------------------------------------

    def _fsm_drain(self, queue: deque[_Fired]) -> None:
        """Dispatch the queued triggers. Nobody waits for them, so their errors are logged."""
        fired: list[str] = []
        try:
            while queue:
                trigger, reason, data = queue.popleft()
                fired.append(str(trigger))
                if len(fired) > MOST_QUEUED:
                    raise EndlessDispatchError.of(self, fired)
                try:
                    self._fsm_steps[self._state, trigger](self, reason, data, now())
                except Exception:
                    _log.exception("%r: the queued trigger %r was refused", self, str(trigger))
        finally:
            queue.clear()
            self._fsm_dispatching = False

    def _fsm_turn(self, limit: float | None = None) -> None:
        """A state was entered: start its activity and its time limit."""
        if self._fsm_run is None:
            if self._fsm_halting:
                return
            self._fsm_run = Run(self, asyncio.get_running_loop(), self._fsm_own_context())
        self._fsm_run.turn(limit)

    def _fsm_let_go(self, run: Run) -> None:
        if self._fsm_run is run:
            self._fsm_run = None

    def _fsm_rest_at_once(self) -> None:
        was_halting, self._fsm_halting = self._fsm_halting, True
        try:
            self.come_to_rest()
        finally:
            self._fsm_halting = was_halting

    def _fsm_check_fired_in(self, loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None:
            self._fsm_check_loop(loop)
        elif self.lifecycle.needs_loop:
            raise self.lifecycle.without_loop(self, self._fsm_run.loop if self._fsm_run else None)

    def _fsm_check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        run = self._fsm_run
        if run is None or run.loop is loop:
            return
        if not run.loop.is_closed():
            raise self.lifecycle.in_another_loop(self)
        self._fsm_run = self._fsm_waiters = None
        self.on_loop_lost()
        self._fsm_rest_at_once()

    def closed_error(self) -> MachineClosedError:
        """The error for a caller that fires a trigger, or waits, after the machine was closed."""
        return MachineClosedError(f"{self!r} is closed; start() or another 'async with' continues it")
