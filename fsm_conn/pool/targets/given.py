"""The targets that a pool was given: one, or several."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fsm_conn.links.target import Endpoint, LinkFactory, Plugin, Reattach, Target

__all__ = ["PoolTargets", "same", "targets_of"]

One = Plugin | Endpoint | Reattach | LinkFactory
PoolTargets = Target | Sequence[One]
"""What a pool accepts: a target as for a connection, or a list of several targets that are values or callables. A list
of strings is one target: a command."""


def targets_of(given: PoolTargets) -> tuple[Target, ...]:
    """The targets, one or more.

    Raises:
        TypeError: a list that mixes targets and strings, which is ambiguous.
        ValueError: an empty list, or the same target twice.
    """
    if isinstance(given, (str, Plugin, Endpoint, Reattach)) or callable(given) or not isinstance(given, Sequence):
        return (given,)
    if not given:
        raise ValueError("a pool needs a target: give a command, an address, or a list such as [Endpoint('a:1')]")
    words = [each for each in given if isinstance(each, (str, os.PathLike))]
    if len(words) == len(given):
        return (given,)  # type: ignore[return-value]  # a command
    for each in given:
        if not (isinstance(each, (Plugin, Endpoint, Reattach)) or callable(each)):
            raise TypeError(
                f"{each!r} in a list of targets: give values, such as Endpoint('a:1') or Plugin(['python', 'a.py'])"
            )
    several = tuple(given)
    for number, each in enumerate(several):
        if each in several[:number]:
            raise ValueError(
                f"{each!r} is given twice: a target is given once, and pool_size says how many connections"
            )
    return several  # type: ignore[return-value]


def same(one: Target, other: Target) -> bool:
    """Whether two targets are the same, whatever the form in which each was given."""
    return _value(one) == _value(other)


def _value(target: Target) -> object:
    if isinstance(target, (Plugin, Endpoint, Reattach)) or callable(target):
        return target
    try:
        return Endpoint(target) if isinstance(target, str) else Plugin(target)
    except ValueError:
        return target  # not an address; perhaps a name
