"""Click arguments that name a state machine by `module:Class`: importing, checking and completing them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import click

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.lookup import (
    NameNotFoundError,
    imported_here,
    member,
    offered,
    reason_of,
    split,
    working_directory,
)
from fsm_conn._util.text import plain_line
from fsm_conn.connection.connection import Connection
from fsm_conn.machine.binding import BoundTable

__all__ = ["ConnectionClass", "Machine", "completions", "imported", "is_connection_class", "is_machine", "users_code"]


def is_machine(value: Any) -> bool:
    """Whether it has a readable table: a class that has one, or a `transitions.Machine` instance."""
    if isinstance(getattr(value, "lifecycle", None), BoundTable):
        return True
    transitions = sys.modules.get("transitions")  # a machine can exist only after this was imported
    return transitions is not None and isinstance(value, transitions.Machine)


def is_connection_class(value: Any) -> bool:
    """Whether it is `Connection` or a subclass."""
    return isinstance(value, type) and issubclass(value, Connection)


class Machine(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """An argument `module:Class`, or `path/to/file.py:Class`, converted to the object that it names."""

    name = "module:Class"
    kind = "state machine"

    def fits(self, value: Any) -> bool:
        """Whether the command can work with this object."""
        return is_machine(value)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Import the module, and return the named object."""
        if not isinstance(value, str):
            return value
        with users_code(value):
            return self._found(value, ctx)

    def _found(self, value: str, ctx: click.Context | None) -> Any:
        place, name = split(value)
        module = imported(place)
        known = offered(module, self.fits)
        offers = f"{place!r} has {'these: ' + ', '.join(known) if known else f'no {self.kind}'}"
        if not name:
            raise click.UsageError(f"{value!r}: give module:Class; {offers}.", ctx)
        try:
            found = member(module, name)
        except NameNotFoundError:
            raise click.ClickException(f"{place!r} has no {name!r}{did_you_mean(name, known)}; {offers}") from None
        if not self.fits(found):
            raise click.ClickException(f"{value!r} is {_kind_of(found)}, and not a {self.kind}; {offers}")
        return found

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """After the colon, complete the names that the module offers."""
        from click.shell_completion import CompletionItem  # only completion needs it

        place, colon, begun = incomplete.rpartition(":")
        if not colon:
            return [CompletionItem(incomplete, type="file")]
        try:
            with users_code(place):
                names = offered(imported(place), self.fits)
        except click.ClickException:
            return []
        return [CompletionItem(f"{place}:{name}") for name in completions(names, begun)]


class ConnectionClass(Machine):
    """An argument that names `Connection` or a subclass of it."""

    kind = "subclass of Connection"

    def fits(self, value: Any) -> bool:
        """Whether it is such a class."""
        return is_connection_class(value)


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Within the block, a user's code runs and may raise anything; its error is reported in one line.

    Raises:
        click.ClickException: the code raised an error.
    """
    try:
        yield
    except (click.ClickException, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise click.ClickException(f"cannot read {what!r}: {reason_of(error)}") from None


def completions(names: Iterable[str], begun: str) -> list[str]:
    """The names with this beginning that can be typed: a shell writes them to the terminal as they are."""
    return [name for name in names if name.startswith(begun) and plain_line(name) == name]


def imported(place: str) -> ModuleType:
    """Import a module by its name or its file; the current directory is searched first, as by `python -m`.

    Raises:
        click.ClickException: it cannot be imported; the message says why, and where.
    """
    try:
        return imported_here(place)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        lost = isinstance(error, (ModuleNotFoundError, FileNotFoundError)) and not working_directory()
        remark = "; the working directory does not exist any more: change to one that does" if lost else ""
        raise click.ClickException(f"cannot import {place!r}: {reason_of(error)}{remark}") from None


def _kind_of(value: Any) -> str:
    if not isinstance(value, type):
        return f"of type {type(value).__name__!r}"
    makes = hasattr(value, "add_transition")  # only an instance of transitions.Machine has a table
    return "a class of machines, of which one that was made can be named" if makes else "another kind of class"
