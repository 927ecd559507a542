"""How a class with one mistake is declared, for the measurement of what the harness finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

__all__ = ["CASES", "Case", "careless"]


@attrs.frozen(eq=False)
class Case:
    """A class with one mistake."""

    subject: type
    guilty: tuple[str, ...]
    """Names of the methods whose lines a report may point at. None: the class as a whole, whose mistake is its table."""
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For the id of a test."""
        return self.subject.__name__


CASES: list[Case] = []
"""All classes that were declared."""


def careless(*guilty: str, **options: Any) -> Callable[[type], type]:
    """Declare a class whose mistake is in one of `guilty`; `options` are what its user gives to `machine_test`."""

    def declare(subject: type) -> type:
        CASES.append(Case(subject, guilty, options))
        return subject

    return declare
