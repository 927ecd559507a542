"""The life of a connection, as one table.

This module is the whole truth about which states there are, what can happen in each, and what follows.
It is data: nothing here runs, waits or imports anything of ours. How to read a row:

    Transition(trigger, source, dest, guards, effects)

    "when `trigger` is fired in `source`, and every guard says yes, do the effects and go to `dest`"

The rules of the table:

- Rows for the same trigger and source are alternatives. They are asked in order, the first whose guards all
  agree is taken, and the last has no guard, so there is always an answer.
- A *guard* reads and never changes anything. An *effect* counts or remembers; it runs before the state
  changes, and if it raises, the state does not change. Both are methods named in the row and take the
  reason (an exception or None). Neither ever waits.
- What takes time is the *activity* of a state, the coroutine method `while_<state>`. What it returns is the
  trigger it fires; an error of the world outside (`OSError`, `TimeoutError`, `FsmConnError`) that it raises fires the
  state's `on_error`; any other exception is a bug and fires `fault`.
- `dest=None` is an internal transition: the state is not left, and its activity goes on. A `dest` equal to the
  source is a self transition: the state is left and entered again, and its activity begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import attrs

__all__ = [
    "STATES",
    "TRANSITIONS",
    "ConnectionState",
    "Declares",
    "Fires",
    "Others",
    "State",
    "Transition",
    "Trigger",
    "add_state",
    "insert_state",
    "others",
]


class ConnectionState(StrEnum):
    """The six states of a connection. A subclass may add its own."""

    DISCONNECTED = "disconnected"
    """At rest, holding nothing."""
    CONNECTING = "connecting"
    """The first attempt of an outage is under way."""
    CONNECTED = "connected"
    """A link is open, and calls are served."""
    DISCONNECTING = "disconnecting"
    """The link is being closed, by request."""
    RECONNECTING = "reconnecting"
    """Waiting out a delay, or making a further attempt."""
    FAILED = "failed"
    """Given up; at rest until `connect()`, `reconnect()` or `disconnect()`; or until the policy has it try again."""


class Trigger(StrEnum):
    """Everything that can happen to a connection. A subclass may add its own."""

    CONNECT = "connect"
    """Somebody asks for a connection."""
    OPENED = "opened"
    """A link was opened."""
    OPEN_FAILED = "open_failed"
    """A link could not be opened."""
    LOST = "lost"
    """The open link went away."""
    PROBE_PASSED = "probe_passed"
    """A health probe was answered well."""
    PROBE_FAILED = "probe_failed"
    """A health probe was answered badly, late or not at all."""
    RECOVER = "recover"
    """The time to try once more, after giving up, has come."""
    RECONNECT = "reconnect"
    """Somebody asks for a fresh link, now."""
    DISCONNECT = "disconnect"
    """Somebody asks to end the connection."""
    CLOSED = "closed"
    """The link was closed, or could not be closed any better."""
    FAULT = "fault"
    """An activity broke a rule or raised something nobody expected."""


@attrs.frozen(repr=False)
class Others:
    """As the source of a row: every state of the table but the named ones, states of subclasses included."""

    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"others({', '.join(repr(str(name)) for name in self.names)})"


def others(*names: str) -> Others:
    """As the source of a row: every state but `names`."""
    return Others(names)


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _source(value: Any) -> tuple[str, ...] | Others:
    if value == "*":
        return Others(())
    return value if isinstance(value, Others) else _names(value)


@attrs.frozen
class State:
    """One state of a table."""

    name: str
    on_error: str = attrs.field(default=Trigger.FAULT, kw_only=True)
    """The trigger fired when the activity raises an error of the world outside."""
    owns_link: bool = attrs.field(default=False, kw_only=True)
    """Whether a link is open throughout this state."""
    initial: bool = attrs.field(default=False, kw_only=True)
    """Whether life begins here. One state of a table says so."""
    final: bool = attrs.field(default=False, kw_only=True)
    """Whether it is in order to stay here for ever."""
    serves: bool = attrs.field(kw_only=True)
    """Whether calls are served here, through its link. By default, only in `connected`."""

    @serves.default
    def _serves_by_default(self) -> bool:
        return self.name == ConnectionState.CONNECTED


@attrs.frozen
class Transition:
    """One row of a table."""

    trigger: str
    source: tuple[str, ...] | Others = attrs.field(converter=_source)
    """A state, several, `"*"` for all, or `others(...)` for all but some."""
    dest: str | None
    """The state that follows; None for an internal transition."""
    guards: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Names of methods that must all return True. They read; they change nothing."""
    effects: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Names of methods called in order, before the state changes."""

    timer: str | None = attrs.field(default=None, kw_only=True)
    """For readers: the setting that says after how long the source's own activity fires the trigger."""

    def sources(self, states: Iterable[str]) -> tuple[str, ...]:
        """The states this row starts from, in a table of `states`."""
        if isinstance(self.source, Others):
            return tuple(name for name in states if name not in self.source.names)
        return self.source


