"""Errors of the framework, and the root of all of them.

Rules that hold for every error of the package: a message names what was wrong, where, and what to do about it; blame is
in the type, so that callers can tell "the plugin could not be started" from "this call was wrong"; nothing secret is
ever put into a message. All errors survive pickling, so that test runners and process pools can carry them.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["DeclarationError", "FsmConnError", "IllegalTriggerError"]


class FsmConnError(Exception):
    """The root: catch it to catch everything that this package raises on its own account."""


class DeclarationError(FsmConnError, TypeError):
    """A lifecycle was declared wrongly. Raised when the class is made, before anything can run."""


class IllegalTriggerError(FsmConnError, RuntimeError):
    """A trigger that the current state does not handle. Nothing was changed.

    Attributes:
        state: the state the connection was, and still is, in.
        trigger: the trigger that was refused.
        allowed: the triggers which that state handles.
    """

    def __init__(self, message: str, *, state: str = "", trigger: str = "", allowed: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.state = state
        self.trigger = trigger
        self.allowed = tuple(allowed)
