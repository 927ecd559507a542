"""Derive a table from another one: a state in the way to a state, or beside one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

from fsm_conn.connection.table import ConnectionState, LinkState
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Others, State, Transition
from fsm_conn.machine.validation import rows_of

__all__ = ["Declares", "add_state", "insert_state"]


class Declares(Protocol):
    """Anything that carries a table: a `Connection` class, or a namespace of one's own."""

    @property
    def states(self) -> Sequence[State | str]:
        """The states; a name stands for a state with nothing particular."""

    @property
    def transitions(self) -> Sequence[Transition]:
        """The rows, in order."""


def insert_state(
    base: type[StateMachine] | Declares,
    state: str | State,
    *,
    trigger: str,
    before: str,
    then: str,
    like: str,
) -> tuple[tuple[State, ...], tuple[Transition, ...]]:
    """Derive a table from `base`'s in which `state` stands in the way to `before`.

    Every row by which `trigger` led to `before` leads to `state` instead, a new row leads from there to `before`
    on the trigger `then`, and whatever else can happen there is handled as the state `like` handles it. So

        states, transitions = insert_state(
            Connection, "authenticating", trigger="opened", before="connected", then="authenticated", like="connecting"
        )

    makes a connection authenticate after every open, the first and each later one.

    Args:
        base: the class, or anything with `states` and `transitions`, to derive from. It is not changed.
        state: the state to insert; as a name, it owns a link as `before` does, and its errors are as those of `like`.
        trigger: the trigger whose rows are led through `state`.
        before: the state in front of which it is inserted.
        then: the trigger, usually a new one, that leads on to `before`; what `while_<state>` returns.
        like: an existing state; its rows for all other triggers hold for `state` too.

    Raises:
        ValueError: `state` exists already, `before` or `like` does not, or no row leads to `before` by `trigger`,
            or only under guards.
    """
    states, rows = _declared(base)
    known = {each.name: each for each in states}
    _check_known("insert_state", known, before, like)
    if isinstance(state, str):
        state = type(known[before])(state, on_error=known[like].on_error)
    _check_new("insert_state", known, state)
    led_on = [row for row in rows if row.trigger == trigger and row.dest == before]
    if not led_on:
        triggers = _listed({row.trigger for row in rows if row.dest == before})
        raise ValueError(
            f"insert_state: no row leads to {str(before)!r} by the trigger {str(trigger)!r}; {triggers} lead there"
        )
    if any(row.guards for row in led_on):
        raise ValueError(
            f"insert_state: {str(trigger)!r} leads to {str(before)!r} under guards, which decide by the state that is "
            "left; write the rows of the new table by hand"
        )
    led = [attrs.evolve(row, dest=state.name, effects=()) if row in led_on else row for row in rows]
    shared = [row if row.trigger == trigger else _with_source(row, state.name, like) for row in led]
    onward = Transition(then, state.name, before, effects=led_on[0].effects)
    return (*states, state), (*shared, onward)


