"""Worker threads: one for each kind of work that would block a loop. They live as long as the process.

The loop's default executor is not used: the application's own work may occupy all its threads.
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
    """Call `function` in the thread of this name, after everything that was submitted to it before.

    Raises:
        RuntimeError: the interpreter is shutting down.
    """
    with _making:
        if worker not in _workers:
            _workers[worker] = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"fsm-conn-{worker}")
        return _workers[worker].submit(function, *args, **kwargs)


async def run(worker: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in the thread of this name, and wait for it. Cancelling the wait does not stop the call."""
    return await asyncio.wrap_future(submit(worker, function, *args, **kwargs))


async def load(module: str) -> ModuleType:
    """Import a module whose first import takes long, without blocking the loop."""
    return await run("spawner", importlib.import_module, module)


def _after_fork() -> None:
    """Forget the threads, which a fork does not copy; the child starts its own when it needs them."""
    global _making
    _making = threading.Lock()
    _workers.clear()


after_fork(_after_fork)
