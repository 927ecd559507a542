"""Chooses the member for a call: the less busy of two random ones, one on this machine first.

Of two random members the less busy one: nearly as good as the least busy of all, without a look at all, and without a
herd of clients that all choose the same one (Mitzenmacher, "The Power of Two Choices", 2001). Every client goes by its
own view: by the calls that it has under way itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from typing import Generic, Protocol, TypeVar

__all__ = ["Balanced", "Balancer"]


class Balanced(Protocol):
    """What can be chosen."""

    def load(self, now: float) -> float:
        """How busy it is."""


M = TypeVar("M", bound=Balanced)
TRIES = 8
"""Random members looked at for one that was not tried before; then all are."""


class Balancer(Generic[M]):
    """The members that serve.

    Args:
        slack: by how much one on this machine may be busier than the best other one, and is still preferred.
        rng: where choices are drawn from.
    """

    def __init__(self, slack: float, rng: random.Random) -> None:
        self._slack = slack
        self._rng = rng
        self._all: list[M] = []
        self._local: list[M] = []

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterable[M]:
        return iter(self._all)

    def add(self, member: M, *, is_local: bool) -> None:
        """It serves from now on."""
        self._all.append(member)
        if is_local:
            self._local.append(member)

    def remove(self, member: M) -> None:
        """It serves no more. Harmless when it did not."""
        for members in (self._all, self._local):
            if member in members:
                members.remove(member)

    def choose(self, now: float, tried: Collection[M] = ()) -> M | None:
        """A member for a call; one of those that were tried before only when there is no other. None: none serves."""
        least: Callable[[M], float] = lambda member: member.load(now)  # noqa: E731
        best = min(self._two_of(self._all, tried), key=least, default=None)
        if best is None or not self._local:
            return best
        near = min(self._two_of(self._local, tried), key=least, default=None)
        if near is None or (near in tried and best not in tried):
            return best
        return near if near.load(now) <= best.load(now) + self._slack else best

    def _two_of(self, members: list[M], tried: Collection[M]) -> list[M]:
        found = self._rng.sample(members, min(2, len(members)))
        if not tried:
            return found
        for _ in range(TRIES):
            fresh = [member for member in found if member not in tried]
            if fresh:
                return fresh
            found = self._rng.sample(members, min(2, len(members)))
        return [member for member in members if member not in tried] or found
