"""The targets of a pool, and the choice of the next one to connect to: the one with the fewest connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fsm_conn._util.text import said
from fsm_conn.links.target import Target
from fsm_conn.pool.targets.given import same
from fsm_conn.pool.targets.target import PoolTarget

if TYPE_CHECKING:
    from fsm_conn.pool.slots.slot import Slot

__all__ = ["MakeTarget", "Targets"]

MakeTarget = Callable[[Target], PoolTarget]


class Targets:
    """The targets of one pool.

    Args:
        make: makes a `PoolTarget` of a target, or raises an error if the target is wrong.
        targets: the initial targets, one or more.
    """

    def __init__(self, make: MakeTarget, targets: Iterable[Target]) -> None:
        self._make = make
        self._targets: list[PoolTarget] = []
        for target in targets:
            self._targets.append(self._named(make(target)))

    def __iter__(self) -> Iterator[PoolTarget]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, target: object) -> bool:
        return target in self._targets

    # --- which there are ----------------------------------------------------------------------------------------

    def add(self, target: Target) -> PoolTarget:
        """Add a target.

        Raises:
            TypeError, ValueError: the target is wrong; the message says why.
            ValueError: the pool has it already.
        """
        made = self._make(target)
        if any(same(target, each.target) for each in self._targets):
            raise ValueError(f"{made.name!r} is a target of this pool already")
        self._targets.append(self._named(made))
        return self._targets[-1]

    def remove(self, target: Target) -> PoolTarget:
        """Remove a target.

        Raises:
            ValueError: the pool does not have it, or it is the last one.
        """
        found = [each for each in self._targets if each.name == target or same(target, each.target)]
        if not found:
            names = ", ".join(repr(each.name) for each in self._targets)
            raise ValueError(f"{target!r} is no target of this pool, which has {names}")
        if len(self._targets) == 1:
            raise ValueError(f"{found[0].name!r} is the last target of this pool: add another first, or close the pool")
        self._targets.remove(found[0])
        found[0].is_leaving = True
        return found[0]

    def _named(self, target: PoolTarget) -> PoolTarget:
        names, name, number = {each.name for each in self._targets}, target.name, 1
        while target.name in names:
            number += 1
            target.name = f"{name} ({number})"
        return target

    # --- which is the next ----------------------------------------------------------------------------------------

    def place(self, slots: Iterable[Slot]) -> PoolTarget:
        """The target for one more connection: the one with the fewest of `slots`, if it is not left out."""
        if len(self._targets) == 1:
            return self._targets[0]
        count = Counter(slot.target for slot in slots if not slot.is_replaced)
        return min(self._targets, key=lambda target: (target.is_left_out, count[target]))

    def has_better(self, target: PoolTarget) -> bool:
        """Whether another target is preferable to this one, whatever the number of their connections."""
        if target.is_leaving:
            return True
        return target.is_left_out and not all(each.is_left_out for each in self._targets)

    # --- how they are doing -----------------------------------------------------------------------------------------

    def as_dict(self, slots: Iterable[Slot]) -> dict[str, dict[str, Any]]:
        """The public numbers of each target, by its name."""
        slots = tuple(slots)
        return {target.name: _told(target, [slot for slot in slots if slot.target is target]) for target in self}


def _told(target: PoolTarget, slots: list[Slot]) -> dict[str, Any]:
    return {
        "connections": sum(slot.in_service for slot in slots),
        "leased": sum(len(slot.holders) for slot in slots),
        "calls": sum(len(slot.callers) for slot in slots),
        "is_left_out": target.is_left_out,
        "failures": target.failures,
        "last_error": None if target.cause is None else said(target.cause),
        "connections_created": target.links + sum(slot.links for slot in slots),
        "leases": target.leases + sum(slot.leases for slot in slots),
    }
