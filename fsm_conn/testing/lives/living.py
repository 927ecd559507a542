"""What every life can do, for those who live them by the thousand: walk them, choose their steps, make them shorter."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.stepping import Offer

__all__ = ["Living"]


class Living(Protocol):
    """A life of any kind; the methods are described in `stepping.SteppedLife`, `Life`, `MachineLife` and `PoolLife`."""

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
        """The state that the machine is in."""

    def options(self, everything: bool = False) -> list[Step]:
        """The steps that are possible now, each once."""

    def offers(self) -> list[Offer]:
        """The steps to choose from at random, with how often each is offered."""

    def fingerprint(self) -> tuple[Any, frozenset[str]]:
        """What tells this moment from others, and what could not be compared."""

    def cell(self) -> Any:
        """What kind of moment this is, coarsely."""

    def unjudged(self) -> dict[str, str]:
        """Rules that are not applied to this class, each with the reason."""

    def try_refusals(self) -> None:
        """Fire what must be refused."""

    def end(self) -> None:
        """The life ends well, or a `ViolationError` says why not."""

    def close(self) -> None:
        """Give the loop back."""
