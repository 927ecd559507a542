"""The end of an event loop, for many machines that live in it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from fsm_conn import State, StateMachine, Transition
from fsm_conn.machine import guardian


class Lamp(StateMachine):
    states = (State("off", initial=True, final=True), State("on"))
    transitions = (Transition("press", "*", "on"), Transition("fault", "*", "off"))
    released = 0
    refuses = False

    async def while_on(self) -> None:
        await asyncio.sleep(3600)

    async def on_loop_end(self) -> None:
        await asyncio.sleep(1)
        self.released += 1

    def come_to_rest(self) -> None:
        if self.refuses:
            raise OSError("it cannot")
        super().come_to_rest()


def lit(number: int) -> list[Lamp]:
    lamps = [Lamp() for _ in range(number)]
    for each in lamps:
        each.fire("press")
    return lamps


async def test_one_task_watches_over_all() -> None:
    """It ends with the last that has something to do, and another one begins with the next."""
    for _ in range(2):
        lamps = lit(5)
        assert len(asyncio.all_tasks()) == 1 + 5 + 1
        for each in lamps:
            assert len(asyncio.all_tasks()) > 2
            await each.aclose()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def ended(begun: bool, *spared: asyncio.Task[Any] | None) -> None:
    """What `asyncio.run` does with the tasks of a loop, before or after they have begun."""
    if begun:
        await asyncio.sleep(0)
    tasks = asyncio.all_tasks() - {asyncio.current_task(), *spared}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("begun", [False, True])
async def test_all_come_to_rest_at_the_end_of_the_loop(begun: bool) -> None:
    """Together, and each has released what it held; before anything began there is nothing to release."""
    now = asyncio.get_running_loop().time
    for _ in range(2):
        lamps, began = lit(3), now()
        await ended(begun)
        assert [(each.state, each.released) for each in lamps] == [("off", begun)] * 3
        assert now() - began == begun


@pytest.mark.parametrize("begun", [False, True])
async def test_one_that_cannot_keeps_no_other_from_it(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is told."""
    lamps = lit(3)
    lamps[0].refuses = True
    await ended(begun)
    gc.collect()
    assert [each.state for each in lamps] == ["on", "off", "off"]
    assert "it cannot" in caplog.text


async def test_what_begins_while_the_loop_ends_has_another_guardian() -> None:
    """The one that is being cancelled waits only for those that it had."""
    first = lit(2)
    ending = asyncio.create_task(ended(True, asyncio.current_task()))
    await asyncio.sleep(0.5)
    second = lit(2)
    await ending
    assert [(each.state, each.released) for each in (*first, *second)] == [("off", 1)] * 2 + [("on", 0)] * 2
    await ended(True)
    assert [(each.state, each.released) for each in second] == [("off", 1)] * 2


def test_a_loop_that_was_closed_is_let_go() -> None:
    """With its machines, when nobody refers to them."""
    loop = asyncio.new_event_loop()

    async def begin() -> list[Any]:
        return [weakref.ref(each) for each in lit(2)]

    seen = [*loop.run_until_complete(begin()), weakref.ref(guardian._guardians[id(loop)])]
    tasks = asyncio.all_tasks(loop)
    loop.close()
    for task in tasks:
        task.get_coro().close()  # type: ignore[union-attr]
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del loop, tasks, task
    gc.collect()
    assert [each() for each in seen] == [None, None, None]
