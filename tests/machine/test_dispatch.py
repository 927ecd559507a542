"""Compiled dispatch decides as a stock `transitions.Machine` with the same table does, and logs the same when asked."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from extent import far
from transitions import Machine, MachineError

from fsm_conn import IllegalTriggerError, MissingDataError, State, StateMachine, Transition, others
from fsm_conn.machine.dispatch import CORE

TABLES = far(400)
"""How many tables are compared: ten thousand, whenever dispatch is changed, take a minute (`SEARCH=25`)."""
BATCH = 25
FIRED = 12
"""Triggers that each table is fired with."""
GUARDS, EFFECTS = ("may", "might", "can", "shall"), ("count", "note", "tell")
STATES, TRIGGERS = ("a", "b", "c", "d"), ("x", "y", "z")


class Acts:
    """Writes down what is called, with what and in which state; whether a guard agrees, and who raises, is a dice's."""

    state: Any
    fated: dict[str, Any]

    def __init__(self) -> None:
        self.called: list[Any] = []
        self.fated = {}

    def act(self, name: str, reason: Any) -> Any:
        self.called.append((name, reason, str(self.state)))
        fate = self.fated.get(name, False)
        if fate is None:
            raise ZeroDivisionError(name)
        return fate


def acting(name: str) -> Any:
    def act(self: Acts, reason: Any) -> Any:
        return self.act(name, reason)

    return act


for _name in (*GUARDS, *EFFECTS, "enter", "leave"):
    setattr(Acts, _name, acting(_name))


def table(dice: random.Random) -> tuple[tuple[State, ...], tuple[Transition, ...]]:
    """A sound table of every kind of row: guarded, internal, self, of one source, of several, of all, of all but some."""
    names = STATES[: dice.randint(2, 4)]
    states = tuple(
        State(
            name,
            initial=name == names[0],
            entry="enter" if dice.random() < 0.3 else (),
            exit="leave" if dice.random() < 0.3 else (),
        )
        for name in names
    )
    rows: list[Transition] = []
    for trigger in TRIGGERS:
        source: Any = dice.choice(
            [
                "*",
                others(dice.choice(names)),
                dice.choice(names),
                tuple(dice.sample(names, dice.randint(1, len(names)))),
            ]
        )
        guards = dice.sample(GUARDS, dice.randint(0, 3))
        for guard in guards:
            rows.append(row(dice, trigger, source, names, guard))
        if guards and dice.random() < 0.3:
            rows[-1] = row(dice, trigger, source, names, (guards[-1], "shall" if "shall" not in guards else guards[-1]))
        rows.append(row(dice, trigger, source, names, ()))
    dice.shuffle(order := list(TRIGGERS))
    return states, tuple(each for trigger in order for each in rows if each.trigger == trigger)


def row(dice: random.Random, trigger: str, source: Any, names: tuple[str, ...], guards: Any) -> Transition:
    effects = tuple(dice.sample(EFFECTS, dice.randint(0, 2)))
    return Transition(trigger, source, dice.choice([*names, None]), guards, effects)


def ours(states: Any, rows: Any) -> Any:
    made: Any = type("Ours", (Acts, StateMachine), {"states": states, "transitions": rows})
    return made()


def stock(states: tuple[State, ...], rows: tuple[Transition, ...]) -> tuple[Machine, Acts]:
    """The same, by `transitions` alone."""
    model = Acts()
    machine = Machine(
        model=model,
        states=[{"name": each.name, "on_enter": list(each.entry), "on_exit": list(each.exit)} for each in states],
        initial=states[0].name,
        auto_transitions=False,
        name="Ours",
    )
    for each in rows:
        sources = list(each.sources([state.name for state in states]))
        machine.add_transition(each.trigger, sources, each.dest, list(each.guards), None, list(each.effects))
    return machine, model


