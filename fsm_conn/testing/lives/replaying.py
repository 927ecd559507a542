"""Living a trace again, and the shortest part of it that still shows the same."""

from __future__ import annotations

from typing import Any

from fsm_conn.testing.lives.invariants import ViolationError
from fsm_conn.testing.lives.life import Life
from fsm_conn.testing.lives.script import Script, Step

__all__ = ["replay", "shortest"]


def replay(script: Script, **options: Any) -> Life:
    """Live a trace again, step by step, deterministically.

    Args:
        script: for instance that of a `ViolationError`.
        options: keywords of `Life` instead of, or beside, those of the script.

    Raises:
        ViolationError: it shows what it showed, which is what a regression test waits for.
    """
    life = Life(script.connection_class, **{**script.options, **options})
    try:
        for step in script.steps:
            take(life, step)
    except ViolationError:
        raise
    except BaseException:
        life.close()
        raise
    return life


def take(life: Life, step: Step) -> None:
    """Do one step."""
    if step.rush:
        getattr(life, step.name)(*step.arguments, rush=True)
    else:
        getattr(life, step.name)(*step.arguments)


def shortest(error: ViolationError, **options: Any) -> ViolationError:
    """The same violation by as few of its steps as can be found by leaving out one after another."""
    assert error.script is not None
    best, index = error, 0
    while best.script is not None and index < len(best.script.steps):
        steps = [*best.script.steps[:index], *best.script.steps[index + 1 :]]
        found = _violation(Script(best.script.connection_class, best.script.options, steps), options)
        if found is not None and found.invariant == error.invariant:
            best = found
        else:
            index += 1
    return best


def _violation(script: Script, options: dict[str, Any]) -> ViolationError | None:
    try:
        replay(script, **options).close()
    except ViolationError as error:
        return error
    return None
