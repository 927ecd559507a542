"""What surrounds every life: logs are silent, coroutines that nobody awaits are kept, calls that block are refused."""

from __future__ import annotations

from fsm_conn.testing.lives.blocking import refused
from fsm_conn.testing.lives.machines.unawaited import unawaited
from fsm_conn.testing.lives.silenced import Logged, silenced

__all__ = ["surrounded"]


class _Surroundings:
    """While entered, all three are. It may be entered more than once at a time, at little cost."""

    def __init__(self) -> None:
        self._depth = 0

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1:
            silenced.__enter__()
            unawaited.__enter__()
            refused.__enter__()

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            refused.__exit__()
            unawaited.__exit__()
            silenced.__exit__()

    @staticmethod
    def keep(logged: list[Logged], never_awaited: list[str]) -> None:
        """From now on errors and coroutines are kept in these lists, which are those of the life that goes on."""
        silenced.kept, unawaited.kept = logged, never_awaited


surrounded = _Surroundings()
"""For whatever lives: only one life runs at a time. What lives many enters it around each, so their steps need not."""
