"""One life of any state machine, step by step in virtual time: triggers are fired, activities end, time passes.

The activities are simulated, so that each may end in every possible way: by each trigger that it names, by an error of
the outside world, by a bug, or never. With `make`, the real activities run instead, on the user's own fakes. The rules
of all lives are in `stepping`.
"""

from __future__ import annotations

import asyncio
import random
import reprlib
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sized
from itertools import islice, product
from typing import Any

from fsm_conn._util.keywords import explained
from fsm_conn.machine.errors import FsmConnError, IllegalTriggerError, MachineClosedError
from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, AT_THE_END, Finding, Invariant, ViolationError
from fsm_conn.testing.lives.machine_rules import (
    OF_GUARDS,
    OF_MOVES,
    OF_OBSERVERS,
    activities_let_go,
    bugs_are_not_hidden,
    no_task_is_left,
    nobody_speaks_late,
)
from fsm_conn.testing.lives.machines.activities import Roles, SimulatedActivities
from fsm_conn.testing.lives.machines.callers import MOST_CALLERS, Callers, cancelled_callers_go, methods_of
from fsm_conn.testing.lives.machines.following import failures_let_time_pass, nobody_waits_in_vain, something_follows
from fsm_conn.testing.lives.machines.values import Data, values_for
from fsm_conn.testing.lives.moments.fingerprint import fingerprint, own_attributes
from fsm_conn.testing.lives.moments.reading import clock_times
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.stepping import LIVENESS_BOUND, TIMES, Offer, SteppedLife
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["MACHINE_INVARIANTS", "MachineLife"]

MACHINE_INVARIANTS: tuple[Invariant, ...] = (
    *OF_MOVES,
    *OF_GUARDS,
    *OF_OBSERVERS,
    activities_let_go,
    cancelled_callers_go,
    something_follows,
    nobody_waits_in_vain,
    failures_let_time_pass,
    bugs_are_not_hidden,
    nobody_speaks_late,
    no_task_is_left,
)
"""The invariants of every life of a machine, unless one is ignored for a reason."""

COMBINATIONS = 4
"""Combinations of data that are fired for each trigger in a systematic walk."""
WAITED_FOR = 3
"""The most states that are waited for; more would not reveal more mistakes."""
HOURS = (2.5, 31.0)
"""Seconds to advance when user code reads the clock, and nothing tells which durations matter to it."""
WEIGHTS = {"fire": 3, "returns": 3, "raises": 2}


_PLAIN = (int, bool, str, float, type(None))


