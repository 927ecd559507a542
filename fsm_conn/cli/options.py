"""Options that several commands share, with one declaration, one check and one help text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fsm_conn.cli.machines import imported

__all__ = [
    "number",
    "pb2_modules",
    "reasons",
    "seconds",
]

F = TypeVar("F", bound=Callable[..., Any])


def seconds(flag: str, help: str, *, default: float | None = None, least: float | None = None) -> Callable[[F], F]:
    """An option for seconds: more than zero, or at least `least`. Without a default, `help` says what happens then."""
    return click.option(
        flag,
        type=click.FloatRange(0, min_open=True) if least is None else click.FloatRange(least),
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help=help,
    )


def number(flag: str, help: str, *, default: int, least: int = 1) -> Callable[[F], F]:
    """An option for a whole number, at least `least`."""
    return click.option(flag, type=click.IntRange(least), default=default, show_default=True, metavar="N", help=help)


def reasons(flag: str, what: str, help: str) -> Callable[[F], F]:
    """A repeatable option `WHAT=REASON`: an exception, and the reason for it. The command receives a dict."""

    def read(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
        pairs = [value.partition("=") for value in values]
        if not all(name and reason for name, _, reason in pairs):
            raise click.UsageError(f"{flag} takes {what}=REASON.", ctx)
        return {name: reason for name, _, reason in pairs}

    return click.option(flag, multiple=True, callback=read, metavar=f"{what}=REASON", help=help)


def pb2_modules(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    """Import the modules that `--services` names."""
    modules = tuple(imported(value) for value in values)
    for value, module in zip(values, modules, strict=True):
        if not hasattr(module, "DESCRIPTOR"):
            raise click.ClickException(f"{value!r} is no generated _pb2 module.")
    return modules
