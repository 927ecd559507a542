"""What a trigger may be fired with: the values of one parameter, and whether they are all there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

__all__ = ["Domain"]


@attrs.frozen
class Domain:
    """The values of one parameter that lives try.

    Attributes:
        values: the simplest first.
        is_whole: whether there are no others: all of a short type, or the list that the user gave.
    """

    values: Sequence[Any]
    is_whole: bool
