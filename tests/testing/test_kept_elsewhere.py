"""What a class keeps where no life looks: it tells moments apart, or `explore` says that it may have seen too little."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import pytest

from fsm_conn import Fires, State, StateMachine, Transition
from fsm_conn.testing import Evidence, explore, invariant, machine_test


class Third(StateMachine, abstract=True):
    """Goes wrong at the third `more` in a visit."""

    states = (State("idle", initial=True), State("busy"))
    transitions = (
        Transition("begin", "idle", "busy", effects="clear"),
        Transition("more", "busy", None, effects="count"),
        Transition("end", "busy", "idle"),
    )

    def clear(self) -> None:
        """From the beginning."""
        self.keep(0)

    def count(self) -> None:
        """One more."""
        self.keep(self.kept() + 1)
        if self.kept() == 3:
            raise KeyError("the third")

    def kept(self) -> int:
        """How many there were."""
        raise NotImplementedError

    def keep(self, number: int) -> None:
        """Remember that there were so many."""
        raise NotImplementedError


class InASlot(Third):
    """A slot is no entry of the object's dict."""

    __slots__ = ("number",)

    def kept(self) -> int:
        return self.number

    def keep(self, number: int) -> None:
        self.number = number


class InTheBase(Third):
    """An attribute that the base has, too."""

    def kept(self) -> int:
        return self.history_size - 1000

    def keep(self, number: int) -> None:
        self.history_size = 1000 + number


class Name(str):
    """A text, and more."""

    number = 0


class InAText(Third):
    """An attribute of what is equal."""

    name = Name()

    def kept(self) -> int:
        return self.name.number

    def keep(self, number: int) -> None:
        self.name = Name("the same")
        self.name.number = number


class InACause(Third):
    """The cause of an error."""

    error = ValueError()

    def kept(self) -> int:
        return int(self.error.__cause__.args[0]) if self.error.__cause__ else 0

    def keep(self, number: int) -> None:
        self.error = ValueError()
        self.error.__cause__ = ValueError(number)


