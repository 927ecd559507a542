"""Runs a declared life: dispatches triggers, and keeps the activity of the present state going.

The table decides, the driver does. The rules that hold here:

- Dispatch runs to completion. A trigger fired while another is being decided waits in this object's own queue.
- The activity of a state is started when the state is entered, and cancelled when it is left; the next one
  begins only after it has ended, so activities of one object never overlap.
- A late activity cannot speak: what it returns or raises counts only while its visit to the state lasts.
- The end of the loop is met by one task, the *guardian*, which lives as long as there is something to do. It is
  cancelled with all others, and what must not stay is given back in it: asyncio waits for no task made later.
- Nothing is kept when there is nothing to do: an object at rest has no task, and is freed when it is dropped.

Nothing here knows what a connection is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, ClassVar

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.text import traced
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.observers import Observers, TransitionCallback, is_observing
from fsm_conn.machine.records import History, Snapshot, TransitionRecord
from fsm_conn.machine.table import FAULT, State

__all__ = ["EXPECTED", "StateCallback", "StateMachine", "finish", "is_expected", "strip_tracebacks"]

EXPECTED = (OSError, TimeoutError, FsmConnError)
"""Errors of the world outside, which fire a state's `on_error`. All others are bugs, and fire `fault`."""

PATIENCE = 10.0
"""Seconds that an activity may take to end after its state was left, before it is left behind."""

StateCallback = Callable[[Any, Any], Awaitable[None] | None]

_log = logging.getLogger("fsm_conn")
_FIELDS = len(TransitionRecord._fields)
_acting: ContextVar[tuple[StateMachine, int] | None] = ContextVar("fsm_conn_acting", default=None)
"""Whose activity this context belongs to, and of which visit."""


