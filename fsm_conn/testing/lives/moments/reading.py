"""What the user's code reads: that of a class, and all that it names, wraps, closes over or has as a default.

A guard may ask a helper of its module for the time, and a decorator may stand between the table and the code that
counts. So what a method itself names is not enough.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property, partial, partialmethod
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from fsm_conn.testing.lives.culprits import is_foreign, is_foreign_file
from fsm_conn.testing.lives.moments.freezing import closed_over_by

__all__ = [
    "clock_times",
    "code_of",
    "functions_of",
    "functions_read",
    "functions_within",
    "is_of_user",
    "past_read",
    "read_outside",
    "reads_clock",
    "user_functions",
    "uses_of",
]

_DURATIONS = frozenset({"snapshot", "since", "elapsed", "dwell"})
_CLOCKS = _DURATIONS | {"time"}
_LONGEST = 1e6
_HISTORY = frozenset({"history", "records", "last_record", "visit"})
_EVIDENCE = _HISTORY | {"new_records", "script", "steps_in"}
"""The past, for a machine and for an invariant. Moments that differ only in it are one only if nobody reads it."""
_CLOCK, _CHANCE, _SYSTEM = "the wall clock", "chance without a seed", "files and the system"
_OUTSIDE = {"time": _CLOCK, "datetime": _CLOCK, "random": _CHANCE, "secrets": _CHANCE, "uuid": _CHANCE}
_OUTSIDE |= dict.fromkeys(("os", "io", "pathlib", "shutil", "tempfile", "sqlite3", "subprocess", "socket"), _SYSTEM)
"""The outside world: virtual time does not change it, and no life repeats it."""
_MOST = 2000
"""Functions that are looked at: more belong to a whole application, which names everything."""
_ITEMS = 100
"""Items of a collection that are looked at for functions."""


def is_of_user(kind: type) -> bool:
    """Whether a class is the user's own."""
    return is_foreign_file(getattr(sys.modules.get(kind.__module__), "__file__", None) or "<frozen")


def user_functions(owner: type) -> Iterator[FunctionType]:
    """The functions of a class and its bases that are the user's own."""
    for base in owner.__mro__:
        for value in vars(base).values():
            yield from functions_within(value)


_WRAPPERS: tuple[tuple[Any, str], ...] = (
    ((staticmethod, classmethod, MethodType), "__func__"),
    (property, "fget"),
    ((partial, partialmethod, cached_property), "func"),
)


def functions_within(value: Any) -> Iterator[FunctionType]:
    """The user's functions that make up a method, a property, a partial or a decorated function."""
    for _ in range(_ITEMS):
        if isinstance(value, FunctionType) and is_foreign(value.__code__):
            yield value
        name = next((name for kinds, name in _WRAPPERS if isinstance(value, kinds)), None)
        if name is not None:
            value = getattr(value, name)
        elif callable(value) and not isinstance(value, type):
            value = getattr(value, "__dict__", {}).get("__wrapped__")
        else:
            return


@attrs.frozen(eq=False)
class _Reach:
    """All the code that a class may run, as far as it is the user's."""

    functions: tuple[FunctionType, ...]
    classes: tuple[type, ...]


_reached: WeakKeyDictionary[type, _Reach] = WeakKeyDictionary()


def code_of(owner: type) -> _Reach:
    """All the user's code that a class may run: its own, and what that names, closes over or wraps."""
    found = _reached.get(owner)
    if found is None:
        found = _reached[owner] = _reach([base for base in owner.__mro__ if is_of_user(base)])
    return found


def functions_of(functions: Iterable[Any]) -> tuple[FunctionType, ...]:
    """These functions, as far as they are the user's, and all that they may run."""
    return _reach(functions).functions


def _reach(begin: Iterable[Any]) -> _Reach:
    functions: dict[int, FunctionType] = {}
    classes: dict[int, type] = {}
    todo = list(begin)
    while todo and len(functions) < _MOST:
        value = todo.pop()
        if isinstance(value, type):
            if id(value) not in classes and is_of_user(value):
                classes[id(value)] = value
                todo += [each for name, each in vars(value).items() if name not in ("__dict__", "__weakref__")]
        elif isinstance(value, (list, tuple, set, frozenset, dict)):
            todo += list(value.values() if isinstance(value, dict) else value)[:_ITEMS]
        else:
            for function in functions_within(value):
                if id(function) not in functions:
                    functions[id(function)] = function
                    todo += _named_by(function)
    return _Reach(tuple(functions.values()), tuple(classes.values()))


