"""Shorter limits for what is known to be endless, while a life in which it is so is made shorter."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["Hurry"]


class Hurry:
    """While entered, limits are multiplied: of CPU time by `share`, of rounds in which no time passes by `rounds`.

    Rounds are counted, so these limits do not depend on the machine.
    """

    share: ClassVar[float] = 1.0
    rounds: ClassVar[float] = 1.0

    def __init__(self, share: float, rounds: float = 1.0) -> None:
        self._shares = share, rounds

    def __enter__(self) -> None:
        Hurry.share, Hurry.rounds = self._shares

    def __exit__(self, *error: object) -> None:
        Hurry.share = Hurry.rounds = 1.0
