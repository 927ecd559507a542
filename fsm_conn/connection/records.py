"""The record of a connection's transition: that of any machine, plus the attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fsm_conn.machine.records import NO_DATA, TransitionRecord

__all__ = ["ConnectionRecord"]


class ConnectionRecord(TransitionRecord):
    """One transition of a connection."""

    __slots__ = ()
    _fields = (*TransitionRecord._fields, "attempt")  # type: ignore[assignment]

    def __new__(
        cls,
        trigger: str,
        source: str,
        dest: str,
        internal: bool,
        reason: BaseException | None,
        dwell: float,
        at: float,
        data: Mapping[str, Any] = NO_DATA,
        attempt: int = 0,
    ) -> ConnectionRecord:
        """Make a record; the machine does so."""
        return tuple.__new__(cls, (trigger, source, dest, internal, reason, dwell, at, data, attempt))

    @property
    def attempt(self) -> int:
        """The number of the current attempt of this outage; 0 before the first."""
        return cast("int", tuple.__getitem__(self, -1))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({values})"

    def _replace(self, /, **changes: object) -> ConnectionRecord:
        """As a named tuple's `_replace`, which does not know `attempt`."""
        kept: dict[str, Any] = dict(zip(self._fields, self, strict=True))
        return ConnectionRecord(**(kept | changes))
