"""Errors of the framework, and the root of all of them.

Rules that hold for every error of the package: a message names what was wrong, where, and what to do about it; the type
tells "something outside failed" from "this call was wrong"; a message never holds a secret. All errors can be
pickled, so that test runners and process pools can carry them.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "DeclarationError",
    "EndlessDispatchError",
    "FsmConnError",
    "IllegalTriggerError",
    "MachineClosedError",
    "MissingDataError",
    "StateTimeoutError",
]


class FsmConnError(Exception):
    """The root of the package's own errors: catch it to catch them all."""


class DeclarationError(FsmConnError, TypeError):
    """A table or a class was declared wrongly. Raised when the class is created, before anything runs."""


class IllegalTriggerError(FsmConnError, RuntimeError):
    """A trigger that the current state does not handle. Nothing was changed.

    Attributes:
        state: the state that the machine was, and still is, in.
        trigger: the trigger that was refused.
        allowed: the triggers which that state handles.
    """

    def __init__(self, message: str, *, state: str = "", trigger: str = "", allowed: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.state = state
        self.trigger = trigger
        self.allowed = tuple(allowed)


class MissingDataError(FsmConnError, TypeError):
    """A trigger was fired without data that a guard or an effect needs. Nothing was changed.

    Attributes:
        trigger: the trigger that was fired.
        missing: the name of the missing data.
    """

    def __init__(self, message: str, *, trigger: str = "", missing: str = "") -> None:
        super().__init__(message)
        self.trigger = trigger
        self.missing = missing


class EndlessDispatchError(FsmConnError, RuntimeError):
    """Triggers fire one another for ever, each from a guard, an effect or an observer of the last.

    Triggers that were still queued are dropped; transitions that were taken stand.

    Attributes:
        circle: the triggers that fire one another in a circle.
    """

    def __init__(self, message: str, *, circle: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.circle = tuple(circle)

    @classmethod
    def of(cls, machine: object, fired: list[str]) -> EndlessDispatchError:
        """Make the error, with the shortest circle that `fired` ends with twice."""
        sizes = range(1, len(fired) // 2)
        size = next((size for size in sizes if fired[-size:] == fired[-2 * size : -size]), len(fired))
        circle = fired[-size:][:10]
        told = " -> ".join([*circle, circle[0] if size <= len(circle) else "..."])
        return cls(
            f"{machine!r}: triggers fire one another for ever: {told}; of {len(fired) - 1} that followed from one, "
            "none was the last. Fire from an activity what is to happen again and again",
            circle=circle,
        )


class MachineClosedError(FsmConnError, RuntimeError):
    """The machine was closed by `aclose()`, or by the end of its `async with`. Nothing was changed."""


class StateTimeoutError(FsmConnError, TimeoutError):
    """A state lasted longer than its `timeout`. It is the reason of the trigger `on_timeout`."""


EXPECTED = (OSError, TimeoutError, FsmConnError)
"""Expected errors, which fire a state's `on_error`. All others are bugs and fire `fault`."""


def is_expected(error: BaseException | None) -> bool:
    """Whether an error is an expected one, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_expected(each) for each in error.exceptions)
    return isinstance(error, EXPECTED) and not isinstance(error, (EndlessDispatchError, MissingDataError))


def strip_tracebacks(error: BaseException | None) -> None:
    """Take the tracebacks from an expected error: they hold frames, which hold the object that keeps the error."""
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and link.__traceback__ is not None:
            link.__traceback__ = None
            chain += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
