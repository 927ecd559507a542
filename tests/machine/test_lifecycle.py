"""The table: what it says, how it is derived, and what is refused when a class is made from a wrong one."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn import (
    Connection,
    ConnectionState,
    DeclarationError,
    IllegalTriggerError,
    State,
    StateMachine,
    Transition,
    Trigger,
    insert_state,
    others,
)
from fsm_conn.connection.derive import add_state
from fsm_conn.connection.table import STATES, TRANSITIONS, LinkState
from fsm_conn.machine.binding import BoundTable


class Thing(StateMachine):
    """The smallest machine."""

    states: Any = (State("off", initial=True), "on")
    transitions: Any = (
        Transition("press", "off", "on", "is_allowed"),
        Transition("press", "off", None),
        Transition("press", "on", "off"),
    )
    allowed = True

    def is_allowed(self, reason: BaseException | None) -> bool:
        return self.allowed

    async def is_async(self, reason: BaseException | None) -> bool:
        return True

    def takes_two(self, _first: object, _second: object) -> bool:
        return True

    def explode(self, reason: BaseException | None) -> None:
        raise ZeroDivisionError

    @staticmethod
    def static_guard(reason: BaseException | None) -> bool:
        return True

    not_callable = 3


def lifecycle(
    states: Any = Thing.states, transitions: Any = Thing.transitions, owner: type = Thing, **kw: Any
) -> BoundTable:
    return BoundTable(owner, states, transitions, **kw)


def machine(transitions: Any) -> Thing:
    """A thing with other rows."""
    found: type[Thing] = type("Other", (Thing,), {"transitions": transitions})
    return found()


def test_the_documented_states() -> None:
    """The six members have the documented values, and are strings."""
    assert {state.name: state.value for state in ConnectionState} == {
        "DISCONNECTED": "disconnected",
        "CONNECTING": "connecting",
        "CONNECTED": "connected",
        "DISCONNECTING": "disconnecting",
        "RECONNECTING": "reconnecting",
        "FAILED": "failed",
        "RENEWING": "renewing",
    }
    assert ConnectionState.CONNECTED == "connected"


EXPECTED_TABLE = """
closed        disconnecting  disconnected
connect       disconnected   connecting
connect       failed         connecting
disconnect    connected      disconnecting
disconnect    connecting     disconnecting
disconnect    failed         disconnecting
disconnect    reconnecting   disconnecting
disconnect    renewing       disconnecting
fault         connected      failed
fault         connecting     failed
fault         disconnected   failed
fault         disconnecting  disconnected
fault         failed         -
fault         reconnecting   failed
fault         renewing       failed
going_away    connected      renewing
lost          connected      reconnecting[may_restart,may_retry]|failed
lost          renewing       reconnecting[may_restart,may_retry]|failed
open_failed   connecting     reconnecting[may_retry]|failed
open_failed   reconnecting   reconnecting[may_retry]|failed
opened        connecting     connected
opened        reconnecting   connected
opened        renewing       connected
probe_failed  connected      reconnecting[is_unhealthy,may_restart,may_retry]|failed[is_unhealthy]|-
probe_passed  connected      -
reconnect     connected      reconnecting
reconnect     failed         reconnecting
reconnect     reconnecting   reconnecting
reconnect     renewing       reconnecting
recover       failed         reconnecting[may_recover]|-
"""


def test_the_base_table_row_by_row() -> None:
    """The whole table, as a snapshot: a change of it must be meant."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in TRANSITIONS:
        for source in row.sources(Connection.lifecycle.states):
            guards = f"[{','.join(row.guards)}]" if row.guards else ""
            found.setdefault((row.trigger, source), []).append((row.dest or "-") + guards)
    lines = [f"{trigger:13} {source:14} {'|'.join(dests)}" for (trigger, source), dests in sorted(found.items())]
    assert lines == EXPECTED_TABLE.strip().splitlines()


def test_the_machine_runs_exactly_the_table() -> None:
    """Every row is in the machine, in order, and the machine has nothing beside it."""
    machine = Connection.lifecycle.machine
    of_machine = {
        (name, source): [transition.dest for transition in transitions]
        for name, event in machine.events.items()
        for source, transitions in event.transitions.items()
    }
    of_table: dict[tuple[str, str], list[Any]] = {}
    for row in Connection.transitions:
        for source in row.sources(Connection.lifecycle.states):
            of_table.setdefault((row.trigger, source), []).append(row.dest)
    assert of_machine == of_table
    assert machine.models == []


