"""What can be wrong with what is to be drawn, and the error for the extra that is missing."""

from __future__ import annotations

import importlib
from typing import Any

from fsm_conn.errors import FsmConnError

__all__ = ["DiagramError", "needed"]


class DiagramError(FsmConnError, ValueError):
    """There is no such format, theme or state, or what was to be laid over the diagram is about another table."""


def needed(module: str, extra: str, purpose: str) -> Any:
    """Import `module`.

    Raises:
        ImportError: it is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(
            f"{purpose} needs {name!r}, which is not installed: pip install 'fsm_conn[{extra}]'", name=name
        ) from error
