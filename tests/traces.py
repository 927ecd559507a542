"""A test leaves the process as it found it.

Which files share a worker differs from run to run, so that what one test leaves behind is met by another one only now
and then. `of_a_test` is compared before and after each test, and takes a tenth of a millisecond; `of_a_file`, before and
after each file. Libraries that are imported late, caches and workers that serve for long are no traces. Warnings are not
looked at: pytest itself puts them back.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gc
import locale
import logging
import operator
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

Traces = dict[str, Any]

TESTS, EXAMPLES = str(Path(__file__).parent), str(Path(__file__).parents[1] / "examples")
SIGNALS = tuple(
    getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "QUIT", "CHLD", "PIPE", "USR1", "USR2")
)
PATCHED = (asyncio, builtins, gc, os, random, shutil, signal, socket, subprocess, tempfile, threading, time)
"""What tests may put something else into, beside the package itself."""
CODE = (
    FunctionType,
    BuiltinFunctionType,
    type,
    ModuleType,
    property,
    classmethod,
    staticmethod,
    int,
    float,
    str,
    tuple,
    frozenset,
)
"""What a module or a class is made of. What else it holds are caches, and what was made when it was first needed."""
REGISTRIES = (
    ("fsm_conn.machine.binding", "on_bound"),
    ("fsm_conn.machine.observers", "on_begun"),
    ("fsm_conn.testing.coverage", "_counting"),
)
LASTING = ("fsm", "MainThread", "Thread-", "execnet", "asyncio_", "mermaidx", "grpc")
"""How threads are called that stay once they were needed."""


def of_a_test() -> Traces:
    """What is looked at after each test."""
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    current = getattr(getattr(policy, "_local", None), "_loop", None)
    loggers = (logging.root, logging.getLogger("fsm_conn"))
    return {
        "sys.modules": sys.modules.copy(),
        "os.environ": {
            **os.environ._data,
            b"PYTEST_CURRENT_TEST": b"",
        },  # as it is kept, which takes a hundredth of the time
        "the working directory": os.getcwd(),
        "sys.path": [*sys.path],
        "sys.argv": [*sys.argv],
        "what imports": [*filter(_of_tests, (*sys.meta_path, *sys.path_hooks)), builtins.__import__],
        "signals": [*map(signal.getsignal, SIGNALS), _wakeup()],
        # Whether there is a current one depends on who asked before: pytest-asyncio makes one, `asyncio.run` forgets it.
        "the event loop": [policy, current is not None and current.is_closed()],
        "hooks": [sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook, *sys.get_asyncgen_hooks()],
        "the interpreter": [sys.gettrace(), sys.getprofile(), sys.getswitchinterval(), sys.getrecursionlimit()],
        "the collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), *filter(_ours, gc.callbacks)],
        "the locale": [locale.setlocale(locale.LC_ALL), time.tzname],
        "tempfile.tempdir": tempfile.tempdir,
        "logging": [logging.root.manager.disable, logging.lastResort, logging.raiseExceptions],
        "loggers": [
            (each.level, *filter(_ours, each.handlers), *each.filters, each.propagate, each.disabled)
            for each in loggers
        ],
        "registries": {f"{name}.{each}": [*getattr(sys.modules.get(name), each, ())] for name, each in REGISTRIES},
    }


def _wakeup() -> int:
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number)
    return number


def _ours(hook: object) -> bool:
    """Whether neither Hypothesis nor pytest has put it there, as they do for as long as they run."""
    return not getattr(hook, "__module__", "").startswith(("hypothesis", "_pytest"))


def _of_tests(hook: object) -> bool:
    """Whether a test wrote it. Libraries add their own when they are first imported."""
    home = sys.modules.get(str(getattr(hook, "__module__", None) or type(hook).__module__))
    return str(getattr(home, "__file__", "")).startswith(TESTS)


def of_a_file() -> Traces:
    """What is looked at after each file."""
    modules = [each for name, each in [*sys.modules.items()] if name.partition(".")[0] == "fsm_conn"]
    found: Traces = {}
    for module in (*modules, *PATCHED):
        if isinstance(module, ModuleType):  # and no stranger's proxy
            found[module.__name__] = held = _code_in(vars(module))
            for each in held.values():
                if isinstance(each, type) and each.__module__ == module.__name__:
                    found[_name(each)] = _code_in(vars(each))
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
    mask = os.umask(0o77)
    os.umask(mask)
    return {**of_a_test(), "umask": mask, "limits": limits, "code": found}


def _code_in(held: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in held.items() if _is_code(type(each))}


@cache  # asked for each name in the package, and there are few types
def _is_code(kind: type) -> bool:
    return issubclass(kind, CODE)


def _name(owner: type) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"


def changes(before: Traces, now: Traces, *scratch: str) -> Iterator[str]:
    """What is not as it was, in words. Modules whose files are below `scratch`, or are examples, may not stay."""
    for name, was in before.items():
        if name == "sys.modules":
            yield from _modules(was, now[name], *scratch)
        elif name == "code":
            yield from _code(was, now[name])
        elif (new := now[name]) == was:
            pass
        elif isinstance(was, dict):
            changed = (each for each in {**was, **new} if new.get(each) is not was.get(each) != new.get(each))
            yield from (f"{name}: {each} was {was.get(each)!r:.80}, is {new.get(each)!r:.80}" for each in changed)
        else:
            yield f"{name}: was {was!r:.300}, is {new!r:.300}"


def _code(was: Traces, now: Traces) -> Iterator[str]:
    """What was imported late is not looked at."""
    for owner, held in was.items():
        new = now.get(owner, {})
        for name, each in held.items() if new != held else ():
            if new.get(name) is not each != new.get(name):
                yield f"code: {owner}.{name} was {each!r:.80}, is {new.get(name)!r:.80}"


def _modules(was: dict[str, object], now: dict[str, object], *scratch: str) -> Iterator[str]:
    if len(was) != len(now) or any(map(operator.is_not, was.values(), now.values())):
        yield from (f"the module {name}" for name in now.keys() - was if is_written(now[name], *scratch))
        yield from (f"another or no module {name}" for name, each in was.items() if now.get(name, was) is not each)


def is_written(module: object, *scratch: str) -> bool:
    """Whether a test wrote it, or it is an example. A hostile one is asked nothing; libraries put in odd things, too."""
    if not issubclass(type(module), ModuleType):
        home = sys.modules.get(type.__getattribute__(type(module), "__module__"))
        return module is None or home is module or (type(home) is ModuleType and is_written(home, TESTS, *scratch))
    file = ModuleType.__getattribute__(module, "__dict__").get("__file__")
    return type(file) is str and file.startswith((EXAMPLES, *scratch))


@contextlib.contextmanager
def removed(*scratch: str) -> Iterator[None]:
    """What is imported in this block from examples, or from files that a test wrote, is forgotten after it."""
    path, known = [*sys.path], {*sys.modules}
    try:
        yield
    finally:
        sys.path[:] = path
        for name in sys.modules.keys() - known:
            if is_written(sys.modules[name], *scratch):
                del sys.modules[name]
