"""The end of who reads stdout, for what says little."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest

from fsm_conn.cli.ending import run_to_end


class Stdout:
    """What writes to the descriptor that stands for stdout."""

    def __init__(self, fd: int) -> None:
        self.fileno: Callable[[], int] = lambda: fd


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The reader's end, and stdout's."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (each.detach() for each in socket.socketpair())
    yield reading, writing
    for fd in (reading, writing):
        with suppress(OSError):
            os.close(fd)


def test_who_waits_is_cancelled_and_cleans_up(ends: tuple[int, int]) -> None:
    """As by a signal, and without having written a word."""
    done: list[str] = []

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(os.close, ends[0])
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            done.append("cleaned up")

    stdout: Any = Stdout(ends[1])
    with redirect_stdout(stdout), pytest.raises(BrokenPipeError):
        run_to_end(wait(), while_read=True)
    assert done == ["cleaned up"]


def test_a_reader_that_stays_is_left_alone(ends: tuple[int, int]) -> None:
    """What ends by itself returns what it returns, and the descriptor is not watched any more."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    stdout: Any = Stdout(ends[1])
    with redirect_stdout(stdout):
        assert run_to_end(answer(), while_read=True) == 42


async def _until_idle(loop: Any) -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_somebody_sends_on_stdout_is_no_end(ends: tuple[int, int]) -> None:
    """A socket can be read as well: it is not taken for closed, nor looked at for ever."""

    async def wait() -> str:
        with suppress(OSError):  # a pipe takes nothing on this side
            os.write(ends[0], b"hello")
        await _until_idle(asyncio.get_running_loop())
        return "undisturbed"

    stdout: Any = Stdout(ends[1])
    with redirect_stdout(stdout):
        assert run_to_end(wait(), while_read=True) == "undisturbed"


@pytest.mark.parametrize("place", ["file", "nowhere"])
def test_what_is_no_pipe_has_no_reader(place: str, tmp_path: Path) -> None:
    """A file stays, and what has no descriptor cannot be watched."""

    class Nowhere:
        def fileno(self) -> int:
            raise OSError("it has none")

    async def answer() -> int:
        await _until_idle(asyncio.get_running_loop())
        return 42

    with (tmp_path / "out").open("w") as file:
        stdout: Any = file if place == "file" else Nowhere()
        with redirect_stdout(stdout):
            result = run_to_end(answer(), while_read=True)
        assert result == 42
