"""Notices coroutines of the user's code that nobody awaits: `self.send()` without `await` does nothing.

Python warns of each when it is collected. During a life it does not: the life fails, and tells the line that made it.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from fsm_conn.testing.lives.culprits import is_foreign_file, line_at

__all__ = ["Unawaited", "unawaited"]

_WARN = "_warn_unawaited_coroutine"
"""What the interpreter calls, if it is there, for a coroutine that was never awaited."""


class Unawaited:
    """While entered, keeps what is never awaited. It may be entered more than once at a time, at little cost.

    Attributes:
        kept: collects a sentence for each coroutine.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []
        self._depth = 0
        self._before: tuple[Any, int] = (None, 0)

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._before = getattr(warnings, _WARN, None), sys.get_coroutine_origin_tracking_depth()
            setattr(warnings, _WARN, self._never_awaited)
            sys.set_coroutine_origin_tracking_depth(self._before[1] or 1)

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            setattr(warnings, _WARN, self._before[0])
            sys.set_coroutine_origin_tracking_depth(self._before[1])

    def _never_awaited(self, coroutine: Any) -> None:
        origin = getattr(coroutine, "cr_origin", None)
        if origin and is_foreign_file(origin[0][0]):
            where = line_at(origin[0][0], origin[0][1])
            self.kept.append(f"a coroutine was never awaited, so it did nothing: {where}")
        elif self._before[0] is not None:
            self._before[0](coroutine)


unawaited = Unawaited()
"""For whatever lives: only one life runs at a time."""
