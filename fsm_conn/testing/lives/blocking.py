"""Turns a call that blocks the event loop into an error during a life: in virtual time nobody would notice it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from typing import Any

from fsm_conn.testing.lives.culprits import is_foreign, is_ours_file
from fsm_conn.testing.lives.moments.reading import code_of

__all__ = ["BlockingError", "refused"]

_PROCESS = "use asyncio.create_subprocess_exec(), or asyncio.to_thread()"
_THREADS = "use asyncio's Event, Condition or Queue, or asyncio.to_thread()"
_CALLS: tuple[tuple[Any, str, str], ...] = (
    (time, "sleep", "write 'await asyncio.sleep({0!r})'"),
    *((subprocess, name, _PROCESS) for name in ("run", "call", "check_call", "check_output")),
    *((subprocess.Popen, name, _PROCESS) for name in ("wait", "communicate")),
    (os, "system", _PROCESS),
    (threading.Condition, "wait", _THREADS),
    (socket, "create_connection", "use asyncio.open_connection()"),
)
"""What blocks, and what to write instead. Queues, events and futures of threads wait by `Condition.wait`."""
_STDLIB = os.path.realpath(sysconfig.get_path("stdlib")) + os.sep

_START = threading.Thread.start.__code__
"""Waits, but not for long."""


class BlockingError(RuntimeError):
    """A call has blocked the event loop."""


class RefusedCalls:
    """While entered, refuses what blocks in this thread. It may be entered more than once at a time."""

    def __init__(self) -> None:
        self._thread = self._depth = 0
        known = [(getattr(holder, name), _refusing(self, holder, name, advice)) for holder, name, advice in _CALLS]
        self._instead = {id(original): refuse for original, refuse in known}
        self._places = [(holder, name, *each) for (holder, name, _), each in zip(_CALLS, known, strict=True)]
        self._imported: dict[tuple[int, str], tuple[dict[str, Any], str, Any, Any]] = {}

    def __enter__(self) -> None:
        self._depth += 1
        self._thread = threading.get_ident()
        if self._depth == 1:
            for holder, name, _, refuse in self._places:
                setattr(holder, name, refuse)
            for known, name, _, refuse in self._imported.values():
                known[name] = refuse

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            for holder, name, original, _ in self._places:
                setattr(holder, name, original)
            for known, name, original, _ in self._imported.values():
                known[name] = original

    def include(self, owner: type) -> None:
        """Refuse also what the code of a class has imported by name: `from time import sleep`."""
        for function in code_of(owner).functions:
            known = function.__globals__
            for name in function.__code__.co_names:
                value = known.get(name)
                if id(value) in self._instead:
                    self._imported[id(known), name] = known, name, value, self._instead[id(value)]

    def refuses(self, holder: Any) -> bool:
        """Whether a call is to be refused: one in this thread, but not of this package, nor a debugger's wait."""
        if threading.get_ident() != self._thread or not self._depth:
            return False
        frame: Any = sys._getframe(2)
        while frame is not None and frame.f_code is not _START and _is_stdlib(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is None or frame.f_code is _START:
            return False
        return is_foreign(frame.f_code) if holder is threading.Condition else not is_ours_file(frame.f_code.co_filename)


def _is_stdlib(file: str) -> bool:
    name = os.path.realpath(file)
    return name.startswith(_STDLIB) and "site-packages" not in name


def _refusing(refused: RefusedCalls, holder: Any, name: str, advice: str) -> Callable[..., Any]:
    original, called = getattr(holder, name), f"{getattr(holder, '__qualname__', holder.__name__)}.{name}"

    def refuse(*args: Any, **options: Any) -> Any:
        if not refused.refuses(holder):
            return original(*args, **options)
        shown = repr(args[0]) if holder is time else "" if isinstance(holder, type) else "..."
        raise BlockingError(f"{called}({shown}) blocks the event loop; {advice.format(*args)}")

    return refuse


refused = RefusedCalls()
"""For whatever lives: only one life runs at a time."""