def _named_by(function: FunctionType) -> Iterator[Any]:
    """What a function may call: by its module's names, from around it, or as a default."""
    known = function.__globals__
    yield from (known[name] for name in uses_of(function.__code__).globals if name in known)
    yield from (closed_over_by(cell) for cell in function.__closure__ or ())
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()


@attrs.frozen
class _Uses:
    """What code does with names, that of functions within it included."""

    names: frozenset[str]
    """All that it uses, and those that it gives to `getattr`."""
    globals: frozenset[str]
    stored: frozenset[str]
    """The attributes that it sets, and the globals."""


_uses: dict[int, tuple[CodeType, _Uses]] = {}


def uses_of(code: CodeType) -> _Uses:
    """What code does with names."""
    known = _uses.get(id(code))
    if known is None or known[0] is not code:
        known = _uses[id(code)] = code, _uses_of(code)
    return known[1]


def _uses_of(code: CodeType) -> _Uses:
    names, read, stored = {*code.co_names}, set(), set()
    if not names.isdisjoint(("getattr", "attrgetter")):
        names |= {each for each in code.co_consts if isinstance(each, str)}
    for each in dis.get_instructions(code):
        if each.opname == "LOAD_GLOBAL":
            read.add(each.argval)
        elif each.opname in ("STORE_ATTR", "STORE_GLOBAL"):
            stored.add(each.argval)
    inner = [uses_of(each) for each in code.co_consts if isinstance(each, CodeType)]
    return _Uses(
        frozenset(names).union(*(each.names for each in inner)),
        frozenset(read).union(*(each.globals for each in inner)),
        frozenset(stored).union(*(each.stored for each in inner)),
    )


def functions_read(names: frozenset[str], owners: Iterable[type], functions: Iterable[Any] = ()) -> bool:
    """Whether one of these functions, or the code of one of these classes, uses one of the names."""
    every = [*functions_of(functions), *(each for owner in owners for each in code_of(owner).functions)]
    return any(not names.isdisjoint(uses_of(each.__code__).names) for each in every)


_reads_clock: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def reads_clock(owner: type) -> bool:
    """Whether user code asks the machine for durations."""
    found = _reads_clock.get(owner)
    if found is None:
        found = _reads_clock[owner] = functions_read(_DURATIONS, (owner,))
    return found


def past_read(owners: Iterable[type], invariants: Iterable[Any]) -> tuple[str, ...]:
    """Who of the user's code reads past transitions: classes, and invariants."""
    classes = [owner.__name__ for owner in owners if functions_read(_HISTORY, (owner,))]
    return (*classes, *(each.name for each in invariants if functions_read(_EVIDENCE, (), (each.check,))))


_clock_times: WeakKeyDictionary[type, tuple[float, ...]] = WeakKeyDictionary()
_read_outside: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


def clock_times(owner: type) -> tuple[float, ...]:
    """Durations in seconds that may matter to user code that reads the clock: the numbers in that code."""
    found = _clock_times.get(owner)
    if found is None:
        numbers: set[Any] = set()
        for function in user_functions(owner):
            if not _CLOCKS.isdisjoint(uses_of(function.__code__).names):
                numbers |= {each for each in function.__code__.co_consts if _is_duration(each)}
        if numbers:
            own = (base for base in owner.__mro__ if base.__module__.partition(".")[0] != "fsm_conn")
            numbers |= {value for base in own for value in vars(base).values() if _is_duration(value)}
        found = _clock_times[owner] = tuple(sorted(map(float, numbers))[:4])
    return found


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= _LONGEST


def read_outside(owner: type) -> frozenset[str]:
    """What user code reads from the outside world and no life can repeat: the wall clock, chance, files."""
    found = _read_outside.get(owner)
    if found is None:
        found = _read_outside[owner] = frozenset(
            f"{_OUTSIDE[module]} ({module} in {function.__name__})"
            for function in code_of(owner).functions
            for module in _modules_named(function) & _OUTSIDE.keys()
        )
    return found


def _modules_named(function: FunctionType) -> set[str]:
    """The modules that a function refers to, by name or through their functions and classes."""
    names = uses_of(function.__code__).globals
    named = (function.__globals__.get(name) for name in names)
    found = {each.__name__ if isinstance(each, ModuleType) else _home(each) for each in named}
    return {name.partition(".")[0] for name in found} | ({"io"} if "open" in names else set())


def _home(value: Any) -> str:
    home = getattr(value, "__module__", None) if callable(value) else None
    return home if isinstance(home, str) else ""
