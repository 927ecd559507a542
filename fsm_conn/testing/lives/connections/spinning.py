"""Finds a task that calls a connection repeatedly, is refused at once each time, and never lets the loop run.

    while True:
        try:
            await self.call("session.Login")
        except BaseException:
            pass

`await` alone does not let others run: once the state was left, the call is refused before it waits for anything. Such a
task cannot be interrupted, because it swallows whatever is raised in it, and no timer fires. So the calls within one
turn of the loop are counted. The count is the same in every run. After far too many calls, the next one waits, the loop
runs, and the life can report the task.

A task that spins without calling the connection cannot be counted. It is interrupted by `endless`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fsm_conn.connection.connection import Connection
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["ENDLESS_CALLS", "Spinning"]

ENDLESS_CALLS = 1000
"""Calls within one turn of the loop after which they count as endless."""
_COUNTED = ("call", "probe", "connect", "ensure_connected", "reconnect", "disconnect", "wait_for_state")

Method = Callable[..., Coroutine[Any, Any, Any]]


class Spinning:
    """Counts the calls of a connection's methods.

    Attributes:
        task: the name of the task that spins; empty if there is none.
        method: the method that it calls.
        refusal: the error of the last call.
    """

    def __init__(self, conn: Connection, loop: VirtualLoop) -> None:
        self.task = self.method = ""
        self.refusal: BaseException | None = None
        self._conn = conn
        self._loop = loop
        self._turn = self._calls = 0
        for name in _COUNTED:
            setattr(conn, name, self._counted(name, getattr(conn, name)))

    def _counted(self, name: str, method: Method) -> Method:
        async def counted(*arguments: Any, **options: Any) -> Any:
            if self._is_endless(name):
                return await self._never()
            try:
                return await method(*arguments, **options)
            except BaseException as error:
                self.refusal = error if not self.task else self.refusal
                raise

        # `functools.wraps` would take a quarter of the time that it takes to begin a life.
        counted.__name__ = name
        vars(counted)["__wrapped__"] = method
        return counted

    def end(self) -> None:
        """Count no more. What counts refers to the connection, so only the garbage collector could free either."""
        for name in _COUNTED:
            vars(self._conn).pop(name, None)

    def _is_endless(self, name: str) -> bool:
        self._calls = self._calls + 1 if self._turn == self._loop.turns else 1
        self._turn = self._loop.turns
        if self._calls > ENDLESS_CALLS and not self.task:
            task = asyncio.current_task(self._loop)
            self.task, self.method = "" if task is None else task.get_name(), name
        return bool(self.task)

    async def _never(self) -> None:
        """Wait until the life ends. Then return normally: a task that tries until success is content, and ends."""
        try:
            await self._loop.create_future()
        except (asyncio.CancelledError, GeneratorExit):
            return
