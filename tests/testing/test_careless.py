"""What the harness finds of mistakes that people make who have read its page only, each by a run as it is by default."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache

import attrs
import pytest

from fsm_conn.testing import Script, ViolationError, random_lives, replay
from tests.testing import (
    careless_activities,
    careless_connections,
    careless_machines,
    careless_orders,
    careless_tasks,
)
from tests.testing.careless import CASES, Case

DECLARED_IN = (careless_activities, careless_connections, careless_machines, careless_orders, careless_tasks)
SEED = 1
named = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@cache
def found(case: Case) -> ViolationError:
    """What the first run finds."""
    lived = random_lives(case.subject, seed=SEED, **case.options)
    assert lived.violation is not None, f"{case.name}: {lived}"
    return lived.violation


def guilty_lines(case: Case) -> Iterator[range]:
    """Where the mistake is: lines of the file of the class."""
    module = sys.modules[case.subject.__module__]
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef) and node.name in case.guilty:
            yield range(node.lineno, node.end_lineno + 1)
        if isinstance(node, ast.ClassDef) and node.name == case.subject.__name__:
            for inner in ast.walk(node):
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and inner.name in case.guilty:
                    yield range(inner.lineno, inner.end_lineno + 1)


def test_there_are_many_of_them_and_of_many_kinds() -> None:
    """Plain machines, connections, links and pools."""
    assert len(CASES) > 50
    assert {case.subject.__module__ for case in CASES} == {each.__name__ for each in DECLARED_IN}
    assert len({case.subject.__bases__[0] for case in CASES}) > 3


@named
def test_a_default_run_finds_it_and_names_its_file_and_line(case: Case) -> None:
    """Somewhere in the report, a line of what is wrong is named."""
    report = str(found(case))
    file = case.subject.__module__.rpartition(".")[2]
    lines = [int(line) for line in re.findall(rf"{file}\.py:(\d+)", report)]
    assert any(line in wrong for line in lines for wrong in guilty_lines(case)), report


@pytest.mark.parametrize("case", [case for case in CASES if case.name != "Lottery"], ids=lambda case: case.name)
def test_no_step_of_what_is_reported_can_be_left_out(case: Case) -> None:
    """Without any one of its steps, the life does not show what it showed. Where dice are rolled, nothing does again."""
    violation = found(case)
    script = violation.script
    assert script is not None
    with pytest.raises(ViolationError):
        replay(script, **case.options)
    for index in range(len(script.steps)):
        shorter = attrs.evolve(script, steps=[*script.steps[:index], *script.steps[index + 1 :]])
        assert shown_by(shorter, case) != violation.signature, f"{violation}\n\nwithout step {index}: the same"


def shown_by(script: Script, case: Case) -> tuple[str, str] | None:
    """What a life shows; None when it goes well."""
    try:
        replay(script, **case.options).close()
    except ViolationError as error:
        return error.signature
    return None
