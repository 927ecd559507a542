"""Where random lives have been, and how they came there: so that the next ones go where little was seen.

A life is led on from the way to a rare state (as Go-Explore does, Ecoffet et al. 2021), and prefers steps that were
seldom taken and that led to rare states before.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from fsm_conn.testing.lives.living import Living
from fsm_conn.testing.lives.script import Step

__all__ = ["MOST", "Archive", "Beginning"]

CELLS = 40
"""So many ways are kept to each state."""
WANTED = 40
"""How much rather a life begins in a state in which something is still to be seen."""
BY_MOMENT = 0.3
"""How often a life begins by the way to a rare moment, whatever its state."""
DIRECT = 0.5
"""How often a life begins by the shortest way to a state."""
LEAST, MOST = 0.05, 5.0
"""How much less, and how much more, a step is offered for where it leads."""


_UNTRIED: tuple[str | None, int] = None, 0
"""Where a step has led that was not taken yet, and how often it was taken."""


@attrs.define
class Beginning:
    """A way to a moment of one kind: the options of the life, and its steps."""

    options: dict[str, Any]
    steps: tuple[Step, ...]
    used: int = 0
    """How many lives have begun by it."""
    seen: int = 1
    """How often lives came to a moment of this kind."""


class Archive:
    """What was seen, by state.

    Args:
        most_steps: no longer way is kept than three times so many.
    """

    def __init__(self, most_steps: int) -> None:
        self._most_steps = 3 * most_steps
        self._visits: Counter[str] = Counter()
        self._tried: dict[str, dict[Step, tuple[str | None, int]]] = {}
        self._worth: dict[str, dict[Step, float]] = {}
        self._ways: dict[str, dict[Any, Beginning]] = {}

    def note(self, state: str, step: Step, life: Living, options: dict[str, Any]) -> None:
        """A step was taken in a state, and led to where the life is now. What counts is the rarest state it led to."""
        now = life.state
        self._visits[now] += 1
        steps = self._tried.setdefault(state, {})
        led_to, tried = steps.get(step, _UNTRIED)
        found = steps[step] = now if led_to is None or self._visits[now] < self._visits[led_to] else led_to, tried + 1
        if state in self._worth:
            self._worth[state][step] = self._worth_of(state, *found)
        ways = self._ways.setdefault(now, {})
        if not life.ended and len(life.script.steps) <= self._most_steps:
            cell = life.cell()
            known = ways.get(cell)
            if known is None:
                ways[cell] = Beginning(options, tuple(life.script.steps))
            else:
                known.seen += 1
            if len(ways) > CELLS:
                short = _shortest(ways.values())
                del ways[max(ways, key=lambda each: (ways[each] is not short, ways[each].used))]

    def worth(self, state: str) -> Mapping[Step, float]:
        """How much more than otherwise the steps that were taken in a state are offered; those that were not, `MOST`.

        How rare the states are that they lead to is as it was when the life began.
        """
        found = self._worth.get(state)
        if found is None:
            tried = self._tried.get(state, {})
            found = self._worth[state] = {step: self._worth_of(state, *known) for step, known in tried.items()}
        return found

    def _worth_of(self, state: str, led_to: str | None, tried: int) -> float:
        if led_to == state:
            return float(1 / (2 + tried) ** 0.5)
        rarity = ((1 + self._visits[state]) / (1 + self._visits[str(led_to)])) ** 0.5
        return float(min(max(rarity, LEAST), MOST) / (2 + tried) ** 0.5)

    def beginning(self, rng: random.Random, wanted: Collection[str]) -> Beginning | None:
        """A way to a rare state, or to a moment that is rare whatever its state; rather to a state `wanted`."""
        self._worth.clear()
        states = [state for state, ways in self._ways.items() if ways]
        if not states:
            return None
        if rng.random() < BY_MOMENT:
            found = self._way_to_rare_moment(rng, wanted)
        else:
            found = self._way_to_rare_state(rng, states, wanted)
        found.used += 1
        return found

    def _way_to_rare_state(self, rng: random.Random, states: Sequence[str], wanted: Collection[str]) -> Beginning:
        weights = [(WANTED if each in wanted else 1) / (1 + self._visits[each]) for each in states]
        ways = list(self._ways[rng.choices(states, weights)[0]].values())
        least = min(each.used for each in ways)
        fresh = [each for each in ways if each.used == least]
        return _shortest(ways) if rng.random() < DIRECT else rng.choice(fresh)

    def _way_to_rare_moment(self, rng: random.Random, wanted: Collection[str]) -> Beginning:
        """What leads to the rest of a table may be a rare moment in a common state: the key that was found before."""
        ways: list[Beginning] = []
        weights: list[float] = []
        for state, some in self._ways.items():
            ways += some.values()
            weights += [(WANTED if state in wanted else 1) / ((1 + way.used) * way.seen**0.5) for way in some.values()]
        return rng.choices(ways, weights)[0]


def _shortest(ways: Iterable[Beginning]) -> Beginning:
    return min(ways, key=lambda each: len(each.steps))
