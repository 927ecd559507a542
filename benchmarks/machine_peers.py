"""One small life, declared as each library wants it: the state machines that `machines.py` compares with.

The life is that of a connection, cut down to what every library can say: `WALK` goes once round it. One guard is asked,
when the link was lost; one effect counts, when it was opened. A `Peer` makes an object that lives by it, and takes it
through the walk. One whose library is not installed is left out.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Protocol

import attrs
from transitions import Machine
from transitions.extensions.asyncio import AsyncMachine

from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import State, Transition

__all__ = ["OURS", "PEERS", "WALK", "Peer", "installed"]

WALK = ("connect", "opened", "lost", "opened", "disconnect", "closed")
STATES = ("idle", "opening", "up", "again", "failed", "closing")
ROWS: tuple[tuple[str, tuple[str, ...], str, str | None, str | None], ...] = (
    ("connect", ("idle", "failed"), "opening", None, None),
    ("opened", ("opening", "again"), "up", None, "count"),
    ("lost", ("up",), "again", "may_retry", None),
    ("lost", ("up",), "failed", None, None),
    ("disconnect", ("opening", "up", "again", "failed"), "closing", None, None),
    ("closed", ("closing",), "idle", None, None),
)
"""Trigger, sources, destination, guard, effect."""


@attrs.frozen
class Peer:
    """A way to have such a life."""

    name: str
    module: str
    """What must be installed."""
    prepare: Callable[[], tuple[Callable[[], Any], Callable[[Any], Awaitable[None] | None]]]
    """Gives two functions: one that makes an object, and one that takes it through the walk."""
    why: str = ""
    """Why it is ahead where it is: it does less."""
    ahead_in: tuple[str, ...] = ()
    """What is measured without a goal, for that reason."""
    goals: Mapping[str, float] = attrs.field(factory=dict)
    """What is measured by a goal other than 1: the share of its time or memory that ours may take."""


class Life:
    """What the guard asks and the effect counts."""

    opened_times = 0

    def may_retry(self, *given: Any) -> bool:
        return self.opened_times >= 0

    def count(self, *given: Any) -> None:
        self.opened_times += 1


def _ours() -> tuple[Any, Any]:
    class Ours(Life, StateMachine):
        states = tuple(State(name, initial=name == "idle") for name in STATES)
        transitions = tuple(
            Transition(trigger, sources, dest, guard or (), effect or ())
            for trigger, sources, dest, guard, effect in ROWS
        )

    def walk(thing: Ours) -> None:
        for trigger in WALK:
            thing.fire(trigger)

    return Ours, walk


class ByHand(Life):
    """The table as a dict."""

    state = "idle"
    table: ClassVar[dict[tuple[str, str], list[tuple[str, str | None, str | None]]]] = {}

    def fire(self, trigger: str) -> None:
        for dest, guard, effect in self.table[self.state, trigger]:
            if guard is None or getattr(self, guard)():
                if effect is not None:
                    getattr(self, effect)()
                self.state = dest
                return


for _trigger, _sources, _dest, _guard, _effect in ROWS:
    for _source in _sources:
        ByHand.table.setdefault((_source, _trigger), []).append((_dest, _guard, _effect))


def _by_hand() -> tuple[Any, Any]:
    def walk(thing: ByHand) -> None:
        for trigger in WALK:
            thing.fire(trigger)

    return ByHand, walk


def _options() -> dict[str, Any]:
    rows = [
        {"trigger": trigger, "source": list(sources), "dest": dest, "conditions": guard or [], "before": effect or []}
        for trigger, sources, dest, guard, effect in ROWS
    ]
    return {"states": list(STATES), "transitions": rows, "initial": "idle", "auto_transitions": False}


def _call_each(thing: Any) -> None:
    for trigger in WALK:
        getattr(thing, trigger)()


async def _await_each(thing: Any) -> None:
    for trigger in WALK:
        await getattr(thing, trigger)()


def _transitions_shared() -> tuple[Any, Any]:
    machine = Machine(model=None, **_options())

    def make() -> Any:
        # Bound by the model's own name for it, and given back by `remove_model` alone.
        life = Life()
        machine.add_model(life)
        return life

    return make, _call_each


def _transitions() -> tuple[Any, Any]:
    def make() -> Any:
        life: Any = Life()
        life.machine = Machine(model=life, **_options())
        return life

    return make, _call_each


def _transitions_async() -> tuple[Any, Any]:
    def make() -> Any:
        life: Any = Life()
        life.machine = AsyncMachine(model=life, **_options())
        return life

    return make, _await_each


class Inputs(Protocol):
    """What can happen, as Automat wants to be told."""

    def connect(self) -> None: ...
    def opened(self) -> None: ...
    def lost(self) -> None: ...
    def gave_up(self) -> None: ...
    def disconnect(self) -> None: ...
    def closed(self) -> None: ...


def _counted(inputs: Inputs, life: Life) -> None:
    life.count()


def _automat() -> tuple[Any, Any]:
    library: Any = importlib.import_module("automat")

    builder = library.TypeMachineBuilder(Inputs, Life)
    states = {name: builder.state(name) for name in STATES}
    for trigger, sources, dest, guard, effect in ROWS:
        given = getattr(Inputs, "gave_up" if (trigger, guard) == ("lost", None) else trigger)
        for source in sources:
            row = states[source].upon(given).to(states[dest])
            row(_counted) if effect else row.returns(None)
    kind = builder.build()

    def make() -> Any:
        life = Life()
        return kind(life), life

    def walk(thing: Any) -> None:
        machine, life = thing
        for trigger in WALK:  # it has no guards: who fires has to ask
            getattr(machine, "gave_up" if trigger == "lost" and not life.may_retry() else trigger)()

    return make, walk


def _statemachine(effect: Callable[..., Any]) -> Any:
    """The class, whose effect is plain or async."""
    library: Any = importlib.import_module("statemachine")

    class Chart(library.StateMachine):  # type: ignore[misc]
        idle = library.State(initial=True)
        opening, up, again, failed, closing = (library.State() for _ in range(5))

        connect = idle.to(opening) | failed.to(opening)
        opened = opening.to(up, on="count") | again.to(up, on="count")
        lost = up.to(again, cond="may_retry") | up.to(failed)
        disconnect = opening.to(closing) | up.to(closing) | again.to(closing) | failed.to(closing)
        closed = closing.to(idle)

        opened_times = 0
        may_retry = Life.may_retry
        count = effect

    return Chart


def _python_statemachine() -> tuple[Any, Any]:
    def count(self: Any) -> None:
        self.opened_times += 1

    return _statemachine(count), _call_each


def _python_statemachine_async() -> tuple[Any, Any]:
    async def count(self: Any) -> None:
        self.opened_times += 1

    return _statemachine(count), _await_each


def _sismic() -> tuple[Any, Any]:
    library: Any = importlib.import_module("sismic.model")
    interpreter: Any = importlib.import_module("sismic.interpreter")
    chart = library.Statechart("connection")
    chart.add_state(library.CompoundState("root", initial="idle"), None)
    for name in STATES:
        chart.add_state(library.BasicState(name), "root")
    for trigger, sources, dest, guard, effect in ROWS:
        for source in sources:
            other = "not life.may_retry()" if (trigger, guard) == ("lost", None) else None
            asked = f"life.{guard}()" if guard else other
            done = f"life.{effect}()" if effect else None
            chart.add_transition(library.Transition(source, dest, event=trigger, guard=asked, action=done))

    def make() -> Any:
        found = interpreter.Interpreter(chart, initial_context={"life": Life()})
        found.execute()
        return found

    def walk(thing: Any) -> None:
        for trigger in WALK:
            thing.queue(trigger).execute()

    return make, walk


OURS = Peer("fsm_conn", "fsm_conn", _ours)
PEERS: tuple[Peer, ...] = (
    Peer(
        "a dict, by hand",
        "fsm_conn",
        _by_hand,
        "It is the least that a table can do in Python: no queue, no record, no error that says what is allowed.",
        ("trigger", "making", "memory"),
    ),
    Peer(
        "Automat",
        "automat",
        _automat,
        goals={"trigger": 0.8},
    ),
    Peer("transitions, one Machine for all", "transitions", _transitions_shared, goals={"trigger": 0.25}),
    Peer("transitions, a Machine each", "transitions", _transitions, goals={"trigger": 0.25}),
    Peer("transitions, an AsyncMachine each", "transitions", _transitions_async),
    Peer("python-statemachine", "statemachine", _python_statemachine),
    Peer("python-statemachine, async", "statemachine", _python_statemachine_async),
    Peer("sismic", "sismic", _sismic),
)


def installed() -> list[Peer]:
    """Those that can be compared with."""
    return [peer for peer in PEERS if importlib.util.find_spec(peer.module) is not None]
