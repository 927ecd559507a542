"""The examples are classes as users write them: the harness has nothing to say against any of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fsm_conn.testing import explore, random_lives

from .test_own_ways import LogsIn, make_logs_in

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from degraded import Degradable
from door import Door
from order import Order
from paused import Pausable
from upload import Upload

CODES = {"enter": {"code": ["1234", "0000"]}}
AMOUNTS = {"pay": {"amount": [4.0, 10.0]}}
EXAMPLES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "door": (Door, {"make": lambda: Door("1234"), "data": CODES}),
    "order": (Order, {"make": lambda: Order(10.0), "data": AMOUNTS}),
    "upload": (Upload, {}),
    "upload_that_fails_twice": (Upload, {"make": lambda: Upload(2)}),
    "authenticated": (LogsIn, {"make": make_logs_in}),
    "degraded": (Degradable, {}),
    "paused": (Pausable, {}),
}
MISSED = {
    "order": ("short_of_stock", "fault"),  # its own activity never fails
    "upload_that_fails_twice": ("fault", "expired", "broken"),
}
"""Rows that need another world than the one that is given; of connections it is enough that they are lived."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_without_fault(name: str) -> None:
    """By chance, and by every short life."""
    subject, options = EXAMPLES[name]
    walk = explore(subject, depth=3, **options)
    assert walk.violation is None, str(walk)
    lived = random_lives(subject, lives=60, **options)
    assert lived.violation is None, str(lived)
    print(name, lived)


@pytest.mark.parametrize("name", ["door", "order", "upload", "upload_that_fails_twice"])
def test_all_of_an_example_is_reached(name: str) -> None:
    """Every row, and both outcomes of every guard, but for what the given world does not have."""
    subject, options = EXAMPLES[name]
    missed = MISSED.get(name, ())
    unreached = [each for each in random_lives(subject, **options).unreached if not each.startswith(missed)]
    assert unreached == []
