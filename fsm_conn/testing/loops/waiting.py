"""Lists the tasks that wait in a loop, and where they wait, for errors about waits that nobody will end."""

from __future__ import annotations

import asyncio
import linecache
import os
import re
from collections.abc import Callable
from typing import Any

from fsm_conn.testing.loops.lean import LeanLoop

__all__ = ["waiting", "waiting_place"]

_NUMBERED = re.compile(r"Task-\d+")
_ASYNCIO = os.path.dirname(asyncio.__file__)


def _tasks_of(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    """The tasks of a loop that are not done."""
    return set(loop._living()) if isinstance(loop, LeanLoop) else asyncio.all_tasks(loop)


def waiting(loop: asyncio.AbstractEventLoop) -> str:
    """Every task of `loop` that is not done, and the line at which it waits. Deterministic for the same program.

    Similar tasks are listed once: if nobody refers to them, some may already have been collected.
    """
    lines = sorted({f"  {_called(task)} waits at {_place(task)}" for task in _tasks_of(loop)})
    return "\n".join(lines) or "  no task is left"


def waiting_place(loop: asyncio.AbstractEventLoop, name: str, is_mine: Callable[[Any], bool]) -> str:
    """The line at which the task waits whose name ends with `name`: a line of code that `is_mine`, if there is one."""
    task = next((each for each in _tasks_of(loop) if each.get_name().endswith(name)), None)
    if task is None:
        return ""
    mine = _innermost(task, lambda frame: is_mine(frame.f_code))
    return _place(task) if mine is None else _shown(mine)


def _called(task: asyncio.Task[Any]) -> str:
    """A task's name. If asyncio numbered it, the name of its coroutine, because the number varies between processes."""
    name = task.get_name()
    return getattr(task.get_coro(), "__qualname__", "a task") if _NUMBERED.fullmatch(name) else name


def _place(task: asyncio.Task[Any]) -> str:
    """The innermost line that is not asyncio's own; that line shows what the task waits for."""
    frame = _innermost(task, lambda each: not each.f_code.co_filename.startswith(_ASYNCIO))
    frame = frame or _innermost(task, lambda each: True)
    return "an unknown place" if frame is None else _shown(frame)


def _innermost(task: asyncio.Task[Any], fits: Callable[[Any], bool]) -> Any:
    awaited: Any = task.get_coro()
    found = None
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None and fits(frame):
            found = frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return found


def _shown(frame: Any) -> str:
    code = frame.f_code
    source = linecache.getline(code.co_filename, frame.f_lineno).strip()
    return f"{code.co_qualname}, {code.co_filename}:{frame.f_lineno}: {source}"
