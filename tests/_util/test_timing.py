"""Waits with a limit, for tasks, and tasks that nobody waits for any more."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest

from fsm_conn._util.timing import ExpiredError, end, ended, finish, keep, limited, within


async def test_what_is_kept_is_not_collected_while_it_runs() -> None:
    """`asyncio` refers to tasks weakly: one that waits for what nobody else knows would be thrown away in between."""

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    task = asyncio.ensure_future(wait())
    keep(task)
    seen = weakref.ref(task)
    del task
    await asyncio.sleep(0)
    gc.collect()
    kept = seen()
    assert kept is not None
    kept.cancel()
    await asyncio.wait({kept})
    await asyncio.sleep(0)
    del kept
    gc.collect()
    assert seen() is None


async def _for_ever(told: list[str]) -> None:
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        told.append("cancelled")
        raise


async def test_what_takes_longer_than_its_limit_is_cancelled() -> None:
    """What is awaited is told, the caller gets an error of its own, and its task is not left as one that is cancelled."""
    told: list[str] = []
    for limit in (0.5, 0.0, -1.0):
        with pytest.raises(ExpiredError):
            await within(limit, _for_ever(told))
    task = asyncio.current_task()
    assert task is not None
    assert (told, task.cancelling()) == (["cancelled"] * 3, 0)


async def test_a_cancellation_from_outside_is_no_limit_that_has_passed() -> None:
    """Whoever cancels the task at the moment when its time is up gets his cancellation, as with `asyncio.timeout`."""
    told: list[str] = []
    task = asyncio.ensure_future(within(1.0, _for_ever(told)))
    asyncio.get_running_loop().call_later(1.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert told == ["cancelled"]


async def test_what_ends_in_spite_of_its_limit_is_heard() -> None:
    """An answer counts although time was up as it came, and so does an error; but a `TimeoutError` means the limit."""

    async def stubborn(error: Exception | None) -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
        return "an answer"

    assert await within(1.0, stubborn(None)) == "an answer"
    with pytest.raises(KeyError):
        await within(1.0, stubborn(KeyError()))
    with pytest.raises(ExpiredError):
        await within(1.0, stubborn(TimeoutError()))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_timeout_of_its_own_passes_a_limit() -> None:
    """Only whoever sets the limit can explain it: a `TimeoutError` from inside is no `ExpiredError`."""

    async def late() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError) as raised:
        await within(1.0, late())
    assert type(raised.value) is TimeoutError
    assert await within(None, asyncio.sleep(0, "without a limit")) == "without a limit"


async def test_who_waits_for_a_task_neither_ends_it_nor_reads_it() -> None:
    """A wait ends when the task does, or its time is up, or its caller is cancelled; the task goes on."""
    told: list[str] = []
    task = asyncio.ensure_future(_for_ever(told))
    assert not await ended(task, 0.5)
    waits = asyncio.ensure_future(ended(task))
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait({waits})
    assert waits.cancelled()
    assert not told
    finishes = asyncio.ensure_future(finish(task))
    await asyncio.sleep(0)
    finishes.cancel()
    await asyncio.sleep(1.0)
    assert not finishes.done()
    task.cancel()
    await asyncio.wait({finishes})
    assert finishes.cancelled()
    assert told == ["cancelled"]
    assert await ended(task, 0.5)


@pytest.mark.parametrize("turns", range(5))
def test_what_fails_in_the_moment_in_which_its_caller_is_cancelled_is_read(turns: int) -> None:
    """Otherwise asyncio, whose own loop this is, complains of an exception that was never retrieved."""
    unread: list[dict[str, Any]] = []

    async def fail_and_cancel() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: unread.append(context))
        failure: asyncio.Future[None] = loop.create_future()

        async def work() -> None:
            await failure

        caller = asyncio.create_task(limited(None, work(), "it", "work"))
        for _ in range(3):
            await asyncio.sleep(0)
        failure.set_exception(OSError())
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await caller

    asyncio.run(fail_and_cancel())
    gc.collect()
    assert unread == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of `deaf`, which is deaf to this, too
def test_of_what_ends_with_its_loop_nobody_says_that_it_was_deaf(caplog: pytest.LogCaptureFixture) -> None:
    """Nor is it kept."""

    async def deaf() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    loop = asyncio.new_event_loop()
    work = loop.create_task(deaf())
    waiting = loop.create_task(end("it", "work", work))
    known = weakref.ref(work)
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    del work, waiting
    gc.collect()
    assert known() is None
    assert "left behind" not in caplog.text
