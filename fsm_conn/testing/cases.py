"""A state machine of Hypothesis, bound to the class under test, as a test case that pytest and unittest collect."""

from __future__ import annotations

from typing import Any

from fsm_conn.testing._extra import needed

hypothesis = needed("hypothesis")

__all__ = ["case_of"]


def case_of(machine: type[Any], under_test: type, members: dict[str, Any], max_examples: int, steps: int) -> Any:
    """Make one.

    Args:
        machine: the state machine to derive from.
        under_test: the class it is for, by which it is named.
        members: what tells the machine what to do.
        max_examples: lives per run.
        steps: steps per life, at most.
    """
    named = {"__module__": under_test.__module__, "__qualname__": f"{under_test.__qualname__}Lives"}
    found: Any = type(f"{under_test.__name__}Lives", (machine,), {**members, **named})
    case: Any = found.TestCase
    case.settings = hypothesis.settings(
        max_examples=max_examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    case.machine = found
    return case
