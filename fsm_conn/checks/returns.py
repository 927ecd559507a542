"""What a function returns, where its compiled code says so itself: `return "opened"`, `return Trigger.OPENED`.

The rules that hold here: nothing is called and no source is read; what is found stands in a `return` of the function's
own code, as a constant or by a name that means a text now. Nothing is said of values that are computed, chosen by a
condition, handed on from another function or kept in a variable; of names, though of constants, in a `with`, `for` or
`try` that the return leaves; nor of what a decorator makes of the value, for it is the decorator's code that is read.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from enum import EnumMeta
from types import CodeType
from typing import Any

__all__ = ["returned_texts"]


def returned_texts(function: Any) -> tuple[str, ...]:
    """The texts that a function returns, each once, in the order of its code."""
    code, space = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if not isinstance(code, CodeType):
        return ()
    return tuple(dict.fromkeys(str(value) for value in _returned(code, space) if isinstance(value, str)))


def _returned(code: CodeType, space: dict[str, Any]) -> Iterator[Any]:
    done = [each for each in dis.get_instructions(code) if each.opname not in ("NOP", "CACHE", "PRECALL")]
    for place, each in enumerate(done):
        if each.opname == "RETURN_CONST":  # Python 3.12 and 3.13
            yield each.argval
        elif each.opname == "RETURN_VALUE":
            yield _loaded(done[max(0, place - 2) : place], space)


def _loaded(before: list[dis.Instruction], space: dict[str, Any]) -> Any:
    """What the last instructions have put on top, if that can be told."""
    last = before[-1] if before else None
    if last is None:
        return None
    if last.opname == "LOAD_CONST":
        return last.argval
    if last.opname == "LOAD_GLOBAL":
        return space.get(last.argval)
    if last.opname == "LOAD_ATTR" and before[0].opname == "LOAD_GLOBAL":
        choices = space.get(before[0].argval)
        return choices.__members__.get(last.argval) if isinstance(choices, EnumMeta) else None
    return None
