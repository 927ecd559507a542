"""What a method comes to use, as far as its compiled code names it.

The rules that hold here: nothing is called and no source is read; a name is followed wherever it may lead: to methods
of any class of the family, to functions of the module, of modules that it names, and of those it was made in. So what
is found may not be used in fact; what is *not* found can only be used by what hides it, such as another object's
method. What cannot be looked into is taken to name everything.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

from fsm_conn.machine.machine import StateMachine

__all__ = ["ever_waits", "may_call_by_attribute", "may_use", "names_in"]

_OURS = __name__.partition(".")[0]


def may_use(owner: type, method: str, name: str, by_hand: frozenset[str] = frozenset()) -> bool:
    """Whether `owner`'s method may come to use the attribute `name`, by itself or through others.

    Args:
        owner: the class; its methods are looked up on it and on all its bases.
        method: where to begin.
        name: what is looked for.
        by_hand: names which say as much where code outside this package uses them.
    """
    return method == name or any(
        function is None
        or name in (named := names_in(function))
        or not (_top(function) == _OURS or named.isdisjoint(by_hand))
        for function in _reached(owner, method)
    )


def may_call_by_attribute(owner: type, method: str) -> bool:
    """Whether code outside this package may come to use an attribute of the instance that no class defines.

    `self.vault.Login()` calls the peer so. An attribute that is set on instances looks the same.
    """
    return any(
        function is None or (_top(function) != _OURS and any(map(partial(_is_served, owner), _asked_of_self(function))))
        for function in _reached(owner, method)
    )


def ever_waits(function: Any) -> bool:
    """Whether a coroutine function has anything in its own code at which it may wait; what hides its code may."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return not isinstance(code, CodeType) or any(each.opname == "SEND" for each in dis.get_instructions(code))


def _is_served(owner: type, name: str) -> bool:
    """Whether it is the instance's `__getattr__` that knows the name, and it may."""
    return not name.startswith("_") and not hasattr(owner, name)


def _asked_of_self(function: FunctionType) -> Iterator[str]:
    """The attributes that a method reads of its first argument by that name, in functions inside it too."""
    first = function.__code__.co_varnames[:1]
    return _asked_of(first[0], function.__code__) if function.__code__.co_argcount else iter(())


def _asked_of(variable: str, code: CodeType) -> Iterator[str]:
    loaded: tuple[Any, ...] = ()
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_ATTR", "LOAD_METHOD") and loaded[-1:] == (variable,):
            yield str(each.argval)
        # Python 3.13 loads two variables by one instruction: the later one is on top.
        loaded = each.argval if isinstance(each.argval, tuple) else (each.argval,)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _asked_of(variable, constant)


def _reached(owner: type, method: str) -> Iterator[FunctionType | None]:
    """The functions that a method may lead to, itself first; None for itself where nobody can look into it."""
    first = inspect.unwrap(getattr(owner, method))
    if not isinstance(first, FunctionType):
        yield None
        return
    seen, fresh = {first}, [first]
    while fresh:
        function = fresh.pop()
        yield function
        for found in map(_unwrapped, _followed(owner, function, names_in(function))):
            if isinstance(found, FunctionType) and found not in seen and _is_followed(found):
                seen.add(found)
                fresh.append(found)


def _unwrapped(found: Any) -> Any:
    return inspect.unwrap(found) if isinstance(found, FunctionType) else found


def names_in(function: Any) -> frozenset[str]:
    """Every attribute and global that a function names; none, when it cannot be looked into."""
    code = getattr(inspect.unwrap(getattr(function, "fget", None) or function), "__code__", None)
    return frozenset(_named(code)) if isinstance(code, CodeType) else frozenset()


def _named(code: CodeType) -> Iterator[str]:
    """Those of functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant)


def _followed(owner: type, function: FunctionType, names: frozenset[str]) -> Iterator[Any]:
    """What the names may stand for, and what a function made in another holds of that."""
    spaces = [function.__globals__]
    spaces += [vars(found) for name in names if isinstance(found := function.__globals__.get(name), ModuleType)]
    for name in names:
        yield from (_function(vars(each)[name]) for each in owner.__mro__ if name in vars(each))
        yield from (space.get(name) for space in spaces)
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it is empty yet
            yield cell.cell_contents


def _function(found: Any) -> Any:
    """The function of a property or of a static or class method."""
    return getattr(found, "fget", None) or getattr(found, "__func__", found)


def _is_followed(function: FunctionType) -> bool:
    """Python's own functions know none of our names; and what a dispatch leads to is done by others."""
    return _top(function) not in sys.stdlib_module_names and function.__module__ != StateMachine.__module__


def _top(function: FunctionType) -> str:
    """The package it belongs to."""
    return str(function.__module__).partition(".")[0]
