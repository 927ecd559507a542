"""Which moments of a machine `explore` takes for one: none that what is set to happen by itself tells apart."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

import pytest

from fsm_conn import Fires, State, StateMachine, Transition
from fsm_conn.testing import Evidence, Exploration, explore, invariant


class Lamp(StateMachine):
    """Shines in one colour or another after a second, as the first trigger has set it."""

    states = (State("off", initial=True), State("set"))
    transitions = (
        Transition("red", "off", "set", effects="set_red"),
        Transition("green", "off", "set", effects="set_green"),
    )

    def __init__(self) -> None:
        self.colour = ""
        self.kept: Any = None

    def shine(self, colour: str = "") -> None:
        """Shine from now on."""
        self.colour = colour

    def set_red(self) -> None:
        """Shine in red, later."""
        self.set_to("red")

    def set_green(self) -> None:
        """Shine in green, later."""
        self.set_to("green")

    def set_to(self, colour: str) -> None:
        """Shine, later: by a timer."""
        asyncio.get_running_loop().call_later(1.0, self.shine, colour)


class OfMethods(Lamp):
    """By a timer for a method of its own."""

    def set_to(self, colour: str) -> None:
        """Shine, later."""
        asyncio.get_running_loop().call_later(1.0, self.shine_red if colour == "red" else self.shine_green)

    def shine_red(self) -> None:
        """Red."""
        self.shine("red")

    def shine_green(self) -> None:
        """Green."""
        self.shine("green")


class OfPartials(Lamp):
    """By a timer for a function with its argument."""

    def set_to(self, colour: str) -> None:
        """Shine, later."""
        asyncio.get_running_loop().call_later(1.0, partial(self.shine, colour))


class OfTasks(Lamp):
    """By what is called when a task is done."""

    def set_to(self, colour: str) -> None:
        """Shine, later."""
        self.kept = asyncio.ensure_future(asyncio.sleep(1.0))
        self.kept.add_done_callback(lambda task: self.shine(colour))


class OfQueues(Lamp):
    """By a timer that puts the colour into a queue of the library's."""

    def set_to(self, colour: str) -> None:
        """Shine, later."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        asyncio.get_running_loop().call_later(1.0, queue.put_nowait, colour)
        self.kept = asyncio.ensure_future(self.watch(queue))

    async def watch(self, queue: asyncio.Queue[str]) -> None:
        """Shine as the queue says."""
        self.shine(await queue.get())


class OfTwoTasks(Lamp):
    """By two tasks that end in one order or another: who is last determines the colour."""

    def set_to(self, colour: str) -> None:
        """Shine, later."""
        self.kept = [asyncio.ensure_future(self.after(each, 1.0 + (each == colour))) for each in ("red", "green")]

    async def after(self, colour: str, seconds: float) -> None:
        """Shine, later."""
        pause = asyncio.sleep(seconds)
        del seconds
        await pause
        self.shine(colour)


def walked(lamp: type[Lamp], colour: str) -> Exploration:
    """Explored for whether it ever shines in that colour."""

    @invariant()
    def is_dark(life: Evidence) -> str | None:
        """It does not shine so."""
        return "it shines" if life.machine.colour == colour else None

    return explore(lamp, depth=2, invariants=[is_dark])


@pytest.mark.parametrize("colour", ["red", "green"])
@pytest.mark.parametrize(
    "lamp", [Lamp, OfMethods, OfPartials, OfTasks, OfQueues, OfTwoTasks], ids=lambda lamp: lamp.__name__
)
def test_what_is_set_to_happen_tells_moments_apart(lamp: type[Lamp], colour: str) -> None:
    """Each colour is seen after two steps: moments with different timers, callbacks or tasks are not one."""
    walk = walked(lamp, colour)
    assert walk.violation is not None, str(walk)
    assert walk.violation.message == "it shines"


class Impatient(StateMachine):
    """Opens for who comes late in a visit."""

    states = (State("out", initial=True), State("in"))
    transitions = (
        Transition("enter", "out", "in"),
        Transition("open", "in", None, guards="is_late", effects="fail"),
        Transition("open", "in", None),
    )

    def is_late(self) -> bool:
        """Whether the visit has lasted for ten seconds."""
        return self.snapshot().elapsed >= 10

    def fail(self) -> None:
        """The fault."""
        raise ArithmeticError("too late")


def test_how_long_a_visit_has_lasted_tells_moments_apart() -> None:
    """At the same hour it has lasted for ten seconds where one entered before, and for none where one entered after."""
    walk = explore(Impatient, depth=3)
    assert walk.violation is not None, str(walk)
    assert walk.violation.script is not None
    steps = [str(step) for step in walk.violation.script.steps]
    assert steps == ["life.fire('enter')", "life.advance(10.0)", "life.fire('open')"]


class Still(StateMachine):
    """Its first activity ends at once, and says nothing, although only it leads on."""

    states = (State("begin", initial=True), State("done", final=True))
    transitions = (Transition("ready", "begin", "done"), Transition("fault", "begin", "done"))

    async def while_begin(self) -> Annotated[str | None, Fires("ready")]:
        """Forget to say that it is ready."""
        return None


class Lying(Still):
    """It says by its annotation that it fires, and does not."""

    async def while_begin(self) -> Annotated[str, Fires("ready")]:
        """Return what nobody expects."""
        return None  # type: ignore[return-value]


@pytest.mark.parametrize("still", [Still, Lying])
@pytest.mark.parametrize("depth", [1, 3])
def test_an_activity_that_ends_before_any_step_is_judged(still: type[StateMachine], depth: int) -> None:
    """What begins by itself may begin before anything else happens."""
    walk = explore(still, depth=depth, make=still)
    assert walk.violation is not None, str(walk)
    assert walk.violation.invariant == "something_follows"
    assert "while_begin(), " in walk.violation.message
