"""The kinds of slots, and the owner to which slots report."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

__all__ = ["Kind", "SlotOwner"]


class Kind(StrEnum):
    """The purpose of a slot."""

    REGULAR = "regular"
    """One of the pool's `size`, or of its standby."""
    OVERFLOW = "overflow"
    """Opened because all others were leased; closed after it was unused for a while."""


class SlotOwner(Protocol):
    """The owner to which a slot reports.

    Attributes:
        lender: hands out its slots, and takes them back.
    """

    lender: Any

    def slot_moved(self, slot: Any, *, was_in_service: bool) -> None:
        """The slot has entered a state."""

    def slot_in_trouble(self, slot: Any) -> None:
        """An attempt to connect has failed; the slot's `cause` is the error."""

    def slot_probed(self, slot: Any) -> None:
        """A probe of the slot's driver, which cannot be leased meanwhile, has begun or ended."""

    def gave_up(self, slot: Any, *, is_news: bool) -> None:
        """The slot's connection has given up, and is tried again after a pause. `is_news`: it was not so before."""

    def hook_failed(self, slot: Any, hook: str, error: Exception) -> None:
        """A hook has raised, or taken too long, so its link is closed."""
