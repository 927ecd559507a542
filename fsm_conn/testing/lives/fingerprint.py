"""Fingerprints of moments of a life: everything that can matter later, as one comparable value.

Exploration continues only once from two moments with equal fingerprints, so anything left out here leads to wrong
results. Attributes that a class adds to its base are compared by value, at any depth. So are the places and the
variables of waiting user code, the timers, and the base's own data. Objects that cannot be compared are named.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from itertools import count
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from fsm_conn.testing.lives.culprits import is_foreign
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.virtual import VirtualLoop

__all__ = [
    "Freezer",
    "clock_times",
    "fingerprint",
    "fingerprint_of_pool",
    "own_attributes",
    "reads_history",
    "user_functions",
]

_PLAIN = (int, str, bytes, type(None))
_IDENTITIES = (type, ModuleType, BuiltinFunctionType, CodeType, property)
_HEAP, _IMMUTABLE, _WORD = 1 << 9, 1 << 8, 8
"""Flags of types: created at run time, as Python's classes are; immutable, as most types written in C are."""
_DURATIONS = frozenset({"snapshot", "since", "elapsed", "dwell"})
_CLOCKS = _DURATIONS | {"time"}
_LONGEST = 1e6
_HISTORY = frozenset({"history", "records", "last_record"})
"""The past. User code must not read it if moments are to be compared."""
_CLOCK, _CHANCE = "the wall clock", "chance without a seed"
_OUTSIDE = {"time": _CLOCK, "datetime": _CLOCK, "random": _CHANCE, "secrets": _CHANCE, "uuid": _CHANCE}
"""The outside world. User code must not read it either: virtual time does not change it, and no life repeats it."""


