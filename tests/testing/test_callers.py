"""Callers of plain machines, cancelled at any moment: what their methods leave undone is found, with the line."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import pytest

from fsm_conn import Fires, State, StateMachine, Transition
from fsm_conn.testing import MachineLife, ViolationError, explore, random_lives


class Printer(StateMachine):
    """One thing at a time, by methods that wait until it is done."""

    states = (State("idle", initial=True), State("printing", on_error="jammed"))
    transitions = (
        Transition("print", "idle", "printing"),
        Transition("printed", "printing", "idle"),
        Transition("jammed", "printing", "idle"),
        Transition("fault", "printing", "idle"),
    )
    is_taken = False

    async def while_printing(self) -> Annotated[str, Fires("printed")]:
        """Print."""
        await asyncio.sleep(1)
        return "printed"

    async def print(self, copies: int = 1) -> None:
        """Wait until it is idle, and print."""
        for _ in range(copies):
            await self.wait_for_state("idle")
            self.fire("print")
            await self.wait_for_state("idle")

    async def print_of(self, text: str) -> None:
        """Nobody knows with what."""
        raise AssertionError(text)

    async def _secret(self) -> None:
        raise AssertionError


class StaysTaken(Printer):
    """What it takes, it gives back unless it is cancelled."""

    async def print(self, copies: int = 1) -> None:
        """Print."""
        if self.is_taken:
            raise RuntimeError("taken")  # bug
        self.is_taken = True
        await super().print(copies)
        self.is_taken = False


class TakesNoEnd(Printer):
    """Its caller cannot be cancelled."""

    async def print(self, copies: int = 1) -> None:
        """Print, whatever is said."""
        self.fire("print")
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()


class CancelsOthers(Printer):
    """Who is late has all others told that they were cancelled."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    async def print(self, copies: int = 1) -> None:
        """Print alone."""
        for task in self.tasks:
            task.cancel()
        self.tasks = [asyncio.current_task()]
        await super().print(copies)


FAULTY = {
    StaysTaken: ("faults_have_a_cause", "StaysTaken.print(), tests/testing/test_callers.py:"),
    TakesNoEnd: ("cancelled_callers_go", "print(), tests/testing/test_callers.py:"),
    CancelsOthers: ("cancellation_is_honest", "print(), tests/testing/test_callers.py:"),
}


@pytest.mark.parametrize("faulty", FAULTY, ids=lambda faulty: str(faulty.__name__))
def test_what_a_method_does_to_its_callers_is_found(faulty: type[StateMachine]) -> None:
    """By chance, and by the shortest life; where that takes two callers, by chance."""
    name, words = FAULTY[faulty]
    found = [random_lives(faulty).violation]
    if faulty is not CancelsOthers:
        found.append(explore(faulty, depth=4).violation)
    for violation in found:
        assert violation is not None
        assert violation.invariant == name
        assert words in violation.message
        assert violation.script is not None
        assert len(violation.script.steps) <= 5, str(violation)


def test_callers_of_what_has_no_fault_raise_no_alarm() -> None:
    """Nor do they when they are cancelled, at whatever moment."""
    walk = explore(Printer, depth=5)
    assert walk.violation is None, str(walk)
    assert walk.proven
    assert random_lives(Printer).violation is None
    assert random_lives(Printer, make=Printer).violation is None


def test_who_waits_for_a_state_is_told_of_it() -> None:
    """And of no other."""
    life = MachineLife(Printer)
    life.wait("printing")
    life.wait("printing")
    assert len(life.callers.waiting) == 2
    life.cancel(1)
    assert len(life.callers.waiting) == 1
    life.fire("print")
    assert life.callers.waiting == []
    life.wait("idle", rush=True)
    life.end()
    assert life.callers.waiting == []


def test_a_machine_that_one_of_its_own_methods_has_closed_refuses_all_the_same() -> None:
    """That is no fault of the table."""

    class Ends(Printer):
        async def stop(self) -> None:
            await self.aclose()

    assert random_lives(Ends).violation is None


def test_a_wait_that_is_answered_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a class makes of it."""

    class Liar(Printer):
        async def wait_for_state(self, *states: str) -> str:
            await super().wait_for_state(*states)
            return "done"

    with pytest.raises(ViolationError, match=r"wait_for_state\(\) returned 'done'"):
        MachineLife(Liar).wait("idle")
