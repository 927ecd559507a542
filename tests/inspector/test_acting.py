"""What the page may do: nothing, unless it was allowed; and then what was asked, and no more."""

from __future__ import annotations

import pytest
from browsing import Browser

from fsm_conn import Connection, State, StateMachine, Transition
from fsm_conn.inspector import Inspector
from fsm_conn.testing import SimulatedLink


class Door(StateMachine):
    """Two states."""

    states = (State("closed", initial=True), State("open"))
    transitions = (Transition("push", "closed", "open"), Transition("pull", "open", "closed"))


async def act(inspector: Inspector, target: StateMachine, act: str, trigger: str = "") -> str | None:
    """What the page is answered."""
    inspector.watch(target)
    (key,) = (each.key for each in inspector._registry.all() if each.machine is target)  # type: ignore[attr-defined]
    answer = await Browser(inspector.app).post("/api/act", {"of": key, "act": act, "trigger": trigger})
    error: str | None = answer.json["error"]
    return error


@pytest.mark.parametrize("wish", ["fire", "connect", "disconnect", "reconnect", "close", "__init__"])
@pytest.mark.parametrize("allow", [(), ("connect",)])
async def test_what_was_not_allowed_is_refused(wish: str, allow: tuple[str, ...]) -> None:
    """Whatever the page asks; only looking is always allowed."""
    if wish in allow:
        return
    door, conn = Door(), Connection(SimulatedLink.script())
    for target in (door, conn):
        error = await act(Inspector(token=False, allow=allow), target, wish, "push")
        assert error is not None
        assert "is not allowed" in error
    assert (door.state, conn.state) == ("closed", "disconnected")


async def test_a_trigger_is_fired_and_what_is_refused_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """With the error that the machine gives; and it is logged who asked."""
    door, inspector = Door(), Inspector(token=False, allow=("fire",))
    assert await act(inspector, door, "fire", "push") is None
    assert door.state == "open"
    assert "127.0.0.1 asks to fire 'push'" in caplog.text
    error = await act(inspector, door, "fire", "push")
    assert error is not None
    assert "cannot happen in state 'open'" in error
    assert await act(inspector, door, "fire", "\x1b[31m\nforged line") is not None
    assert "\x1b" not in caplog.text
    assert "\nforged" not in caplog.text


async def test_a_connection_is_connected_and_disconnected() -> None:
    """As its methods do it; what fails is told."""
    inspector = Inspector(token=False, allow=("connect", "disconnect", "reconnect"))
    conn = Connection(SimulatedLink.script(opens=["ok", "ok", "refuse_for_good"]))
    assert await act(inspector, conn, "connect") is None
    assert conn.state == "connected"
    assert await act(inspector, conn, "reconnect") is None
    assert await act(inspector, conn, "disconnect") is None
    assert conn.state == "disconnected"
    error = await act(inspector, conn, "connect")
    assert error is not None
    assert error.startswith("ConnectFailedError")
    assert await act(inspector, Door(), "connect") == "it is no connection, so there is nothing to connect"


async def test_what_takes_long_goes_on_and_ends_with_the_inspector() -> None:
    """The page does not wait for it."""
    inspector = Inspector(token=False, allow=("connect",))
    conn = Connection(SimulatedLink.script(opens=["hang"]))
    assert await act(inspector, conn, "connect") is None
    assert conn.state == "connecting"
    await inspector.aclose()
    await conn.wait_for_state("disconnected")


async def test_one_that_is_gone_is_told_so() -> None:
    """There is nothing to act with."""
    inspector = Inspector(token=False, allow=("fire",))
    door = Door()
    inspector.watch(door)
    (key,) = (each.key for each in inspector._registry.all())
    del door
    assert (await Browser(inspector.app).post("/api/act", {"of": key, "act": "fire", "trigger": "push"})).status == 404
