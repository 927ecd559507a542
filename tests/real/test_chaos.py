"""A pool of real plugins under faults of every kind, and callers who are told the truth: by the plugins' own ledger.

`python -m benchmarks.chaos` goes on for minutes, and shows what came of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import attrs
import pytest

from . import chaos
from .conftest import Leftovers

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
async def test_chaos(tmp_path: Path, leftovers: Leftovers) -> None:
    """Idempotent calls are all answered; no other is executed twice, and what its caller was told is true; and nothing
    is left: no process, descriptor, task, thread or directory, nor memory.
    """
    account = await chaos.run(tmp_path, seconds=10, seed=7)
    await leftovers.none()
    assert list(account.problems()) == []
    assert {kind for kind, told, _ in account.calls if told == "answered"} == {"idempotent", "not idempotent"}


CLEAN = chaos.Account(1, 1, Counter(dict.fromkeys(chaos.FAULTS, 1)), Counter(), 0, 0)


@pytest.mark.parametrize(
    ("call", "is_allowed"),
    [
        (("idempotent", "answered", 1), True),
        (("idempotent", "answered", 3), True),
        (("idempotent", "answered", 0), False),
        (("idempotent", "maybe executed", 1), False),
        (("idempotent", "nothing", 1), False),
        (("not idempotent", "answered", 1), True),
        (("not idempotent", "answered", 0), False),
        (("not idempotent", "answered", 2), False),
        (("not idempotent", "answered wrongly", 1), False),
        (("not idempotent", "maybe executed", 0), True),
        (("not idempotent", "maybe executed", 1), True),
        (("not idempotent", "maybe executed", 2), False),
        (("not idempotent", "not sent", 0), True),
        (("not idempotent", "not sent", 1), False),
        (("not idempotent", "nothing", 0), False),
    ],
)
def test_what_is_a_broken_promise(call: tuple[str, str, int], is_allowed: bool) -> None:
    assert not list(CLEAN.problems())
    assert len(list(attrs.evolve(CLEAN, calls=Counter([call])).problems())) == (not is_allowed)


@pytest.mark.parametrize(("name", "value"), [("faults", Counter("kill")), ("unknown", 1), ("grown", 100_000)])
def test_what_else_is_one(name: str, value: object) -> None:
    assert len(list(attrs.evolve(CLEAN, **{name: value}).problems())) == 1


def test_the_command_shows_all_of_it_and_what_is_wrong(tmp_path: Path) -> None:
    """A run without time for a fault is no proof, and says so: on the page, and by its exit status."""
    page = tmp_path / "page.md"
    command = [sys.executable, "-m", "benchmarks.chaos", "--seconds", "0", "--seed", "3", "--write", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 1, done.stderr
    assert done.stdout == page.read_text()
    assert "- run: 0 s, seed 3\n" in done.stdout
    assert "| not idempotent | answered | 1 x | 1" in done.stdout
    assert "Left afterwards: 0 processes, 0 tasks, 0 descriptors, 0 files, 0 threads." in done.stdout
    assert done.stdout.endswith(f"Broken promises:\n- too short for: {', '.join(sorted(chaos.FAULTS))}\n")
