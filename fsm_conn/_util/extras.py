"""Imports libraries of extras, with an error that names the extra when one is missing."""

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


def missing(purpose: str, extra: str | None, module: str | None) -> ImportError:
    """The error for a missing module that `extra` installs.

    Without an extra, the message names the library itself.
    """
    name = (module or extra or "a library").partition(".")[0]
    package = name if extra is None else f"'fsm_conn[{extra}]'"
    return ImportError(f"{purpose} needs {name!r}, which is not installed: pip install {package}", name=name)
