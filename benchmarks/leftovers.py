"""What a process has at one moment, to be compared with what it has later: processes, tasks, descriptors, files.

Linux only, where `/proc` tells. Files are those of the temporary directory, which every benchmark has to itself.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from fsm_conn.links.process import watchdog

__all__ = ["Leftovers", "children", "descriptors", "is_alive"]


def children() -> set[int]:
    """The numbers of this process's child processes, zombies included; without the watchdog, which stays to its end."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found.update(map(int, (thread / "children").read_text().split()))
    return found - {shell.pid for shell in watchdog._shells}


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descriptors() -> Counter[str]:
    """Open descriptors by kind, such as socket, pipe and pidfd."""
    kinds: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            kinds[os.readlink(f"/proc/self/fd/{number}").partition(":[")[0]] += 1
    return kinds


class Leftovers:
    """What there is now; later, `count()` says how much there is beyond that."""

    def __init__(self) -> None:
        self._processes = children()
        self._tasks = asyncio.all_tasks()
        self._descriptors = descriptors()
        self._files = set(os.listdir(tempfile.gettempdir()))

    def count(self) -> dict[str, int]:
        """How many processes, tasks, descriptors and files there are now that were not there before."""
        return {
            "processes": len(children() - self._processes),
            "tasks": len(asyncio.all_tasks() - self._tasks),
            "descriptors": (descriptors() - self._descriptors).total(),
            "files": len(set(os.listdir(tempfile.gettempdir())) - self._files),
        }

    async def after(self, seconds: float) -> dict[str, int]:
        """What `count()` says when everything is gone, or else `seconds` from now."""
        end = time.monotonic() + seconds
        while any((left := self.count()).values()) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        return left
