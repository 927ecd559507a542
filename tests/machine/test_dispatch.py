"""The machine that decides does what that of `transitions` does, callback by callback, and logs the same when asked."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transitions import EventData, Machine

from fsm_conn.machine.dispatch import QuietMachine

STATES = ("a", "b", "c")
TRIGGERS = ("x", "y")
CALLBACKS = st.lists(st.sampled_from(["one", "two", "broken"]), max_size=2)
GUARDS = st.lists(st.sampled_from(["yes", "no", "truthy", "broken"]), max_size=2)
PLACES = ("before_state_change", "after_state_change", "prepare_event", "finalize_event", "on_exception", "on_final")

states = st.fixed_dictionaries({"on_enter": CALLBACKS, "on_exit": CALLBACKS, "final": st.booleans()})
rows = st.fixed_dictionaries(
    {
        "trigger": st.sampled_from(TRIGGERS),
        "source": st.sampled_from(STATES),
        "dest": st.sampled_from([*STATES, None]),
        "prepare": CALLBACKS,
        "conditions": GUARDS,
        "unless": GUARDS,
        "before": CALLBACKS,
        "after": CALLBACKS,
    }
)
around = st.dictionaries(st.sampled_from(PLACES), CALLBACKS, max_size=2)


def told(given: Any) -> Any:
    """All that a callback can read in what it is given, which is an `EventData` where the machine sends events."""
    if not isinstance(given, EventData):
        return given
    row = given.transition and (given.transition.source, given.transition.dest)
    return given.state and given.state.name, given.event and given.event.name, row, given.args, given.kwargs


class Model:
    """Writes down who was called with what, in which state."""

    def __init__(self) -> None:
        self.state = "a"
        self.called: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name not in ("one", "two", "yes", "no", "truthy", "broken"):
            raise AttributeError(name)

        def call(*args: Any) -> Any:
            self.called.append((name, tuple(map(told, args)), self.state))
            if name == "broken":
                raise ZeroDivisionError("on purpose")
            return {"yes": True, "truthy": 2}.get(name, False)

        return call


def life(kind: type[Machine], table: dict[str, Any], around: dict[str, Any], fired: list[str]) -> list[Any]:
    """All that can be seen of a machine of that kind."""
    machine: Any = kind(
        model=None,
        states=[{"name": name, **options} for name, options in table["states"].items()],
        initial="a",
        transitions=table["rows"],
        auto_transitions=False,
        **around,
    )
    seen: list[Any] = []
    model = Model()
    for number, trigger in enumerate(fired):
        if trigger not in machine.events:
            continue
        try:
            result: Any = machine.events[trigger].trigger(model, number)
        except Exception as error:
            result = (type(error), str(error))
        seen.append((trigger, result, model.state, tuple(model.called)))
    return seen


@settings(max_examples=400, deadline=None)
@given(
    states=st.fixed_dictionaries(dict.fromkeys(STATES, states)),
    rows=st.lists(rows, min_size=1, max_size=8),
    around=around,
    queued=st.booleans(),
    send_event=st.booleans(),
    fired=st.lists(st.sampled_from(TRIGGERS), max_size=12),
)
def test_it_does_what_the_original_does(
    states: Any, rows: list[Any], around: dict[str, Any], queued: bool, send_event: bool, fired: list[str]
) -> None:
    """Any machine, fired at random: the same results, errors, states and callbacks, in the same order."""
    table, options = {"states": states, "rows": rows}, {**around, "queued": queued, "send_event": send_event}
    assert life(QuietMachine, table, options, fired) == life(Machine, table, options, fired)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("guard", ["yes", "no", "broken"])
def test_callbacks_around_each_event_are_called(place: str, guard: str) -> None:
    """Callbacks of the machine itself are called as by the original, whether or not a row is taken."""
    table = {
        "states": {"a": {}, "b": {"final": True}, "c": {}},
        "rows": [{"trigger": "x", "source": "a", "dest": "b", "conditions": guard}],
    }
    seen = [life(kind, table, {place: "one"}, ["x", "x"]) for kind in (QuietMachine, Machine)]
    assert seen[0] == seen[1]


def test_callbacks_are_given_the_event_as_it_is_by_then() -> None:
    """An event that is sent to callbacks knows its state, row and arguments as those of the original."""
    table = {
        "states": {"a": {"on_exit": "one"}, "b": {"on_enter": "two", "on_exit": "one"}, "c": {"on_enter": "two"}},
        "rows": [
            {"trigger": "x", "source": "a", "dest": "b", "conditions": "yes", "before": "one", "after": "two"},
            {"trigger": "x", "source": "b", "dest": "c", "prepare": "one", "after": "two"},
        ],
    }
    seen = [life(kind, table, {"send_event": True}, ["x", "x"]) for kind in (QuietMachine, Machine)]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_who_wants_the_log_lines_gets_them(caplog: pytest.LogCaptureFixture, level: int) -> None:
    """At INFO and at DEBUG, what was executed and which states were passed is logged as by the original."""
    table = {
        "states": {"a": {"on_exit": "one"}, "b": {"on_enter": "two"}, "c": {}},
        "rows": [{"trigger": "x", "source": "a", "dest": "b", "conditions": "yes", "before": "one", "after": "two"}],
    }
    said = []
    for kind in (Machine, QuietMachine):
        caplog.clear()
        with caplog.at_level(level, logger="transitions.core"):
            life(kind, table, {}, ["x"])
        said.append({message for message in caplog.messages if "Executed callback '" in message or "state" in message})
    assert said[0] == said[1]
    assert len(said[0]) >= 4


def test_it_logs_nothing_unless_asked(caplog: pytest.LogCaptureFixture) -> None:
    """At other levels nothing is logged, and the row is taken."""
    table = {"states": {"a": {}, "b": {}, "c": {}}, "rows": [{"trigger": "x", "source": "a", "dest": "b"}]}
    with caplog.at_level(logging.WARNING, logger="transitions.core"):
        assert life(QuietMachine, table, {}, ["x"]) == [("x", True, "b", ())]
    assert not caplog.records
