"""Living a trace again, and the shortest part of it that still shows the same."""

from __future__ import annotations

from typing import Any

from fsm_conn.testing.invariants import ViolationError
from fsm_conn.testing.life import Life
from fsm_conn.testing.trace import Step, Trace

__all__ = ["replay", "shortest"]


def replay(trace: Trace, **options: Any) -> Life:
    """Live a trace again, step by step, deterministically.

    Args:
        trace: for instance that of a `ViolationError`.
        options: keywords of `Life` instead of, or beside, those of the trace.

    Raises:
        ViolationError: it shows what it showed, which is what a regression test waits for.
    """
    life = Life(trace.connection_class, **{**trace.options, **options})
    try:
        for step in trace.steps:
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
    assert error.trace is not None
    best, index = error, 0
    while best.trace is not None and index < len(best.trace.steps):
        steps = [*best.trace.steps[:index], *best.trace.steps[index + 1 :]]
        found = _violation(Trace(best.trace.connection_class, best.trace.options, steps), options)
        if found is not None and found.invariant == error.invariant:
            best = found
        else:
            index += 1
    return best


def _violation(trace: Trace, options: dict[str, Any]) -> ViolationError | None:
    try:
        replay(trace, **options).close()
    except ViolationError as error:
        return error
    return None
