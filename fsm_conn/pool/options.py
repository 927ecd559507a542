"""The options of a pool: what may be given twice, and what nobody takes."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import attrs

from fsm_conn._util.keywords import advice
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.options import checked_rng, other_places, shared_rng
from fsm_conn.pool.hooks import Hook
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.kind import Kind, SlotOwner
from fsm_conn.pool.slots.slot import Slot

if TYPE_CHECKING:
    import random

    from fsm_conn.links.target import Target

__all__ = ["MakeSlot", "connection_maker", "merged", "slot_maker"]

_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
MakeSlot = Callable[[Kind, SlotOwner], Slot]
MakeConnection = Callable[["str | None"], "Connection"]


def connection_maker(
    pool: type,
    target: Target,
    connection_class: type[Connection],
    name: str | None,
    rng: random.Random | None,
    options: Mapping[str, Any],
) -> tuple[MakeConnection, str]:
    """What makes connections of a given name, and the name of the pool; what is wrong with the options is told here."""
    if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
        raise TypeError(f"connection_class={connection_class!r}: give a subclass of Connection")
    if rng is not None:
        options = {**options, "rng": checked_rng(rng)}

    def make(name: str | None) -> Connection:
        return connection_class(target, name=name, **options)

    try:
        return make, make(name).name
    except TypeError as error:
        _explain(pool, connection_class, options, error)
        raise


def slot_maker(
    name: str,
    make: MakeConnection,
    policy: PoolPolicy,
    on_open: Hook | None,
    rng: random.Random | None,
) -> MakeSlot:
    """What makes slots, each with a connection of its own, in the context of the pool, whoever needs it first."""
    numbers, context = itertools.count(1), copy_context()

    def make_slot(kind: Kind, owner: SlotOwner) -> Slot:
        conn = make(f"{name}#{next(numbers)}")
        return Slot(conn, kind, owner, policy=policy, rng=rng or shared_rng(), on_open=on_open)

    return lambda kind, owner: context.copy().run(make_slot, kind, owner)


def merged(policy: PoolPolicy | None, size: int | None, overflow: int | None) -> PoolPolicy:
    """The policy, with what was given beside it."""
    if policy is None:
        policy = PoolPolicy()
    elif not isinstance(policy, PoolPolicy):
        raise TypeError(f"policy={policy!r}: give a PoolPolicy")
    if size is not None:
        policy = attrs.evolve(policy, size=size)
    return policy if overflow is None else attrs.evolve(policy, max_overflow=overflow)


def _explain(pool: type, connection_class: type, options: Mapping[str, Any], error: TypeError) -> None:
    """Raise what tells of an option that neither of the two takes, if that is what is wrong."""
    known = dict.fromkeys(name for each in (pool, connection_class) for name in _options_of(each))
    for name in options:
        if name not in known:
            places = {"policy=PoolPolicy({})": attrs.fields_dict(PoolPolicy), **other_places()}
            raise TypeError(f"{pool.__name__}({name}=...): {advice(name, known, places)}") from error


def _options_of(owner: type) -> Iterator[str]:
    """What its constructor takes by name, and what those take that it may pass the rest on to."""
    for each in owner.__mro__:
        if "__init__" in vars(each):
            parameters = inspect.signature(each.__init__).parameters.values()  # type: ignore[misc]
            yield from (each.name for each in parameters if each.name != "self" and each.kind not in _REST)
