"""The values of one parameter that lives try, and whether these are all possible values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

__all__ = ["Domain"]


@attrs.frozen
class Domain:
    """The values of one parameter that lives try.

    Attributes:
        values: the values, the simplest first.
        is_whole: whether there are no others: all values of a small type, or the list that the user gave.
    """

    values: Sequence[Any]
    is_whole: bool