class Fires:
    """On an activity, what it fires: `async def while_idle(self) -> Annotated[str, Fires("woken", "expired")]`.

    `Literal["woken", "expired"]` says the same, but a subclass that overrides the activity cannot widen it. Checks
    compare it with the table, diagrams tell by it what comes from within. Nothing at run time depends on it.
    """

    __slots__ = ("triggers",)

    def __init__(self, *triggers: str) -> None:
        self.triggers = triggers

    def __repr__(self) -> str:
        return f"Fires({', '.join(repr(str(trigger)) for trigger in self.triggers)})"


_S, _T = ConnectionState, Trigger

STATES: tuple[State, ...] = (
    State(_S.DISCONNECTED, initial=True, final=True),
    State(_S.CONNECTING, on_error=_T.OPEN_FAILED),
    State(_S.CONNECTED, on_error=_T.LOST, owns_link=True),
    State(_S.RECONNECTING, on_error=_T.OPEN_FAILED),
    State(_S.DISCONNECTING, on_error=_T.CLOSED),
    State(_S.FAILED, final=True),
)
"""The states of a `Connection`."""

_OPENING = (_S.CONNECTING, _S.RECONNECTING)
_BEGIN = ("begin_outage", "forget_losses", "count_attempt")
_NO_MORE = ("forgive", "note_loss")
_AGAIN = (*_NO_MORE, "count_attempt")

TRANSITIONS: tuple[Transition, ...] = (
    # Asked to connect: the first attempt of an outage is made at once.
    Transition(_T.CONNECT, (_S.DISCONNECTED, _S.FAILED), _S.CONNECTING, effects=_BEGIN),
    Transition(_T.OPENED, _OPENING, _S.CONNECTED, effects=("note_opened", "forget_probes")),
    # An attempt failed, or the link was lost: once more if the retry policy lets us, or give up.
    Transition(_T.OPEN_FAILED, _OPENING, _S.RECONNECTING, guards="may_retry", effects="count_attempt"),
    Transition(_T.OPEN_FAILED, _OPENING, _S.FAILED),
    Transition(_T.LOST, _S.CONNECTED, _S.RECONNECTING, guards=("may_restart", "may_retry"), effects=_AGAIN),
    Transition(_T.LOST, _S.CONNECTED, _S.FAILED, effects=_NO_MORE),
    # Health: one failed probe is noted, enough of them in a row count as a lost link.
    Transition(_T.PROBE_PASSED, _S.CONNECTED, None, effects="forget_probes"),
    Transition(
        _T.PROBE_FAILED,
        _S.CONNECTED,
        _S.RECONNECTING,
        guards=("is_unhealthy", "may_restart", "may_retry"),
        effects=("condemn", *_AGAIN),
    ),
    Transition(_T.PROBE_FAILED, _S.CONNECTED, _S.FAILED, guards="is_unhealthy", effects=("condemn", *_NO_MORE)),
    Transition(_T.PROBE_FAILED, _S.CONNECTED, None, effects="note_failed_probe"),
    # Given up, and some time has passed: one careful attempt, if that can help.
    Transition(
        _T.RECOVER,
        _S.FAILED,
        _S.RECONNECTING,
        guards="may_recover",
        effects=("begin_trial", "count_attempt"),
        timer="recover_after",
    ),
    Transition(_T.RECOVER, _S.FAILED, None, timer="recover_after"),
    # Asked for a fresh link: now, whatever delay was being waited out.
    Transition(_T.RECONNECT, (_S.CONNECTED, _S.RECONNECTING, _S.FAILED), _S.RECONNECTING, effects=_BEGIN),
    # Asked to end: possible from everywhere, and it always ends in `disconnected`.
    Transition(_T.DISCONNECT, others(_S.DISCONNECTED, _S.DISCONNECTING), _S.DISCONNECTING),
    Transition(_T.CLOSED, _S.DISCONNECTING, _S.DISCONNECTED),
    # A bug in an activity: stop here, where it can be seen, instead of trying again.
    Transition(_T.FAULT, _S.DISCONNECTING, _S.DISCONNECTED),
    Transition(_T.FAULT, _S.FAILED, None),
    Transition(_T.FAULT, others(_S.DISCONNECTING, _S.FAILED), _S.FAILED),
)
"""The transitions of a `Connection`."""