class Freezer:
    """Converts objects to values that are equal when the objects behave alike.

    Args:
        known: objects that are described elsewhere, and the text that represents each.

    Attributes:
        blind: the objects that could not be compared, by where they were found.
    """

    def __init__(self, known: Mapping[int, str]) -> None:
        self.known = known
        self.blind: set[str] = set()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []

    def frozen(self, value: Any, where: str) -> Any:
        """The value of an object found at `where`."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is float:
            return "float", round(value, 9) if value == value else "nan"
        if kind is bool:
            return "bool", value
        return self._object(value, kind, where)

    def _object(self, value: Any, kind: type, where: str) -> Any:
        name = self.known.get(id(value))
        if name is not None:
            return name
        if id(value) in self._seen:
            return "again", self._seen[id(value)]
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)  # so that no other object gets this id meanwhile
        if isinstance(value, enum.Enum):
            return kind, value.name
        if isinstance(value, _IDENTITIES):
            return value
        return self._contents(value, kind, where)

    def _contents(self, value: Any, kind: type, where: str) -> Any:
        for bases, freeze in _WAYS:
            if isinstance(value, bases):
                return kind, freeze(self, value, where)
        if _is_written_in_python(kind):
            return kind, self._attributes(value, where)
        return self._foreign(value, kind, where)

    def _items(self, value: Any, where: str) -> Any:
        return tuple(self.frozen(each, f"{where}[…]") for each in value), self._attributes(value, where)

    def _set(self, value: Any, where: str) -> Any:
        return frozenset(self.frozen(each, f"{where}[…]") for each in value), self._attributes(value, where)

    def _dict(self, value: Any, where: str) -> Any:
        items = [(self.frozen(key, where), self.frozen(each, f"{where}[{key!r:.20}]")) for key, each in value.items()]
        return tuple(items), self._attributes(value, where)

    def _method(self, value: MethodType, where: str) -> Any:
        return value.__func__, self.frozen(value.__self__, where)

    def _error(self, value: BaseException, where: str) -> Any:
        return self.frozen(value.args, where), self._attributes(value, where)

    def _attributes(self, value: Any, where: str) -> Any:
        found = dict(getattr(value, "__dict__", {}))
        found.update({name: getattr(value, name) for name in _slots(value) if hasattr(value, name)})
        if not found:
            return ()
        return tuple((name, self.frozen(each, f"{where}.{name}")) for name, each in sorted(found.items()))

    def _function(self, value: FunctionType, where: str) -> Any:
        cells = tuple(self.frozen(_cell(cell), f"{where}()") for cell in value.__closure__ or ())
        return "function", value.__code__, cells, self.frozen(value.__defaults__, where)

    def _future(self, value: asyncio.Future[Any], where: str) -> Any:
        if not value.done():
            return "pending"
        if value.cancelled():
            return "cancelled"
        error = value.exception()
        return "done", self.frozen(value.result() if error is None else error, where)

    def _foreign(self, value: Any, kind: type, where: str) -> Any:
        """Freezes an object of a type not written in Python: it is compared by equality, or not at all."""
        methods: dict[str, Any] = {name: getattr(kind, name) for name in ("__hash__", "__eq__")}
        if methods["__hash__"] not in (None, object.__hash__) and methods["__eq__"] is not object.__eq__:
            return kind, value
        self.blind.add(f"{where} ({kind.__name__})")
        return kind


_WAYS: tuple[tuple[Any, Callable[[Freezer, Any, str], Any]], ...] = (
    ((tuple, list, deque), Freezer._items),
    (dict, Freezer._dict),
    ((set, frozenset), Freezer._set),
    (bytearray, lambda freezer, value, where: bytes(value)),
    (random.Random, lambda freezer, value, where: hash(value.getstate())),
    (MethodType, Freezer._method),
    (FunctionType, Freezer._function),
    (BaseException, Freezer._error),
    ((Context, weakref.ref, logging.Logger), lambda freezer, value, where: None),
    (asyncio.Future, Freezer._future),
    (count, lambda freezer, value, where: repr(value)),
)
"""How to freeze objects that consist of more than attributes."""


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slots(value: Any) -> list[str]:
    return [name for base in type(value).__mro__ for name in _slots_of(base)]


def _slots_of(base: type) -> list[str]:
    found = []
    slots = vars(base).get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        private = name.startswith("__") and not name.endswith("__")
        found.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _is_written_in_python(kind: type) -> bool:
    """Whether an object is fully described by its attributes: no base but `object` is written in C."""
    bases = [base for base in kind.__mro__ if base is not object]
    if not all(base.__flags__ & _HEAP and not base.__flags__ & _IMMUTABLE for base in bases):
        return False
    return kind.__basicsize__ <= object.__basicsize__ + _WORD * (sum(map(len, map(_slots_of, bases))) + 2)


# --- a machine ------------------------------------------------------------------------------------------------


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
        names = (set(function.__code__.co_names) for function in user_functions(owner))
        found = _reads_clock[owner] = any(not _DURATIONS.isdisjoint(each) for each in names)
    return found


_reads_clock: dict[type, bool] = {}
_clock_times: dict[type, tuple[float, ...]] = {}
_reads_history: dict[type, bool] = {}
_read_outside: dict[type, frozenset[str]] = {}


def reads_history(owner: type) -> bool:
    """Whether user code reads the past transitions."""
    found = _reads_history.get(owner)
    if found is None:
        names = (set(function.__code__.co_names) for function in user_functions(owner))
        found = _reads_history[owner] = any(not _HISTORY.isdisjoint(each) for each in names)
    return found


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
    now = life.loop.time()
    timers = tuple(sorted(round(timer.when() - now, 6) for timer in life.loop._scheduled if not timer.cancelled()))
    waiting = tuple(sorted(map(hash, _waiting(life.loop, freezer))))
    key = (
        life.state,
        own,
        None if reason is None else (type(reason), freezer.frozen(reason.args, "reason")),
        timers,
        waiting,
        round(now, 6) if reads_clock(type(machine)) else None,
        beside,
    )
    return key, frozenset(freezer.blind)


def fingerprint_of_pool(life: Any, known: Mapping[int, str], beside: Any) -> tuple[Any, frozenset[str]]:
    """The fingerprint of a pool: its data and that of its connections, and the time, because slots have an age.

    Past transitions are left out, except the last one of each machine.
    """
    pool, loop = life.pool, life.loop
    machines = [pool, *(slot.conn for slot in pool.slots)]
    pasts = {id(each._fsm_records): "past" for each in machines if each._fsm_records is not None}
    freezer = Freezer({id(loop): "loop", **pasts, **known})
    lasts = [each.last_record for each in machines]
    parts = (pool, "pool"), (lasts, "records"), (life.peer, "peer"), (beside, "users")
    own = tuple(freezer.frozen(part, name) for part, name in parts)
    if any(reads_history(each) for each in {*map(type, machines)}):
        freezer.blind.add("history")
    life.sampled |= read_outside(type(pool))
    timers = tuple(sorted(timer.when() for timer in loop._scheduled if not timer.cancelled()))
    moment = own, round(loop.time(), 6), timers, tuple(sorted(map(hash, _waiting(loop, freezer))))
    return moment, frozenset(freezer.blind)


def _waiting(loop: VirtualLoop, freezer: Freezer) -> Iterator[Any]:
    """The place where each task waits, and its variables, as far as the code is the user's."""
    for task in loop.tasks():
        places = []
        awaited: Any = task.get_coro()
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
            if frame is not None:
                code = frame.f_code
                variables = _variables(frame, freezer) if is_foreign(code) else ()
                places.append((code, frame.f_lasti, variables))
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
        yield tuple(places), task.cancelling()


def _variables(frame: Any, freezer: Freezer) -> Any:
    name = frame.f_code.co_name
    return tuple((each, freezer.frozen(value, f"{each} in {name}()")) for each, value in sorted(frame.f_locals.items()))
