"""What slots are there for, and whom they tell what becomes of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

__all__ = ["Kind", "SlotOwner"]


class Kind(StrEnum):
    """What a slot is there for."""

    REGULAR = "regular"
    """One of the pool's `size`, or of its standby."""
    OVERFLOW = "overflow"
    """Opened because all others were leased; closed when it was not needed for a while."""


class SlotOwner(Protocol):
    """Whom a slot tells."""

    def slot_moved(self, slot: Any, *, was_in_service: bool) -> None:
        """It has entered a state."""

    def slot_in_trouble(self, slot: Any) -> None:
        """An attempt to connect has failed; `cause` tells why."""

    def hook_failed(self, slot: Any, hook: str, error: Exception) -> None:
        """A hook has raised, or taken too long, so the link that it worked on is given up."""
