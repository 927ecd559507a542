"""Lives of machines of any kind: users' faults are found with their line, and what has none is left alone."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from fsm_conn import StateMachine
from fsm_conn.testing import ViolationError, explore, random_lives, replay

from .faulty_machines import CLEAN, FAULTY

STEPS = 30_000
"""Within so many lived steps each fault is found."""


def found(faulty: type[StateMachine]) -> ViolationError:
    """By every short life, and then by chance."""
    _, options = FAULTY[faulty]
    walk = explore(faulty, depth=6, **options)
    assert walk.steps < STEPS
    violation = walk.violation or random_lives(faulty, **options).violation
    assert violation is not None, f"{faulty.__name__} survived"
    return violation


@pytest.mark.parametrize("faulty", FAULTY, ids=lambda faulty: str(faulty.__name__))
def test_a_fault_is_found_with_its_line(faulty: type[StateMachine]) -> None:
    """By the shortest life, which shows it again."""
    violation = found(faulty)
    name, options = FAULTY[faulty]
    assert violation.invariant in name.split("|"), str(violation)
    lines, first = inspect.getsourcelines(faulty)
    bug = [first + number for number, line in enumerate(lines) if line.rstrip().endswith("# bug")]
    if bug:
        assert f"faulty_machines.py:{bug[0]}" in violation.message
    assert violation.script is not None
    if "lives_can_be_repeated" not in name:
        with pytest.raises(ViolationError) as again:
            replay(violation.script, **options)
        assert again.value.message == violation.message


@pytest.mark.parametrize("faulty", FAULTY, ids=lambda faulty: str(faulty.__name__))
def test_no_step_can_be_left_out(faulty: type[StateMachine]) -> None:
    """Whatever chance has found is as short as it can be."""
    name, options = FAULTY[faulty]
    if "lives_can_be_repeated" in name:
        return
    violation = random_lives(faulty, lives=200, **options).violation
    assert violation is not None
    assert violation.script is not None
    steps = violation.script.steps
    assert len(steps) <= 9, str(violation)
    for index in range(len(steps)):
        shorter = type(violation.script)(
            violation.script.life, faulty, violation.script.options, [*steps[:index], *steps[index + 1 :]]
        )
        assert shown(shorter, options) != violation.signature, f"step {index} of {violation}"


def shown(script: Any, options: dict[str, Any]) -> Any:
    try:
        replay(script, **options).close()
    except ViolationError as error:
        return error.signature
    return None


@pytest.mark.parametrize("clean", CLEAN, ids=lambda clean: str(clean.__name__))
def test_what_has_no_fault_is_left_alone(clean: type[StateMachine]) -> None:
    """By every short life, by chance, and with its own activities."""
    options = CLEAN[clean]
    walk = explore(clean, depth=6, **options)
    assert walk.violation is None, str(walk.violation)
    assert walk.proven
    lived = random_lives(clean, **options)
    assert lived.violation is None, str(lived.violation)
    assert lived.unreached == ()
    assert explore(clean, depth=5, make=clean, **options).violation is None
