"""Fingerprints of moments of a life: everything that can matter later, as one comparable value.

Exploration continues only once from two moments with equal fingerprints, so anything left out here leads to wrong
results. Attributes that a class adds to its base are compared by value, at any depth. So are the places and the
variables of waiting user code, the timers, and the base's own data. Objects that cannot be compared are named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from fsm_conn.testing.lives.culprits import is_foreign
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.lives.moments.freezing import Freezer, called, then_called
from fsm_conn.testing.virtual import VirtualLoop

__all__ = [
    "clock_times",
    "fingerprint",
    "functions_read",
    "own_attributes",
    "pending_work",
    "read_outside",
    "reads_history",
    "user_functions",
]

_DURATIONS = frozenset({"snapshot", "since", "elapsed", "dwell"})
_CLOCKS = _DURATIONS | {"time"}
_LONGEST = 1e6
_FRAMES: Mapping[type, Callable[[Any], tuple[Any, Any]]] = {
    CoroutineType: attrgetter("cr_frame", "cr_await"),
    AsyncGeneratorType: attrgetter("ag_frame", "ag_await"),
    GeneratorType: attrgetter("gi_frame", "gi_yieldfrom"),
}
"""Where a coroutine or a generator runs, and what it awaits."""


_HISTORY = frozenset({"history", "records", "last_record"})
"""The past. User code must not read it if moments are to be compared."""
_CLOCK, _CHANCE = "the wall clock", "chance without a seed"
_OUTSIDE = {"time": _CLOCK, "datetime": _CLOCK, "random": _CHANCE, "secrets": _CHANCE, "uuid": _CHANCE}
"""The outside world. User code must not read it either: virtual time does not change it, and no life repeats it."""


def own_attributes(machine: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that a class adds to its base in this package, and the declared ones that users may set."""
    described = _described.get(type(machine))
    if described is None:
        base, activities = _base_of(type(machine)), machine.lifecycle.activities.values()
        described = _described[type(machine)] = frozenset([*dir(base), *activities])
    for name, value in vars(machine).items():
        if name not in described:
            yield name, value


_described: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()
"""The attributes that a class has from its base in this package, and its activities."""


def user_functions(owner: type) -> Iterator[FunctionType]:
    """The functions of a class and its bases that are the user's own."""
    for base in owner.__mro__:
        for value in vars(base).values():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            if isinstance(function, FunctionType) and is_foreign(function.__code__):
                yield function


def _base_of(owner: type) -> type:
    """The first base that belongs to this package."""
    return next((base for base in owner.__mro__ if base.__module__.partition(".")[0] == "fsm_conn"), object)


def clock_times(owner: type) -> tuple[float, ...]:
    """Durations in seconds that may matter to user code that reads the clock: the numbers in that code."""
    found = _clock_times.get(owner)
    if found is None:
        numbers: set[float] = set()
        for function in user_functions(owner):
            if not _CLOCKS.isdisjoint(function.__code__.co_names):
                consts = function.__code__.co_consts
                numbers |= {float(each) for each in consts if type(each) in (int, float) and 0 < each <= _LONGEST}
        if numbers:
            named = (
                value
                for base in owner.__mro__
                if base.__module__.partition(".")[0] != "fsm_conn"
                for value in vars(base).values()
            )
            numbers |= {float(each) for each in named if type(each) in (int, float) and 0 < each <= _LONGEST}
        found = _clock_times[owner] = tuple(sorted(numbers)[:4])
    return found


def reads_clock(owner: type) -> bool:
    """Whether user code asks the machine for durations."""
    found = _reads_clock.get(owner)
    if found is None:
        found = _reads_clock[owner] = functions_read(_DURATIONS, (owner,))
    return found


_reads_clock: dict[type, bool] = {}
_clock_times: dict[type, tuple[float, ...]] = {}
_reads_history: dict[type, bool] = {}
_read_outside: dict[type, frozenset[str]] = {}


def reads_history(owner: type) -> bool:
    """Whether user code reads the past transitions."""
    found = _reads_history.get(owner)
    if found is None:
        found = _reads_history[owner] = functions_read(_HISTORY, (owner,))
    return found


