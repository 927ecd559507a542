"""The parameters of guards and effects: none, the reason, or data of the trigger by name.

    def may_pay(self) -> bool
    def note_failure(self, reason: BaseException | None) -> None
    def take(self, amount: int, currency: str = "EUR") -> None        # fire("paid", amount=5)
    def log_all(self, reason: BaseException | None, **data: object) -> None

A parameter called `reason`, one whose name begins with an underscore, and a positional-only one are given the reason:
the error behind the trigger, or None. Each other parameter is data and is given what `fire` was given under its name.
Data without a default must be given.
"""

from __future__ import annotations

import inspect
from inspect import Parameter
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import attrs

__all__ = ["Takes", "takes"]


@attrs.frozen
class Takes:
    """How to call a guard or an effect."""

    reason: str = ""
    """The source text that passes the reason; empty when it is not taken."""
    needed: tuple[str, ...] = ()
    """The names of the required data."""
    optional: tuple[str, ...] = ()
    """The names of the optional data."""
    everything: bool = False
    """Whether it takes all data, whatever its name."""


REASON = Takes("reason")
"""The assumption for a callable without a signature, such as a builtin."""


_known: WeakKeyDictionary[FunctionType, Takes | None] = WeakKeyDictionary()
"""A cache for plain methods, which many classes inherit."""


def takes(owner: type, name: str) -> Takes | None:
    """What the method of that name takes; None when a machine cannot call it."""
    declared = next((vars(each)[name] for each in owner.__mro__ if name in vars(each)), None)
    if not isinstance(declared, FunctionType):
        return _read(getattr(owner, name), has_self=not isinstance(declared, (staticmethod, classmethod)))
    if declared not in _known:
        _known[declared] = _read(declared, has_self=True)
    return _known[declared]


def _read(method: Any, has_self: bool) -> Takes | None:
    try:
        found = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):
        return REASON
    if has_self:
        if not found:
            return None
        if found[0].kind is not Parameter.VAR_POSITIONAL:
            del found[0]
    return _of(found)


def _of(parameters: list[Parameter]) -> Takes | None:
    reasons = [each for each in parameters if _is_reason(each)]
    if len([each for each in reasons if each.kind is not Parameter.VAR_POSITIONAL]) > 1:
        return None
    named = [each for each in parameters if not _is_reason(each) and each.kind is not Parameter.VAR_KEYWORD]
    return Takes(
        _handed_over(reasons[0], parameters) if reasons else "",
        tuple(each.name for each in named if each.default is Parameter.empty),
        tuple(each.name for each in named if each.default is not Parameter.empty),
        any(each.kind is Parameter.VAR_KEYWORD for each in parameters),
    )


def _is_reason(parameter: Parameter) -> bool:
    if parameter.kind is Parameter.VAR_KEYWORD:
        return False
    by_place = parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL)
    return by_place or parameter.name == "reason" or parameter.name.startswith("_")


def _handed_over(reason: Parameter, parameters: list[Parameter]) -> str:
    by_place = reason is parameters[0] and reason.kind is not Parameter.KEYWORD_ONLY
    return "reason" if by_place else f"{reason.name}=reason"
