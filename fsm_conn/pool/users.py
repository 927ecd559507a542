"""Who uses a slot of a pool: a task, by a weak reference, for a pool must not keep alive what has forgotten it."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary, ref

__all__ = ["TaskRef", "acting_for", "current_user", "responsible"]

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


_askers: WeakKeyDictionary[asyncio.Future[Any], TaskRef] = WeakKeyDictionary()


def acting_for(task: asyncio.Future[Any], user: TaskRef) -> None:
    """A hook has a task of its own, and what it does there is done by who uses the slot."""
    _askers[task] = user


def responsible() -> TaskRef:
    """The running task, or the user for whom it runs a hook. Raises as `current_user`."""
    user = current_user()
    task = user()
    return user if task is None else _askers.get(task, user)
