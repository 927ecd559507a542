"""The main job, shown: a real plugin is started, called, killed under way, and is back before the next reply.

What is shown comes from the connection's own observers and records, at the moment when it happens. How it looks is the
page's business.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Protocol

from fsm_conn import CallOptions, Connection, ConnectionRecord
from fsm_conn._util.lookup import working_directory

__all__ = ["COMMAND", "Page", "activation", "tour"]

COMMAND = [sys.executable, "-m", "fsm_conn.demo.calculator"]
_NEXT = (
    "fsm-conn watch -- python -m fsm_conn.demo.calculator",
    "fsm-conn new my-plugin && python my-plugin/host.py",
    "fsm-conn --help",
)
"""What to try then: kill the plugin by hand and watch it come back; have a plugin of one's own; the rest."""


class Page(Protocol):
    """Where the tour is shown. None of these may wait."""

    def title(self, text: str) -> None:
        """Show a line of its own."""

    def did(self, text: str) -> None:
        """Show something that was done between transitions."""

    def moved(self, at: float, record: ConnectionRecord) -> None:
        """Show a transition, `at` seconds after the beginning."""


async def tour(page: Page, pause: float = 0.0) -> None:
    """Run the demo.

    Args:
        page: where it is shown. What it raises about a transition is raised here, at the next thing that is done.
        pause: seconds to wait between one thing and the next, for those who watch.

    Raises:
        FsmConnError: the plugin could not be started, or did not come back.
    """
    begin = asyncio.get_running_loop().time()
    page.title("A calculator plugin, and a connection that keeps itself alive")
    conn = Connection(COMMAND, name="calculator")
    conn.on_transition(lambda record: None if record.internal else page.moved(record.at - begin, record))
    await asyncio.sleep(pause)
    async with conn:
        page.did(f"plugin process {_pid(conn)}")
        await asyncio.sleep(pause)
        reply = await conn.call("calculator.Add", a=5, b=3)
        page.did(f"calculator.Add(a=5, b=3) = {reply.result:g}")
        await asyncio.sleep(pause)
        await _kill_and_recover(conn, page)
        await asyncio.sleep(pause)
    page.title("Disconnected. No process is left, and nothing was restarted by hand.")
    page.title("Next:")
    for command in (*activation(), *_NEXT):
        page.did(command)


def activation() -> list[str]:
    """What puts this program's own environment into a shell, where that does not find this program."""
    script = Path(sys.prefix) / "bin" / "activate"
    found = shutil.which("fsm-conn")
    if (found is not None and Path(found).parent == Path(sys.executable).parent) or not script.is_file():
        return []
    return [f". {shlex.quote(os.path.relpath(script) if working_directory() else str(script))}"]


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
