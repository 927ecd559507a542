"""Finds the cause of an error: the guard, effect or activity, and the line of the user's own code."""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Any

from fsm_conn._util.lookup import working_directory
from fsm_conn.machine.table import ACTIVITY_PREFIX

__all__ = ["blamed", "blamed_row", "is_foreign", "is_foreign_file", "is_ours_file", "line_at", "line_of"]
__all__ += ["place", "role_of", "where_defined"]

_OURS = (os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep,)
_OTHERS = tuple(os.path.realpath(sysconfig.get_path(each)) + os.sep for each in ("stdlib", "purelib", "platlib"))
_known: dict[int, tuple[CodeType, bool]] = {}


def is_foreign(code: CodeType) -> bool:
    """Whether code belongs neither to this package nor to a library, and so is the user's own."""
    found = _known.get(id(code))
    if found is None or found[0] is not code:
        found = _known[id(code)] = code, is_foreign_file(code.co_filename)
    return found[1]


def is_foreign_file(name: str) -> bool:
    """Whether a file belongs neither to this package nor to a library."""
    return not is_ours_file(name) and not os.path.realpath(name).startswith(_OTHERS)


def is_ours_file(name: str) -> bool:
    """Whether a file belongs to this package."""
    return name.startswith((*_OURS, "<frozen")) or (name.startswith("<") and ": " in name)  # a dispatch


def blamed(machine: Any, error: BaseException | None, traceback: TracebackType | None = None) -> str:
    """The guard, effect, activity or function of the user's that raised, with its file and line; or empty."""
    for code, line, inner_self in _frames(error, traceback):
        if is_foreign(code):
            role = role_of(machine, code.co_name) if inner_self is machine else ""
            named = f"the {role} {code.co_qualname}()" if role else f"{code.co_qualname}()"
            return f"{named}, {place(code.co_filename, line)},"
    return blamed_row(machine, error)


def blamed_row(machine: Any, error: BaseException | None) -> str:
    """The guard, effect or activity that raised, with its file and line; empty when something else raised."""
    for code, line, inner_self in _frames(error):
        role = role_of(machine, code.co_name) if inner_self is machine else ""
        if role and role != "activity":
            return f"the {role} {code.co_qualname}(), {place(code.co_filename, line)},"
    return ""


def role_of(machine: Any, name: str) -> str:
    """The role of the method with that name in the table: a guard, an effect or an activity; empty if it has none."""
    for row in machine.lifecycle.transitions:
        if name in row.guards:
            return "guard"
        if name in row.effects:
            return "effect"
    is_activity = name.startswith(ACTIVITY_PREFIX) and name in machine.lifecycle.activities.values()
    return "activity" if is_activity else ""


def line_of(code: CodeType, line: int) -> str:
    """A file, a line, and the source text of the line, where code runs."""
    return line_at(code.co_filename, line)


def line_at(path: str, line: int) -> str:
    """A file, a line, and the source text of the line."""
    source = linecache.getline(path, line).strip()
    return place(path, line) + (f": {source}" if source else "")


def where_defined(function: Any) -> str:
    """The file and line of a function's definition; empty for a function without one."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return "" if code is None else place(code.co_filename, code.co_firstlineno)


def place(path: str, line: int) -> str:
    """A place as an editor opens it: relative to the working directory if it is inside."""
    relative = os.path.relpath(path) if os.path.isabs(path) and working_directory() else path
    return f"{path if relative.startswith('..') else relative}:{line}"


def _frames(error: BaseException | None, traceback: TracebackType | None = None) -> Iterator[tuple[CodeType, int, Any]]:
    """The code, line and `self` of each frame that an error has passed, innermost first; then those of its cause.

    Before those of a group come those of its parts.
    """
    while error is not None:
        for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            yield from _frames(part)
        found = []
        traceback = error.__traceback__ or traceback
        while traceback is not None:
            frame = traceback.tb_frame
            found.append((frame.f_code, traceback.tb_lineno, frame.f_locals.get("self")))
            traceback = traceback.tb_next
        yield from reversed(found)
        error, traceback = error.__cause__, None
