"""What a user means by `module:Class`: in documents, and on command lines.

What is imported is the user's code, which may raise anything: `reason_of` tells it in one line.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.text import named

__all__ = ["NameNotFoundError", "imported", "imported_here", "member", "object_named", "offered", "reason_of", "split"]

_OURS = Path(__file__).parents[1]


class NameNotFoundError(LookupError):
    """A name that names nothing; the message says what was wrong with it. Internal: each room raises its own error."""


def split(name: str) -> tuple[str, str]:
    """The module or file, and the name in it; an empty string for each that is missing."""
    place, _, path = name.rpartition(":")
    return (place, path) if place and path else (place or name.rstrip(":"), "")


def object_named(name: str) -> Any:
    """Import what `name` names: `module:Class`, or `module:attribute` for what a module has made.

    Raises:
        NameNotFoundError: it is not of that form, or the module has no such name.
        BaseException: whatever the module raises when it is imported.
    """
    place, path = split(name)
    if not path:
        raise NameNotFoundError(f"{name!r} names no machine; write module:Class, such as fsm_conn:Connection")
    return member(imported(place), path)


def imported(place: str) -> ModuleType:
    """Import a module by its name or its file; a file with its own directory in front, as `python file.py` would."""
    return _from_file(Path(place)) if place.endswith(".py") or os.sep in place else importlib.import_module(place)


def imported_here(place: str) -> ModuleType:
    """The same with the working directory searched first, as by `python -m`."""
    here = working_directory()
    if here and here not in sys.path:
        sys.path.insert(0, here)
    return imported(place)


def working_directory() -> str:
    """Its path; empty when it was deleted, or may not be known."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def member(module: ModuleType, path: str) -> Any:
    """What is named in a module, such as `Class` or `Class.Inner`.

    Raises:
        NameNotFoundError: there is nothing of that name.
    """
    value: Any = module
    for part in path.split("."):
        owner, value = value, getattr(value, part, None)
        if value is None:
            whose = repr(module.__name__) if owner is module else path.partition(f".{part}")[0]
            raise NameNotFoundError(f"{whose} has no {part!r}{did_you_mean(part, offered(owner))}")
    return value


def offered(owner: Any, fits: Callable[[Any], bool] = lambda value: True) -> list[str]:
    """The public names of a module or class that fit, sorted."""
    names = getattr(owner, "__all__", None) or [name for name in dir(owner) if not name.startswith("_")]
    return sorted(name for name in names if isinstance(name, str) and fits(getattr(owner, name, None)))


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    sys.path.insert(0, str(path.parent.resolve()))
    name = path.stem if path.stem not in {*sys.modules, *sys.stdlib_module_names} else f"{path.stem}_"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reason_of(error: BaseException) -> str:
    """What a user's code raised: the error in one line, and the line of the user's code that raised it."""
    text = named(error).partition("\n")[0].rstrip(": ")
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_users(each.filename)]
    if isinstance(error, SyntaxError):
        return text
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def _is_users(filename: str) -> bool:
    return not (filename.startswith("<") or filename == importlib.__file__ or Path(filename).is_relative_to(_OURS))
