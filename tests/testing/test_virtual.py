"""Virtual time: the loop whose clock jumps."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading

import pytest

from fsm_conn.testing import DeadlockError, VirtualLoop, run_virtually
from fsm_conn.testing.virtual import RealResourceError


def test_hours_pass_at_once_and_are_exact() -> None:
    """A thousand tenths of a second are a hundred seconds, to the microsecond."""

    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0.1)
        await asyncio.sleep(86_400 * 365)
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == 100 + 86_400 * 365


def test_timers_fire_in_the_order_of_their_times() -> None:
    """Whatever the order in which they were set."""
    told: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for name, seconds in (("c", 2.0), ("a", 1.0), ("d", 2.5), ("b", 1.5)):
            loop.call_later(seconds, told.append, name)
        await asyncio.sleep(3)

    run_virtually(main())
    assert told == ["a", "b", "c", "d"]


def test_threads_are_waited_for_and_no_time_passes() -> None:
    """A function in a thread has an end that no clock knows."""
    may_end = threading.Event()

    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(None, lambda: may_end.wait(200) and 5)
        other = asyncio.create_task(asyncio.sleep(10))
        loop.call_soon(may_end.set)
        result = await work
        at = loop.time()
        await other
        return int(result), at

    assert run_virtually(main()) == (5, 0.0)


def test_a_loop_knows_its_own_tasks() -> None:
    """And none that are done, or another loop's."""
    one, other = VirtualLoop(), VirtualLoop()
    try:
        task = one.create_task(asyncio.sleep(1), name="mine")
        assert (one.tasks(), other.tasks()) == ({task}, set())
        one.run_until_complete(task)
        assert one.tasks() == set()
    finally:
        one.close()
        other.close()


def test_who_waits_for_nothing_is_named() -> None:
    """Where nobody will act, that is an error, and no hang."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="main waits at"):
        run_virtually(main())


async def nothing(*arguments: object) -> None:
    """Answer nobody."""


REAL = {
    "a server": lambda: asyncio.start_server(nothing, "127.0.0.1", 0),
    "a connection": lambda: asyncio.open_connection("127.0.0.1", 9),
    "a server on a path": lambda: asyncio.start_unix_server(nothing, "/nowhere"),
    "a process": lambda: asyncio.create_subprocess_exec(sys.executable, "-c", ""),
    "a shell": lambda: asyncio.create_subprocess_shell("true"),
}


@pytest.mark.parametrize("asked", REAL)
def test_real_resources_are_refused_with_the_remedy(asked: str) -> None:
    """They would be waited for in vain, and without limit."""

    async def main() -> None:
        await REAL[asked]()

    with pytest.raises(RealResourceError, match="run this in a real loop"):
        run_virtually(main())


def test_descriptors_are_refused_whatever_is_done_with_them() -> None:
    """A pair of sockets that nobody writes to was waited for without limit; one that is ready was not."""

    async def main(one: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for refused in (
            lambda: loop.add_reader(one, print),
            lambda: loop.add_writer(one.fileno(), print),
            lambda: loop.sock_recv(one, 1),
            lambda: loop.sock_sendall(one, b"x"),
            lambda: loop.connect_accepted_socket(asyncio.Protocol, one),
            lambda: loop.add_signal_handler(signal.SIGUSR1, print),
        ):
            with pytest.raises(RealResourceError):
                refused()

    one, other = socket.socketpair()
    with one, other:
        run_virtually(main(one))


def test_all_that_a_loop_can_do_is_either_refused_or_harmless() -> None:
    """Whatever asyncio's loops learn to do with sockets and processes is to be decided upon."""
    harmless = {"sendfile", "start_tls"}  # of transports, of which there are none here
    words = ("sock", "connect", "create_", "subprocess", "add_", "sendfile", "start_tls", "pipe")
    known = {name for name in dir(asyncio.SelectorEventLoop) if name.startswith(words)}
    refused = {name for name in known if getattr(VirtualLoop, name).__module__ == VirtualLoop.__module__}
    assert known - refused - harmless == {"create_future", "create_task"}
