"""A machine by its name, `module:Class`, as it is written in documents and on command lines."""

from __future__ import annotations

import importlib
from functools import reduce
from typing import Any

from fsm_conn._util.hints import did_you_mean
from fsm_conn.diagrams.errors import DiagramError

__all__ = ["machine_named"]


def machine_named(name: str) -> Any:
    """Import what `name` names: `module:Class`, or `module:attribute` for a machine that a module has made.

    Raises:
        DiagramError: it is not of that form, or names nothing.
        Exception: whatever the module raises when it is imported.
    """
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise DiagramError(f"{name!r} names no machine; write module:Class, such as fsm_conn:Connection")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there; what it needs is not
        raise DiagramError(f"{name!r}: there is no module {error.name!r}") from None
    return reduce(_attribute, path.split("."), found)


def _attribute(owner: Any, name: str) -> Any:
    if not hasattr(owner, name):
        raise DiagramError(f"{owner.__name__} has no {name!r}{did_you_mean(name, dir(owner))}")
    return getattr(owner, name)
