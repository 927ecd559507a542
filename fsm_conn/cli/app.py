"""The commands by name, each imported only when it is needed, and the handling of their ends.

However a command ends, it shows no traceback. An error is reported by a line on stderr that begins with the command's
name, and by the exit status. A reader of stdout that stops early, as `head` does, is no error.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.text import named, said, shortened
from fsm_conn.cli import COMPLETE, SignalError
from fsm_conn.cli.own_words import in_options
from fsm_conn.cli.streams import say_on_stderr
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.version import __version__

__all__ = ["COMMANDS", "group", "run"]

COMMANDS = {
    "call": "Call a method of a plugin or a server, and print the reply as JSON.",
    "check": "Find the mistakes in a state machine without running it.",
    "completion": "Print the completion script of a shell.",
    "demo": "Start a real plugin, call it, kill it, and watch the connection come back.",
    "diagram": "Draw a state machine.",
    "explore": "Run a class through thousands of adversarial lives.",
    "serve": "Serve plugins of this machine to others.",
    "inspect": "Show a state machine in the browser: a plugin's, a recorded one, or a table to walk.",
    "new": "Write a new project: a plugin and its host, with tests.",
    "trace": "Show a recorded trace, and whether it conforms to the table.",
    "watch": "Supervise a plugin or a server, and show its life as it happens.",
}
"""Each is the `command` of the module of that name in `commands`. This text is shown without importing the module."""

TRACEBACK = "FSM_CONN_TRACEBACK"
"""The environment variable that requests the traceback of an unexpected error."""
EXIT_STATUS = "Exit status: 0 done, 1 could not be done, 2 wrong arguments, 130 interrupted."


class Commands(click.Group):
    """The group of all commands. It imports a command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, sorted."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"fsm_conn.cli.commands.{cmd_name}").command
        command.epilog = f"{(command.epilog or '').removesuffix(EXIT_STATUS).rstrip()}\n\n{EXIT_STATUS}"
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or suggest similar names."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"No such command {args[0]!r}{did_you_mean(args[0], COMMANDS)}.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete the names of commands without importing them."""
        from click.shell_completion import CompletionItem  # only completion needs it

        found = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return found or super().shell_complete(ctx, incomplete)


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"Example: fsm-conn demo\n\n{EXIT_STATUS}",
)
@click.version_option(__version__, message="fsm-conn %(version)s")
def group() -> None:
    """Connections to plugins, and state machines: call, watch, draw, check and test them."""


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name, and return the exit status."""
    named = next((each for each in arguments if not each.startswith("-")), "")
    path = f"fsm-conn {named}" if named in COMMANDS else "fsm-conn"
    try:
        with _without_status_log():
            _invoke(list(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _ended(signal.SIGINT)
    except SignalError as error:
        return _ended(error.number)
    except BrokenPipeError:
        _drop_output()
        return 0
    except BaseException as error:  # errors of a user's module are reported in the same way
        return _failed(path, error)
    return 0


@contextmanager
def _without_status_log() -> Iterator[None]:
    """Commands report a connection's changes themselves; its log would repeat them on stderr."""
    log = logging.getLogger("fsm_conn.status")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _invoke(arguments: list[str]) -> None:
    """As `click.Command.main`, but errors and the end of a reader of stdout are reported by this module."""
    if COMPLETE in os.environ:
        importlib.import_module("fsm_conn.cli.commands.completion").complete(group, os.environ[COMPLETE])
        return
    with suppress(click.exceptions.Exit), group.make_context("fsm-conn", arguments) as ctx:
        group.invoke(ctx)


def _failed(path: str, error: BaseException) -> int:
    """Report why, and return the exit status."""
    if isinstance(error, click.UsageError):
        return _misused(path, error)
    if isinstance(error, click.ClickException):
        message = error.format_message()
    elif isinstance(error, FsmConnError):
        message = said(error)
    elif isinstance(error, OSError):
        _drop_output()
        what = "write" if error.filename is None else f"open {error.filename!r}"
        message = f"cannot {what}: {error.strerror or said(error)}"
    else:
        message = f"{_where(error)}: {named(error)}"
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
    say_on_stderr(f"{path}: {shortened(in_options(message))}")
    return 1


def _where(error: BaseException) -> str:
    """The place where an unexpected error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"unexpected error{place} ({TRACEBACK}=1 shows all of it)"


def _misused(path: str, error: click.UsageError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say_on_stderr(error.ctx.get_help() if error.ctx else said(error))
    else:
        message = " ".join(in_options(error.format_message()).split())
        stop = "" if message.endswith((".", "?", ")")) else "."
        say_on_stderr(f"{path}: {shortened(message)}{stop} See '{path} --help'.")
    return 2


def _ended(number: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    if number == signal.SIGINT and sys.stderr.isatty():
        say_on_stderr("")  # the terminal has written ^C
    return 128 + number


def _drop_output() -> None:
    """Discard the remaining output; otherwise Python would complain at exit."""
    with suppress(OSError, ValueError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