def test_one_machine_per_class_and_none_per_connection() -> None:
    """Connections share their class's machine; a subclass has one of its own."""

    class Sub(Connection):
        pass

    assert Connection(["x"]).lifecycle is Connection(["y"]).lifecycle
    assert Sub.lifecycle is not Connection.lifecycle
    assert Sub.lifecycle.machine is not Connection.lifecycle.machine


def test_guarded_alternatives_are_asked_in_order() -> None:
    """The first row whose guard agrees is taken; the last stands for everything else."""
    thing = Thing()
    thing.allowed = False
    thing.fire("press")
    assert (thing.state, thing.visit) == ("off", 0)
    thing.allowed = True
    thing.fire("press")
    assert (thing.state, thing.visit) == ("on", 1)


def test_an_illegal_trigger_raises_and_changes_nothing() -> None:
    """The error names state, trigger and what is allowed."""
    thing = machine((*Thing.transitions, Transition("kick", "on", "off")))
    with pytest.raises(IllegalTriggerError, match=r"'kick' cannot happen in state 'off'; what can: press") as caught:
        thing.fire("kick")
    assert (caught.value.state, caught.value.trigger, caught.value.allowed) == ("off", "kick", ("press",))
    assert (thing.state, thing.visit, thing.history) == ("off", 0, ())


def test_an_unknown_trigger_is_refused_with_the_nearest() -> None:
    """A misspelt trigger says which one was meant."""
    with pytest.raises(IllegalTriggerError, match=r"no row of its table knows that trigger \(did you mean 'press'\?\)"):
        Thing().fire("pres")


@given(st.sampled_from(sorted(Trigger)), st.sampled_from(sorted(ConnectionState)))
def test_no_refused_trigger_ever_changes_a_state(trigger: Trigger, state: ConnectionState) -> None:
    """In every state, a trigger is either handled or refused without any trace."""
    conn = Connection(["x"])
    conn._state = str(state)
    before = dict(vars(conn))
    if conn.handles(trigger):
        return

    async def fire() -> None:
        conn.fire(trigger)

    with pytest.raises(IllegalTriggerError) as caught:
        asyncio.run(fire())
    assert {**vars(conn), "_fsm_dispatching": False} == {**before, "_fsm_dispatching": False}
    assert all(conn.lifecycle.handles(state, allowed) for allowed in caught.value.allowed)


def test_an_effect_that_raises_leaves_the_state() -> None:
    """Effects run before the state changes, so a broken one changes nothing."""
    thing = machine((Transition("press", "off", "on", effects="explode"),))
    with pytest.raises(ZeroDivisionError):
        thing.fire("press")
    assert (thing.state, thing.visit, thing.history) == ("off", 0, ())


def test_rows_may_be_written_as_transitions_users_know_them() -> None:
    """Dicts with conditions and before, and plain lists, are rows too."""
    rows = [
        {"trigger": "press", "source": "off", "dest": "on", "conditions": "is_allowed"},
        ["press", "off", None],
        ["press", "on", "off"],
    ]
    assert lifecycle(transitions=rows).transitions == Thing.transitions


def test_a_static_method_may_be_a_guard() -> None:
    """What can be called with the reason is a guard, however it was defined."""
    thing = machine((Transition("press", "off", "on", "static_guard"), Transition("press", "off", None)))
    thing.fire("press")
    assert thing.state == "on"


def class_with(**members: Any) -> type:
    """As it is before it is bound."""
    return type("Wrong", (), {**{name: each for name, each in vars(Thing).items() if name != "__dict__"}, **members})


async def coroutine(self: Any) -> None: ...


