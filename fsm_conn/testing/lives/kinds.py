"""Chooses the kind of life that tests a class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from fsm_conn._util.keywords import named, refuse_unknown
from fsm_conn.connection.connection import Connection
from fsm_conn.machine.machine import StateMachine
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing.lives.connections.life import Life
from fsm_conn.testing.lives.machines.life import MachineLife
from fsm_conn.testing.lives.pools.life import PoolLife

__all__ = ["life_for", "life_of"]


def life_of(subject: type, *, who: str) -> type[Any]:
    """The kind of life for a class.

    Args:
        subject: a subclass of `Connection`, `ConnectionPool` or any other `StateMachine`.
        who: the function that asks; the error names it.

    Raises:
        TypeError: the class is none of these.
    """
    if isinstance(subject, type):
        for base, life in ((Connection, Life), (ConnectionPool, PoolLife), (StateMachine, MachineLife)):
            if issubclass(subject, base) and subject is not StateMachine:
                return life
    raise TypeError(f"{who}({subject!r}): give a subclass of StateMachine, Connection or ConnectionPool")


def life_for(asking: Callable[..., Any], subject: type, life: type[Any] | None, options: Iterable[str]) -> type[Any]:
    """The kind of life, `life` or that of the class; refuses an option that it does not take.

    Args:
        asking: the function that asks; the errors name it.
        subject: as for `life_of`.
        life: the kind that the caller has chosen, if any.
        options: the names of the options that are for the life.

    Raises:
        TypeError: the class is none of these, or there is no such option.
    """
    kind = life or life_of(subject, who=asking.__name__)
    if all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in inspect.signature(kind).parameters.values()):
        refuse_unknown(asking.__name__, options, (*named(asking), *named(kind)))
    return kind
