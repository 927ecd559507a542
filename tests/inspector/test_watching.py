"""What is watched, and that watching keeps nothing alive, hurts nobody and ends."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest

import fsm_conn.inspector.registry
from fsm_conn import Connection, ConnectionPool, State, StateMachine, Transition
from fsm_conn.inspector import Inspector
from fsm_conn.machine.observers import on_begun
from fsm_conn.testing import SimulatedLink


class Door(StateMachine):
    """Two states, no event loop."""

    states = (State("closed", initial=True), State("open"))
    transitions = (Transition("push", "closed", "open"), Transition("pull", "open", "closed"))


def names(inspector: Inspector) -> set[str]:
    return {subject.name for subject in inspector._registry.all()}


def test_a_machine_that_is_watched_can_go() -> None:
    """Also after transitions with errors, whose tracebacks hold its frames."""
    inspector = Inspector(token=False)
    door = Door()
    inspector.watch(door)

    def fails(machine: Door) -> None:
        try:
            raise OSError("it creaks")
        except OSError as error:
            machine.fire("push", reason=error)

    fails(door)
    known = weakref.ref(door)
    assert len(inspector._registry.all()) == 1
    del door
    gc.collect()
    assert known() is None
    assert inspector._registry.all() == ()


def test_watching_twice_is_watching_once_and_it_ends() -> None:
    """What ends it may be called as often as one likes."""
    inspector = Inspector(token=False)
    door = Door()
    end = inspector.watch(door)
    assert inspector.watch(door) is end
    door.fire("push")
    (subject,) = inspector._registry.all()
    assert subject.row()[8] == 1
    end()
    end()
    door.fire("pull")
    assert subject.row()[8] == 1
    assert inspector._registry.all() == ()
    assert inspector.watch(door) is not end


async def test_everything_there_is_and_will_be() -> None:
    """Those that are there, those that begin later, connections and pools among them; not the slots of a pool."""
    before = Door()
    inspector = Inspector(token=False)
    stop = inspector.watch_all()
    assert inspector.watch_all() is stop
    assert any(subject.machine is before for subject in inspector._registry.all())  # type: ignore[attr-defined]
    later, idle = Door(), Door()
    later.fire("push")
    watched = [subject.machine for subject in inspector._registry.all()]  # type: ignore[attr-defined]
    assert later in watched
    assert idle not in watched
    async with (
        Connection(SimulatedLink.script(), name="one") as conn,
        ConnectionPool(SimulatedLink.script(), pool_size=2, name="many") as pool,
    ):
        assert {"one", "many", "many#1", "many#2"} <= names(inspector)
        assert not any("Slot" in name for name in names(inspector))
        assert (conn.state, pool.state) == ("connected", "open")
        (first,) = (each for each in inspector._registry.all() if each.name == "many#1")
        (many,) = (each for each in inspector._registry.all() if each.name == "many")
        assert first.parent == many.key
    stop()
    stop()
    idle.fire("push")
    assert idle not in [subject.machine for subject in inspector._registry.all()]  # type: ignore[attr-defined]
    await inspector.aclose()
    assert on_begun == []
    assert names(inspector) == set()


def test_the_first_transition_of_one_that_begins_is_told() -> None:
    """It is watched before it is told of."""
    inspector = Inspector(token=False)
    stop = inspector.watch_all()
    door = Door()
    door.fire("push")
    (subject,) = (each for each in inspector._registry.all() if each.machine is door)  # type: ignore[attr-defined]
    assert (subject.row()[8], subject.state) == (1, "open")
    stop()


def test_who_is_told_of_beginnings_cannot_hurt(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged, and the machine does as ever."""

    def fails(machine: Any) -> None:
        raise RuntimeError("no")

    on_begun.append(fails)
    try:
        door = Door()
        door.fire("push")
    finally:
        on_begun.remove(fails)
    assert (door.state, len(door.history)) == ("open", 1)
    assert "failed on" in caplog.text


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond are counted, not shown; and of many machines less is kept of each."""
    monkeypatch.setattr(fsm_conn.inspector.registry, "MOST", 150)
    inspector = Inspector(token=False)
    doors = [Door() for _ in range(200)]
    for door in doors:
        inspector.watch(door)()
        inspector.watch(door)
    assert len(inspector._registry.all()) == 150
    assert inspector._registry.left_out == 100
    for subject in inspector._registry.all():
        for _ in range(260):
            subject.machine.fire("push")
            subject.machine.fire("pull")
    for subject in inspector._registry.all():
        subject.fold()
    kept = [len(subject._entries) for subject in inspector._registry.all()]
    assert (max(kept), min(kept)) == (512, 64)
    assert sum(kept) == 100 * 512 + 50 * 64


def test_what_is_no_machine_is_refused() -> None:
    """With a word about what is."""
    with pytest.raises(TypeError, match="give a StateMachine, such as a Connection"):
        Inspector(token=False).watch("door")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no 'fires'"):
        Inspector(token=False, allow=("fires",))
    with pytest.raises(ValueError, match="give a tuple of names"):
        Inspector(token=False, allow="fire")
    with pytest.raises(ValueError, match="give a tuple of names"):
        Inspector(token=False, hosts="localhost")


async def test_it_can_be_closed_twice_and_before_it_was_opened() -> None:
    """Both are harmless."""
    inspector = Inspector(token=False)
    await inspector.aclose()
    await inspector.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=200).stdout


def test_it_costs_nothing_until_it_is_used() -> None:
    """Neither the package nor a connection, nor the front of the room itself, imports any of its libraries."""
    code = (
        "import sys, fsm_conn, fsm_conn.cli, fsm_conn.cli.app, fsm_conn.inspector; fsm_conn.Connection(['x']);"
        "print([each for each in sys.modules if each.partition('.')[0] in ('starlette', 'uvicorn', 'anyio', 'pygraphviz')"
        " or each.startswith('fsm_conn.inspector.')])"
    )
    assert run(code) == "[]\n"


@pytest.mark.parametrize("library", ["starlette", "starlette.applications"])
def test_without_its_library_the_error_names_the_extra(library: str) -> None:
    """And the way to get it."""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "try:\n    from fsm_conn.inspector import Inspector\nexcept ImportError as error:\n    print(error)"
    )
    assert "Inspector needs 'starlette', which is not installed: pip install 'fsm_conn[inspector]'" in run(code)
