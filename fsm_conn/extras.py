"""Libraries that an extra would have installed, with an error that names the extra when one is missing."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["missing", "needed"]


def needed(module: str, extra: str, purpose: str) -> Any:
    """Import `module`.

    Raises:
        ImportError: it is not installed; the message says what needs it, and how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(purpose, extra, module) from error


def missing(purpose: str, extra: str, module: str | None) -> ImportError:
    """The error for a module that `extra` would have installed, or that of a part of its library."""
    name = (module or extra).partition(".")[0]
    return ImportError(f"{purpose} needs {name!r}, which is not installed: pip install 'fsm_conn[{extra}]'", name=name)