def add_state(
    base: type[StateMachine] | Declares,
    state: str | State,
    *,
    beside: str,
    trigger: str,
    back: str,
    effects: str | Iterable[str] = (),
    back_effects: str | Iterable[str] = (),
) -> tuple[tuple[State, ...], tuple[Transition, ...]]:
    """Derive a table from `base`'s in which `state` stands beside another that owns a link, and shares that link.

    The new state is entered from `beside` by `trigger` and left to it by `back`. By rows of `beside` that lead where no
    link is open, and by its internal ones, the same happens in both: a loss, a failed probe, `reconnect` and
    `disconnect` mean there what they mean in `beside`. Rows of `beside` that lead to a state with a link, other states
    beside it included, are its own. So

        states, transitions = add_state(
            Connection, "throttled", beside="connected", trigger="throttle", back="eased", back_effects="forget_probes"
        )

        async def while_throttled(self):
            limit = asyncio.timeout(5)
            try:
                async with limit:
                    return await self.while_connected()
            except TimeoutError:
                if not limit.expired():
                    raise
                return "eased"

    makes a connection that serves nobody for five seconds after `conn.fire("throttle")`.

    Requirements for the rows and the activity of a state beside `connected`:

    - The activity watches the link, or nobody does: `while_connected()` does so, and probes if the health policy says
      so; it ends only by raising what the link was lost by, which is to pass. Any other error of the world outside that
      the activity raises counts as a loss, too.
    - If only the application leads back, it is in order to stay: say
      `LinkState("paused", on_error="lost", final=True)`.
    - The effect `forget_probes` on the way back, where the activity probes: failed probes count when they follow one
      another in one state. No row may have `note_opened` or `count_attempt`, for no link was opened.
    - `stable_after` is counted from when the link was first `connected`, and the time beside it counts, too.
    - Calls are refused or wait, as in `connecting`; those that the activity itself makes are served. With
      `LinkState("degraded", on_error="lost", serves=True)` they all are, as in `connected`: then the
      connection counts as connected for its callers and for pools.

    Args:
        base: the class, or anything with `states` and `transitions`, to derive from. It is not changed.
        state: the state to add; as a name, it owns the link, and its errors are as those of `beside`.
        beside: the state that it is entered from and left to; it owns a link.
        trigger: a new trigger of `beside`, which leads to `state`.
        back: the trigger that leads back; fired by the application, or returned by `while_<state>`.
        effects: names of methods called on the way there.
        back_effects: names of methods called on the way back.

    Raises:
        ValueError: `state` exists already, or owns no link; `beside` does not exist, or owns none; `beside` handles
            `trigger` already; or what `state` shares with `beside` handles `back`.
    """
    states, rows = _declared(base)
    known = {each.name: each for each in states}
    _check_known("add_state", known, beside)
    if isinstance(state, str):
        state = LinkState(state, on_error=known[beside].on_error)
    _check_new("add_state", known, state)
    for each, remedy in (
        (known[beside], "a state beside it has none to share; see insert_state, or write the rows by hand"),
        (state, f"say LinkState({str(state.name)!r}), for it shares the link of {str(beside)!r}"),
    ):
        if not isinstance(each, LinkState):
            raise ValueError(f"add_state: {str(each.name)!r} owns no link; {remedy}")
    linked = {each.name for each in states if isinstance(each, LinkState)}
    own = linked - {ConnectionState.RENEWING}  # a link that goes away is replaced, in whatever state it is met
    shared = [row if row.dest in own else _with_source(row, state.name, beside) for row in rows]
    for fired, source in ((trigger, beside), (back, state.name)):
        if any(row.trigger == fired and source in row.sources((*known, state.name)) for row in shared):
            raise ValueError(
                f"add_state: {str(source)!r} already handles {str(fired)!r}; take a trigger of its own, or write the "
                "rows of the new table by hand"
            )
    there = Transition(trigger, beside, state.name, effects=effects)
    return (*states, state), (*shared, there, Transition(back, state.name, beside, effects=back_effects))


def _declared(base: type[StateMachine] | Declares) -> tuple[tuple[State, ...], tuple[Transition, ...]]:
    states = (each if isinstance(each, State) else State(each) for each in base.states)
    return tuple(states), rows_of(base if isinstance(base, type) else type(base), base.transitions)


def _check_known(function: str, known: Iterable[str], *names: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{function}: the table has no state {str(name)!r}; it has {_listed(known)}")


def _check_new(function: str, known: Iterable[str], state: State) -> None:
    if state.name in known:
        raise ValueError(f"{function}: the table already has a state {str(state.name)!r}")


def _with_source(row: Transition, name: str, like: str) -> Transition:
    if isinstance(row.source, Others) or like not in row.source:
        return row
    return attrs.evolve(row, source=(*row.source, name))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(str(name)) for name in sorted(names)) or "none"