class StateMachine:
    """An object whose life is a table. Subclasses declare `states` and `transitions`, and a `while_<state>` for
    each state in which something is to be done.

    Not safe for threads: use it from one event loop at a time.
    """

    states: ClassVar[Sequence[State | str]]
    """The states of the table."""
    transitions: ClassVar[Sequence[Any]]
    """The rows of the table, in the order in which alternatives are asked."""
    required_triggers: ClassVar[tuple[str, ...]] = ()
    """Triggers which the class fires by itself; a table that handles one of them nowhere is refused."""
    accepted_findings: ClassVar[Mapping[str, str]] = {}
    """Findings of `fsm_conn.checks` that are meant, each by its code, or its code and place, with the reason why."""
    record_type: ClassVar[type[TransitionRecord]] = TransitionRecord
    """What is written of each transition. Fields that a kind of record adds are read from attributes of that name."""
    lifecycle: ClassVar[BoundTable]
    """The table, validated and bound to this class; made with the class."""

    history_size: int = 64
    """How many records are kept."""

    abandoned_activities: int = 0
    """Activities that ignored their cancellation for so long that they were left behind. Each is a bug."""

    # What an instance has not changed yet is read from the class, so that making one costs next to nothing.
    _state: str
    _visit: int = 0
    _rested_visit: int = -1
    _at_rest: asyncio.Future[None] | None = None
    _since: float | None = None
    _dispatching: bool = False
    _halting: bool = False
    _context: Context | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _guardian: asyncio.Task[None] | None = None
    _peace: asyncio.Future[None] | None = None
    _activity: asyncio.Task[Any] | None = None
    _activity_name: str = ""
    _abandoning: asyncio.TimerHandle | None = None
    _queue: deque[tuple[str, BaseException | None]] | None = None
    _waiters: dict[asyncio.Future[TransitionRecord], Collection[str]] | None = None
    _observers: Observers | None = None
    _records: History | None = None
    _last: TransitionRecord | None = None
    _reason: BaseException | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.lifecycle = BoundTable(cls, cls.states, cls.transitions, cls.required_triggers)
        cls.check_table(cls.lifecycle)
        cls._state = str(cls.lifecycle.initial)

    @classmethod
    def check_table(cls, table: BoundTable) -> None:
        """For kinds of machines: refuse a table that is sound, and not what the kind needs, by a `DeclarationError`."""

    # --- what others may ask ------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        """The present state: a member of the table's enumeration, which is also a `str`."""
        return self.lifecycle.states[self._state].name

    @property
    def history(self) -> tuple[TransitionRecord, ...]:
        """The last transitions, oldest first; how many are kept was said when the object was made.

        At most a quarter of them are internal ones, so that the probes of a quiet day do not push out what happened.
        """
        return tuple(self._records or ())

    @property
    def reason(self) -> BaseException | None:
        """The last error that was behind a transition; None when there was none yet."""
        return self._reason

    @property
    def observer_errors(self) -> int:
        """How many times an observer raised, or was cancelled for taking too long."""
        return self._observers.errors if self._observers else 0

    @property
    def records(self) -> Sequence[TransitionRecord]:
        """The same as `history`, without a copy: it grows, and lets go of old ones."""
        return self._records or ()

    @property
    def last_record(self) -> TransitionRecord | None:
        """What happened last, be it so small that the history does not keep it; None when nothing has."""
        return self._last

    @property
    def visit(self) -> int:
        """Which stay in a state this is: one more whenever a state is entered, be it the same again."""
        return self._visit

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which the present activity lives; None when there is nothing to do."""
        return self._loop

    def handles(self, trigger: str) -> bool:
        """Whether the present state handles `trigger`, so that `fire` would not refuse it."""
        return self.lifecycle.handles(self._state, trigger)

    def snapshot(self) -> Snapshot:
        """Where it stands at this moment, as a value: for those who look at a machine from outside."""
        return Snapshot(
            state=self.state,
            visit=self._visit,
            since=self._since,
            activity=None if self._activity is None else self._activity_name,
            is_resting=self._rested_visit == self._visit,
        )

    def on_transition(self, callback: TransitionCallback) -> Callable[[], None]:
        """Have `callback(record)` told of every row that is taken, internal ones included.

        It may be a plain or an async function. It cannot hurt: what it raises is logged and counted, and an async
        one that takes more than five seconds is cancelled. A plain one runs inside the dispatch, so keep it short.

        Returns:
            a function that unregisters it.
        """
        self._observers = self._observers or Observers(self._own_context())
        return self._observers.add(callback)

    def on_state_change(self, state: str, callback: StateCallback) -> Callable[[], None]:
        """Have `callback(old, new)` called each time `state` is entered from another. Otherwise as `on_transition`.

        Raises:
            ValueError: there is no such state.
        """
        self._check_states((state,))
        if not callable(callback):
            raise TypeError(f"an observer must be callable, not {callback!r}")

        @functools.wraps(callback, updated=())
        def entered(record: TransitionRecord) -> Awaitable[None] | None:
            changed = record.dest == state and record.source != state
            return callback(record.source, record.dest) if changed else None

        return self.on_transition(entered)

    async def wait_for_state(self, *states: str) -> Any:
        """Wait until one of `states` is entered, and return it; at once when it is the present one.

        It may have been left again by the time this returns. Put `asyncio.timeout` around it for a limit.

        Raises:
            ValueError: there is no such state, or none was named.
        """
        if not states:
            raise ValueError("wait_for_state: name at least one state")
        self._check_states(states)
        self.check_loop()
        return (await self.reach(states)).dest

    def fire(self, trigger: str, reason: BaseException | None = None) -> None:
        """Dispatch `trigger`, now; from inside a guard, an effect or a plain observer, right after what is under way.

        For triggers of one's own. Those of the base table are fired by its methods and activities.

        Raises:
            IllegalTriggerError: the present state does not handle it. Nothing was changed.
            TypeError: the reason is no exception.
        """
        if reason is not None and not isinstance(reason, BaseException):
            raise TypeError(f"fire({str(trigger)!r}, {reason!r}): give an exception as the reason, or None")
        if self._dispatching:
            if self._queue is None:
                self._queue = deque()  # and never another: while it is emptied, an empty one is still the queue
            self._queue.append((trigger, reason))
            return
        loop = asyncio.get_running_loop()
        self.check_loop()
        self._dispatching = True
        try:
            self._take(trigger, reason, loop.time())
        finally:
            try:
                if self._queue:
                    self._drain(self._queue)
            finally:
                self._dispatching = False

    # --- dispatch -----------------------------------------------------------------------------------------

    def _take(self, trigger: str, reason: BaseException | None, now: float) -> None:
        lifecycle, source, visit = self.lifecycle, self._state, self._visit
        lifecycle.dispatch(self, trigger, reason)
        since = now if self._since is None else self._since
        names, internal = lifecycle.states, visit == self._visit
        record = self._record(trigger, names[source].name, internal, reason, now - since, now)
        if self._records is None:
            self._records = History(self.history_size)
        self._records.note(record)
        self._last = record
        if reason is not None:
            self._reason = reason
        if not internal:
            self._since = now
            self._turn()
            if self._waiters:
                self._wake(record)
        if self._observers is not None:
            self._observers.publish(record, plain_only=self.is_ending())

    def _record(
        self, trigger: str, source: str, internal: bool, reason: BaseException | None, dwell: float, at: float
    ) -> TransitionRecord:
        kind = self.record_type
        added = {name: getattr(self, name) for name in kind._fields[_FIELDS:]}
        return kind(trigger, source, self.state, internal, reason, dwell, at, **added)

    def _drain(self, queue: deque[tuple[str, BaseException | None]]) -> None:
        """Nobody waits for what was queued, so its errors are logged."""
        while queue:
            trigger, reason = queue.popleft()
            try:
                self._take(trigger, reason, asyncio.get_running_loop().time())
            except Exception:
                _log.exception("%r: the queued trigger %r was refused", self, str(trigger))

    def _entered(self, reason: BaseException | None) -> None:
        """Told by the machine whenever a state is entered; a visit is what tells one stay in a state from the next."""
        self._visit += 1
        self.entered(reason)

    def entered(self, reason: BaseException | None) -> None:
        """For subclasses: called whenever a state was entered, inside the dispatch. It must not raise."""

    # --- waiting ------------------------------------------------------------------------------------------

    async def reach(self, states: Collection[str]) -> TransitionRecord:
        """Wait until one of `states` is the present one, and return the record of the last transition.

        As `wait_for_state`, for those who need to know how the state came to be, and name states that exist.
        """
        if self._dispatching:
            await asyncio.sleep(0)  # an observer has made an eager task of us, and what we have fired is still queued
        if self._state in states:
            return self._last or self._record("", self.state, True, None, 0.0, 0.0)
        future: asyncio.Future[TransitionRecord] = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = {}
        self._waiters[future] = states
        try:
            return await future
        finally:
            if self._waiters:  # None: the loop was closed under us
                self._waiters.pop(future, None)

    def _wake(self, record: TransitionRecord) -> None:
        waiters = self._waiters or {}
        for future, states in tuple(waiters.items()):
            if record.dest in states:
                del waiters[future]
                if not future.done():
                    future.set_result(record)

    async def wait_for_rest(self) -> None:
        """Wait until the activity of the present visit has ended or only rests, or its state was left."""
        visit = self._visit
        while self._activity is not None and self._visit == visit != self._rested_visit and not self.in_activity():
            self._at_rest = self._at_rest or asyncio.get_running_loop().create_future()
            waited = (self._activity, self._at_rest)
            await asyncio.wait(waited, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)

    def rest(self) -> None:
        """Said by an activity which only waits from here on: nobody who waits for its work need wait any longer."""
        self._rested_visit = self._visit
        if self._at_rest is not None and not self._at_rest.done():
            self._at_rest.set_result(None)
        self._at_rest = None

    async def wait_for_observers(self) -> None:
        """Wait until the observers have been told of everything so far."""
        if self._observers is not None:
            await self._observers.flush()

    def _check_states(self, names: Collection[str]) -> None:
        known = [str(name) for name in self.lifecycle.states]
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ValueError(f"{type(self).__name__} has no state {name!r}{hint}; it has: {', '.join(known)}")

    # --- activities ---------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """The state was entered: end the activity of the last visit, and begin that of this one."""
        task = self._activity
        if task is None:
            self._begin()
        elif not task.done():
            if not task.cancelling():  # a second cancellation would interrupt the cleaning up after the first
                task.cancel()
            if self._abandoning is None:
                self._abandoning = task.get_loop().call_later(PATIENCE, self._abandon_activity, task)

    def _begin(self) -> None:
        name = self.lifecycle.activities.get(self._state)
        if self.is_ending():
            return
        if name is None:
            self._release_guardian()
            return
        loop, context = asyncio.get_running_loop(), self._own_context()
        self._loop = loop
        if self._guardian is None:
            self._peace = loop.create_future()
            self._guardian = loop.create_task(self._guard(self._peace), name=f"{self!r}", context=context.copy())
            self._guardian.add_done_callback(self._guardian_ended, context=context)
        task_name = f"{self!r}.{name}"
        self._activity_name = name
        self._activity = loop.create_task(self._perform(name, self._visit), name=task_name, context=context.copy())
        self._activity.add_done_callback(partial(self._ended, self._visit), context=context)

    def _own_context(self) -> Context:
        """What activities and observers run in: not the context of whoever happened to call."""
        if self._context is None:
            self._context = copy_context()
        return self._context

    def keep_context(self) -> None:
        """Have activities and async observers run in a copy of the caller's context, such as that of who made this.

        Otherwise it is the context of who needs it first.
        """
        self._context = copy_context()

    async def _perform(self, name: str, visit: int) -> Any:
        _acting.set((self, visit))
        try:
            return await getattr(self, name)()
        except asyncio.CancelledError as cancelled:
            if visit != self._visit:
                raise
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise RuntimeError(f"{name}() awaited something that was cancelled, and let that pass") from cancelled
            raise

    def in_activity(self) -> bool:
        """Whether this is called from the activity of the present visit, or from a task that it made."""
        acting = _acting.get()
        return (
            acting is not None and acting[0] is self and acting[1] == self._visit and not is_observing(self._observers)
        )

    def _ended(self, visit: int, task: asyncio.Task[Any]) -> None:
        if task is not self._activity:
            return  # left behind
        self._activity = None
        if self._abandoning is not None:
            self._abandoning.cancel()
            self._abandoning = None
        if visit != self._visit:
            self._ended_late(task)
            self._begin()
        elif not task.cancelled():
            self._speak(task)
        elif not self.is_ending():
            self._say(FAULT, RuntimeError(f"{task.get_name()} was cancelled from outside"))

    def _ended_late(self, task: asyncio.Task[Any]) -> None:
        """Its state was left: nobody listens, but a bug is not to pass unseen."""
        error = None if task.cancelled() else _error_of(task)
        if error is not None and not is_expected(error):
            _log.error("%r: an activity failed after its state was left", self, exc_info=traced(error))

    def _speak(self, task: asyncio.Task[Any]) -> None:
        """Fire what the activity of the present visit has returned or raised."""
        error = _error_of(task)
        if is_expected(error):
            strip_tracebacks(error)
            self._say(self.lifecycle.states[self._state].on_error, error)
        elif error is not None:
            _log.error("%r: the activity of %s failed", self, self._state, exc_info=traced(error))
            self._say(FAULT, error)
        elif task.result() is not None:
            self._say(task.result(), None)
        if self._activity is None and not self.is_ending():
            self._release_guardian()

    def _say(self, trigger: str, reason: BaseException | None) -> None:
        try:
            self.fire(trigger, reason)
        except Exception as error:
            _log.error("%r: the activity of %s broke a rule", self, self._state, exc_info=traced(error))
            self.fire(FAULT, error)

    def _abandon_activity(self, task: asyncio.Task[Any]) -> None:
        """Rather break the rule that activities never overlap, and say so, than hang for ever."""
        self._abandoning = None
        if task is not self._activity:
            return
        _log.error(
            "%r: %s ignores its cancellation and is left behind; let CancelledError pass in it", self, task.get_name()
        )
        task.cancel()
        self.abandoned_activities += 1
        self._activity = None
        self._begin()

    # --- the end of the loop ------------------------------------------------------------------------------

    async def _guard(self, peace: asyncio.Future[None]) -> None:
        """Live until there is nothing to do. Cancelled before that, which is how a loop ends: give back everything."""
        try:
            await peace
        except asyncio.CancelledError:
            await self._give_up()
            raise
        finally:
            if self._peace is peace:
                self._guardian = self._peace = None

    def _guardian_ended(self, task: asyncio.Task[None]) -> None:
        """Cancelled before it had begun, it could not do its duty; but then nothing else has begun either."""
        if task is self._guardian:
            self._guardian = self._peace = None
            self._rest_at_once()

    def _rest_at_once(self) -> None:
        self._halting = True
        try:
            self.come_to_rest()
        finally:
            self._halting = False

    async def _give_up(self) -> None:
        self._halting = True
        try:
            while self._activity is not None:
                if not self._activity.cancelling():
                    self._activity.cancel()
                await _outlast(self._activity)
                await _outlast(asyncio.ensure_future(asyncio.sleep(0)))  # for its callback
            await _outlast(asyncio.ensure_future(self.on_loop_end()))
            self.come_to_rest()
        finally:
            self._halting = False

    def _release_guardian(self) -> None:
        """Nothing is to be done: the guardian may go."""
        if self._peace is not None and not self._peace.done():
            self._peace.set_result(None)
            self._guardian = self._peace = self._loop = None

    def is_ending(self) -> bool:
        """Whether the loop ends, so that nothing is to be begun any more."""
        return self._halting or (self._guardian is not None and self._guardian.cancelling() > 0)

    def check_loop(self) -> None:
        """Make sure that the running loop is the one to live in.

        A loop that was closed under us took the activity along: begin at rest. One that still runs has the say.

        Raises:
            RuntimeError: no loop runs, or an activity lives in another one.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None or self._loop is loop:
            return
        if not self._loop.is_closed():
            raise RuntimeError(f"{self!r} lives in another event loop; disconnect it there first")
        self._loop = self._activity = self._guardian = self._peace = None
        self._abandoning = self._waiters = self._at_rest = None
        self.on_loop_lost()
        self._rest_at_once()

    def on_loop_lost(self) -> None:
        """The loop was closed under us: let go of what belonged to it, for nothing can be awaited in it any more."""

    async def on_loop_end(self) -> None:
        """The loop ends: give back what must not stay."""

    def come_to_rest(self) -> None:
        """After the last will: bring the state to rest."""
        self.fire(FAULT, None)


def is_expected(error: BaseException | None) -> bool:
    """Whether an error is one of the world outside, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_expected(each) for each in error.exceptions)
    return isinstance(error, EXPECTED)


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """What a task that is done has raised.

    Not by `exception()`, after which the task still holds the traceback, which holds a frame, which may hold the task.
    """
    try:
        task.result()
    except BaseException as error:  # whatever it is, the life must go on
        return error
    return None


def strip_tracebacks(error: BaseException | None) -> None:
    """Take the tracebacks from an expected error: they hold frames, which hold the object that keeps the error."""
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and link.__traceback__ is not None:
            link.__traceback__ = None
            chain += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]


async def _outlast(task: asyncio.Future[Any]) -> None:
    """Wait until `task` is done, whatever happens; whoever cancelled us is told so later."""
    with contextlib.suppress(asyncio.CancelledError):
        await finish(task)


async def finish(task: asyncio.Future[Any]) -> None:
    """Wait until `task` is done, whatever happens; a cancellation of the caller goes on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