def fates(dice: random.Random) -> dict[str, Any]:
    """Who agrees, and once in a while, who raises."""
    found: dict[str, Any] = {name: dice.random() < 0.5 for name in GUARDS}
    if dice.random() < 0.2:
        found[dice.choice([*GUARDS, *EFFECTS, "enter", "leave"])] = None
    return found


@contextmanager
def said(level: int) -> Iterator[list[str]]:
    """What the logger of `transitions` says while its own level is this."""
    lines: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    handler, before = Keeping(), CORE.level
    CORE.addHandler(handler)
    CORE.setLevel(level)
    try:
        yield lines
    finally:
        CORE.removeHandler(handler)
        CORE.setLevel(before)


def outcome(fire: Any, *given: Any) -> str:
    try:
        fire(*given)
    except (MachineError, IllegalTriggerError, AttributeError):
        return "refused"
    except ZeroDivisionError as error:
        return f"raised by {error}"
    return "taken"


@pytest.mark.parametrize("batch", range(TABLES // BATCH))
def test_it_decides_as_the_original_does(batch: int) -> None:
    """Random tables, fired at random: the same outcomes, states, callbacks and log lines, in the same order."""
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        dice = random.Random(seed)
        states, rows = table(dice)
        mine, (machine, model) = ours(states, rows), stock(states, rows)
        level = dice.choice([logging.NOTSET, logging.NOTSET, logging.INFO, logging.DEBUG])
        for number in range(FIRED):
            trigger, reason = dice.choice(TRIGGERS), dice.choice([None, OSError(number)])
            mine.fated = model.fated = fates(dice)
            before = mine.state, mine.visit, len(mine.history)
            with said(level) as of_mine:
                did = outcome(mine.fire, trigger, reason)
            with said(level) as of_stock:
                was = outcome(machine.events[trigger].trigger, model, reason)
            seen = f"seed {seed}, step {number}: {trigger} in {before[0]}"
            assert (did, mine.called) == (was, model.called), seen
            if did != "refused" and level != logging.NOTSET:
                assert of_mine == of_stock, seen
            if did == "raised by enter":
                model.state = before[0]  # the original has changed the state by then
            assert mine.state == model.state, seen
            if did == "taken":
                last = mine.history[-1] if not mine.last_record.internal else mine.last_record
                assert (last.trigger, last.source, last.dest, last.reason) == (trigger, before[0], mine.state, reason)
            else:
                assert (mine.state, mine.visit, len(mine.history)) == before, seen


class Loud(StateMachine):
    """Who was asked."""

    states = (State("off", initial=True, exit="leave"), State("on", entry="come"))
    transitions = (
        Transition("push", "off", "on", "may", "note"),
        Transition("push", "off", None),
        Transition("push", "on", "off"),
    )
    answer: object = True

    def may(self) -> object:
        return self.answer

    def note(self) -> None: ...
    def leave(self) -> None: ...
    def come(self) -> None: ...


def test_an_application_that_logs_at_info_hears_nothing_of_transitions(caplog: pytest.LogCaptureFixture) -> None:
    """The root's level is not a question put to `transitions`; only its own logger's is."""
    caplog.set_level(logging.DEBUG)
    assert CORE.level == logging.NOTSET
    assert CORE.isEnabledFor(logging.DEBUG)
    machine = Loud()
    machine.fire("push")
    machine.fire("push")
    assert [each for each in caplog.records if each.name.startswith("transitions")] == []


def test_who_asks_the_logger_of_transitions_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """From then on, and no longer than it has that level."""
    machine = Loud()
    machine.fire("push")
    with caplog.at_level(logging.INFO, logger="transitions.core"):
        machine.fire("push")
        machine.fire("push")
    told = [each.getMessage() for each in caplog.records]
    assert told == [
        "Loud: Finished processing state on exit callbacks.",
        "Loud: Finished processing state off enter callbacks.",
        "Loud: Executed callback 'note'",
        "Loud: Executed callback 'leave'",
        "Loud: Finished processing state off exit callbacks.",
        "Loud: Executed callback 'come'",
        "Loud: Finished processing state on enter callbacks.",
    ]
    caplog.clear()
    machine.fire("push")
    assert caplog.records == []


@pytest.mark.parametrize("answer", [5, "yes", [1], True, object()])
@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG])
def test_a_guard_may_say_yes_by_any_value_that_is_true(answer: object, level: int) -> None:
    """Whether or not anybody reads the log."""
    machine = Loud()
    machine.answer = answer
    with said(level):
        machine.fire("push")
    assert machine.state == "on"


