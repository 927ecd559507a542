"""What the values of policies are checked by: each refusal names the value as it was given, and says what to give."""

from __future__ import annotations

from typing import Any

__all__ = ["factor", "flag", "seconds", "share", "text", "whole"]


def seconds(*, zero: bool, none: bool = False) -> Any:
    """A validator: a finite number of seconds, not negative, not zero unless `zero`, and not None unless `none`."""

    def validate(policy: object, attribute: Any, value: object) -> None:
        if none and value is None:
            return
        given = f"{type(policy).__name__}({attribute.name}={value!r})"
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(f"{given}: give a number of seconds")
        if not (0 <= value < float("inf")) or (value == 0 and not zero):
            kind = "zero or more" if zero else "more than zero"
            raise ValueError(f"{given}: give a finite number of seconds, {kind}")

    return validate


def whole(least: int, *, none: bool = False, why: str = "") -> Any:
    """A validator: a whole number, `least` or more; or None for no limit, if `none`."""

    def validate(policy: object, attribute: Any, value: object) -> None:
        if none and value is None:
            return
        given = f"{type(policy).__name__}({attribute.name}={value!r})"
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{given}: give a whole number{', or None for no limit' if none else ''}")
        if value < least:
            raise ValueError(f"{given}: {why}give {least} or more")

    return validate


def share(policy: object, attribute: Any, value: object) -> None:
    """A share: a number between 0 and 1."""
    given = f"{type(policy).__name__}({attribute.name}={value!r})"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{given}: give a number")
    if not 0 <= value <= 1:
        raise ValueError(f"{given}: give a share between 0 and 1")


def flag(policy: object, attribute: Any, value: object) -> None:
    """True or False, and nothing that is like them."""
    if not isinstance(value, bool):
        raise TypeError(f"{type(policy).__name__}({attribute.name}={value!r}): give True or False")


def text(policy: object, attribute: Any, value: object) -> None:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"{type(policy).__name__}({attribute.name}={value!r}): give a string")


def factor(policy: object, attribute: Any, value: object) -> None:
    """A finite number, 1 or more."""
    given = f"{type(policy).__name__}({attribute.name}={value!r})"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{given}: give a number")
    if not (1 <= value < float("inf")):
        raise ValueError(f"{given}: give a finite number, 1 or more")
