"""Validators of policies and options: each error names the given value and says what to give instead."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["check_seconds", "factor", "flag", "is_finite", "seconds", "share", "shown", "text", "whole"]


def is_finite(value: float) -> bool:
    """Whether a number is finite, not NaN, and fits into a float."""
    try:
        return abs(float(value)) < float("inf")
    except OverflowError:
        return False


def shown(value: object) -> str:
    """The given value for a message; of a huge integer, its size."""
    if isinstance(value, int) and abs(value) > 1 << 64:
        return f"<an integer of {value.bit_length()} bits>"
    return repr(value)


def _given(policy: object, attribute: Any, value: object) -> str:
    return f"{type(policy).__name__}({attribute.name}={shown(value)})"


def check_seconds(given: str, value: object, *, zero: bool = False, least: float = 0.0, otherwise: str = "") -> float:
    """A finite number of seconds, `least` or more, and not zero unless `zero`.

    Args:
        given: the text of the argument, for the message.
        value: the value.
        zero: whether it may be zero.
        least: the minimum.
        otherwise: other permitted values, for the message.

    Raises:
        TypeError, ValueError: the value is not a number; it is out of range.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{given}: give a number of seconds{otherwise}")
    if not (is_finite(value) and value >= least) or (value == 0 and not zero):
        kind = f"{least:g} or more" if least else "zero or more" if zero else "more than zero"
        raise ValueError(f"{given}: give a finite number of seconds, {kind}{otherwise}")
    return float(value)


def seconds(*, zero: bool = False, none: bool = False, least: float = 0.0) -> Any:
    """A validator: as `check_seconds`, and None if `none`."""

    def validate(policy: object, attribute: Any, value: object) -> None:
        if value is not None or not none:
            check_seconds(_given(policy, attribute, value), value, zero=zero, least=least)

    return validate


def check_whole(given: str, value: object, least: int, *, why: str = "", otherwise: str = "") -> None:
    """Check that a value is a whole number, `least` or more. `given`, `otherwise` and errors as in `check_seconds`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{given}: give a whole number{otherwise}")
    if value < least:
        raise ValueError(f"{given}: {why}give {least} or more")
    if value > sys.maxsize:
        raise ValueError(f"{given}: give at most {sys.maxsize}{otherwise}")


def whole(least: int, *, none: bool = False, why: str = "") -> Any:
    """A validator: a whole number, `least` or more; or None for no limit, if `none`."""

    def validate(policy: object, attribute: Any, value: object) -> None:
        if value is not None or not none:
            otherwise = ", or None for no limit" if none else ""
            check_whole(_given(policy, attribute, value), value, least, why=why, otherwise=otherwise)

    return validate


def share(policy: object, attribute: Any, value: object) -> None:
    """A share: a number between 0 and 1."""
    given = _given(policy, attribute, value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{given}: give a number")
    if not 0 <= value <= 1:
        raise ValueError(f"{given}: give a share between 0 and 1")


def flag(policy: object, attribute: Any, value: object) -> None:
    """True or False, not merely a true or false value."""
    if not isinstance(value, bool):
        raise TypeError(f"{_given(policy, attribute, value)}: give True or False")


def text(policy: object, attribute: Any, value: object) -> None:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"{_given(policy, attribute, value)}: give a string")


def factor(policy: object, attribute: Any, value: object) -> None:
    """A finite number, 1 or more."""
    given = _given(policy, attribute, value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{given}: give a number")
    if not (is_finite(value) and value >= 1):
        raise ValueError(f"{given}: give a finite number, 1 or more")