@pytest.mark.parametrize("answer", [0, "", [], None, False])
@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG])
def test_and_no_by_any_value_that_is_not(answer: object, level: int) -> None:
    """As everywhere in Python."""
    machine = Loud()
    machine.answer = answer
    with said(level):
        machine.fire("push")
    assert machine.state == "off"


def test_the_table_can_be_read_as_a_machine_of_transitions() -> None:
    """A stock one, with all rows and callbacks, that holds no object of ours and cannot change one."""
    machine = Loud.lifecycle.machine
    assert type(machine) is Machine
    assert machine.models == []
    taken = machine.events["push"].transitions["off"]
    assert [(each.dest, [str(c.func) for c in each.conditions], each.before) for each in taken] == [
        ("on", ["may"], ["note"]),
        (None, [], []),
    ]
    assert (machine.states["on"].on_enter, machine.states["off"].on_exit) == (["come"], ["leave"])
    mine = Loud()
    with pytest.raises(AttributeError):
        machine.events["push"].trigger(mine)
    assert (mine.state, mine.history) == ("off", ())


def test_who_listens_is_told_of_each_row_that_was_asked() -> None:
    """By its place in the table, with its state, and whether it was taken; until it listens no more."""
    told: list[tuple[int, str, bool]] = []
    machine = Loud()
    machine.fire("push")
    end = Loud.lifecycle.listen(lambda *row: told.append(row))
    machine.fire("push")
    machine.answer = False
    machine.fire("push")
    assert told == [(2, "on", True), (0, "off", False), (1, "off", True)]
    end()
    end()
    machine.fire("push")
    assert len(told) == 3


def test_what_runs_can_be_read() -> None:
    """The text of a function, also in a traceback."""
    text = Loud.lifecycle.source("off", "push")
    assert text.startswith("def step(self, reason, data, now):\n    if self.may():\n        self.note()\n")
    with pytest.raises(KeyError):
        Loud.lifecycle.source("off", "pull")
    assert [row.dest for row in Loud.lifecycle.rows("off", "push")] == ["on", None]
    assert Loud.lifecycle.rows("off", "pull") == ()


# --- what is missing ------------------------------------------------------------------------------------------------------


class Needy(StateMachine):
    """Everything needs something."""

    states = (State("off", initial=True, exit="leave"), State("on", entry="come"))
    transitions = (
        Transition("guarded", "off", "on", "may"),
        Transition("guarded", "off", None),
        Transition("acted", "off", None, (), "note"),
        Transition("pushed", "off", "on"),
        Transition("pulled", "on", None, (), "blame"),
    )

    def __init__(self) -> None:
        self.told: list[Any] = []

    def may(self, key: int) -> bool:
        return key == 1

    def note(self, word: str) -> None:
        self.told.append(word)

    def leave(self, bag: str) -> None:
        self.told.append(bag)

    def come(self, light: str = "none") -> None:
        self.told.append(light)

    def blame(self, error: Exception) -> None:
        self.told.append(error)