async def coroutine_of_something(self: Any, something: Any) -> None: ...


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "unknown dest",
        {"transitions": [Transition("press", "off", "onn")]},
        r"names the state 'onn', which states does not have \(did you mean 'on'\?\); add it",
    ),
    ("unknown source", {"transitions": [Transition("press", "of", "on")]}, r"names the state 'of'"),
    ("unknown excluded state", {"transitions": [Transition("press", others("offf"), "on")]}, r"names the state 'offf'"),
    ("no source", {"transitions": [Transition("press", others("off", "on"), "on")]}, r"starts from no state"),
    (
        "unknown guard",
        {"transitions": [Transition("press", "off", "on", "is_alowed"), Transition("press", "off", None)]},
        r"guard 'is_alowed', but Thing has no such method \(did you mean 'is_allowed'\?\); define it as: def is_alowed\(self, reason\)",
    ),
    (
        "guard is no method",
        {"transitions": [Transition("press", "off", "on", "not_callable"), Transition("press", "off", None)]},
        r"as an attribute, not as a method",
    ),
    (
        "async guard",
        {"transitions": [Transition("press", "off", "on", "is_async"), Transition("press", "off", None)]},
        r"is async; decisions never wait",
    ),
    (
        "guard takes too much",
        {"transitions": [Transition("press", "off", "on", "takes_two"), Transition("press", "off", None)]},
        r"cannot be called with the reason",
    ),
    (
        "unknown effect",
        {"transitions": [Transition("press", "off", "on", effects="exploode")]},
        r"effect 'exploode'.*did you mean 'explode'",
    ),
    (
        "last row guarded",
        {"transitions": [Transition("press", "off", "on", "is_allowed")]},
        r"in state 'off', 'press' may find no row.*add a last row without guards",
    ),
    (
        "row behind an unguarded one",
        {"transitions": [Transition("press", "off", "on"), Transition("press", "off", None)]},
        r"can never be taken, for \(press: off -> on\) before it has no guard; remove one",
    ),
    (
        "row behind a more general one",
        {
            "transitions": [
                Transition("press", "off", "on", "is_allowed"),
                Transition("press", "off", "off", ("is_ready", "is_allowed")),
                Transition("press", "off", None),
            ],
            "owner": class_with(is_ready=Thing.is_allowed),
        },
        r"\(press: off -> off \[is_ready, is_allowed\]\) can never be taken, for \(press: off -> on \[is_allowed\]\) before it is taken whenever its guards agree; remove one, or put the one with more guards first",
    ),
    ("no initial state", {"states": ["off", "on"]}, r"0 states are initial"),
    (
        "two initial states",
        {"states": [State("off", initial=True), State("on", initial=True)]},
        r"2 states are initial",
    ),
    ("state twice", {"states": [State("off", initial=True), "on", "on"]}, r"'on' stands there twice"),
    (
        "state that is no identifier",
        {"states": [State("off", initial=True), "on", "very on"]},
        r"must be an identifier",
    ),
    ("state of a wrong kind", {"states": [State("off", initial=True), 3]}, r"3 is not a state"),
    (
        "row of a wrong kind",
        {"transitions": [["press"]]},
        r"is not a row .*give Transition\(trigger, source, dest, guards, effects\)",
    ),
    (
        "activity without a state",
        {"owner": class_with(while_onn=coroutine)},
        r"Wrong.while_onn: there is no state 'onn' \(did you mean 'on'\?\)",
    ),
    (
        "activity that is no coroutine",
        {"owner": class_with(while_on=lambda self: None)},
        r"must be a coroutine; define it as: async def while_on",
    ),
    (
        "activity with arguments",
        {"owner": class_with(while_on=coroutine_of_something)},
        r"an activity takes no arguments \(missing a required argument: 'something'\); define it as: async def while_on",
    ),
    (
        "activity whose fault nobody handles",
        {"owner": class_with(while_on=coroutine)},
        r"the activity of 'on' may fire 'fault', which that state does not handle",
    ),
    (
        "required trigger nobody handles",
        {"required": ["pres"]},
        r"no state handles the trigger 'pres', which Thing fires by itself \(did you mean 'press'\?\)",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_a_wrong_declaration_is_refused_with_the_remedy(wrong: dict[str, Any], message: str) -> None:
    """Each error says which, where, and how to mend it."""
    with pytest.raises(DeclarationError, match=message):
        lifecycle(**wrong)


def test_a_wrong_subclass_of_connection_is_refused_when_it_is_made() -> None:
    """Nothing has to run for a misspelt activity to be found."""
    with pytest.raises(
        DeclarationError, match=r"Typo.while_conected: there is no state 'conected' \(did you mean 'connected'\?\)"
    ):

        class Typo(Connection):
            async def while_conected(self) -> None: ...


def test_a_subclass_that_forgets_rows_is_refused() -> None:
    """A table that lost the row for disconnect could never disconnect."""
    with pytest.raises(DeclarationError, match="no state handles the trigger 'disconnect'"):

        class Endless(Connection):
            transitions = tuple(row for row in TRANSITIONS if row.trigger != Trigger.DISCONNECT)


def authenticating(**changes: Any) -> Any:
    options = {"trigger": "opened", "before": "connected", "then": "authenticated", "like": "connecting"}
    return insert_state(Connection, **{"state": "authenticating", **options, **changes})


def test_inserting_a_state_copies_no_row() -> None:
    """The way to connected leads through the new state; all other rows hold for it as for its model."""
    states, rows = authenticating()
    assert states == (*STATES, LinkState("authenticating", on_error=Trigger.OPEN_FAILED))
    into = [(row.trigger, row.source) for row in rows if row.dest == "authenticating"]
    assert into == [(Trigger.OPENED, tuple(map(ConnectionState, ("connecting", "reconnecting", "renewing"))))]
    assert [row.trigger for row in rows if row.dest == "connected"] == ["authenticated"]
    from_new = {row.trigger for row in rows if "authenticating" in row.sources([s.name for s in states])}
    assert from_new == {"authenticated", "open_failed", "disconnect", "fault"}
    assert len(rows) == len(TRANSITIONS) + 1


def test_a_state_can_be_inserted_into_a_derived_table() -> None:
    """Derivation starts from any table, derived ones included."""
    base = type("Base", (), dict(zip(("states", "transitions"), authenticating(), strict=True)))
    states, rows = insert_state(
        base, "greeting", trigger="authenticated", before="connected", then="greeted", like="authenticating"
    )  # type: ignore[arg-type]
    assert [row.dest for row in rows if row.trigger == "authenticated"] == ["greeting"]
    assert [row.dest for row in rows if row.trigger == "greeted"] == ["connected"]
    assert [state.name for state in states][-2:] == ["authenticating", "greeting"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": "failed"}, "already has a state 'failed'"),
        ({"before": "conected"}, "has no state 'conected'; it has 'connected'"),
        ({"like": "nowhere"}, "has no state 'nowhere'"),
        ({"trigger": "lost", "before": "reconnecting"}, "'lost' leads to 'reconnecting' under guards"),
        ({"trigger": "lost"}, "no row leads to 'connected' by the trigger 'lost'; 'opened' lead there"),
    ],
)
def test_inserting_wrongly_says_what_exists(changes: dict[str, Any], message: str) -> None:
    """A wrong name is answered with the right ones."""
    with pytest.raises(ValueError, match=re.escape(message)):
        authenticating(**changes)


