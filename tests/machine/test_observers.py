"""Observers: what plain ones are told does not depend on async ones, and async ones keep their order."""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

import pytest
from peer import Peer

from fsm_conn import Connection, Metrics
from fsm_conn.machine import observers as observing
from fsm_conn.machine.observers import Observers
from fsm_conn.machine.records import TransitionRecord


def record(number: int = 1) -> TransitionRecord:
    return TransitionRecord("lost", "connected", "reconnecting", False, None, 0.0, float(number))


def watching(*callbacks: Any) -> Observers:
    observers = Observers(copy_context())
    for callback in callbacks:
        observers.add(callback)
    return observers


async def slow(told: Any) -> None:
    """An observer that takes a while."""
    await asyncio.sleep(4)


class Forms:
    """One async observer, in each form that a callable may have."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def method(self, told: TransitionRecord) -> None:
        await asyncio.sleep(1 if told.at == 1 else 0)
        self.seen.append(told.at)

    __call__ = method

    def plain(self, told: TransitionRecord) -> Awaitable[None]:
        return self.method(told)

    def sometimes(self, told: TransitionRecord) -> Awaitable[None] | None:
        return self.method(told) if told.at != 2 else self.seen.append(2)

    def future(self, told: TransitionRecord) -> Awaitable[None]:
        return asyncio.ensure_future(self.method(told))

    def awaitable(self, told: TransitionRecord) -> Any:
        method = self.method

        class Later:
            def __await__(self) -> Any:
                return method(told).__await__()

        return Later()


FORMS: dict[str, Callable[[Forms], Any]] = {
    "method": lambda forms: forms.method,
    "object": lambda forms: forms,
    "partial": lambda forms: functools.partial(forms.method),
    "plain function": lambda forms: forms.plain,
    "awaitable": lambda forms: forms.awaitable,
}


# --- plain ones -------------------------------------------------------------------------------------------------


async def test_plain_observers_are_told_inside_the_dispatch_whatever_async_ones_do() -> None:
    """Also those that were registered later; in the order of registration among themselves."""
    seen: list[str] = []
    observers = watching(slow, lambda told: seen.append("first"), slow, lambda told: seen.append("second"))
    observers.publish(record())
    observers.publish(record())
    assert seen == ["first", "second"] * 2
    await observers.flush()
    assert seen == ["first", "second"] * 2


async def test_counts_keep_up_with_a_slow_observer() -> None:
    """What was registered after it is right at any time."""
    conn = Connection(Peer())
    conn.on_transition(slow)
    metrics = Metrics()
    metrics.watch(conn)
    connecting = asyncio.ensure_future(conn.connect())
    await conn.wait_for_state("connected")
    assert metrics.connection_count == 1
    await connecting
    for count in range(1, 50):
        await conn.probe()
        assert metrics.passed_probes == count
    await conn.disconnect()


async def test_with_a_full_backlog_only_async_observers_miss_something(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted, and leaves no coroutine of which Python would have to warn."""
    monkeypatch.setattr(observing, "BACKLOG", 3)
    plain: list[int] = []
    late: list[int] = []

    async def observe(told: TransitionRecord) -> None:
        await asyncio.sleep(1)
        late.append(told.at)

    observers = watching(observe, lambda told: plain.append(told.at))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(5):
            observers.publish(record(number))
        await observers.flush()
    assert (plain, late, observers.errors) == ([0, 1, 2, 3, 4], [0, 1, 2], 2)
    assert "3 transitions are waiting already" in caplog.text
    observers.publish(record(5))
    await observers.flush()
    assert (plain[-1], late[-1], observers.errors) == (5, 5, 2)


async def test_what_a_plain_observer_fires_is_told_to_all_after_what_it_was_told() -> None:
    """The others see both in order, async ones too."""
    conn = Connection(Peer())
    plain: list[str] = []
    late: list[str] = []

    async def observe(told: TransitionRecord) -> None:
        await asyncio.sleep(1)
        late.append(str(told.trigger))

    conn.on_transition(observe)
    conn.on_transition(lambda told: conn.fire("disconnect") if told.dest == "connected" else None)
    conn.on_transition(lambda told: plain.append(str(told.trigger)))
    await asyncio.wait([asyncio.ensure_future(conn.connect())])
    await conn.disconnect()
    assert plain == late == ["connect", "opened", "disconnect", "closed"]


async def test_an_interrupt_loses_no_work_that_was_handed_over() -> None:
    """Ctrl-C in a plain observer passes; the async one that was called before it goes on."""
    forms = Forms()

    def interrupted(told: TransitionRecord) -> None:
        raise KeyboardInterrupt

    observers = watching(forms.method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        observers.publish(record())
    await observers.flush()
    assert forms.seen == [1]


# --- async ones -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_an_async_observer_of_any_form_is_told_in_order(form: str) -> None:
    """The next transition waits for the last one, though that takes longer."""
    forms = Forms()
    observers = watching(FORMS[form](forms))
    for number in (1, 2, 3):
        observers.publish(record(number))
    assert forms.seen == []
    await observers.flush()
    assert (forms.seen, observers.errors) == ([1, 2, 3], 0)


async def test_a_future_and_now_and_then_nothing_are_waited_for() -> None:
    """What has begun already runs as it likes, what is plain is over; flush() waits for the rest."""
    running, mixed = Forms(), Forms()
    observers = watching(running.future, mixed.sometimes)
    for number in (1, 2, 3):
        observers.publish(record(number))
    assert mixed.seen == [2]
    await observers.flush()
    assert (sorted(running.seen), mixed.seen, observers.errors) == ([1, 2, 3], [2, 1, 3], 0)


async def test_an_unsubscribed_async_observer_is_told_nothing_that_still_waits() -> None:
    """It may have closed what it writes to."""
    forms = Forms()
    observers = watching(slow)
    unsubscribe = observers.add(forms.method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observers.publish(record())
        unsubscribe()
        await observers.flush()
    assert forms.seen == []


async def test_at_the_end_of_the_loop_nothing_async_is_begun_and_plain_ones_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What waited is dropped without an error, who waits for it may go, and a later transition is told to all again."""
    forms, plain = Forms(), []
    observers = watching(forms.method, lambda told: plain.append(told.at))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observers.publish(record(1))
        observers.publish(record(2))
        flushing = asyncio.ensure_future(observers.flush())
        await asyncio.sleep(0.5)
        observers.publish(record(3), plain_only=True)
        await asyncio.wait_for(flushing, 0.1)
    assert (forms.seen, plain, observers.errors) == ([], [1, 2, 3], 0)
    observers.publish(record(4))
    await observers.flush()
    assert (forms.seen[-1], plain[-1], observers.errors) == (4, 4, 0)


async def test_a_cancelled_queue_is_dropped_and_begun_anew() -> None:
    """Somebody cancels every task of the loop, and the loop goes on."""
    forms = Forms()
    observers = watching(forms.method)
    observers.publish(record(1))
    observers.publish(record(2))
    assert observers._task is not None
    observers._task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    observers.publish(record(3))
    await observers.flush()
    assert (forms.seen, observers.errors) == ([3], 0)
