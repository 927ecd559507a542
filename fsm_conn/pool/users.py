"""Who uses a slot of a pool: a task, by a weak reference, for a pool must not keep alive what has forgotten it."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import ref

__all__ = ["TaskRef", "current_user"]

TaskRef = ref[asyncio.Task[Any]]


def current_user() -> TaskRef:
    """The running task.

    Raises:
        RuntimeError: none is running, as in a callback of the loop.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a pool is used by tasks: await what it returns in one, not in a callback of the loop")
    return ref(task)