def functions_read(names: frozenset[str], owners: Iterable[type], functions: Iterable[Any] = ()) -> bool:
    """Whether one of these functions, or of the user's own in these classes, uses one of the names."""
    codes = [getattr(getattr(each, "__func__", each), "__code__", None) for each in functions]
    codes += [each.__code__ for owner in owners for each in user_functions(owner)]
    return any(not names.isdisjoint(each.co_names) for each in codes if each is not None)


def read_outside(owner: type) -> frozenset[str]:
    """What user code reads from the outside world and no life can repeat: the wall clock, randomness without a seed."""
    found = _read_outside.get(owner)
    if found is None:
        found = _read_outside[owner] = frozenset(
            f"{_OUTSIDE[module]} ({module} in {function.__name__})"
            for function in user_functions(owner)
            for module in _modules_named(function) & _OUTSIDE.keys()
        )
    return found


def _modules_named(function: FunctionType) -> set[str]:
    """The modules that a function refers to, by name or through their functions and classes."""
    named = (function.__globals__.get(name) for name in function.__code__.co_names)
    return {
        each.__name__ if isinstance(each, ModuleType) else getattr(each, "__module__", None) or "" for each in named
    }


def fingerprint(life: Evidence, known: Mapping[int, str], beside: Any) -> tuple[Any, frozenset[str]]:
    """The fingerprint of a moment, and the objects that could not be compared.

    Args:
        life: the evidence of the life.
        known: objects that are described elsewhere.
        beside: further data of this kind of life.
    """
    machine = life.machine
    freezer = Freezer({id(machine): "self", id(life.loop): "loop", id(life): "life", **known})
    own = tuple((name, freezer.frozen(value, name)) for name, value in sorted(own_attributes(machine)))
    reason = machine.reason
    if reads_history(type(machine)):
        freezer.blind.add("history")
    life.sampled |= read_outside(type(machine))
    key = (
        life.state,
        own,
        None if reason is None else (type(reason), freezer.frozen(reason.args, "reason")),
        pending_work(life.loop, freezer),
        _hours(machine, life.loop) if reads_clock(type(machine)) else None,
        None if life.late is None else life.late.remembered(life.loop._now()),
        beside,
    )
    return key, frozenset(freezer.blind)


def _hours(machine: Any, loop: VirtualLoop) -> Any:
    """The time, and since when the machine has been in its state."""
    return round(loop.time(), 6), machine.snapshot().since


def pending_work(loop: VirtualLoop, freezer: Freezer) -> Any:
    """What is set to happen by itself: the timers, soonest first, and where each task waits, and for which of them."""
    now = loop.time()
    timers: list[Any] = []
    ends: dict[int, list[float]] = {}
    """By the identity of a future or a task: when its waiting ends."""
    for timer in sorted(timer for timer in loop._scheduled if not timer.cancelled()):
        after = round(timer.when() - now, 6)
        timers.append((after, called(timer._callback, timer._args, freezer)))
        ended = timer._args[0] if timer._args else getattr(timer._callback, "__self__", None)
        ended = getattr(ended, "_task", ended)  # of a timeout
        if isinstance(ended, asyncio.Future):
            ends.setdefault(id(ended), []).append(after)
    waiting = [hash((*_waiting(task, freezer), _waits_for(task, freezer, ends))) for task in loop._living()]
    return tuple(timers), tuple(sorted(waiting))


def _waits_for(task: Any, freezer: Freezer, ends: dict[int, list[float]]) -> Any:
    waiter = task._fut_waiter
    return (
        freezer.met(waiter),
        tuple(ends.get(id(waiter), ())),
        tuple(ends.get(id(task), ())),
        then_called(task, freezer),
    )


def _waiting(task: asyncio.Task[Any], freezer: Freezer) -> Any:
    """The place where a task waits, and its variables, as far as the code is the user's."""
    places = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        look = _FRAMES.get(type(awaited))
        frame, awaited = (None, None) if look is None else look(awaited)
        if frame is not None:
            code = frame.f_code
            variables = _variables(frame, freezer) if is_foreign(code) else ()
            places.append((code, frame.f_lasti, variables))
    return freezer.met(task), tuple(places), task.cancelling()


def _variables(frame: Any, freezer: Freezer) -> Any:
    name = frame.f_code.co_name
    return tuple((each, freezer.frozen(value, f"{each} in {name}()")) for each, value in sorted(frame.f_locals.items()))
