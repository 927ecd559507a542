"""The user of a slot is a task. A pool refers to tasks weakly, so that it keeps no abandoned task alive."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary, ref

__all__ = ["TaskRef", "acting_for", "current_user", "responsible"]

TaskRef = ref[asyncio.Task[Any]]


def current_user() -> TaskRef:
    """The running task.

    Raises:
        RuntimeError: no task is running, as in a callback of the loop.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a pool is used by tasks: await what it returns in one, not in a callback of the loop")
    return ref(task)


_askers: WeakKeyDictionary[asyncio.Future[Any], TaskRef] = WeakKeyDictionary()


def acting_for(user: TaskRef) -> None:
    """Have this task, a hook's, act for the user of the slot: what the hook does counts as done by that user."""
    if (task := current_user()()) is not None:
        _askers[task] = user


def responsible() -> TaskRef:
    """The running task; inside a hook, the user for whom the hook runs. Raises as `current_user`."""
    user = current_user()
    task = user()
    return user if task is None else _askers.get(task, user)
