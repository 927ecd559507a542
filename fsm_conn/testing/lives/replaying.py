"""Living a script again, and the shortest part of it that still shows the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from fsm_conn.testing.lives.checks import ViolationError
from fsm_conn.testing.lives.endless import Hurry
from fsm_conn.testing.lives.script import Script, Step

__all__ = ["replay", "shortest"]

PATIENCE = 20_000
"""Steps that are lived, at most, to make a life shorter: about two seconds."""
ENDLESS = 1000
"""So many steps count for one in which something went on for ever."""
HURRIED = 1 / 40
"""How much sooner it is taken for that, once it has been seen to be."""


def replay(script: Script, **options: Any) -> Any:
    """Live a script again, step by step, deterministically, and return the life.

    Args:
        script: for instance that of a `ViolationError`.
        options: keywords of the life instead of, or beside, those of the script.

    Raises:
        ViolationError: it shows what it showed, which is what a regression test waits for.
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
    """The same violation by as few steps, and with as few options of its own, as can be found; none can be left out.

    Args:
        error: what was found.
        options: keywords of the life that its script does not have, such as `make`.
    """
    return _Shortening(error, options).run()


class _Shortening:
    def __init__(self, error: ViolationError, options: dict[str, Any]) -> None:
        self.best = error
        self.options = options
        self.patience = PATIENCE

    @property
    def script(self) -> Script:
        assert self.best.script is not None
        return self.best.script

    def run(self) -> ViolationError:
        """Leave out what can be left out, until nothing more can be."""
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
        """Whether anything could be left out, from the end to the beginning, so many steps at a time."""
        before, end = len(self.script.steps), len(self.script.steps)
        while end > 0:
            steps = self.script.steps
            end = min(end, len(steps))
            start = max(end - size, 0)
            self.try_it(steps=[*steps[:start], *steps[end:]])
            end = start
        return len(self.script.steps) < before

    def simplify(self) -> bool:
        """Whether an option of the script, or the rush of a step, could be left out."""
        for name in self.script.options:
            if self.try_it(options={key: value for key, value in self.script.options.items() if key != name}):
                return True
        return any(self.try_it(steps=steps) for steps in self.calmer())

    def calmer(self) -> Iterator[list[Step]]:
        for index, step in enumerate(self.script.steps):
            if step.rush:
                calm = list(self.script.steps)
                calm[index] = attrs.evolve(step, rush=False)
                yield calm

    def try_it(self, **changes: Any) -> bool:
        """Whether the script shows the same when it is changed so; then it is the best one."""
        if self.patience <= 0:
            return False
        script = attrs.evolve(self.script, **changes)
        self.patience -= len(script.steps)
        try:
            with Hurry(HURRIED if self.best.invariant == "no_livelock" else 1.0):
                replay(script, **self.options).close()
        except ViolationError as error:
            self.patience -= ENDLESS * (error.invariant == "no_livelock")
            is_smaller = error.script is not None and _size(error.script) < _size(self.script)
            if is_smaller and error.signature == self.best.signature:
                self.best = error
                return True
        except Exception:  # what makes the machine may refuse other options
            return False
        return False


def _size(script: Script) -> tuple[int, int, int]:
    """Steps, options and rush: what the caller gives is an option of every life, and cannot be left out of any."""
    return len(script.steps), len(script.options), sum(step.rush for step in script.steps)
