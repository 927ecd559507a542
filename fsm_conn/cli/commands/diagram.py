"""`fsm-conn diagram`: draws a state machine, or shows it as tables, by means of `fsm_conn.diagrams`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import click

from fsm_conn._util.reading import read_within, why_unread
from fsm_conn._util.text import plain, plain_line
from fsm_conn.cli.machines import Machine, completions, users_code
from fsm_conn.diagrams import Detail, DiagramWarning, Format, Theme, diagram, format_of
from fsm_conn.diagrams.errors import DiagramError
from fsm_conn.machine.chart import chart_of
from fsm_conn.testing.report import LARGEST, Report

__all__ = ["command"]


def _states(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the state names of the machine that was given before."""
    named = next((word for word in ctx.args if ":" in word), None)
    try:
        machine = ctx.params.get("machine") or Machine().convert(named, None, ctx)
        with users_code(named or "the machine"):
            states = [] if machine is None else [state.name for state in chart_of(machine).states]
    except click.ClickException:
        return []
    return completions(states, incomplete)


def _report(ctx: click.Context, param: click.Parameter, path: Path | None) -> Report | None:
    if path is None:
        return None
    try:
        return Report.from_json(read_within(path, LARGEST))
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"cannot read {str(path)!r}: {why_unread(error)}") from None


@click.command(
    epilog="""\b
Examples:
  fsm-conn diagram fsm_conn:Connection
  fsm-conn diagram fsm_conn:Connection -o connection.svg --theme dark
  fsm-conn diagram app/clients.py:Authenticated --base fsm_conn:Connection --format markdown"""
)
@click.argument("machine", type=Machine(), metavar="MODULE:CLASS")
@click.option(
    "--format",
    "form",
    type=click.Choice([str(each) for each in Format]),
    help="The format. By default that of FILE's suffix, or mermaid.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to write. By default stdout.",
)
@click.option("--theme", type=click.Choice([str(each) for each in Theme]), default=str(Theme.LIGHT), show_default=True)
@click.option("--state", shell_complete=_states, metavar="NAME", help="Highlight this state as the current one.")
@click.option(
    "--coverage",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_report,
    metavar="FILE",
    help="Show how often each row was taken, from a file of fsm-conn explore --coverage or pytest --fsm-coverage-json.",
)
@click.option(
    "--detail",
    type=click.Choice([str(each) for each in Detail]),
    default=str(Detail.FULL),
    show_default=True,
    help="Show which state can follow which; by which triggers; or everything.",
)
@click.option("--title", metavar="TEXT", help="The title above the diagram.")
@click.option(
    "--base", type=Machine(), metavar="MODULE:CLASS", help="Mark what the machine adds to this one or changes."
)
def command(
    machine: Any,
    form: str | None,
    output: Path | None,
    theme: str,
    state: str | None,
    coverage: Report | None,
    detail: str,
    title: str | None,
    base: Any,
) -> None:
    """Draw a state machine from the table that runs: that of a StateMachine, a Connection or a transitions.Machine.

    MODULE:CLASS may also be path/to/file.py:Class. SVG and PNG need the extra diagrams.
    """
    if form is None:
        form = format_of(output) if output is not None else Format.MERMAID
    if form == Format.PNG and output is None and sys.stdout.isatty():
        raise click.UsageError("A PNG is no text: give -o FILE.")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", DiagramWarning)
            options: dict[str, Any] = {"coverage": coverage, "base": base, "detail": detail, "title": title}
            drawn = diagram(machine, form, theme=theme, state=state, **options)
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    except DiagramError as error:  # it contains names of states, which may be any text
        raise click.ClickException(plain_line(error)) from None
    for warning in said:
        click.echo(f"Warning: {plain_line(warning.message)}", err=True)
    _write(drawn, output)


def _write(drawn: str | bytes, output: Path | None) -> None:
    if output is not None:
        try:
            output.write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode())
        except OSError as error:
            raise click.ClickException(f"cannot write {str(output)!r}: {error.strerror}") from None
    elif isinstance(drawn, bytes):
        sys.stdout.buffer.write(drawn)
    else:
        sys.stdout.write(plain(drawn).rstrip("\n") + "\n")
