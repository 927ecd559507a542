"""Tables as values: states, and the rows by which they follow one another.

This is data: nothing here runs or waits. How to read a row:

    Transition(trigger, source, dest, guards, effects)

    "when `trigger` is fired in `source` and every guard agrees, run the effects and go to `dest`"

The rules of the table:

- Rows for the same trigger and source are alternatives. They are tried in order, and the first whose guards all
  agree is taken. The last one has no guard, so one is always taken.
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
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from fsm_conn._util.keywords import explained_class

__all__ = ["Fires", "Others", "State", "Transition", "is_seconds", "others", "seconds_of"]


ACTIVITY_PREFIX = "while_"
"""What the name of an activity begins with, before that of its state."""
FAULT = "fault"
"""The trigger that is fired when an activity breaks a rule or raises an unexpected error."""


@attrs.frozen(repr=False)
class Others:
    """As the source of a row: every state of the table except the named ones, including states that subclasses add."""

    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"others({', '.join(repr(str(name)) for name in self.names)})"


def others(*names: str) -> Others:
    """As the source of a row: every state except `names`."""
    return Others(names)


Names = str | Iterable[str]


def _names(value: Names | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _source(value: Names | Others) -> tuple[str, ...] | Others:
    if value == "*":
        return Others(())
    return value if isinstance(value, Others) else _names(value)


@explained_class
@attrs.frozen
class State:
    """One state of a table."""

    name: str
    on_error: str = attrs.field(default=FAULT, kw_only=True)
    """The trigger fired when the activity raises an expected error: `OSError`, `TimeoutError` or `FsmConnError`."""
    initial: bool = attrs.field(default=False, kw_only=True)
    """Whether the machine begins here. Exactly one state of a table is initial."""
    final: bool = attrs.field(default=False, kw_only=True)
    """Whether the machine may stay here for ever."""
    timeout: float | str | None = attrs.field(default=None, kw_only=True)
    """The time limit in seconds; or the name of an attribute, read when the state is entered, that holds the seconds or
    None for no limit. A self transition starts the time anew, an internal transition does not."""
    on_timeout: str | None = attrs.field(default=None, kw_only=True)
    """The trigger fired at the time limit, with a `StateTimeoutError` as its reason."""
    entry: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)
    """Names of methods called in order whenever it is entered, after the effects of the row; the state is this one by
    then. If one raises, nothing has changed."""
    exit: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)
    """Names of methods called in order whenever it is left, after the effects of the row, still in it."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Further marks for tables and diagrams; for subclasses of `State`."""
        return ()


@explained_class
@attrs.frozen
class Transition:
    """One row of a table."""

    trigger: str
    source: tuple[str, ...] | Others = attrs.field(converter=_source)
    """A state, several states, `"*"` for all, or `others(...)` for all but some."""
    dest: str | None
    """The state that follows; None for an internal transition."""
    guards: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Names of methods that must all return a true value. They read and change nothing."""
    effects: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Names of methods called in order, before the state changes."""

    timer: str | None = attrs.field(default=None, kw_only=True)
    """For readers: the setting that holds the delay after which the source's activity fires the trigger."""

    def sources(self, states: Iterable[str]) -> tuple[str, ...]:
        """The states this row starts from, in a table of `states`."""
        if isinstance(self.source, Others):
            return tuple(name for name in states if name not in self.source.names)
        return self.source


class Fires:
    """Annotates what an activity fires: `async def while_idle(self) -> Annotated[str, Fires("woken", "expired")]`.

    `Literal["woken", "expired"]` means the same, but a subclass that overrides the activity cannot widen it. Checks
    compare it with the table, and diagrams show the trigger as fired from within. It changes nothing at run time.

    Args:
        triggers: what it fires.
        steps: what it does, one after the other, in a word each: diagrams show that with its name.
    """

    __slots__ = ("steps", "triggers")

    def __init__(self, *triggers: str, steps: Sequence[str] = ()) -> None:
        self.triggers = triggers
        self.steps = tuple(steps)

    def __repr__(self) -> str:
        return f"Fires({', '.join(repr(str(trigger)) for trigger in self.triggers)})"


def is_seconds(value: object) -> bool:
    """Whether it is a positive number, possibly infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def seconds_of(machine: Any, attribute: str) -> float | None:
    """The time limit of `machine` at this moment, in seconds; None when there is no limit.

    Raises:
        ValueError: the attribute holds neither a positive number of seconds nor None.
    """
    value = getattr(machine, attribute)
    if value is None or value == math.inf:
        return None
    if not is_seconds(value):
        raise ValueError(f"{machine!r}.{attribute} is {value!r:.60}: give a positive number of seconds, or None")
    return float(value)
