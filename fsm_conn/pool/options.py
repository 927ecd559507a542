"""The options of a pool: merges values that can be given twice, and refuses unknown ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import attrs

from fsm_conn._util.keywords import Places, refuse_unknown, taken_by
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
        except TypeError:
            known = (*taken_by(pool), *taken_by(connection_class))
            refuse_unknown(pool.__name__, options, known, _other_places)
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


def _other_places() -> Places:
    return {"policy=PoolPolicy({})": attrs.fields_dict(PoolPolicy), **other_places()}
