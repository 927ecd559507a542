"""The error for a library that an extra would have installed."""

from __future__ import annotations

__all__ = ["missing"]


def missing(observer: str, extra: str, error: ImportError) -> ImportError:
    """Make of `error`, by which the library of `extra` could not be imported, one that says how to get it."""
    return ImportError(
        f"{observer} needs {error.name!r}, which is not installed: pip install 'fsm_conn[{extra}]'", name=error.name
    )
