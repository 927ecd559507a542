"""Virtual time: the loop whose clock jumps."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fsm_conn.testing import DeadlockError, VirtualLoop, run_virtually


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
        work = loop.run_in_executor(None, lambda: may_end.wait(30) and 5)
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
