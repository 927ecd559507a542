"""Resolves `module:Class`, as written in documents and on command lines.

The imported code is the user's and may raise anything: `reason_of` describes the error in one line.
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
    """A name that does not exist; the message says what is wrong with it. Internal: callers raise their own."""


def split(name: str) -> tuple[str, str]:
    """Split a name into the module or file and the name in it; a missing part is an empty string."""
    place, _, path = name.rpartition(":")
    return (place, path) if place and path else (place or name.rstrip(":"), "")


def object_named(name: str) -> Any:
    """Import the object that `name` denotes: `module:Class` or `module:attribute`.

    Raises:
        NameNotFoundError: the name has another form, or the module has no such name.
        BaseException: what the module raises when it is imported.
    """
    place, path = split(name)
    if not path:
        raise NameNotFoundError(f"{name!r} names no machine; write module:Class, such as fsm_conn:Connection")
    return member(imported(place), path)


def imported(place: str) -> ModuleType:
    """Import a module by its name or its file; a file with its directory first on the path."""
    return _from_file(Path(place)) if place.endswith(".py") or os.sep in place else importlib.import_module(place)


def imported_here(place: str) -> ModuleType:
    """The same with the working directory first on the path, as `python -m` does."""
    here = working_directory()
    if here and here not in sys.path:
        sys.path.insert(0, here)
    return imported(place)


def working_directory() -> str:
    """The path of the working directory; empty when it was deleted or cannot be read."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def member(module: ModuleType, path: str) -> Any:
    """The object of that name in a module, such as `Class` or `Class.Inner`.

    Raises:
        NameNotFoundError: there is no such object.
    """
    value: Any = module
    for part in path.split("."):
        owner, value = value, getattr(value, part, None)
        if value is None:
            whose = repr(module.__name__) if owner is module else path.partition(f".{part}")[0]
            raise NameNotFoundError(f"{whose} has no {part!r}{did_you_mean(part, offered(owner))}")
    return value


def offered(owner: Any, fits: Callable[[Any], bool] = lambda value: True) -> list[str]:
    """The public names of a module or class, sorted."""
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
    """The error that a user's code raised, in one line, with the line of the user's code that raised it."""
    text = named(error).partition("\n")[0].rstrip(": ")
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_users(each.filename)]
    if isinstance(error, SyntaxError):
        return text
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def _is_users(filename: str) -> bool:
    return not (filename.startswith("<") or filename == importlib.__file__ or Path(filename).is_relative_to(_OURS))
