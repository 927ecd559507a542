"""What the user's code keeps elsewhere than in the machine: in its module, in a class, around or at a function.

It belongs to a moment as the machine's attributes do. But no life begins it anew. What one life changes for the next is
told, and not compared: otherwise no moment would ever be seen again.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

import attrs

from fsm_conn.testing.lives.moments.freezing import Freezer, closed_over_by
from fsm_conn.testing.lives.moments.reading import code_of, uses_of

__all__ = ["Elsewhere"]

_CODE: tuple[type, ...] = (
    *(type, ModuleType, FunctionType, BuiltinFunctionType, MemberDescriptorType, GetSetDescriptorType),
    *(property, cached_property, staticmethod, classmethod),
)
_CONSTANTS = (int, float, str, bytes, type(None), range, enum.Enum)
_OF_THE_TABLE = frozenset({"states", "transitions", "lifecycle"})
_NOTHING = object()
_LARGE = 1000
"""Objects at a place that are not compared in every moment any more."""


@attrs.frozen(eq=False)
class _Place:
    """A place where something is kept."""

    name: str
    holder: Any
    """A dict of names, or the cell of a variable."""
    key: str = ""

    def content(self) -> Any:
        """What is there now."""
        return self.holder.get(self.key, _NOTHING) if self.key else closed_over_by(self.holder)


class Elsewhere:
    """What the user's code keeps elsewhere, of these classes.

    Args:
        owners: the classes.
    """

    def __init__(self, owners: Iterable[type]) -> None:
        found = {(id(each.holder), each.key): each for owner in owners for each in _places(owner)}
        self._places = list(found.values())
        self._first: dict[_Place, Any] = {}

    def begin(self) -> frozenset[str]:
        """A life begins. Return the names of what the lives before it have changed; that is compared no more."""
        told: dict[_Place, str] = {}
        for place in self._places:
            freezer = Freezer({})
            now = _frozen(place, freezer)
            if freezer.size > _LARGE:
                told[place] = f"{place.name}, which is large"
            elif self._first.setdefault(place, now) != now:
                told[place] = f"{place.name}, which lives change for one another"
        self._places = [each for each in self._places if each not in told]
        return frozenset(told.values())

    def frozen(self, machine: Any) -> tuple[Any, frozenset[str]]:
        """What is there now, as a value that can be compared, and what cannot be compared."""
        if not self._places:
            return (), frozenset()
        freezer = Freezer({id(machine): "self"})
        return tuple(_frozen(each, freezer) for each in self._places), frozenset(freezer.blind)


def _frozen(place: _Place, freezer: Freezer) -> Any:
    content = place.content()
    return None if content is _NOTHING else freezer.frozen(content, place.name)


def _places(owner: type) -> Iterator[_Place]:
    code = code_of(owner)
    stored = frozenset[str]().union(*(uses_of(each.__code__).stored for each in code.functions))
    for function in code.functions:
        yield from _around(function, stored)
    for each in code.classes:
        if not issubclass(each, enum.Enum):
            yield from _in_class(each, stored, _can_change if each in owner.__mro__ else _is_collection)


def _around(function: FunctionType, stored: frozenset[str]) -> Iterator[_Place]:
    known, own = function.__globals__, vars(function)
    for name in uses_of(function.__code__).globals & known.keys():
        if name in stored or _can_change(known[name]):
            yield _Place(f"{known.get('__name__')}.{name}", known, name)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if not isinstance(closed_over_by(cell), _CODE):
            yield _Place(f"{name} around {function.__qualname__}()", cell)
    for name in own.keys() - {"__wrapped__"}:
        if not isinstance(own[name], _CODE):
            yield _Place(f"{function.__qualname__}.{name}", own, name)


def _in_class(owner: type, stored: frozenset[str], can_change: Callable[[Any], bool]) -> Iterator[_Place]:
    for name, value in vars(owner).items():
        is_own = name in stored or (can_change(value) and not name.startswith("_"))
        if is_own and name not in _OF_THE_TABLE and not isinstance(value, _CODE):
            yield _Place(f"{owner.__qualname__}.{name}", vars(owner), name)


def _is_collection(value: Any) -> bool:
    return isinstance(value, (list, dict, set, bytearray, deque))


def _can_change(value: Any) -> bool:
    """Whether it may have another content later, or nobody can know."""
    if isinstance(value, (tuple, frozenset)):
        return any(map(_can_change, value))
    return not isinstance(value, (*_CODE, *_CONSTANTS)) and not type(value).__module__.startswith("fsm_conn.")