class Declares(Protocol):
    """Anything that carries a table: a `Connection` class, or a namespace of one's own."""

    @property
    def states(self) -> Sequence[State]:
        """The states."""

    @property
    def transitions(self) -> Sequence[Transition]:
        """The rows, in order."""


def insert_state(
    base: Declares,
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
    states, rows = tuple(base.states), tuple(base.transitions)
    known = {each.name: each for each in states}
    _check_known("insert_state", known, before, like)
    if isinstance(state, str):
        state = State(state, on_error=known[like].on_error, owns_link=known[before].owns_link)
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
    base: Declares,
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
            try:
                async with asyncio.timeout(5) as limit:
                    return await self.while_connected()
            except TimeoutError:
                if not limit.expired():
                    raise
                return "eased"

    makes a connection that serves nobody for five seconds after `conn.fire("throttle")`.

    What the rows and the activity of a state beside `connected` must do:

    - The activity watches the link, or nobody does: `while_connected()` does so, and probes if the health policy says
      so; it ends only by raising what the link was lost by, which is to pass. Any other error of the world outside that
      the activity raises counts as a loss, too.
    - If only the application leads back, it is in order to stay: say
      `State("paused", on_error="lost", owns_link=True, final=True)`.
    - The effect `forget_probes` on the way back, where the activity probes: failed probes count when they follow one
      another in one state. No row may have `note_opened` or `count_attempt`, for no link was opened.
    - `stable_after` is counted from when the link was first `connected`, and the time beside it counts, too.
    - Calls are refused or wait, as in `connecting`; those that the activity itself makes are served. With
      `State("degraded", on_error="lost", owns_link=True, serves=True)` they all are, as in `connected`: then the
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
    states, rows = tuple(base.states), tuple(base.transitions)
    known = {each.name: each for each in states}
    _check_known("add_state", known, beside)
    if isinstance(state, str):
        state = State(state, on_error=known[beside].on_error, owns_link=True)
    _check_new("add_state", known, state)
    for each, remedy in (
        (known[beside], "a state beside it has none to share; see insert_state, or write the rows by hand"),
        (state, f"say State({str(state.name)!r}, owns_link=True), for it shares the link of {str(beside)!r}"),
    ):
        if not each.owns_link:
            raise ValueError(f"add_state: {str(each.name)!r} owns no link; {remedy}")
    linked = {each.name for each in states if each.owns_link}
    shared = [row if row.dest in linked else _with_source(row, state.name, beside) for row in rows]
    for fired, source in ((trigger, beside), (back, state.name)):
        if any(row.trigger == fired and source in row.sources((*known, state.name)) for row in shared):
            raise ValueError(
                f"add_state: {str(source)!r} already handles {str(fired)!r}; take a trigger of its own, or write the "
                "rows of the new table by hand"
            )
    there = Transition(trigger, beside, state.name, effects=effects)
    return (*states, state), (*shared, there, Transition(back, state.name, beside, effects=back_effects))


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
