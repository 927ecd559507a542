"""The libraries that only testing needs, with an error that names the extra when one is missing."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["needed"]


def needed(module: str) -> Any:
    """Import `module`.

    Raises:
        ImportError: it is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(
            f"fsm_conn.testing needs {name!r}, which is not installed: pip install 'fsm_conn[testing]'", name=name
        ) from error