@pytest.mark.parametrize(
    ("trigger", "kind", "method", "name"),
    [
        ("guarded", "guard", "may", "key"),
        ("acted", "effect", "note", "word"),
        ("pushed", "exit effect", "leave", "bag"),
    ],
)
@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG])
def test_what_was_not_given_is_named(trigger: str, kind: str, method: str, name: str, level: int) -> None:
    """With who needs it, and how to give it; nothing has changed."""
    machine = Needy()
    with said(level), pytest.raises(MissingDataError) as told:
        machine.fire(trigger)
    assert str(told.value) == (
        f"{machine!r}: {trigger!r} cannot be decided, because the {kind} {method}() needs {name!r}, which was not given; "
        f"fire it as fire({trigger!r}, {name}=...), or give the parameter a default"
    )
    assert (told.value.trigger, told.value.missing) == (trigger, name)
    assert (machine.state, machine.told, machine.visit) == ("off", [], 0)


class Demanding(Needy):
    """Its new state needs something, too."""

    def come(self, light: str) -> None:  # type: ignore[override]
        self.told.append(light)


def test_what_a_new_state_needs_is_asked_for_before_anything_is_left() -> None:
    """So that nothing has to be taken back."""
    machine = Demanding()
    with pytest.raises(MissingDataError, match=r"because the entry effect come\(\) needs 'light'"):
        machine.fire("pushed", bag="a bag")
    assert (machine.state, machine.told) == ("off", [])
    machine.fire("pushed", bag="a bag", light="bright")
    assert (machine.state, machine.told) == ("on", ["a bag", "bright"])


def test_who_calls_the_reason_an_error_is_told_so() -> None:
    """It is the one mistake that everybody makes."""
    machine = Needy()
    machine.fire("pushed", bag="a bag")
    text = "or give the parameter a default. The error behind a trigger is given to a parameter that is called 'reason'"
    with pytest.raises(MissingDataError, match=text):
        machine.fire("pulled", OSError("refused"))


# --- what is written ------------------------------------------------------------------------------------------------------


class Broken(StateMachine):
    """An effect that raises."""

    states = (State("off", initial=True), State("on"))
    transitions = (Transition("push", "off", "on", (), "fail"), Transition("note", "off", None))

    def fail(self) -> None:
        raise ZeroDivisionError


def test_a_traceback_shows_the_line_that_was_compiled() -> None:
    """In a file that is named by the class, the trigger and the state."""
    try:
        Broken().fire("push")
    except ZeroDivisionError as error:
        shown = "".join(traceback.format_exception(error))
    assert f'File "<{__name__}.Broken: push in off>", line 2, in step\n    self.fail()\n' in shown


def test_what_is_shown_is_what_runs_while_nobody_listens() -> None:
    """Also while somebody does."""
    before = Loud.lifecycle.source("off", "push")
    end = Loud.lifecycle.listen(lambda *row: None)
    assert Loud.lifecycle.source("off", "push") == before
    end()
    assert "heard" not in before
    assert "log" not in before


def test_observers_are_told_whether_the_state_was_left() -> None:
    """By each record."""
    machine, told = Broken(), []
    machine.on_transition(told.append)
    machine.fire("note")
    assert [(each.trigger, each.source, each.dest, each.internal) for each in told] == [("note", "off", "off", True)]
    assert told[0].internal is True
    loud = Loud()
    loud.on_transition(told.append)
    loud.fire("push")
    assert (told[1].dest, told[1].internal) == ("on", False)
    assert told[1].internal is False


def test_a_place_of_several_guards_is_told_to_who_listens() -> None:
    """Once for the row, by the guard that refused, or when it was taken."""

    class Both(StateMachine):
        states = (State("off", initial=True), State("on"))
        transitions = (Transition("push", "off", "on", ("may", "can")), Transition("push", "off", None))

        def may(self) -> bool:
            return True

        def can(self) -> bool:
            return self.visit > 99

    told: list[Any] = []
    end = Both.lifecycle.listen(lambda *row: told.append(row))
    Both().fire("push")
    assert told == [(0, "off", False), (1, "off", True)]
    agreed = Both()
    agreed._fsm_visit = 100
    agreed.fire("push")
    end()
    assert told[2:] == [(0, "off", True)]
