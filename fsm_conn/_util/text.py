"""What an error says, for messages and log lines of ours. It may be anybody's error, and its own words may fail."""

from __future__ import annotations

from types import TracebackType

__all__ = ["named", "said", "traced"]


def said(error: BaseException) -> str:
    """Its text; what it is, where it has none."""
    try:
        return str(error) or repr(error)
    except Exception:  # whoever waits for the message must not be left without one
        return f"{type(error).__name__}, whose own text cannot be had"


def named(error: BaseException) -> str:
    """Its class and its text: of a bug, the text alone may be as little as the name of a key."""
    return f"{type(error).__name__}: {said(error)}"


def traced(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """For the `exc_info` of a log record: given the error itself, `logging` would ask whether it is true."""
    return type(error), error, error.__traceback__
