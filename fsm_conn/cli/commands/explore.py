"""`fsm-conn explore`: the harness that tests use, at the command line.

First every life up to a depth, for what is found there is the shortest; then random ones, which go deeper.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from fsm_conn._util.lookup import reason_of
from fsm_conn.cli.machines import ConnectionClass, Machine
from fsm_conn.cli.options import number, reasons, seconds
from fsm_conn.cli.terminal import Console, output, progress_output
from fsm_conn.connection.connection import Connection
from fsm_conn.testing.coverage import TransitionCoverage
from fsm_conn.testing.report import qualified

if TYPE_CHECKING:
    from fsm_conn.testing.lives.checks import ViolationError

__all__ = ["command"]


class _Function(Machine):
    name = "module:function"
    kind = "function"

    def fits(self, value: Any) -> bool:
        return callable(value)


def _to_be_written(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """What is found out now need not be found out when all lives have been lived."""
    if path is not None and not path.parent.is_dir():
        raise click.ClickException(f"cannot write {str(path)!r}: there is no directory {str(path.parent)!r}")
    return path


@click.command(
    epilog="""\b
Examples:
  fsm-conn explore app.clients:Authenticated
  fsm-conn explore --depth 6 --seconds 60 fsm_conn:Connection
  fsm-conn explore --coverage seen.json fsm_conn:Connection"""
)
@click.argument("connection_class", type=ConnectionClass(), metavar="MODULE:CLASS")
@number("--depth", "Steps of the longest life that is walked systematically.", default=4)
@number("--lives", "Random lives after that.", default=200, least=0)
@seconds("--seconds", "Begin nothing further after so long: half of it systematically. By default there is no limit.")
@number("--seed", "Of the random lives. The same seed gives the same lives.", default=0, least=0)
@click.option(
    "--make",
    type=_Function(),
    metavar="MODULE:FUNCTION",
    help="Makes a connection, for constructors that take more; as for lifecycle_test.",
)
@reasons("--ignore", "NAME", "An invariant that need not hold, and why.")
@click.option(
    "--coverage",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_to_be_written,
    metavar="FILE",
    help="Write the transition coverage there, for fsm-conn diagram --coverage.",
)
def command(
    connection_class: type[Connection],
    depth: int,
    lives: int,
    seconds: float | None,
    seed: int,
    make: Callable[..., Any] | None,
    ignore: dict[str, str],
    coverage: Path | None,
) -> None:
    """Live thousands of adversarial lives of a connection class in virtual time: callers come and are cancelled, the
    peer refuses, hangs, dies or answers, and after every step the invariants are checked.

    Ends with status 1 when one does not hold, and shows the shortest life that leads there. Needs the extra testing.
    """
    options = {"make": make, "ignore": ignore}
    console, until = output(), None if seconds is None else time.monotonic() + seconds
    with TransitionCoverage() as counted:
        violation = _lived(console, connection_class, depth, lives, seconds, seed, until, options)
    report = counted.report().only([qualified(connection_class)])
    if coverage is not None:
        _write(coverage, report.to_json() + "\n")
    if violation is None:
        console.say(report.text())
    else:
        console.say(f"\n{str(violation).rstrip()}")
        raise click.ClickException(f"{qualified(connection_class)} violates {violation.invariant}")


def _lived(
    console: Console,
    connection_class: type[Connection],
    depth: int,
    lives: int,
    seconds: float | None,
    seed: int,
    until: float | None,
    options: dict[str, Any],
) -> ViolationError | None:
    try:
        from fsm_conn.cli.lives import check_make, explore, random_lives  # with the extra `testing`
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    with _made(connection_class):
        check_make(connection_class, options)
    with _bar("every life, step", depth) as bar:
        half = None if seconds is None else seconds / 2
        walk = explore(
            connection_class,
            depth=depth,
            seconds=half,
            progress=lambda step, moments: bar(step, f"{moments} moments"),
            **options,
        )
    console.say(Text(str(walk).splitlines()[0]))
    if walk.violation is not None:
        return walk.violation
    with _bar("random lives", lives) as bar:
        lived = random_lives(
            connection_class, lives=lives, seed=seed, until=until, progress=lambda life: bar(life, ""), **options
        )
    end = "" if lived.complete else ", one of which failed" if lived.violation else ", as far as the limit allowed"
    console.say(Text(f"{lived.lives} random lives with seed {seed}{end}"))
    return lived.violation


@contextmanager
def _made(connection_class: type[Connection]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise click.ClickException(
            f"no {connection_class.__name__} could be made, {reason_of(error)}; give what makes one with --make"
        ) from None


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on stderr, where that is a terminal; gone when it is done."""
    console = progress_output()
    columns = (
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.completed} of {task.total}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task(what, total=total, note="")
        with _between_steps() as check:

            def show(done: int, note: str) -> None:
                check()
                progress.update(task, completed=done, note=note)

            yield show


@contextmanager
def _between_steps() -> Iterator[Callable[[], None]]:
    """Ctrl-C is raised by what is yielded, and nowhere else: while garbage is collected, as it often is here, Python
    would drop it, and while Hypothesis looks at a strategy, it would be told as a fault of that. Twice, it ends all.
    """
    pressed: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        if pressed:
            os._exit(128 + number)
        pressed.append(number)

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, before)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {str(path)!r}: {error.strerror}") from None
