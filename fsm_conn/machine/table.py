"""Tables as values: states, and the rows by which they follow one another.

It is data: nothing here runs, waits or imports anything of ours but names. How to read a row:

    Transition(trigger, source, dest, guards, effects)

    "when `trigger` is fired in `source`, and every guard says yes, do the effects and go to `dest`"

The rules of the table:

- Rows for the same trigger and source are alternatives. They are asked in order, the first whose guards all
  agree is taken, and the last has no guard, so there is always an answer.
- A *guard* reads and never changes anything. An *effect* counts or remembers; it runs before the state
  changes, and if it raises, the state does not change. Both are methods named in the row; they may take the
  `reason` (an exception or None), and what was given with the trigger by its name. Neither ever waits.
- A state may have effects too: those of its `exit` follow those of the row, and then come those of the next one's
  `entry`.
- What takes time is the *activity* of a state, the coroutine method `while_<state>`. What it returns is the
  trigger it fires; an error of the world outside (`OSError`, `TimeoutError`, `FsmConnError`) that it raises fires the
  state's `on_error`; any other exception is a bug and fires `fault`. A state with a `timeout` fires its `on_timeout`.
- `dest=None` is an internal transition: the state is not left, and its activity goes on. A `dest` equal to the
  source is a self transition: the state is left and entered again, and its activity begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

__all__ = ["Fires", "Others", "State", "Transition", "is_seconds", "others", "seconds_of"]


ACTIVITY_PREFIX = "while_"
"""What the name of an activity begins with, before that of its state."""
FAULT = "fault"
"""The trigger that is fired when an activity breaks a rule or raises what nobody expected."""


@attrs.frozen(repr=False)
class Others:
    """As the source of a row: every state of the table but the named ones, states of subclasses included."""

    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"others({', '.join(repr(str(name)) for name in self.names)})"


def others(*names: str) -> Others:
    """As the source of a row: every state but `names`."""
    return Others(names)


Names = str | Iterable[str]


def _names(value: Names | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _source(value: Names | Others) -> tuple[str, ...] | Others:
    if value == "*":
        return Others(())
    return value if isinstance(value, Others) else _names(value)


@attrs.frozen
class State:
    """One state of a table."""

    name: str
    on_error: str = attrs.field(default=FAULT, kw_only=True)
    """The trigger fired when the activity raises an error of the world outside."""
    initial: bool = attrs.field(default=False, kw_only=True)
    """Whether life begins here. One state of a table says so."""
    final: bool = attrs.field(default=False, kw_only=True)
    """Whether it is in order to stay here for ever."""
    timeout: float | str | None = attrs.field(default=None, kw_only=True)
    """How long it may last, in seconds; or the name of the attribute that says so when the state is entered, where None
    means without a limit. An internal transition does not begin the time anew, a self transition does."""
    on_timeout: str | None = attrs.field(default=None, kw_only=True)
    """The trigger fired when the time is over, with a `StateTimeoutError` as its reason."""
    entry: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)
    """Names of methods called in order whenever it is entered, after the effects of the row; the state is this one by
    then. If one raises, nothing has changed."""
    exit: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)
    """Names of methods called in order whenever it is left, after the effects of the row, still in it."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What tables and pictures say of it beside all this; for kinds of states that are derived from this one."""
        return ()


@attrs.frozen
class Transition:
    """One row of a table."""

    trigger: str
    source: tuple[str, ...] | Others = attrs.field(converter=_source)
    """A state, several, `"*"` for all, or `others(...)` for all but some."""
    dest: str | None
    """The state that follows; None for an internal transition."""
    guards: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Names of methods that must all say yes, by any value that counts as true. They read; they change nothing."""
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


def is_seconds(value: object) -> bool:
    """Whether it is a positive number, be it infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def seconds_of(machine: Any, attribute: str) -> float | None:
    """What `machine` says at this moment; None when there is no limit.

    Raises:
        ValueError: it says neither a positive number of seconds nor None.
    """
    value = getattr(machine, attribute)
    if value is None or value == math.inf:
        return None
    if not is_seconds(value):
        raise ValueError(f"{machine!r}.{attribute} is {value!r:.60}: give a positive number of seconds, or None")
    return float(value)
