"""What a method comes to call, as far as its compiled code names it.

The rules that hold here: nothing is called and no source is read; a name is followed wherever any class of the family,
or the module of one, has a function of that name. So what is *not* found to be named is certainly not called by name,
while what is found may not be called in fact. What cannot be looked into is taken to name everything.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

__all__ = ["may_use"]


def may_use(owner: type, method: str, *names: str) -> bool:
    """Whether `owner`'s method may come to use one of the attributes `names`, by itself or through others."""
    if method in names:
        return True
    seen: set[Any] = set()
    fresh: list[Any] = [getattr(owner, method)]
    while fresh:
        function = inspect.unwrap(fresh.pop())
        if not isinstance(function, FunctionType):
            return True
        if function in seen:
            continue
        seen.add(function)
        named = set(_named(function.__code__))
        if not named.isdisjoint(names):
            return True
        fresh += (found for name in named for found in _functions(owner, function, name))
    return False


def _named(code: CodeType) -> Iterator[str]:
    """Every attribute and global that the code names, functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant)


def _functions(owner: type, function: FunctionType, name: str) -> Iterator[Any]:
    """What a name may stand for: the method of any class of the family, for `super()` goes on to the next."""
    for each in owner.__mro__:
        found = vars(each).get(name)
        if isinstance(found, (FunctionType, staticmethod, classmethod, property)):
            yield getattr(found, "fget", None) or getattr(found, "__func__", found)
    neighbour = function.__globals__.get(name)
    if isinstance(neighbour, FunctionType) and neighbour.__module__ == function.__module__:
        yield neighbour
