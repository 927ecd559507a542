"""What lives of all kinds have in common: a loop in virtual time, steps, checks after each, and an end.

The rules that hold here: a life has a loop of its own and nothing happens in it but by a step; the same steps always
give the same life; a step that means nothing at the moment does nothing, so that any part of a script is a script.
Whatever a step meets with ends the life by a `ViolationError` that shows it: what user code raises, too.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar

from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.lives.blocking import RefusedSleep
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, Finding, Invariant, ViolationError, broken, chosen
from fsm_conn.testing.lives.culprits import blamed
from fsm_conn.testing.lives.endless import watch_over
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.silenced import SilencedLogs
from fsm_conn.testing.lives.suspects import suspects
from fsm_conn.testing.virtual import LivelockError, VirtualLoop

__all__ = ["LIVENESS_BOUND", "Offer", "SteppedLife", "leave_behind"]

LIVENESS_BOUND = 600.0
"""Seconds within which a machine must come to rest once all goes well."""

TIMES = (0.001, 0.5, 1.0, 2.5, 6.0, 31.0)
"""Seconds that may pass in a step: shorter and longer than every delay and timeout of the usual policies."""

Offer = tuple[Step, int]
"""A step to choose, and how often it is offered."""

_silenced, _silenced_loop = SilencedLogs("fsm_conn", "fsm_conn.pool", "fsm_conn.status"), SilencedLogs("asyncio")
_refused_sleep = RefusedSleep()


class SteppedLife(Evidence):
    """A life of any kind, as far as kinds do not differ.

    Attributes:
        checking: whether the invariants are checked; no, for who lives again what was checked before.
    """

    all_invariants: ClassVar[tuple[Invariant, ...]] = ()
    """What every life of this kind is checked for."""
    rules: ClassVar[Mapping[str, str]] = {}
    """What is checked in the course of a step, by name, with what it says."""
    endings: ClassVar[tuple[str, ...]] = ("end",)
    """The steps by which a life may end; those named twice are taken twice as often."""
    most_cpu_time: ClassVar[float] = 10.0
    """Seconds of CPU time that code may go on without awaiting anything, before it is taken to be for ever."""
    _quiet: ClassVar[frozenset[str]] = frozenset()
    """Steps which by themselves change nothing of what is checked, unless something runs that they have woken."""

    def __init__(
        self,
        script: Script,
        ignore: Mapping[str, str] | None,
        invariants: Iterable[Invariant],
        loop: VirtualLoop | None,
    ) -> None:
        super().__init__()
        self.crashes: list[BaseException] = []
        self._chosen = chosen((*self.all_invariants, *invariants), tuple(self.rules), tuple(dict(ignore or {}).items()))
        self.ignored = frozenset(ignore or ())
        self.script = script
        self.loop = loop or VirtualLoop()
        self.loop.set_exception_handler(self._crashed)
        self._owns_loop = loop is None
        watch_over(self.loop, self.most_cpu_time)
        self._closed = False
        self._turns_at_rest = -1
        """What the loop's `turns` were when it was last checked at rest; -1 when something was done since."""
        self.checking = True

    # --- steps ----------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._step("advance", seconds)
        self._running(lambda: self.loop.advance(seconds))
        self._check(ALWAYS, AT_REST)

    def tick(self) -> None:
        """What is ready runs, once, and nothing that comes of it."""
        self._step("tick")
        self._running(self.loop.tick)
        self._check(ALWAYS)

    def end(self) -> None:
        """From now on all goes well: the machine comes to rest, and leaves nothing.

        Raises:
            ViolationError: an invariant does not hold, now or at the end.
        """
        self._ending("end", self._end)

    def close(self) -> None:
        """Give the loop back, whatever still runs in it."""
        if self._closed:
            return
        self._closed = True
        with _silenced, _silenced_loop:
            try:
                emptied = self._emptied()
            except LivelockError:
                emptied = False
            if not emptied:
                leave_behind(self.loop.tasks())
            self._left()
            if self._owns_loop or not emptied:
                self.loop.close()

    # --- how it is done, by kind ----------------------------------------------------------------------------

    def _end(self) -> None:
        """All goes well from now on, and that is the end."""

    def _after_running(self) -> None:
        """Something has run: look after those who wait."""

    def _emptied(self) -> bool:
        """Cancel what still runs; whether all has ended."""
        return self.loop.cancel_everything()

    def _left(self) -> None:
        """The loop is given back now."""

    def _suspects(self) -> tuple[str, ...]:
        """Where to look in the user's code when a rule is broken."""
        last = self.records[-1] if self.records else None
        moved = ("", "") if last is None else (str(last.trigger), str(last.source))
        return suspects(type(self.machine), *moved, self.state)

    # --- how it is done -------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Have the life told of every transition of its machine, as a plain and as an async observer."""
        self.machine.on_transition(self.seen.append)
        self.machine.on_transition(self._see_slowly)

    def _see_slowly(self, record: TransitionRecord) -> Awaitable[None] | None:
        """An async observer, while that is checked; a plain one otherwise, which costs less."""
        if self.checking:
            return self._see_after_a_while(record)
        self.seen_slowly.append(record)
        return None

    async def _see_after_a_while(self, record: TransitionRecord) -> None:
        await asyncio.sleep(0)
        self.seen_slowly.append(record)

    def _step(self, name: str, *arguments: Any, rush: bool = False, **data: Any) -> None:
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
        """Run the loop, and then look after those who wait."""
        self._run(run)
        self._after_running()

    def _run(self, run: Callable[[], Any]) -> None:
        """Run the loop. What goes wrong is found by the invariants; logged, it would hide the life that is shown."""
        _silenced.kept = self.logged
        with _silenced, _refused_sleep:
            try:
                run()
            except LivelockError as error:
                self._fail("no_livelock", str(error))

    def _crashed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback has raised: one of the machine's, for nobody else has any here."""
        if "handle" in context and isinstance(context.get("exception"), Exception):
            self.crashes.append(context["exception"])

    def _inside(self, function: Callable[[], Any]) -> Any:
        """Call user code as if from inside the loop; what it raises that is none of ours is what ends this life."""
        _silenced.kept = self.logged
        try:
            with _silenced, _refused_sleep:
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
        try:
            finding = self.loop.inside(lambda: broken(self, self._chosen, moments))
        except LivelockError as error:
            finding = Finding("no_livelock", str(error))
        self._fail_for(finding)
        if self.crashes:
            self._fail_by(self.crashes[0])
        if AT_REST in moments:
            self.checked = len(self.records)
            self._turns_at_rest = self.loop.turns

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
        raise error from cause


def leave_behind(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Have tasks that nobody can end outlive the process: thrown away, they would go on for ever, without a loop."""
    for task in tasks:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
