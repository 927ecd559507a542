"""What guards and effects take: nothing, the reason, and of the data that comes with a trigger what they name.

    def may_pay(self) -> bool
    def note_failure(self, reason: BaseException | None) -> None
    def take(self, amount: int, currency: str = "EUR") -> None        # fire("paid", amount=5)
    def log_all(self, reason: BaseException | None, **data: object) -> None

A parameter called `reason`, or whose name begins with an underscore, or that can be given by its place alone, gets the
reason: the error behind the trigger, or None. Each other one is data, and gets what `fire` was given under its name.
One without a default must be given.
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
    """How a guard or an effect is to be called."""

    reason: str = ""
    """How the reason is handed over, as source text; empty when it is not wanted."""
    needed: tuple[str, ...] = ()
    """The data without which it cannot be called."""
    optional: tuple[str, ...] = ()
    """The data that it takes when there is some."""
    everything: bool = False
    """Whether it takes all data, whatever its name."""


REASON = Takes("reason")
"""What is taken by who does not say: a builtin, for one."""


_known: WeakKeyDictionary[FunctionType, Takes | None] = WeakKeyDictionary()
"""What is known of plain methods, which many classes inherit."""


def takes(owner: type, name: str) -> Takes | None:
    """What the method of that name takes; None when it cannot be called by a machine at all."""
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