def _size(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 0


def _shown(names: Iterable[str], chosen: Iterable[tuple[Any, ...]]) -> str:
    """Each parameter with its values: `value (0, 1, 5)`."""
    tried = (dict.fromkeys(map(reprlib.repr, values)) for values in zip(*chosen, strict=True))
    return ", ".join(f"{name} ({', '.join(values)})" for name, values in zip(names, tried, strict=True))


class MachineLife(SteppedLife):
    """A machine of one class, and its simulated surroundings.

    Args:
        machine_class: the class under test.
        make: makes a machine whose real activities run. By default, `machine_class()` is called, and the activities are
            simulated.
        data: for triggers and their parameters, the values to fire them with: a strategy of Hypothesis, or a list of
            values. By default the values follow from the annotations of the guards and effects.
        ignore: names of invariants not to check, each with the reason why.
        invariants: further invariants.
        loop: the event loop, at time zero; it is returned without tasks. By default the life has its own.
    """

    all_invariants = MACHINE_INVARIANTS
    rules = {  # noqa: RUF012
        "no_livelock": "Work without a passing of time comes to an end.",
        "refusals_change_nothing": "A trigger that the state does not handle is refused, and changes nothing.",
        "nothing_outlives_the_loop": "When the loop ends, all tasks end.",
        "it_can_be_closed": "`aclose()` ends, and soon.",
        "cancellation_is_honest": "Only a caller that was cancelled is told so; who waits for a state is told of it.",
        "errors_are_read": "An error that a task of user code ends with is read by somebody.",
        "coroutines_are_awaited": "A coroutine that user code makes is awaited by somebody.",
        "objects_share_nothing": "No object changes what all objects of its class share.",
        "lives_can_be_repeated": "The same steps lead to the same state.",
    }
    endings = ("end", "end", "end", "loop_ends")
    _quiet = frozenset({"returns", "raises", "lingers", "refuses"})

    @explained()
    def __init__(
        self,
        machine_class: type[StateMachine],
        *,
        make: Callable[[], StateMachine] | None = None,
        data: Data | None = None,
        ignore: Mapping[str, str] | None = None,
        invariants: Iterable[Invariant] = (),
        loop: VirtualLoop | None = None,
    ) -> None:
        super().__init__(Script(type(self), machine_class), ignore, invariants, loop)
        self.machine = self.loop.inside(make or machine_class)
        self.machine.history_size = 1_000_000
        self.values = values_for(type(self.machine), data)
        self.roles = self.part(Roles)
        self.activities = SimulatedActivities(self.machine, self.roles) if make is None else None
        self.callers = Callers(self)
        table = self.machine.lifecycle
        self._has_callers = table.needs_loop or bool(methods_of(type(self.machine)))
        self._waited_for = tuple(map(str, table.states))[:WAITED_FOR]
        self.watch()
        self._inside(self.machine.start)

    # --- steps ----------------------------------------------------------------------------------------------

    def fire(self, trigger: str, /, *, rush: bool = False, **data: Any) -> None:
        """Fire a trigger with data. A state that does not handle the trigger must refuse it and change nothing.

        `rush`, here and below: take the next step before anything else can run.
        """
        self._step("fire", trigger, rush=rush, **data)
        self._fire(trigger, data)
        self._settle(rush)

    def misfire(self, trigger: str, *, rush: bool = False) -> None:
        """Fire a trigger that must be refused; do nothing if the state handles it."""
        self._step("misfire", trigger, rush=rush)
        if not self.machine.handles(trigger):
            self._fire(trigger, {})
        self._settle(rush)

    def wait(self, state: str, *, rush: bool = False) -> None:
        """A caller calls `wait_for_state()`."""
        self._step("wait", state, rush=rush)
        self.callers.call("wait_for_state", lambda: self.machine.wait_for_state(state), (state,))
        self._settle(rush)

    def use(self, method: str, *, rush: bool = False) -> None:
        """A caller calls an async method of the class's own."""
        self._step("use", method, rush=rush)
        self.callers.call(method, getattr(self.machine, method))
        self._settle(rush)

    def cancel(self, number: int, *, rush: bool = False) -> None:
        """Cancel the waiting caller with that number, counted from the oldest."""
        self._step("cancel", number, rush=rush)
        self.callers.cancel(number)
        self._settle(rush)

    def returns(self, trigger: str | None, *, rush: bool = False) -> None:
        """The running simulated activity ends and returns that trigger, or None."""
        self._step("returns", trigger, rush=rush)
        if self.activities is not None:
            self.activities.end(trigger)
        self._settle(rush)

    def raises(self, kind: str = "error", *, rush: bool = False) -> None:
        """The running simulated activity raises an error of the outside world (`error`), or has a `bug`."""
        self._step("raises", kind, rush=rush)
        if self.activities is not None:
            self.activities.fail(kind)
        self._settle(rush)

    def lingers(self, *, rush: bool = False) -> None:
        """From now on, simulated activities run for two more seconds after they are cancelled."""
        self._step("lingers", rush=rush)
        if self.activities is not None:
            self.activities.lingering = True
        self._settle(rush)

    def refuses(self, *, rush: bool = False) -> None:
        """From now on, the outside world refuses everything: simulated activities fail at once, unless they wait."""
        self._step("refuses", rush=rush)
        if self.activities is not None:
            self.activities.refuse()
        self._settle(rush)

    def loop_ends(self) -> None:
        """The loop ends, as in `asyncio.run`: all tasks are cancelled and waited for."""
        self._ending("loop_ends", self._loop_ends)

    # --- possible steps -------------------------------------------------------------------------------------

    def options(self, everything: bool = False) -> list[Step]:
        """The steps that are possible now, each once."""
        found = [step for trigger in self.roles.from_outside(self.state) for step in self._firing(trigger, everything)]
        found += self._outcomes()
        waiting = len(self.callers.waiting)
        if waiting < (MOST_CALLERS if everything else 1):
            found += [Step("use", (method,)) for method in methods_of(type(self.machine))]
        found += [Step("cancel", (number,)) for number in range(waiting)]
        timer = self.next_timer()
        times = [] if timer is None else [timer]
        if not everything:
            times += [each for each in self._hours() if timer is None or each < timer]
            found.append(Step("loop_ends"))
        return [*found, *(Step("advance", (seconds,)) for seconds in times)]

    def offers(self) -> list[Offer]:
        """The steps to choose from at random, each with its weight."""
        found: list[Offer] = []
        waits = self._has_callers or self.next_timer() is not None or self.loop.turns != self._turns_at_rest
        for step in self.options(everything=True):
            found.append((step, WEIGHTS.get(step.name, 2)))
            if step.name != "advance" and waits:
                found.append((Step(step.name, step.arguments, True, step.data), 1))
        if self.activities is not None and self.activities.running and not self.activities.lingering:
            found.append((Step("lingers"), 1))
        if self._has_callers and len(self.callers.waiting) < MOST_CALLERS:
            waited_for = self._waited_for[len(self.script.steps) % len(self._waited_for)]
            found.append((Step("wait", (waited_for,)), 1))
        refused = self._refused()
        if refused:
            found.append((Step("misfire", (refused[len(self.script.steps) % len(refused)],)), 1))
        times = TIMES if waits else TIMES[-1:]  # if nobody waits, passing time changes little
        found += [(Step("advance", (seconds,)), 1) for seconds in (*times, *clock_times(type(self.machine)))]
        if waits:
            found.append((Step("tick"), 1))
        return found

    def fingerprint(self) -> tuple[Any, frozenset[str]]:
        """The fingerprint of this moment, and the objects that could not be compared."""
        activities = None if self.activities is None else self.activities.fingerprint()
        return fingerprint(self, {}, (activities, self.callers.fingerprint()))

    def cell(self) -> Any:
        """The state, the plain values of the machine, and the time in the state as far as it may matter."""
        own = [value for _, value in own_attributes(self.machine)]
        times = clock_times(type(self.machine))
        since = self.machine._fsm_since if times else None
        lasts = 0 if since is None else bisect(times, self.loop.time() - since)
        return self.state, lasts, tuple(value if type(value) in _PLAIN else _size(value) for value in own)

    def unjudged(self) -> dict[str, str]:
        """No rule depends on the class."""
        return {}

    def try_refusals(self) -> None:
        """Fire all triggers that are illegal now. Each must be refused and change nothing."""
        for trigger in self._refused():
            self.misfire(trigger, rush=True)
            self.script.steps.pop()  # it changed nothing, so it need not be shown

    @staticmethod
    def random_options(rng: random.Random) -> dict[str, Any]:
        """A machine has no options."""
        return {}

    def _hours(self) -> tuple[float, ...]:
        """Seconds that may matter although nobody waits that long."""
        found = clock_times(type(self.machine))
        if found or not getattr(self.loop, "clock_was_read", False):
            return found
        self.sampled.add(f"the time that the class reads, each {HOURS[0]:g} or {HOURS[1]:g} s later")
        return HOURS

    def _firing(self, trigger: str, everything: bool) -> list[Step]:
        domains = self.values.get((self.state, trigger))
        if not domains:
            return [Step("fire", (trigger,))]
        whole = all(domain.is_whole for domain in domains.values())
        tried = [domain.values if everything or domain.is_whole else domain.values[:3] for domain in domains.values()]
        combined = product(*tried)
        chosen = list(islice(combined, COMBINATIONS * (3 if everything else 4 if whole else 1)))
        if not everything and not (whole and next(combined, None) is None):
            self.sampled.add(f"{str(trigger)!r} with {_shown(domains, chosen)}")
        return [Step("fire", (trigger,), False, dict(zip(domains, each, strict=True))) for each in chosen]

    def _outcomes(self) -> list[Step]:
        if self.activities is None or not self.activities.running:
            return []
        returned = [Step("returns", (trigger,)) for trigger in self.activities.outcomes()]
        refuses = [Step("refuses")] if self.activities.may_spin else []
        return [*returned, Step("raises", ("error",)), Step("raises", ("bug",)), *refuses]

    def _refused(self) -> list[str]:
        return [trigger for trigger in self.roles.triggers if not self.machine.handles(trigger)]

    # --- how --------------------------------------------------------------------------------------------------

    def _fire(self, trigger: str, data: Mapping[str, Any]) -> None:
        handled, before = self.machine.handles(trigger), (self.state, len(self.records))
        try:
            self._inside(lambda: self.machine.fire(trigger, **data))
        except IllegalTriggerError:
            if (self.state, len(self.records)) != before:
                self._fail("refusals_change_nothing", f"{trigger!r} was refused, and yet something changed")
            return
        except (ViolationError, MachineClosedError) as error:
            if isinstance(error, ViolationError):
                raise
            return  # one of its own methods has closed it
        except FsmConnError as error:
            self._fail(self._rule_of(error), str(error), error)
        if not handled and not self.ended:
            self._fail("refusals_change_nothing", f"{trigger!r} cannot happen in {before[0]!r}, and was not refused")

    @staticmethod
    def _rule_of(error: FsmConnError) -> str:
        return "no_livelock" if type(error).__name__ == "EndlessDispatchError" else "faults_have_a_cause"

    def _after_running(self) -> None:
        self._fail_for(self.callers.ended())

    def _end(self) -> None:
        for number in range(len(self.callers.waiting)):
            self.callers.cancel(number)
        closing = self.loop.create_task(self.machine.aclose(), name="aclose")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        if not closing.done():
            self._fail("it_can_be_closed", f"aclose() has not ended {LIVENESS_BOUND:g} s after it was called")
        closing.result()
        self._fail_for(Finding("cancelled_callers_go", told) if (told := self.callers.still_there()) else None)
        self._check(ALWAYS, AT_REST, AT_THE_END)

    def _loop_ends(self) -> None:
        tasks = sorted(self.loop.tasks(), key=lambda task: task.get_name())
        for task in tasks:
            task.cancel()
        if tasks:
            self._run(lambda: self.loop.run_until_complete(asyncio.wait(tasks, timeout=LIVENESS_BOUND)))
        stubborn = [task.get_name() for task in tasks if not task.done()]
        if stubborn:
            self._fail(
                "nothing_outlives_the_loop",
                f"the loop cannot end, for {stubborn[0]} goes on when it is cancelled; let CancelledError pass in it",
            )
