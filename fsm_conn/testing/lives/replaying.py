"""Replays a script, and finds its shortest part that still shows the same violation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from fsm_conn.testing.lives.checks import ViolationError
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.silenced import silenced
from fsm_conn.testing.loops.hurry import Hurry

__all__ = ["replay", "shortest"]

PATIENCE = 20_000
"""The most steps that are taken to shorten a life: about two seconds."""
ENDLESS = 1000
"""A step in which code ran for ever counts as so many steps."""
HURRIED = 1 / 40
"""The share of the usual limit after which code that ran for ever once is interrupted again."""
ROUNDS = 1 / 10
"""The share of the usual rounds after which tasks that went on and on once, and let no time pass, do so again."""


def replay(script: Script, **options: Any) -> Any:
    """Replay a script step by step, deterministically, and return the life.

    Args:
        script: the script, for instance that of a `ViolationError`.
        options: keywords of the life that replace, or add to, those of the script.

    Raises:
        ViolationError: the violation is still there, which makes a regression test fail.
    """
    life = script.life(script.subject, **{**script.options, **options})
    try:
        for step in script.steps:
            step.take(life)
    except ViolationError:
        raise
    except BaseException:
        life.close()
        raise
    return life


def shortest(error: ViolationError, **options: Any) -> ViolationError:
    """The same violation with as few steps and options as possible: leaving out any other would hide it.

    Args:
        error: the violation.
        options: keywords of the life that its script does not contain, such as `make`.
    """
    shorter = _Shortening(error, options, ROUNDS).run()
    if shorter.invariant != "no_livelock" or shorter is error:
        return shorter
    # What goes on for a tenth of the rounds may yet come to its end.
    return _shown_again(shorter, options) or _Shortening(error, options, 1.0).run()


def _shown_again(error: ViolationError, options: dict[str, Any]) -> ViolationError | None:
    """The violation as it is when tasks may go on for all the usual rounds; None when there is none then."""
    assert error.script is not None
    try:
        with silenced, Hurry(HURRIED):
            replay(error.script, **options).close()
    except ViolationError as again:
        return again if again.signature == error.signature else None
    return None


class _Shortening:
    def __init__(self, error: ViolationError, options: dict[str, Any], rounds: float) -> None:
        self.best = error
        self.options = options
        self.hurry = Hurry(HURRIED, rounds) if error.invariant == "no_livelock" else Hurry(1.0)
        self.patience = PATIENCE
        self.tried: list[tuple[list[Step], list[str]]] = []
        """The steps of what was tried, and the names of its options; it would come to the same again."""

    @property
    def script(self) -> Script:
        assert self.best.script is not None
        return self.best.script

    def run(self) -> ViolationError:
        """Leave out steps and options until no more can be left out."""
        if self.best.script is None:
            return self.best
        size = max(len(self.script.steps) // 2, 1)
        while True:
            shorter = self.without_chunks(size)
            if size > 1:
                size //= 2
            elif not shorter and not self.simplify():
                return self.best

    def without_chunks(self, size: int) -> bool:
        """Leave out up to `size` steps at a time, from the end to the beginning; return whether that was possible."""
        before, end = len(self.script.steps), len(self.script.steps)
        while end > 0:
            steps = self.script.steps
            end = min(end, len(steps))
            start = max(end - size, 0)
            self.try_it(steps=[*steps[:start], *steps[end:]])
            end = start
        return len(self.script.steps) < before

    def simplify(self) -> bool:
        """Leave out options of the script, or the rush of a step; return whether that was possible."""
        before = self.best
        for name in [*self.script.options]:
            self.try_it(options={key: value for key, value in self.script.options.items() if key != name})
        return self.best is not before or any(self.try_it(steps=steps) for steps in self.calmer())

    def calmer(self) -> Iterator[list[Step]]:
        for index, step in enumerate(self.script.steps):
            if step.rush:
                calm = list(self.script.steps)
                calm[index] = attrs.evolve(step, rush=False)
                yield calm

    def try_it(self, **changes: Any) -> bool:
        """Whether the changed script shows the same violation; it is then the best script so far."""
        if self.patience <= 0:
            return False
        script = attrs.evolve(self.script, **changes)
        tried = script.steps, [*script.options]
        if tried in self.tried:
            return False
        self.tried.append(tried)
        self.patience -= len(script.steps)
        try:
            with silenced, self.hurry:
                replay(script, **self.options).close()
        except ViolationError as error:
            self.patience -= ENDLESS * (error.invariant == "no_livelock")
            is_smaller = error.script is not None and _size(error.script) < _size(self.script)
            if is_smaller and error.signature == self.best.signature:
                self.best = error
                return True
        except Exception:  # the function that makes the machine may refuse other options
            return False
        return False


def _size(script: Script) -> tuple[int, int, int]:
    """The number of steps, options and rushes. Options from the caller apply to every life, and cannot be left out."""
    return len(script.steps), len(script.options), sum(step.rush for step in script.steps)
