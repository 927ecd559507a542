"""Derive a table from another one, with a new state in front of a state or beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

from fsm_conn._util.keywords import explained
from fsm_conn.connection.table import ConnectionState, LinkState
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Others, State, Transition
from fsm_conn.machine.validation import rows_of

__all__ = ["Declares", "add_state", "insert_state"]


class Declares(Protocol):
    """Anything with a table: a `Connection` class, or any object with these attributes."""

    @property
    def states(self) -> Sequence[State | str]:
        """The states; a plain name is a state with the defaults."""

    @property
    def transitions(self) -> Sequence[Transition]:
        """The rows, in order."""


@explained()
def insert_state(
    base: type[StateMachine] | Declares,
    state: str | State,
    *,
    trigger: str,
    before: str,
    then: str,
    like: str,
) -> tuple[tuple[State, ...], tuple[Transition, ...]]:
    """Derive a table from that of `base`, with `state` inserted in front of `before`.

    Every row by which `trigger` led to `before` leads to `state` instead. A new row leads from there to `before` on
    the trigger `then`. All other triggers are handled in `state` as in the state `like`. So

        states, transitions = insert_state(
            Connection, "authenticating", trigger="opened", before="connected", then="authenticated", like="connecting"
        )

    makes a connection authenticate after every open, the first and each later one.

    Args:
        base: the class, or anything with `states` and `transitions`, to derive from. It is not changed.
        state: the state to insert. A plain name owns a link as `before` does, and has the `on_error` of `like`.
        trigger: the trigger whose rows are redirected to `state`.
        before: the state in front of which it is inserted.
        then: the trigger, usually a new one, that leads on to `before`; `while_<state>` returns it.
        like: an existing state, whose rows for all other triggers hold for `state` too.

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
            f"insert_state: {str(trigger)!r} leads to {str(before)!r} under guards, which depend on the state that is "
            "left; write the rows of the new table by hand"
        )
    led = [attrs.evolve(row, dest=state.name, effects=()) if row in led_on else row for row in rows]
    shared = [row if row.trigger == trigger else _with_source(row, state.name, like) for row in led]
    onward = Transition(then, state.name, before, effects=led_on[0].effects)
    return (*states, state), (*shared, onward)


@explained()
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
    """Derive a table from that of `base`, with `state` beside another state whose link it shares.

    The trigger `trigger` leads from `beside` to the new state, and `back` leads back. The new state shares the internal
    rows of `beside` and those that lead to a state without a link: a loss, a failed probe, `reconnect` and `disconnect`
    mean the same in both. Rows of `beside` that lead to a state with a link, such as other states beside it, are not
    shared. So

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

    makes a connection that serves no calls for five seconds after `conn.fire("throttle")`.

    Requirements for the rows and the activity of a state beside `connected`:

    - The activity must watch the link, because nothing else does. `await self.while_connected()` watches it, and probes
      if the health policy has an interval; it ends only by raising the loss of the link, which must pass. Any other
      expected error that the activity raises counts as a loss, too.
    - If only the application leads back, the connection may stay in the state: declare it as
      `LinkState("paused", on_error="lost", final=True)`.
    - Where the activity probes, name the effect `forget_probes` on the way back: only failed probes in a row count.
      No row may have the effects `note_opened` or `count_attempt`, because no link is opened.
    - `stable_after` runs from when the link was first `connected`, and goes on in the new state.
    - Calls are refused or wait, as in `connecting`; the activity's own calls are served. With
      `LinkState("degraded", on_error="lost", serves=True)` all calls are served, as in `connected`: then callers and
      pools see the connection as connected.

    Args:
        base: the class, or anything with `states` and `transitions`, to derive from. It is not changed.
        state: the state to add. A plain name owns the link, and has the `on_error` of `beside`.
        beside: the state beside which it is added; it owns a link.
        trigger: a new trigger that leads from `beside` to `state`.
        back: the trigger that leads back; the application fires it, or `while_<state>` returns it.
        effects: names of methods called on the way there.
        back_effects: names of methods called on the way back.

    Raises:
        ValueError: `state` exists already, or owns no link; `beside` does not exist, or owns no link; `beside` handles
            `trigger` already; or a row that both share handles `back`.
    """
    states, rows = _declared(base)
    known = {each.name: each for each in states}
    _check_known("add_state", known, beside)
    if isinstance(state, str):
        state = LinkState(state, on_error=known[beside].on_error)
    _check_new("add_state", known, state)
    for each, remedy in (
        (known[beside], "a state beside it has none to share; see insert_state, or write the rows by hand"),
        (state, f"declare it as LinkState({str(state.name)!r}), because it shares the link of {str(beside)!r}"),
    ):
        if not isinstance(each, LinkState):
            raise ValueError(f"add_state: {str(each.name)!r} owns no link; {remedy}")
    linked = {each.name for each in states if isinstance(each, LinkState)}
    own = linked - {ConnectionState.RENEWING}  # a link that closes in good order is replaced in both states
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
