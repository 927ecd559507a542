"""Finds what a user means by `module:Class`.

The current directory is searched first, as by `python -m`; a file is taken as `python file.py` would, with its own
directory in front. What is imported is the user's code: whatever it raises is told in one line.
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

import click

from fsm_conn._util.hints import did_you_mean
from fsm_conn.connection.connection import Connection
from fsm_conn.machine.binding import BoundTable

__all__ = ["ConnectionClass", "Machine", "imported", "is_connection_class", "is_machine", "offered", "reason_of"]


def is_machine(value: Any) -> bool:
    """Whether it has a table that can be read: a class that lives by one, or a `transitions.Machine` that was made."""
    if isinstance(getattr(value, "lifecycle", None), BoundTable):
        return True
    transitions = sys.modules.get("transitions")  # what made a machine has imported it
    return transitions is not None and isinstance(value, transitions.Machine)


def is_connection_class(value: Any) -> bool:
    """Whether it is `Connection` or a subclass."""
    return isinstance(value, type) and issubclass(value, Connection)


_OURS = Path(__file__).parents[1]


class Machine(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """An argument `module:Class`, or `path/to/file.py:Class`, as what it names."""

    name = "module:Class"
    kind = "state machine"

    def fits(self, value: Any) -> bool:
        """Whether it is what the command can work with."""
        return is_machine(value)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Import the module, and return what is named in it."""
        if not isinstance(value, str):
            return value
        place, _, name = value.rpartition(":")
        if not place or not name:
            place = place or value.rstrip(":")
            raise click.UsageError(f"{value!r}: give module:Class{_list(offered(imported(place), self.fits))}.", ctx)
        module = imported(place)
        found = _member(module, name)
        if self.fits(found):
            return found
        known = offered(module, self.fits)
        if found is None:
            problem = f"{place!r} has no {name!r}{did_you_mean(name, known)}"
        else:
            problem = f"{value!r} is no {self.kind}, but {_kind_of(found)}"
        raise click.ClickException(problem + _list(known))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """After the colon, what the module offers."""
        from click.shell_completion import CompletionItem  # only completion needs it

        place, colon, begun = incomplete.rpartition(":")
        if not colon:
            return [CompletionItem(incomplete, type="file")]
        try:
            names = offered(imported(place), self.fits)
        except click.ClickException:
            return []
        return [CompletionItem(f"{place}:{name}") for name in names if name.startswith(begun)]


class ConnectionClass(Machine):
    """The same for subclasses of `Connection` alone."""

    kind = "subclass of Connection"

    def fits(self, value: Any) -> bool:
        """Whether it is one."""
        return is_connection_class(value)


def imported(place: str) -> ModuleType:
    """Import a module by its name or its file.

    Raises:
        click.ClickException: it cannot be imported; the message says why, and where.
    """
    try:
        if place.endswith(".py") or os.sep in place:
            return _from_file(Path(place))
        here = _working_directory()
        if here and here not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:
        lost = isinstance(error, (ModuleNotFoundError, FileNotFoundError)) and not _working_directory()
        remark = "; the working directory does not exist any more: change to one that does" if lost else ""
        raise click.ClickException(f"cannot import {place!r}: {reason_of(error)}{remark}") from None


def _working_directory() -> str:
    """Its path; empty when it was deleted, or may not be known."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def offered(module: ModuleType, fits: Callable[[Any], bool]) -> list[str]:
    """The public names of a module that fit, sorted."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return sorted(name for name in names if fits(getattr(module, name, None)))


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


def _member(module: ModuleType, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def reason_of(error: BaseException) -> str:
    """What a user's code raised: the error in one line, and the line of the user's code that raised it."""
    text = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(": ")
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_users(each.filename)]
    if isinstance(error, SyntaxError):
        return text
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def _is_users(filename: str) -> bool:
    return not (filename.startswith("<") or filename == importlib.__file__ or Path(filename).is_relative_to(_OURS))


def _kind_of(value: Any) -> str:
    if not isinstance(value, type):
        return f"of type {type(value).__name__!r}"
    makes = hasattr(value, "add_transition")  # a transitions.Machine has its table once it was made
    return "a class of machines; name one that was made" if makes else "another class"


def _list(names: list[str]) -> str:
    return f"; it has: {', '.join(names)}" if names else "; it has none"
