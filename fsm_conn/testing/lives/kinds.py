"""Chooses the kind of life that tests a class."""

from __future__ import annotations

from typing import Any

from fsm_conn.connection.connection import Connection
from fsm_conn.machine.machine import StateMachine
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing.lives.connections.life import Life
from fsm_conn.testing.lives.machines.life import MachineLife
from fsm_conn.testing.lives.pools.life import PoolLife

__all__ = ["life_of"]


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
