"""The gate of starts: bounded, fair, and no slot is ever lost."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_conn.links.process import start_limiter as gate_module
from fsm_conn.links.process.start_limiter import StartLimiter, process_limiter
from fsm_conn.links.process.system import usable_cores
from fsm_conn.testing import VirtualLoop

QUICK = 200.0
NEVER = 3600.0


class Guest:
    """A task that goes through the gate and stays until it is told to leave."""

    def __init__(self, gate: StartLimiter, log: list[Guest]) -> None:
        self.leave = asyncio.Event()
        self.inside = False
        self.task = asyncio.create_task(self._visit(gate, log))

    async def _visit(self, gate: StartLimiter, log: list[Guest]) -> None:
        async with gate.slot():
            self.inside = True
            log.append(self)
            try:
                await self.leave.wait()
            finally:
                self.inside = False


async def settle(turns: int = 10) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def all_slots_are_back(gate: StartLimiter, capacity: int) -> None:
    log: list[Guest] = []
    guests = [Guest(gate, log) for _ in range(capacity + 1)]
    await settle()
    assert len(log) == capacity
    for guest in guests:
        guest.leave.set()
    async with asyncio.timeout(QUICK):
        await asyncio.gather(*(guest.task for guest in guests))
    assert repr(gate) == f"<StartLimiter 0 of {capacity} slots out, 0 waiting>"


async def test_bounded_and_in_order() -> None:
    """No more than there are slots get in, and the others follow in the order in which they came."""
    gate, log = StartLimiter(2), []
    guests = [Guest(gate, log) for _ in range(6)]
    await settle()
    assert log == guests[:2]
    assert repr(gate) == "<StartLimiter 2 of 2 slots out, 4 waiting>"
    for position, leaving in enumerate(guests):
        leaving.leave.set()
        await settle()
        assert log == guests[: position + 3]
    await all_slots_are_back(gate, 2)


async def test_newcomer_does_not_overtake() -> None:
    """A slot that is on its way to a waiter is not free for somebody who comes just then."""
    gate, log = StartLimiter(1), []
    first, second = Guest(gate, log), Guest(gate, log)
    await settle()
    first.leave.set()
    await first.task
    late = Guest(gate, log)
    second.leave.set()
    late.leave.set()
    await asyncio.gather(second.task, late.task)
    assert log == [first, second, late]


async def test_cancelled_as_the_slot_arrives() -> None:
    """A waiter that is cancelled at the moment it is served hands the slot on."""
    gate, log = StartLimiter(1), []
    first, second, third = (Guest(gate, log) for _ in range(3))
    await settle()
    first.leave.set()
    await first.task
    second.task.cancel()
    await settle()
    assert second.task.cancelled()
    assert third.inside
    third.leave.set()
    await third.task
    await all_slots_are_back(gate, 1)


async def test_error_inside_gives_the_slot_back() -> None:
    """Whatever ends a visit, the slot is back."""
    gate = StartLimiter(1)
    with pytest.raises(ZeroDivisionError):
        async with gate.slot():
            raise ZeroDivisionError
    await all_slots_are_back(gate, 1)


def test_slow_holder_does_not_stop_others() -> None:
    """A slot that is out for too long goes to the next; given back later, it does not count twice."""

    async def scene() -> None:
        gate, log = StartLimiter(1, patience=0.05), []
        slow, next_one = Guest(gate, log), Guest(gate, log)
        async with asyncio.timeout(QUICK):
            while not next_one.inside:
                await asyncio.sleep(0.01)
        assert slow.inside
        slow.leave.set()
        await slow.task
        third = Guest(gate, log)
        await settle()
        assert not third.inside
        for guest in (next_one, third):
            guest.leave.set()
            await guest.task
        await all_slots_are_back(gate, 1)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())


def test_only_what_is_out_for_long_is_taken_back() -> None:
    """Somebody who has waited long takes back no slot that was handed out just now."""

    async def scene() -> None:
        gate, log = StartLimiter(1, patience=10), []
        first, second, third = (Guest(gate, log) for _ in range(3))
        await asyncio.sleep(6)
        first.leave.set()
        await asyncio.sleep(6)
        assert log == [first, second]
        await asyncio.sleep(10)
        assert log == [first, second, third]
        for guest in (second, third):
            guest.leave.set()
            await guest.task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())


def test_all_waiters_get_past_slow_holders() -> None:
    """Holders that never leave slow others down and do not keep them out."""

    async def scene() -> None:
        gate, log = StartLimiter(2, patience=0.02), []
        guests = [Guest(gate, log) for _ in range(9)]
        async with asyncio.timeout(QUICK):
            while len(log) < 9:
                await asyncio.sleep(0.01)
        assert log == guests
        for guest in guests:
            guest.leave.set()
            await guest.task
        await all_slots_are_back(gate, 2)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())


def test_one_start_does_not_wait_for_many_of_another_thing() -> None:
    """Twenty that hang are let in one after the other; what is started beside them comes within a second of its own."""

    async def scene() -> list[float]:
        gate, clock = StartLimiter(2), asyncio.get_running_loop().time

        async def hang() -> None:
            async with gate.slot("hangs"):
                await asyncio.sleep(60)

        async def start(times: list[float]) -> None:
            began = clock()
            async with gate.slot("well"):
                times.append(clock() - began)
                await asyncio.sleep(0.4)

        hanging, times = [asyncio.create_task(hang()) for _ in range(20)], list[float]()
        for _ in range(10):
            await asyncio.sleep(2.5)
            await start(times)
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
        assert repr(gate) == "<StartLimiter 0 of 2 slots out, 0 waiting>"
        assert not gate._hanging
        return times

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert max(runner.run(scene())) <= 1


def test_things_that_are_started_have_their_turns() -> None:
    """None of them waits for all of another."""

    async def scene() -> list[str]:
        gate, order = StartLimiter(1), list[str]()

        async def start(what: str) -> None:
            async with gate.slot(what):
                order.append(what)
                await asyncio.sleep(0.1)

        starts = [asyncio.create_task(start(what)) for what in "aaaaabbc"]
        await asyncio.wait(starts)
        return order

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scene()) == ["a", "a", "b", "c", "a", "b", "a", "a"]


async def test_loop_that_stopped_with_slot_and_waiter() -> None:
    """A loop that nobody runs any more, with one that holds and one that waits, keeps nobody out."""
    gate = StartLimiter(1, patience=0.05)
    loop = asyncio.new_event_loop()

    async def hold() -> None:
        async with gate.slot():
            await asyncio.Event().wait()

    def run() -> None:
        tasks.extend([loop.create_task(hold()), loop.create_task(hold())])
        loop.run_until_complete(asyncio.sleep(0.01))

    tasks: list[asyncio.Task[None]] = []
    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    async with asyncio.timeout(QUICK):
        async with gate.slot():
            pass

    def end() -> None:
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
        loop.close()

    ending = threading.Thread(target=end)
    ending.start()
    while ending.is_alive():
        await asyncio.sleep(0.001)
    await all_slots_are_back(gate, 1)


async def test_many_loops_in_many_threads() -> None:
    """The bound holds for the whole process, and everybody gets through."""
    gate, lock = StartLimiter(2), threading.Lock()
    inside = most = passed = 0

    async def visit() -> None:
        nonlocal inside, most, passed
        async with gate.slot():
            with lock:
                inside += 1
                most = max(most, inside)
            try:
                await asyncio.sleep(0.0005)
                with lock:
                    passed += 1
            finally:  # one of them is cancelled, perhaps in here
                with lock:
                    inside -= 1

    async def crowd() -> None:
        visits = [asyncio.create_task(visit()) for _ in range(25)]
        await asyncio.sleep(0.005)
        visits[5].cancel()
        await asyncio.wait(visits)

    threads = [threading.Thread(target=lambda: asyncio.run(crowd())) for _ in range(6)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(200):
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.01)
    assert most <= 2
    assert passed >= 6 * 24
    await all_slots_are_back(gate, 2)


steps = st.lists(
    st.tuples(st.sampled_from(["come", "come", "leave", "cancel", "wait", "breathe"]), st.integers(0, 30)), max_size=60
)


@settings(deadline=None)
@given(capacity=st.integers(1, 4), program=steps)
def test_any_program(capacity: int, program: list[tuple[str, int]]) -> None:
    """Whoever comes, leaves and is cancelled, when and in whatever order: bounded, in order, and no slot is lost."""
    asyncio.run(_run_program(capacity, program))


async def _run_program(capacity: int, program: list[tuple[str, int]]) -> None:
    gate, log, guests = StartLimiter(capacity, patience=NEVER), [], []
    for action, number in program:
        await _step(gate, log, guests, action, number)
        assert sum(guest.inside for guest in guests) <= capacity
        if action == "wait":
            nobody_was_passed_by(guests, log)
    await settle(10 + 8 * len(guests))  # a slot may go from hand to hand through all of them
    nobody_was_passed_by(guests, log)
    waiting = [guest for guest in guests if not guest.task.done() and not guest.inside]
    assert not waiting or sum(guest.inside for guest in guests) == capacity
    for guest in guests:
        guest.leave.set()
    await asyncio.wait([guest.task for guest in guests] or [asyncio.ensure_future(settle())], timeout=QUICK)
    await all_slots_are_back(gate, capacity)


def nobody_was_passed_by(guests: list[Guest], log: list[Guest]) -> None:
    """Nobody was let in before somebody who had come earlier and waits. (Who is let in late may learn it later.)"""
    waiting = [number for number, guest in enumerate(guests) if not guest.task.done() and guest not in log]
    assert not waiting or max(map(guests.index, log)) < waiting[0]


async def _step(gate: StartLimiter, log: list[Any], guests: list[Guest], action: str, number: int) -> None:
    if action == "come":
        guests.append(Guest(gate, log))
    elif action == "wait":
        await settle()
    elif action == "breathe":
        await asyncio.sleep(0)
    elif guests:
        guest = guests[number % len(guests)]
        guest.leave.set() if action == "leave" else guest.task.cancel()


def test_one_for_the_process() -> None:
    """Everybody gets the same gate, with a slot for each core that may be used."""
    assert process_limiter() is process_limiter()
    assert f"of {usable_cores()} slots" in repr(process_limiter())
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_forked_child_has_its_own() -> None:
    """A gate that was full when the host forked does not keep the child out."""
    gate = process_limiter()
    gate_module._after_fork()
    assert process_limiter() is not gate


def test_no_slots() -> None:
    """A gate that nobody could ever pass is refused."""
    with pytest.raises(ValueError, match="at least one slot"):
        StartLimiter(0)
