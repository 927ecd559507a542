"""Random lives of a plain machine, in virtual time: what is always so, and what is never, whoever does what and when."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_conn import IllegalTriggerError, MachineClosedError, State, StateMachine, Transition
from fsm_conn.machine.activity import PATIENCE
from fsm_conn.testing import VirtualLoop

STATES = ("a", "b", "c")
LIMIT = 20.0


class Busy(StateMachine):
    """Each state has an activity that takes some time, takes some more to clean up, and goes on by itself."""

    states = (
        State("a", initial=True),
        State("b", on_error="next", timeout=LIMIT, on_timeout="next"),
        State("c", on_error="same"),
    )
    transitions = (
        Transition("next", "a", "b"),
        Transition("next", "b", "c"),
        Transition("next", "c", "a"),
        Transition("same", "*", "c", guards="is_c"),
        Transition("same", "*", None),
        Transition("stay", "*", None),
        Transition("only_c", "c", None),
        Transition("fault", "*", "a"),
    )

    def __init__(self, paces: list[tuple[float, float, str]]) -> None:
        self.paces = paces
        self.turn = 0
        self.running: list[str] = []
        self.wrong: list[str] = []

    def is_c(self) -> bool:
        return self.state == "c"

    async def work(self, state: str) -> str | None:
        seconds, cleaning, outcome = self.paces[self.turn % len(self.paces)]
        self.turn += 1
        if self.running:
            self.wrong.append(f"{state} begins while {self.running} runs")
        if self.state != state:
            self.wrong.append(f"the activity of {state} begins in {self.state}")
        self.running.append(state)
        try:
            await asyncio.sleep(seconds)
        finally:
            try:
                await asyncio.sleep(cleaning)
            finally:
                self.running.remove(state)
        if outcome == "raise":
            raise OSError(state)
        if outcome == "crash":
            raise KeyError(state)
        return None if outcome == "rest" else outcome

    async def while_a(self) -> str | None:
        return await self.work("a")

    async def while_b(self) -> str | None:
        return await self.work("b")

    async def while_c(self) -> str | None:
        return await self.work("c")


seconds = st.sampled_from([0.0, 0.5, 3.0, 30.0])
paces = st.lists(
    st.tuples(seconds, st.sampled_from([0.0, 0.5, 3.0]), st.sampled_from(["next", "same", "rest", "raise", "crash"])),
    min_size=1,
    max_size=4,
).filter(lambda found: any(pace for pace, _, _ in found))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("fire"), st.sampled_from(["next", "same", "stay", "only_c", "nothing"])),
        st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.5, 1.0, 5.0, 25.0])),
        st.tuples(st.sampled_from(["start", "close", "close and go on", "cancel the close", "wait"]), st.none()),
    ),
    max_size=25,
)


async def do(machine: Busy, step: str, detail: Any, waiting: list[asyncio.Future[str]]) -> None:
    """One step."""
    before = machine.state, machine.visit, len(machine.history)
    if step == "fire":
        try:
            machine.fire(detail)
        except (IllegalTriggerError, MachineClosedError):
            assert (machine.state, machine.visit, len(machine.history)) == before
    elif step == "sleep":
        await asyncio.sleep(detail)
    elif step == "start":
        machine.start()
    elif step == "wait":
        waiting.append(asyncio.ensure_future(machine.wait_for_state("c")))
    else:
        await close(machine, step)


async def close(machine: Busy, how: str) -> None:
    closing = asyncio.ensure_future(machine.aclose())
    await asyncio.sleep(0)
    if how == "cancel the close":
        closing.cancel()
        await asyncio.wait({closing})
        return
    await closing
    assert (machine.running, machine.activity_task) == ([], None)
    if how == "close and go on":
        machine.start()


async def live(paces: Any, steps: Any) -> None:
    """A life, what must hold after each step, and what must at its end."""
    loop = asyncio.get_running_loop()
    machine, waiting = Busy(paces), list[asyncio.Future[str]]()
    for step, detail in steps:
        await do(machine, step, detail, waiting)
        assert machine.wrong == []
        assert len(machine.running) <= 1
        left = machine.snapshot().time_left
        assert left is None or (machine.state == "b" and left <= LIMIT)
    began = loop.time()
    await machine.aclose()
    assert loop.time() - began <= PATIENCE + 0.01
    await asyncio.sleep(0.01)
    assert (machine.running, machine.activity_task, machine.loop) == ([], None, None)
    assert all(each.done() for each in waiting)
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(100)
    assert machine.wrong == []
    assert [each for each in asyncio.all_tasks() if each is not asyncio.current_task()] == []


@settings(deadline=None, max_examples=150)
@given(paces, steps)
def test_a_life_keeps_its_promises(paces: Any, steps: Any) -> None:
    """Activities never overlap; a refused trigger changes nothing; after a close nothing runs, and nobody waits."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(live(paces, steps))


@settings(deadline=None, max_examples=50)
@given(paces, st.sampled_from([0.0, 0.5, 2.0, 21.0]))
def test_the_end_of_the_loop_brings_it_to_rest(paces: Any, after: float) -> None:
    """Whenever that comes: no activity runs, and the table has said so."""
    machine = Busy(paces)

    async def begin() -> None:
        machine.start()
        await asyncio.sleep(after)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(begin())
    assert (machine.running, machine.activity_task, machine.wrong) == ([], None, [])
