"""The main job, shown: a real plugin is started, called, killed under way, and is back before the next reply.

Every line is written when it happens. What is shown comes from the connection's own observers and records.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from fsm_conn import CallOptions, Connection, TransitionRecord

__all__ = ["tour"]

COMMAND = [sys.executable, "-m", "fsm_conn.demo.calculator"]


class Page:
    """Writes the lines: a time and a transition, or what was done in between.

    Args:
        write: takes one line of text.
        colour: whether to use the terminal's colours.
    """

    def __init__(self, write: Callable[[str], None], colour: bool) -> None:
        self._write = write
        self._colour = colour
        self._closed = False
        self._begin = asyncio.get_running_loop().time()

    def moved(self, record: TransitionRecord) -> None:
        """One transition, with its time; an observer."""
        if record.internal or self._closed:
            return
        why = f"  {_first_line(record.reason)}" if record.reason else ""
        name = self._styled(
            f"{record.dest:13}", "1;31" if record.reason else "1;32" if record.dest == "connected" else "1"
        )
        try:
            self._write(f"{record.at - self._begin:8.3f} s  {record.source:>13} -> {name}{why}".rstrip())
        except OSError:
            self._closed = True  # it cannot be written; what is written next from outside an observer ends the demo

    def did(self, text: str) -> None:
        """Something that was done between transitions."""
        self._write(self._styled(f"            {text}", "2"))

    def title(self, text: str) -> None:
        """A line of its own."""
        self._write(self._styled(text, "1"))

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def _first_line(reason: BaseException) -> str:
    return str(reason).partition("\n")[0]


async def tour(write: Callable[[str], None], colour: bool = False) -> None:
    """Run the demo.

    Args:
        write: takes one line of text at a time.
        colour: whether to use the terminal's colours.

    Raises:
        FsmConnError: the plugin could not be started, or did not come back.
    """
    page = Page(write, colour)
    page.title("A calculator plugin, and a connection that keeps itself alive")
    conn = Connection(COMMAND, name="calculator")
    conn.on_transition(page.moved)
    async with conn:
        page.did(f"plugin process {_pid(conn)}")
        reply = await conn.call("calculator.Add", a=5, b=3)
        page.did(f"calculator.Add(a=5, b=3) = {reply.result:g}")
        await _kill_and_recover(conn, page)
    page.title("Disconnected. No process is left, and nothing was restarted by hand.")


async def _kill_and_recover(conn: Connection, page: Page) -> None:
    killed, seen = _pid(conn), len(conn.history)
    page.did(f"kill -9 {killed}, and at once the next call ...")
    begin = asyncio.get_running_loop().time()
    os.kill(killed, signal.SIGKILL)
    reply = await conn.call("calculator.Multiply", CallOptions(idempotent=True, timeout=30), a=4, b=7)
    took = asyncio.get_running_loop().time() - begin
    page.did(f"plugin process {_pid(conn)}")
    page.did(f"calculator.Multiply(a=4, b=7) = {reply.result:g}")
    noticed = conn.history[seen].at - begin
    page.did(f"noticed after {noticed * 1e3:.0f} ms, answered {took * 1e3:.0f} ms after the kill")


def _pid(conn: Connection) -> int:
    link: Any = conn.link
    return int(link.pid)
