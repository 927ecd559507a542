"""Finds what all objects of a class share without meaning to: a list of the class, or a default that is changed.

    class Upload(StateMachine):
        parts: list[str] = []

Every object appends to the same list, so one life influences the next. An attribute that is annotated with `ClassVar`
is meant to be shared, and so is what code reaches by its module.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any, ClassVar, get_origin
from weakref import WeakKeyDictionary

import attrs

from fsm_conn.testing.lives.culprits import place, where_defined
from fsm_conn.testing.lives.moments.freezing import Freezer
from fsm_conn.testing.lives.moments.reading import is_of_user, user_functions

__all__ = ["Shared"]

_COLLECTIONS = (list, dict, set, deque, bytearray, Counter, defaultdict, OrderedDict)
_OF_THE_TABLE = frozenset({"states", "transitions", "lifecycle"})


@attrs.frozen(eq=False)
class _Thing:
    """What the objects of a class share."""

    name: str
    where: str
    value: Any
    remedy: str


_things: WeakKeyDictionary[type, tuple[_Thing, ...]] = WeakKeyDictionary()


class Shared:
    """What is shared by the objects of a class, as it was before a life.

    Args:
        owner: the class.
    """

    def __init__(self, owner: type) -> None:
        things = _things.get(owner)
        if things is None:
            things = _things[owner] = (*_attributes(owner), *_defaults(owner))
        self._before = [(each, _frozen(each), _content(each.value)) for each in things]

    def changed(self) -> str | None:
        """What the life has changed; it is put back, so that the same steps show it again."""
        for thing, frozen, content in self._before:
            if _frozen(thing) != frozen:
                _put_back(thing.value, content)
                return (
                    f"{thing.name}, {thing.where}, is one {type(thing.value).__name__} for all objects, and was "
                    f"changed by one of them; {thing.remedy}"
                )
        return None


def _frozen(thing: _Thing) -> Any:
    return Freezer({}).frozen(thing.value, thing.name)


def _content(value: Any) -> Any:
    return value.copy() if isinstance(value, _COLLECTIONS) else dict(getattr(value, "__dict__", {}))


def _put_back(value: Any, content: Any) -> None:
    held = value if isinstance(value, _COLLECTIONS) else vars(value)
    held.clear()
    (held.extend if isinstance(held, (list, deque, bytearray)) else held.update)(content)


def _attributes(owner: type) -> Iterator[_Thing]:
    for base in owner.__mro__:
        if not is_of_user(base):
            continue
        hints = vars(base).get("__annotations__", {})
        for name, value in vars(base).items():
            dunder = name.startswith("__") or name in _OF_THE_TABLE
            if not dunder and _can_change(value) and not _is_meant(hints.get(name)):
                advice = "make it in __init__(), or annotate it with ClassVar if that is meant"
                yield _Thing(f"{base.__qualname__}.{name}", _where(base, name), value, advice)


def _can_change(value: Any) -> bool:
    """Whether it is a collection, or an object of a class of the user's own."""
    kind = type(value)
    if kind in _COLLECTIONS:
        return True
    if isinstance(value, (type, enum.Enum)) or hasattr(kind, "__get__") or not hasattr(value, "__dict__"):
        return False
    return is_of_user(kind)


def _is_meant(hint: Any) -> bool:
    return get_origin(hint) is ClassVar or hint is ClassVar or "ClassVar" in str(hint)


def _where(base: type, name: str) -> str:
    try:
        lines, first = inspect.getsourcelines(base)
    except (OSError, TypeError):
        return base.__module__
    line = next((number for number, each in enumerate(lines) if re.match(rf"\s+{re.escape(name)}\s*[:=]", each)), 0)
    return place(inspect.getfile(base), first + line)


def _defaults(owner: type) -> Iterator[_Thing]:
    for function in user_functions(owner):
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if isinstance(value, _COLLECTIONS):
                name = f"a default of {function.__qualname__}()"
                yield _Thing(name, where_defined(function), value, "give None there, and make it in the function")
