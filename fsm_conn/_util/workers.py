"""Threads of this package: one for each kind of work that would block a loop. They live as long as the process.

Never the loop's default executor: the application's own work waits there, and there may be more of it than threads.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType
from typing import ParamSpec, TypeVar

from fsm_conn._util.forks import after_fork

__all__ = ["load", "run", "submit"]

P = ParamSpec("P")
T = TypeVar("T")

_workers: dict[str, ThreadPoolExecutor] = {}
_making = threading.Lock()


def submit(worker: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Have the thread of this name call `function`, after everything that was submitted to it before.

    Raises:
        RuntimeError: the interpreter is ending.
    """
    with _making:
        if worker not in _workers:
            _workers[worker] = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"fsm-conn-{worker}")
        return _workers[worker].submit(function, *args, **kwargs)


async def run(worker: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Have the thread of this name call `function`, and wait for it. When cancelled, the call is not undone."""
    return await asyncio.wrap_future(submit(worker, function, *args, **kwargs))


async def load(module: str) -> ModuleType:
    """Import a module whose first import takes long, while the loop goes on."""
    return await run("spawner", importlib.import_module, module)


def _after_fork() -> None:
    """A fork copies no threads: the child makes its own when it needs them."""
    global _making
    _making = threading.Lock()
    _workers.clear()


after_fork(_after_fork)
