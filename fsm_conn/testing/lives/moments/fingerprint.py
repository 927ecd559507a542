"""Fingerprints of moments of a life: everything that can matter later, as one comparable value.

Exploration continues only once from two moments with equal fingerprints, so anything left out here leads to wrong
results. Attributes that a class adds to its base are compared by value, at any depth. So are the places and the
variables of waiting user code, the timers, and the base's own data. Objects that cannot be compared are named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any
from weakref import WeakKeyDictionary

from fsm_conn.testing.lives.culprits import is_foreign
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.lives.moments.freezing import Freezer, called, slots_of, then_called
from fsm_conn.testing.lives.moments.reading import is_of_user, read_outside, reads_clock, user_functions, uses_of
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["fingerprint", "own_attributes", "pending_work"]

_FRAMES: Mapping[type, Callable[[Any], tuple[Any, Any]]] = {
    CoroutineType: attrgetter("cr_frame", "cr_await"),
    AsyncGeneratorType: attrgetter("ag_frame", "ag_await"),
    GeneratorType: attrgetter("gi_frame", "gi_yieldfrom"),
}
"""Where a coroutine or a generator runs, and what it awaits."""


def own_attributes(machine: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that a class adds to its base in this package, and those of its base that its own code sets."""
    known = _known.get(type(machine))
    if known is None:
        known = _known[type(machine)] = _known_of(type(machine))
    described, slots = known
    for name, value in vars(machine).items():
        if name not in described:
            yield name, value
    for name in slots:
        if hasattr(machine, name):
            yield name, getattr(machine, name)


_known: WeakKeyDictionary[type, tuple[frozenset[str], tuple[str, ...]]] = WeakKeyDictionary()
"""The attributes that a class has from its base in this package, and its activities; and its own slots."""


def _known_of(owner: type) -> tuple[frozenset[str], tuple[str, ...]]:
    base, table = _base_of(owner), owner.lifecycle  # type: ignore[attr-defined]
    set_by_user = {name for function in user_functions(owner) for name in uses_of(function.__code__).stored}
    described = {name for name in dir(base) if name not in set_by_user} | {*table.activities.values()}
    slots = (name for each in owner.__mro__ if is_of_user(each) for name in slots_of(each))
    return frozenset(described), tuple(dict.fromkeys(slots))


def _base_of(owner: type) -> type:
    """The first base that belongs to this package."""
    return next((base for base in owner.__mro__ if base.__module__.partition(".")[0] == "fsm_conn"), object)


def fingerprint(life: Evidence, known: Mapping[int, str], beside: Any) -> tuple[Any, frozenset[str]]:
    """The fingerprint of a moment, and the objects that could not be compared.

    Args:
        life: the evidence of the life.
        known: objects that are described elsewhere.
        beside: further data of this kind of life.
    """
    machine = life.machine
    usual = {id(machine): "self", id(life.loop): "loop", id(life): "life", id(life.seen): "seen"}
    freezer = Freezer({**usual, **known})
    own = tuple((name, freezer.frozen(value, name)) for name, value in sorted(own_attributes(machine)))
    reason = machine.reason
    life.sampled |= read_outside(type(machine))
    key = (
        life.state,
        own,
        None if reason is None else (type(reason), freezer.frozen(reason.args, "reason")),
        pending_work(life.loop, freezer),
        _hours(machine, life.loop) if reads_clock(type(machine)) else None,
        None if life.late is None else life.late.remembered(life.loop._now()),
        _observers(life, freezer),
        beside,
    )
    return key, frozenset(freezer.blind)


def _observers(life: Evidence, freezer: Freezer) -> Any:
    """What the user's observers are, and what they remember; not those of the life, which are always the same."""
    observers, own = life.machine._fsm_observers, (id(life), id(life.seen), id(life.late))
    every = () if observers is None else observers._callbacks.values()
    users = (each for each in every if id(getattr(each, "__self__", None)) not in own)
    return tuple(called(getattr(each, "__wrapped__", each), (), freezer) for each in users)


def _hours(machine: Any, loop: VirtualLoop) -> Any:
    """The time, and since when the machine has been in its state."""
    return round(loop.time(), 6), machine._fsm_since


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
