"""What all benchmarks share: interleaved repeats, medians with their spread, rows with a goal, and progress.

The rules that hold here:

- What is compared runs in turn, in one run: first this, then that, then that, then this. Whatever else the machine
  does meanwhile falls on both, so a ratio of two neighbours can be trusted where a time cannot.
- A result is a median. Its spread is the quartiles: half of all repeats lie between them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import attrs

__all__ = ["BEHIND", "RATIO", "Benchmark", "Progress", "Row", "against", "quartiles", "row_of", "turns"]

T = TypeVar("T")

RATIO = "x"
"""The unit of a ratio, ours to what it is compared with: less is better."""
BEHIND = 1.1
"""The ratio from which on ours is clearly behind."""


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table."""

    name: str
    """What was measured."""
    work: str
    """On what work, and against what."""
    value: float
    unit: str
    goal: float | None = None
    """The value must be at most this; None where there is no goal."""
    strict: bool = False
    """The value must be less than the goal, not just equal."""
    low: float | None = None
    """The lower quartile of the repeats."""
    high: float | None = None
    """The upper one."""
    repeats: int = 1
    detail: str = ""
    """What the value was made from."""
    why: str = ""
    """The reason, in whole sentences, should the result fall short; in the benchmark, to be there after every run."""

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None where there is none."""
        if self.goal is None:
            return None
        return self.value < self.goal if self.strict else self.value <= self.goal

    @property
    def falls_short(self) -> bool:
        """Whether a goal was missed, or something that we are compared with is clearly better, goal or not."""
        return self.met is False or (self.unit == RATIO and self.value > BEHIND)


class Benchmark(Protocol):
    """What a module named in the suite has."""

    def rows(self, quick: bool, progress: Progress) -> list[Row]:
        """Measure. `quick` means fewer repeats of the same work."""


class Progress:
    """One line that says how far a benchmark is; written to a terminal, and to nothing else.

    Args:
        title: what is under way.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown = sys.stderr.isatty()
        self._written = 0.0

    def at(self, done: int, total: int, what: str = "") -> None:
        """Say that `done` of `total` is done."""
        now = time.monotonic()
        if self._shown and (now - self._written > 0.1 or done >= total):
            self._written = now
            print(f"\r\x1b[K{self._title} {what} {done}/{total}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def turns(parts: Sequence[T], rounds: int, progress: Progress | None = None, what: str = "") -> Iterator[tuple[int, T]]:
    """Every part once in each of `rounds`, as its index and itself; forwards and backwards in turn."""
    order = list(enumerate(parts))
    for done in range(rounds):
        if progress is not None:
            progress.at(done, rounds, what)
        yield from order if done % 2 == 0 else reversed(order)


def quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(samples) < 2:
        return samples[0], samples[0], samples[0]
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, middle, high


def against(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratios of neighbours: the first of ours to the first of theirs, and so on."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def row_of(
    samples: Iterable[float],
    *,
    name: str,
    work: str,
    unit: str,
    goal: float | None = None,
    strict: bool = False,
    detail: str = "",
    why: str = "",
) -> Row:
    """A row for the median of `samples`, with their quartiles."""
    taken = list(samples)
    low, middle, high = quartiles(taken)
    return Row(
        name=name,
        work=work,
        value=middle,
        unit=unit,
        goal=goal,
        strict=strict,
        low=low,
        high=high,
        repeats=len(taken),
        detail=detail,
        why=why,
    )