def paused(base: Any = Connection, **changes: Any) -> Any:
    options = {"state": "paused", "beside": "connected", "trigger": "pause", "back": "resume"}
    return add_state(base, **{**options, **changes})


def derived(table: Any) -> Any:
    """Something to derive a further table from."""
    return type("Base", (), dict(zip(("states", "transitions"), table, strict=True)))


def handled(table: Any, state: str) -> dict[str, set[str | None]]:
    """For each trigger that a state handles, where it leads."""
    states, rows = table
    found: dict[str, set[str | None]] = {}
    for row in rows:
        if state in row.sources([each.name for each in states]):
            found.setdefault(str(row.trigger), set()).add(row.dest)
    return found


def test_a_state_beside_connected_is_as_connected_but_for_the_way_back() -> None:
    """The same rows lead from both, and none is copied: two are new."""
    table = paused(effects="reset_if_stable", back_effects=("forget_probes",))
    states, rows = table
    assert states == (*STATES, LinkState("paused", on_error=Trigger.LOST))
    assert rows[-2:] == (
        Transition("pause", "connected", "paused", effects="reset_if_stable"),
        Transition("resume", "paused", "connected", effects="forget_probes"),
    )
    assert len(rows) == len(TRANSITIONS) + 2
    assert handled(table, "paused") == {**handled((STATES, TRANSITIONS), "connected"), "resume": {"connected"}}
    assert handled(table, "connected") == {**handled((STATES, TRANSITIONS), "connected"), "pause": {"paused"}}
    for before, after in zip(TRANSITIONS, rows, strict=False):
        assert (before.trigger, before.dest, before.guards, before.effects) == (
            after.trigger,
            after.dest,
            after.guards,
            after.effects,
        )


