"""Options that mean the same in several commands, and so are declared, checked and told in the same way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fsm_conn._util.text import plain
from fsm_conn.cli.machines import imported

__all__ = [
    "PluginCommand",
    "number",
    "pb2_modules",
    "plugin_options",
    "reasons",
    "seconds",
    "show_plugin_output",
]

F = TypeVar("F", bound=Callable[..., Any])


def seconds(flag: str, help: str, *, default: float | None = None, least: float | None = None) -> Callable[[F], F]:
    """A time; more than nothing, or at least `least`. Without a default `help` says what holds then."""
    return click.option(
        flag,
        type=click.FloatRange(0, min_open=True) if least is None else click.FloatRange(least),
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help=help,
    )


def number(flag: str, help: str, *, default: int, least: int = 1) -> Callable[[F], F]:
    """A whole number, `least` or more."""
    return click.option(flag, type=click.IntRange(least), default=default, show_default=True, metavar="N", help=help)


def reasons(flag: str, what: str, help: str) -> Callable[[F], F]:
    """`WHAT=REASON`, as often as one likes: what is let pass, and why; for the command, a dict of these."""

    def read(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
        pairs = [value.partition("=") for value in values]
        if not all(name and reason for name, _, reason in pairs):
            raise click.UsageError(f"{flag} takes {what}=REASON.", ctx)
        return {name: reason for name, _, reason in pairs}

    return click.option(flag, multiple=True, callback=read, metavar=f"{what}=REASON", help=help)


# --- plugins: `-- command ...` and the options for it -----------------------------------------------------------


class PluginCommand(click.Command):
    """A command whose last arguments, after `--`, are those of a plugin: handed over as `plugin`, a tuple."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set apart what follows the first `--`."""
        at = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:at])
        ctx.params["plugin"] = tuple(args[at + 1 :])
        if not ctx.params["plugin"] and not ctx.resilient_parsing:
            raise click.UsageError("Give the plugin's command after '--', such as '-- python plugin.py'.", ctx)
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """With the plugin's command at the end."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND..."]


def plugin_options(function: F) -> F:
    """The options for how a plugin is started."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    seconds("--start-timeout", "For one attempt to start the plugin.", default=10.0),
    click.option(
        "--mtls/--no-mtls",
        default=None,
        help="Insist on mutual TLS, or do without. By default it is used where the plugin can.",
    ),
    click.option("--verbose", "-v", is_flag=True, help="Show on stderr what the plugin prints."),
)


def pb2_modules(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    """Import what `--services` names."""
    modules = tuple(imported(value) for value in values)
    for value, module in zip(values, modules, strict=True):
        if not hasattr(module, "DESCRIPTOR"):
            raise click.ClickException(f"{value!r} is no generated _pb2 module.")
    return modules


def show_plugin_output() -> None:
    """Write what plugins print to stderr, line by line."""
    logger = logging.getLogger("fsm_conn.plugin")
    logger.setLevel(logging.INFO)
    logger.addHandler(_PlainLines())
    logger.propagate = False


class _PlainLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """One line of a plugin's. The stream is looked up now, for on a terminal it is drawn around."""
        try:
            print(f"| {plain(record.getMessage())}", file=sys.stderr, flush=True)
        except OSError:
            self.handleError(record)