class InTheObserver(Third):
    """A variable around an observer."""

    def __init__(self) -> None:
        seen: list[str] = []

        def observe(record: Any) -> None:
            seen.append(record.trigger)
            if seen[-4:] == ["begin", "more", "more", "more"]:
                raise KeyError("the third")

        self.on_transition(observe)

    def clear(self) -> None:
        """Nothing."""

    def count(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("subject", [InASlot, InTheBase, InAText, InACause, InTheObserver])
def test_what_an_object_keeps_anywhere_tells_moments_apart(subject: type[Third]) -> None:
    """It is found, by as few steps as there are."""
    walk = explore(subject, depth=5)
    assert walk.violation is not None, str(walk)
    assert walk.violation.script is not None
    assert len(walk.violation.script.steps) == 4


NUMBERS = {"now": 0}
number_now = 0
VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


class InADict(Third):
    """A dict of the module."""

    def kept(self) -> int:
        return NUMBERS["now"]

    def keep(self, number: int) -> None:
        NUMBERS["now"] = number


class InAGlobal(Third):
    """A number of the module."""

    def kept(self) -> int:
        return number_now

    def keep(self, number: int) -> None:
        global number_now
        number_now = number


class InAVariable(Third):
    """A variable of the context."""

    def kept(self) -> int:
        return VARIABLE.get()

    def keep(self, number: int) -> None:
        VARIABLE.set(number)


class InTheClass(Third):
    """A number of the class."""

    number = 0

    def kept(self) -> int:
        return InTheClass.number

    def keep(self, number: int) -> None:
        InTheClass.number = number


class Kept(Protocol):
    """What a decorator makes."""

    number: int
    __call__: Callable[..., int]


def counted(function: Callable[..., int]) -> Any:
    """A decorator that keeps a number."""

    @functools.wraps(function)
    def wrapper(self: Any) -> int:
        return wrapper.number  # type: ignore[attr-defined, no-any-return]

    wrapper.number = 0  # type: ignore[attr-defined]
    return wrapper


class AtAFunction(Third):
    """An attribute of a function."""

    @counted
    def kept(self) -> int:
        """How many there were."""
        return 0

    def keep(self, number: int) -> None:
        AtAFunction.kept.number = number


def pair() -> tuple[Any, Any]:
    """Two functions with one variable around them."""
    number = 0

    def kept(self: Any) -> int:
        return number

    def keep(self: Any, new: int) -> None:
        nonlocal number
        number = new

    return kept, keep


class Around(Third):
    """A variable around two methods."""

    kept, keep = pair()


def number_of(name: str) -> int:
    """Helps."""
    return int(os.environ.get(name, 0))


class InTheEnvironment(Third):
    """What a helper reads, and only the system has."""

    def kept(self) -> int:
        return number_of("FSM_CONN_KEPT")

    def keep(self, number: int) -> None:
        os.environ["FSM_CONN_KEPT"] = str(number)


TOLD = {
    InADict: "NUMBERS, which lives change",
    InAGlobal: "number_now, which lives change",
    InAVariable: "VARIABLE (ContextVar)",
    InTheClass: "InTheClass.number, which lives change",
    AtAFunction: "kept.number, which lives change",
    Around: "number around pair",
    InTheEnvironment: "files and the system (os in number_of)",
}


@pytest.mark.parametrize("subject", TOLD)
def test_what_lives_leave_to_one_another_is_named_and_nothing_is_promised(subject: type[Third]) -> None:
    """No life begins it anew, so no two can be compared."""
    walk = explore(subject, depth=5)
    os.environ.pop("FSM_CONN_KEPT", None)
    assert TOLD[subject] in str(walk)
    assert not walk.proven
    assert "all of them" not in str(walk)


def late() -> bool:
    """Reads the clock for others."""
    return time.time() > 4e9


def logged(guard: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A decorator as there are many."""

    @functools.wraps(guard)
    def wrapper(self: Any) -> bool:
        return guard(self)

    return wrapper


class Shop(StateMachine):
    """Closes late."""

    states = (State("open", initial=True), State("closed"))
    transitions = (
        Transition("close", "open", "closed", guards="is_late"),
        Transition("close", "open", None),
        Transition("reopen", "closed", "open"),
    )

    def is_late(self) -> bool:
        """By a helper."""
        return late()


class Decorated(Shop):
    """Behind a decorator."""

    @logged
    def is_late(self) -> bool:
        """By itself."""
        return time.time() > 4e9


@pytest.mark.parametrize("subject", [Shop, Decorated])
def test_who_reads_the_wall_clock_by_a_helper_or_behind_a_decorator_is_told(subject: type[Shop]) -> None:
    """Not only what a method itself names counts."""
    assert "the wall clock (time in" in str(explore(subject, depth=3))


class Retried(StateMachine):
    """Counts from zero again whenever it is left, also to itself."""

    states = (State("idle", initial=True), State("trying", exit="reset"), State("dead", final=True))
    transitions = (
        Transition("begin", ("idle", "dead"), "trying"),
        Transition("failed", "trying", "trying", guards="may_try", effects="count"),
        Transition("failed", "trying", "dead"),
        Transition("worked", "trying", "idle"),
    )
    tries = 0

    def may_try(self) -> bool:
        """Three times."""
        return self.tries < 2

    def count(self) -> None:
        """One more."""
        self.tries += 1

    def reset(self) -> None:
        """From the beginning."""
        self.tries = 0


def failures_in_a_row(life: Evidence) -> int:
    """Looks back."""
    triggers = [record.trigger for record in life.records]
    return next((number for number, each in enumerate(reversed(triggers)) if each != "failed"), len(triggers))


@invariant()
def three_tries(life: Evidence) -> str | None:
    """Three at most."""
    return "one more" if life.state == "trying" and failures_in_a_row(life) > 2 else None


def test_a_rule_about_the_past_tells_moments_with_another_past_apart() -> None:
    """The machine is as it was, and the rule is not: it is found by the four steps that it takes."""
    walk = explore(Retried, depth=5, invariants=[three_tries])
    assert walk.violation is not None, str(walk)
    assert walk.violation.script is not None
    assert len(walk.violation.script.steps) == 4


class Threaded(StateMachine):
    """What it does in threads does not block the loop."""

    states = (State("idle", initial=True), State("working", timeout=9, on_timeout="worked"))
    transitions = (
        Transition("work", "idle", "working", effects="tell"),
        Transition("worked", "working", "idle"),
        Transition("fault", "working", "idle"),
    )

    def tell(self) -> None:
        """A thread of its own."""
        threading.Thread(target=time.sleep, args=(0.001,)).start()

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        """In a thread of the loop's."""
        await asyncio.to_thread(time.sleep, 0.001)
        return "worked"


def test_threads_may_block() -> None:
    """Only the loop's own may not."""
    assert explore(Threaded, depth=3, make=Threaded).violation is None


class Ballot(StateMachine):
    """Nobody votes twice."""

    states = (State("open", initial=True), State("shut", final=True))
    transitions = (
        Transition("vote", "open", None, guards="is_new", effects="count"),
        Transition("vote", "open", None),
        Transition("shut", "open", "shut"),
    )

    def __init__(self) -> None:
        self.votes: list[str] = []

    @functools.cached_property
    def excluded(self) -> frozenset[str]:
        """Who may not vote; worked out when it is first asked for."""
        return frozenset(["nobody"])

    def is_new(self, name: str) -> bool:
        """Whether there is no vote of that name."""
        return name not in self.votes and name not in self.excluded

    def count(self, name: str) -> None:
        """One more."""
        self.votes.append(name)


def test_data_may_have_any_name_and_a_guard_may_fill_a_cached_property() -> None:
    """Neither is a mistake."""
    assert explore(Ballot, depth=3, data={"vote": {"name": ["ann", "bob"]}}).proven
    TestBallot = machine_test(Ballot, max_examples=5)
    assert TestBallot("runTest").run().wasSuccessful()  # type: ignore[union-attr]
