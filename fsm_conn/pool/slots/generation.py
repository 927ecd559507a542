"""What the leases of one link have in common, and how they end together."""

from __future__ import annotations

from typing import Any

__all__ = ["Generation"]


class Generation:
    """The leases of one link of a slot.

    A lease reads everything through its generation, because an attribute of the lease itself is slow to read on Python
    3.11, where the class has a `__getattr__`.

    Args:
        lender: hands out the slot, and takes it back.
        slot: the slot; None for the leases that have none.

    Attributes:
        is_over: whether its leases ended at once, because the link was lost or the pool closed.
        is_plain: whether the slot is ready, not overflow, not old, and its link has no `reset`.
        loss: the error that ended the link, if it is known.
    """

    __slots__ = ("is_over", "is_plain", "lender", "loss", "slot")

    def __init__(self, lender: Any, slot: Any = None) -> None:
        self.lender, self.slot = lender, slot
        self.is_over = self.is_plain = False
        self.loss: BaseException | None = None

    def end(self, loss: BaseException | None) -> Generation:
        """End its leases. Return the next generation of the slot."""
        self.is_over, self.is_plain, self.loss = True, False, loss
        return Generation(self.lender, self.slot)