def test_states_beside_another_know_nothing_of_one_another() -> None:
    """Whichever was added first: the way from one to the other leads through the state that both stand beside."""
    throttled = {"state": "throttled", "trigger": "throttle", "back": "eased"}
    first = paused(derived(paused()), **throttled)
    second = paused(derived(paused(**throttled)))
    for table in (first, second):
        assert handled(table, "connected")["pause"] == {"paused"}
        assert handled(table, "connected")["throttle"] == {"throttled"}
        assert "throttle" not in handled(table, "paused")
        assert "pause" not in handled(table, "throttled")
    assert {name: handled(first, name) for name in ("connected", "paused", "throttled")} == {
        name: handled(second, name) for name in ("connected", "paused", "throttled")
    }


def test_states_may_stand_beside_one_that_was_added_and_one_trigger_may_lead_both_ways() -> None:
    """Derivation starts from any table, derived ones included."""
    table = paused(derived(paused()), state="asleep", beside="paused", trigger="nod", back="nod")
    assert handled(table, "paused")["nod"] == {"asleep"}
    assert handled(table, "asleep") == {**handled((STATES, TRANSITIONS), "connected"), "nod": {"paused"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": "failed"}, "add_state: the table already has a state 'failed'"),
        ({"beside": "conected"}, "add_state: the table has no state 'conected'; it has 'connected'"),
        ({"beside": "failed"}, "'failed' owns no link; a state beside it has none to share; see insert_state"),
        ({"state": State("paused")}, "'paused' owns no link; declare it as LinkState('paused')"),
        ({"trigger": "lost"}, "'connected' already handles 'lost'; take a trigger of its own"),
        ({"trigger": "disconnect"}, "'connected' already handles 'disconnect'"),
        ({"back": "reconnect"}, "'paused' already handles 'reconnect'"),
        ({"back": "fault"}, "'paused' already handles 'fault'"),
    ],
)
def test_adding_wrongly_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    """And what to do about it."""
    with pytest.raises(ValueError, match=re.escape(message)):
        paused(**changes)


class Waits(StateMachine):
    states = (State("idle", initial=True), State("working"), State("done"))
    transitions = (
        Transition("work", "idle", "working"),
        Transition("worked", "working", "done"),
        Transition("fault", "*", "idle"),
    )
    said = ""

    async def while_working(self) -> str:
        await self.wait_for_state("working", "done")  # that is the present one
        self.said = "on"
        await self.wait_for_state("done")
        return "worked"


async def test_an_activity_cannot_wait_for_a_state_that_ends_it() -> None:
    """It would be cancelled as soon as that is entered, so it is told at once; the error leads out as any bug does."""
    async with Waits() as machine:
        machine.fire("work")
        await machine.wait_for_state("idle")
        assert str(machine.reason) == (
            "<Waits working>: wait_for_state() was called from the activity of the same machine, which ends when its "
            "state is left; return a trigger from the activity instead"
        )
        assert machine.said == "on"


class SpeaksLate(StateMachine):
    states = (State("idle", initial=True), State("working"))
    transitions = (
        Transition("work", "idle", "working"),
        Transition("stop", "working", "idle"),
        Transition("failed", "working", "idle"),
        Transition("fault", "*", "idle"),
    )

    async def while_working(self) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            self.fire("failed")


async def test_a_trigger_that_a_late_activity_fires_in_vain_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its state was left, so nobody else would be told of the mistake."""
    async with SpeaksLate() as machine:
        machine.fire("work")
        await asyncio.sleep(1)
        machine.fire("stop")
        await asyncio.sleep(1)
        assert machine.state == "idle"
    assert "failed after its state was left" in caplog.text
    assert "'failed'" in caplog.text
