"""The common parts of all lives: a loop in virtual time, steps, checks after each step, and an end.

The rules that hold here: a life has a loop of its own, and only steps make anything happen in it. The same steps always
give the same life. A step that makes no sense at the moment does nothing, so that any part of a script is a script.
Any error ends the life with a `ViolationError` that shows it, errors of user code included.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar

from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.lives.blocking import refused
from fsm_conn.testing.lives.checks import (
    AFTER_EVENTS,
    ALWAYS,
    AT_REST,
    AT_THE_END,
    Finding,
    Invariant,
    ViolationError,
    broken,
    chosen,
)
from fsm_conn.testing.lives.culprits import blamed
from fsm_conn.testing.lives.endless import watch_over
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.lives.machines.sharing import Shared
from fsm_conn.testing.lives.machines.strays import LateSpeech, has_own_code, read_all, unread_error, whose_error
from fsm_conn.testing.lives.machines.surroundings import surrounded
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.silenced import SilencedLogs, silenced
from fsm_conn.testing.lives.suspects import suspects
from fsm_conn.testing.virtual import LivelockError, VirtualLoop

__all__ = ["LIVENESS_BOUND", "Offer", "SteppedLife", "leave_behind"]

LIVENESS_BOUND = 600.0
"""Seconds within which a machine must come to rest once its surroundings work."""

TIMES = (0.001, 0.5, 1.0, 2.5, 6.0, 31.0)
"""Seconds that may pass in a step: shorter and longer than every delay and timeout of the usual policies."""

Offer = tuple[Step, int]
"""A step to choose, and its weight."""

_silenced_loop = SilencedLogs("asyncio")


class SteppedLife(Evidence):
    """The common part of all kinds of lives.

    Attributes:
        checking: whether the invariants are checked; False for a replay of steps that were checked before.
    """

    all_invariants: ClassVar[tuple[Invariant, ...]] = ()
    """The invariants of every life of this kind."""
    rules: ClassVar[Mapping[str, str]] = {}
    """The rules that are checked during a step: their names, and a sentence about each."""
    endings: ClassVar[tuple[str, ...]] = ("end",)
    """The steps by which a life may end; a step that appears twice is taken twice as often."""
    most_cpu_time: ClassVar[float] = 10.0
    """Seconds of CPU time after which code that does not await counts as endless."""
    _quiet: ClassVar[frozenset[str]] = frozenset()
    """Steps that alone change nothing that is checked, unless they wake other code."""

    def __init__(
        self,
        script: Script,
        ignore: Mapping[str, str] | None,
        invariants: Iterable[Invariant],
        loop: VirtualLoop | None,
    ) -> None:
        super().__init__()
        self.crashes: list[BaseException] = []
        self._unread: list[tuple[str, BaseException]] = []
        self._unawaited: list[str] = []
        self._chosen = chosen((*self.all_invariants, *invariants), tuple(self.rules), tuple(dict(ignore or {}).items()))
        self.ignored = frozenset(ignore or ())
        self._shared = None if "objects_share_nothing" in self.ignored else Shared(script.subject)
        self.script = script
        self.loop = loop or VirtualLoop()
        self.loop.set_exception_handler(self._crashed)
        self._owns_loop = loop is None
        refused.include(script.subject)
        watch_over(self.loop, self.most_cpu_time)
        self._closed = False
        self._events_checked = -1
        self._turns_at_rest = -1
        """The loop's `turns` at the last check at rest; -1 when something was done since."""
        self.checking = True

    # --- steps ----------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._step("advance", seconds)
        self._running(lambda: self.loop.advance(seconds))
        self._check(ALWAYS, AT_REST)

    def tick(self) -> None:
        """Run once what is ready, but nothing that becomes ready by it."""
        self._step("tick")
        self._running(self.loop.tick)
        self._check(ALWAYS)

    def end(self) -> None:
        """From now on everything succeeds: the machine must come to rest, and leave nothing behind.

        Raises:
            ViolationError: an invariant does not hold, now or at the end.
        """
        self._ending("end", self._end)

    def close(self) -> None:
        """Close the loop, or return it, whatever still runs in it."""
        if self._closed:
            return
        self._closed = True
        with silenced, _silenced_loop:
            try:
                emptied = self._emptied()
            except LivelockError:
                emptied = False
            if not emptied:
                leave_behind(self.loop.tasks())
            self._left()
            read_all(self.machine, self.loop)
            self.loop.set_exception_handler(_ignore)
            if self._owns_loop or not emptied:
                self.loop.close()

    # --- what depends on the kind ---------------------------------------------------------------------------

    def _end(self) -> None:
        """Let everything succeed from now on, and come to the end."""

    def _after_running(self) -> None:
        """Code has run: check the callers."""

    def _emptied(self) -> bool:
        """Cancel what still runs; return whether everything has ended."""
        return self.loop.cancel_everything()

    def _left(self) -> None:
        """The loop is about to be returned."""

    def _suspects(self) -> tuple[str, ...]:
        """Where to look in the user's code when a rule is broken."""
        last = self.records[-1] if self.records else None
        moved = ("", "") if last is None else (str(last.trigger), str(last.source))
        return suspects(type(self.machine), *moved, self.state)

    # --- how it is done -------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Record every transition of the machine, with a plain and an async observer; listen to who fires late."""
        if has_own_code(type(self.machine)):
            self.late = LateSpeech(self.machine)
        self.machine.on_transition(self.seen.append)
        self.machine.on_transition(self._see_slowly)

    def _see_slowly(self, record: TransitionRecord) -> Awaitable[None] | None:
        """An async observer while its notifications are checked; otherwise a plain one, which costs less."""
        if self.checking:
            return self._see_after_a_while(record)
        self.seen_slowly.append(record)
        return None

    async def _see_after_a_while(self, record: TransitionRecord) -> None:
        await asyncio.sleep(0)
        self.seen_slowly.append(record)

    def _step(self, name: str, /, *arguments: Any, rush: bool = False, **data: Any) -> None:
        self.steps_in[self.state] += 1
        self.script.steps.append(Step(name, arguments, rush, data))
        if name not in self._quiet:
            self._turns_at_rest = -1

    def _settle(self, rush: bool) -> None:
        if rush:
            if self._turns_at_rest != self.loop.turns:
                self._check(ALWAYS)
            return
        self._running(self.loop.run_until_blocked)
        if self._turns_at_rest != self.loop.turns:
            self._check(ALWAYS, AT_REST)

    def _running(self, run: Callable[[], None]) -> None:
        """Run the loop, and then check the callers."""
        self._run(run)
        self._after_running()

    def _run(self, run: Callable[[], Any]) -> None:
        """Run the loop, without logging: the invariants find mistakes, and logs would hide the life that is shown."""
        surrounded.keep(self.logged, self._unawaited)
        with surrounded:
            try:
                run()
            except LivelockError as error:
                self._fail("no_livelock", str(error))

    def _crashed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback has raised, or an error was dropped unread. No code but the machine's has either here."""
        error = context.get("exception")
        if isinstance(error, Exception):
            if "handle" in context:
                self.crashes.append(error)
            elif whose := whose_error(self.machine, context.get("future"), error):
                self._unread.append((whose, error))

    def _inside(self, function: Callable[[], Any]) -> Any:
        """Call user code as if from inside the loop; an error of its own ends this life."""
        surrounded.keep(self.logged, self._unawaited)
        try:
            with surrounded:
                return self.loop.inside(function)
        except LivelockError as error:
            self._fail("no_livelock", str(error))
        except FsmConnError:
            raise
        except Exception as error:
            self._fail_by(error)

    def _fail_by(self, error: BaseException) -> None:
        whose = blamed(self.machine, error) or f"{type(self.machine).__name__}"
        self._fail("faults_have_a_cause", f"{whose} has a bug: {error!r}", error)

    def _check(self, *moments: str) -> None:
        if not self.checking:
            return
        is_at_rest, events = AT_REST in moments, self.events()
        if is_at_rest and events != self._events_checked:
            moments = (*moments, AFTER_EVENTS)
        try:
            finding = self.loop.inside(lambda: broken(self, self._chosen, moments))
        except LivelockError as error:
            finding = Finding("no_livelock", str(error))
        except Exception as error:  # of a method that a rule has asked, or of a rule of the application's own
            finding = None
            self._fail_by(error)
        self._fail_for(finding)
        if self.crashes:
            self._fail_by(self.crashes[0])
        self._check_what_lies_beside(AT_THE_END in moments)
        if is_at_rest:
            self.checked, self._events_checked = len(self.records), events
            self._turns_at_rest = self.loop.turns

    def _check_what_lies_beside(self, is_the_end: bool) -> None:
        """Check what no invariant sees: what nobody reads or awaits, and what all objects of the class share."""
        unread = self._unread[0] if self._unread else None
        if unread is None and is_the_end:
            unread = unread_error(self.machine, self.loop)
        if unread is not None:
            whose, error = unread
            self._fail("errors_are_read", f"{whose} failed, and nobody reads it: {error!r}; await the task", error)
        if self._unawaited:
            self._fail("coroutines_are_awaited", self._unawaited[0])
        changed = None if self._shared is None else self._shared.changed()
        if changed is not None:
            self._fail("objects_share_nothing", changed)

    def _ending(self, name: str, how: Callable[[], None]) -> None:
        if self.ended:
            return
        self.ended = True
        self._step(name)
        try:
            how()
        finally:
            self.close()

    def _fail_for(self, finding: Finding | None) -> None:
        if finding is not None:
            self._fail(finding.name, finding.message, finding.cause)

    def _fail(self, name: str, message: str, cause: BaseException | None = None) -> None:
        if name in self.ignored:
            return
        self.ended = True
        error = ViolationError(name, message, self.script, tuple(self.records))
        error.suspects = self._suspects()
        self.close()
        try:
            raise error from cause
        finally:
            del error


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The life is over."""


def leave_behind(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Keep tasks that cannot be ended until the process ends: destroyed, they would run for ever, without a loop."""
    for task in tasks:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
