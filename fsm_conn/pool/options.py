"""The options of a pool: merges values that can be given twice, and refuses unknown ones."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import attrs

from fsm_conn._util.keywords import advice
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.options import checked_name, checked_rng, other_places, shared_rng
from fsm_conn.pool.hooks import Hook
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.kind import Kind, SlotOwner
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.pool.targets.target import PoolTarget
from fsm_conn.pool.targets.targets import MakeTarget, Targets

if TYPE_CHECKING:
    import random

    from fsm_conn.links.target import Target

__all__ = ["MakeSlot", "checked_pool_name", "merged", "slot_maker", "target_maker"]

_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
MakeSlot = Callable[[Kind, SlotOwner, PoolTarget], Slot]
_FEW = 3
"""At most so many targets appear in a pool's default name."""


def target_maker(
    pool: type,
    connection_class: type[Connection],
    rng: random.Random | None,
    options: Mapping[str, Any],
) -> MakeTarget:
    """Returns a function that makes a `PoolTarget` of a target. It raises if the target or the options are wrong."""
    if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
        raise TypeError(f"connection_class={connection_class!r}: give a subclass of Connection")
    if rng is not None:
        options = {**options, "rng": checked_rng(rng)}

    def make(target: Target) -> PoolTarget:
        def connect(name: str | None) -> Connection:
            return connection_class(target, name=name, **options)

        try:
            return PoolTarget(target, connect(None).name, connect, rng or shared_rng())
        except TypeError as error:
            _explain(pool, connection_class, options, error)
            raise

    return make


def slot_maker(
    name: str | None,
    targets: Targets,
    policy: PoolPolicy,
    on_open: Hook | None,
    rng: random.Random | None,
) -> MakeSlot:
    """Returns a function that makes slots, each with its own connection, in the pool's context, whoever calls it.

    When the application has not named the pool, connections have the name of their target.
    """
    numbers, context = itertools.count(1), copy_context()

    def make_slot(kind: Kind, owner: SlotOwner, target: PoolTarget) -> Slot:
        whose = target.name if name is None else name if len(targets) == 1 else f"{name}/{target.name}"
        conn = target.connect(f"{whose}#{next(numbers)}")
        return Slot(conn, kind, owner, target, policy=policy, rng=rng or shared_rng(), on_open=on_open)

    return lambda kind, owner, target: context.copy().run(make_slot, kind, owner, target)


def checked_pool_name(name: str | None, targets: Targets) -> str:
    """The pool's name in messages; by default its target's name, or the names of the first few."""
    if name is not None:
        return checked_name(name)
    names = [target.name for target in targets]
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


def merged(policy: PoolPolicy | None, size: int | None, overflow: int | None) -> PoolPolicy:
    """The policy, with the separately given values applied."""
    if policy is None:
        policy = PoolPolicy()
    elif not isinstance(policy, PoolPolicy):
        raise TypeError(f"policy={policy!r}: give a PoolPolicy")
    if size is not None:
        policy = attrs.evolve(policy, size=size)
    return policy if overflow is None else attrs.evolve(policy, max_overflow=overflow)


def _explain(pool: type, connection_class: type, options: Mapping[str, Any], error: TypeError) -> None:
    """Raise an error that names an option which neither class takes, if that is the cause."""
    known = dict.fromkeys(name for each in (pool, connection_class) for name in _options_of(each))
    for name in options:
        if name not in known:
            places = {"policy=PoolPolicy({})": attrs.fields_dict(PoolPolicy), **other_places()}
            raise TypeError(f"{pool.__name__}({name}=...): {advice(name, known, places)}") from error


def _options_of(owner: type) -> Iterator[str]:
    """The keyword arguments of its constructor, and of the constructors to which it may pass the rest."""
    for each in owner.__mro__:
        if "__init__" in vars(each):
            parameters = inspect.signature(each.__init__).parameters.values()  # type: ignore[misc]
            yield from (each.name for each in parameters if each.name != "self" and each.kind not in _REST)
