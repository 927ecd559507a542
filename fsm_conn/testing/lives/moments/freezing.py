"""Values that are equal when objects behave alike: what fingerprints are made of."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from itertools import count
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing.lives.culprits import is_foreign

__all__ = ["Freezer", "called", "closed_over_by", "is_set_by_user", "slots_of", "then_called"]

_PLAIN = (int, str, bytes, type(None))
_IDENTITIES = (type, ModuleType, CodeType, property)
_HEAP, _IMMUTABLE, _WORD = 1 << 9, 1 << 8, 8
"""Flags of types: created at run time, as Python's classes are; immutable, as most types written in C are."""


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

    @property
    def size(self) -> int:
        """How many objects were met so far."""
        return len(self._seen)

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

    def met(self, value: Any) -> Any:
        """Which of the objects frozen so far this is; None: none of them."""
        return self.known.get(id(value), self._seen.get(id(value)))

    def _object(self, value: Any, kind: type, where: str) -> Any:
        name = self.known.get(id(value))
        if name is not None:
            return name
        if id(value) in self._seen:
            return "again", self._seen[id(value)]
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)  # so that no other object gets this id meanwhile
        if isinstance(value, enum.Enum):
            return kind, value.name, self._of_members(value, where)
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

    def _reference(self, value: weakref.ref[Any], where: str) -> Any:
        return self.frozen(value(), where)

    def _partial(self, value: partial[Any], where: str) -> Any:
        return self.frozen((value.func, value.args, value.keywords), where)

    def _method(self, value: MethodType, where: str) -> Any:
        return value.__func__, self.frozen(value.__self__, where)

    def _builtin(self, value: Any, where: str) -> Any:
        return value.__qualname__, self.frozen(value.__self__, where)

    def _error(self, value: BaseException, where: str) -> Any:
        cause = None if value.__cause__ is None else self.frozen(value.__cause__, where)
        return self.frozen(value.args, where), self._attributes(value, where), cause

    def _of_members(self, value: enum.Enum, where: str) -> Any:
        """What somebody has set at a member of an enum."""
        names = sorted(name for name in vars(value) if not name.startswith("_"))
        return tuple((name, self.frozen(getattr(value, name), where)) for name in names)

    def attributes_of(self, value: Any) -> dict[str, Any]:
        """The attributes of an object that are compared, by name."""
        found = dict(getattr(value, "__dict__", {}))
        found.update({name: getattr(value, name) for name in _slots(value) if hasattr(value, name)})
        return found

    def _attributes(self, value: Any, where: str) -> Any:
        found = self.attributes_of(value)
        if not found:
            return ()
        return tuple((name, self.frozen(each, f"{where}.{name}")) for name, each in sorted(found.items()))

    def _function(self, value: FunctionType, where: str) -> Any:
        cells = tuple(self.frozen(closed_over_by(cell), f"{where}()") for cell in value.__closure__ or ())
        return "function", value.__code__, cells, self.frozen(value.__defaults__, where)

    def _future(self, value: asyncio.Future[Any], where: str) -> Any:
        if not value.done():
            return "pending", then_called(value, self)
        if value.cancelled():
            return "cancelled"
        error = value.exception()
        return "done", self.frozen(value.result() if error is None else error, where)

    def _foreign(self, value: Any, kind: type, where: str) -> Any:
        """Freezes an object of a type not written in Python: it is compared by equality, or not at all."""
        methods: dict[str, Any] = {name: getattr(kind, name) for name in ("__hash__", "__eq__")}
        if methods["__hash__"] not in (None, object.__hash__) and methods["__eq__"] is not object.__eq__:
            return kind, value, self._attributes(value, where)
        self.blind.add(f"{where} ({kind.__name__})")
        return kind


_WAYS: tuple[tuple[Any, Callable[[Freezer, Any, str], Any]], ...] = (
    ((tuple, list, deque), Freezer._items),
    (dict, Freezer._dict),
    ((set, frozenset), Freezer._set),
    (bytearray, lambda freezer, value, where: bytes(value)),
    (random.Random, lambda freezer, value, where: hash(value.getstate())),
    (MethodType, Freezer._method),
    (BuiltinFunctionType, Freezer._builtin),
    (FunctionType, Freezer._function),
    (BaseException, Freezer._error),
    (weakref.ref, Freezer._reference),
    (partial, Freezer._partial),
    ((Context, logging.Logger), lambda freezer, value, where: None),
    (asyncio.Future, Freezer._future),
    (count, lambda freezer, value, where: repr(value)),
)
"""How to freeze objects that consist of more than attributes."""


def closed_over_by(cell: Any) -> Any:
    """What a function finds there; None when nothing is there yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slots(value: Any) -> list[str]:
    return [name for base in type(value).__mro__ for name in slots_of(base)]


def slots_of(base: type) -> list[str]:
    """The names of the attributes for which a class, its bases apart, has slots."""
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
    return kind.__basicsize__ <= object.__basicsize__ + _WORD * (sum(map(len, map(slots_of, bases))) + 2)


def called(callback: Any, args: Any, freezer: Freezer) -> Any:
    """What will be called, as far as the user has set it. The rest is known by the tasks that wait for it."""
    return freezer.frozen((callback, args), "a callback") if is_set_by_user(callback) else None


def is_set_by_user(callback: Any) -> bool:
    """Whether a callback is the user's own, or a method of a machine."""
    if isinstance(callback, partial):
        return is_set_by_user(callback.func)
    owner = getattr(callback, "__self__", None)
    code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    if code is None:
        return is_foreign(getattr(type(callback).__call__, "__code__", is_set_by_user.__code__)) or (
            isinstance(callback, BuiltinFunctionType) and not isinstance(owner, (ModuleType, asyncio.Future))
        )
    is_ours = type(owner).__module__.startswith(("fsm_conn.", "asyncio.timeouts"))
    return is_foreign(code) or (owner is not None and not (is_ours and not isinstance(owner, StateMachine)))


def then_called(future: Any, freezer: Freezer) -> Any:
    """What the user has set to be called when it is done."""
    return tuple(called(callback, (), freezer) for callback, _ in future._callbacks or () if is_set_by_user(callback))
