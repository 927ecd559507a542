"""The interface of every life, for code that walks thousands of them, chooses their steps, or shortens them."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.stepping import Offer

__all__ = ["Living"]


class Living(Protocol):
    """A life of any kind. `stepping.SteppedLife`, `Life`, `MachineLife` and `PoolLife` describe the methods."""

    script: Script
    machine: Any
    records: Any
    steps_in: Counter[str]
    checking: bool
    ended: bool
    sampled: set[str]
    endings: tuple[str, ...]

    @property
    def state(self) -> str:
        """The state of the machine."""

    def options(self, everything: bool = False) -> list[Step]:
        """The steps that are possible now, each once."""

    def offers(self) -> list[Offer]:
        """The steps to choose from at random, each with its weight."""

    def fingerprint(self) -> tuple[Any, frozenset[str]]:
        """The fingerprint of this moment, and the objects that could not be compared."""

    def owners(self) -> tuple[type, ...]:
        """The classes whose code runs in this life."""

    def cell(self) -> Any:
        """A coarse description of this moment."""

    def unjudged(self) -> dict[str, str]:
        """Rules that are not applied to this class, each with the reason."""

    def try_refusals(self) -> None:
        """Fire the triggers that must be refused."""

    def end(self) -> None:
        """End the life; raise a `ViolationError` if a rule is broken."""

    def close(self) -> None:
        """Close the loop, or return it."""
