"""The rules of the checks as data, one for each code. Documentation and output are made from this list.

The rules that hold here: a code never gets another meaning; an *error* cannot be intended; a *warning* may be
accepted by a person, with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import attrs

__all__ = ["RULES", "Finding", "Rule", "Severity", "markdown"]


class Severity(StrEnum):
    """How certain a mistake is, in the terms of SARIF."""

    ERROR = "error"
    """It cannot do what the table says."""
    WARNING = "warning"
    """It can, and is probably not intended; a person may decide."""


@attrs.frozen
class Rule:
    """One thing that may be wrong with a table."""

    code: str
    name: str
    """The same in words, for tools that show it."""
    severity: Severity
    meaning: str
    """What is wrong, as a sentence."""
    remedy: str
    """What to do about it, as a sentence."""


@attrs.frozen
class Finding:
    """A violation of a rule at one place."""

    code: str
    severity: Severity
    machine: str
    """The name of the class or machine."""
    place: str
    """The state, the row, or the trigger in its states."""
    message: str
    remedy: str
    file: str | None = None
    """The source file, if it is known."""
    line: int | None = None
    """The line in it, counted from 1."""

    @property
    def key(self) -> str:
        """The key that accepts this finding and no other."""
        return f"{self.code} {self.place}"


_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

_LIST = (
    Rule(
        "FSM101",
        "unreachable-state",
        _ERROR,
        "No way leads from the initial state to this one.",
        "Add a row that leads there, or remove the state.",
    ),
    Rule(
        "FSM102",
        "trap-state",
        _ERROR,
        "Nothing but a `fault` leads on from this state, and it is not declared final.",
        "Add a row that leads on, or declare `State(..., final=True)` if the machine may stay there.",
    ),
    Rule(
        "FSM103",
        "no-way-home",
        _ERROR,
        "Ways lead on from this state, but neither to the initial state nor to a final one.",
        "Add a row that leads out of the circle, or declare the state final in which it may end.",
    ),
    Rule(
        "FSM104",
        "ambiguous-rows",
        _WARNING,
        "Guards of two rows can agree at the same time, neither row is a special case of the other, and they lead to "
        "different ends: their order alone decides.",
        "Put a row with the guards of both before them that says what happens then, or accept that the first one wins.",
    ),
    Rule(
        "FSM105",
        "row-never-taken",
        _ERROR,
        "Whenever the guards of this row agree, a row before it is taken; or they never agree.",
        "Remove the row, mend its guards, or put it before the more general one.",
    ),
    Rule(
        "FSM106",
        "unknown-trigger",
        _ERROR,
        "An activity is annotated to fire, or returns, a trigger that is in no row.",
        "Mend the name, or add a row for the trigger.",
    ),
    Rule(
        "FSM107",
        "unhandled-trigger",
        _ERROR,
        "An activity is annotated to fire, or returns, a trigger that its own state does not handle: that is a "
        "`fault`, or is ignored.",
        "Add a row for the trigger in that state, or mend the activity.",
    ),
    Rule(
        "FSM108",
        "nothing-ends-it",
        _ERROR,
        "The state has no activity, and only triggers that activities fire lead on.",
        "Write the `while_` method of the state, or add a row for a trigger from outside.",
    ),
    Rule(
        "FSM109",
        "loop-without-wait",
        _WARNING,
        "Activities fire a circle of triggers, and no guard, time limit or delay on it keeps it from going round as "
        "fast as it can.",
        "Put a guard or a delay on the circle; if an activity waits, name the setting by `timer=` on its row.",
    ),
    Rule(
        "FSM110",
        "unresolved-callback",
        _ERROR,
        "The model has no attribute of the name of this callback, and there is nothing to import by it.",
        "Mend the name, or define it on the model.",
    ),
    Rule(
        "FSM111",
        "link-not-as-declared",
        _ERROR,
        "The row leads to a state that owns a link though none was opened, or from one that does to one that neither "
        "owns nor closes it.",
        "Lead through a state whose activity opens or releases the link, or make it a `LinkState`.",
    ),
    Rule(
        "FSM112",
        "no-way-to-disconnect",
        _ERROR,
        "The state of a connection does not handle `disconnect`, so `disconnect()` waits for another trigger.",
        "Add a row for `disconnect` from this state.",
    ),
    Rule(
        "FSM113",
        "trigger-without-activity",
        _WARNING,
        "The state handles a trigger that only activities fire, in a row that names it, and has no activity.",
        "Write the `while_` method of the state, or leave the state out of the row.",
    ),
    Rule(
        "FSM114",
        "attempt-not-counted",
        _WARNING,
        "The row begins another attempt to open a link without counting it, so neither limit nor delay of the retry "
        "policy holds for it.",
        "Add the effect `count_attempt`; for a new outage, `begin_outage` before it.",
    ),
    Rule(
        "FSM115",
        "callback-nearly-named",
        _WARNING,
        "A method that takes a reason is called by nobody, and is named almost like a guard or effect of the table.",
        "Mend the name, so that it overrides the intended method, or remove the method.",
    ),
    Rule(
        "FSM116",
        "unknown-state",
        _ERROR,
        "The row of a plain machine leads to a state that it does not have.",
        "Mend the name, or add the state.",
    ),
    Rule(
        "FSM117",
        "link-not-watched",
        _WARNING,
        "A state of a connection owns a link that nothing in the state watches: a loss goes unnoticed as long as the "
        "state lasts.",
        "Let the activity of the state also wait for `while_connected()` or `link.lost()`.",
    ),
    Rule(
        "FSM118",
        "guard-without-answer",
        _ERROR,
        "Whatever way the code of a guard takes, it returns None, which always means no.",
        "Add the `return` that is missing.",
    ),
    Rule(
        "FSM119",
        "activity-may-fire-nothing",
        _WARNING,
        "An activity is annotated to fire a trigger, and its code can end without returning one: then the state lasts "
        "until something else ends it.",
        "Return a trigger on every way through the activity, or add None to its annotation if it is meant.",
    ),
    Rule(
        "FSM120",
        "time-limit-unset",
        _ERROR,
        "The time limit of a state names an attribute that its class neither has nor ever sets.",
        "Mend the name, or set the attribute; give seconds if the limit is always the same.",
    ),
    Rule(
        "FSM199",
        "idle-acceptance",
        _WARNING,
        "A finding was accepted that is not found.",
        "Remove the acceptance.",
    ),
)

RULES: Mapping[str, Rule] = {rule.code: rule for rule in _LIST}
"""Every rule by its code."""


def markdown() -> str:
    """All rules as a table for documentation."""
    rows = [f"| `{each.code}` | {each.severity} | {each.meaning} | {each.remedy} |" for each in RULES.values()]
    return "\n".join(("| code | severity | what is found | what to do |", "|---|---|---|---|", *rows))
