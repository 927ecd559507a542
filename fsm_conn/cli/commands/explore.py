"""`fsm-conn explore`: runs the tests' harness from the command line.

It first walks every life up to a depth, because findings there are the shortest; then random lives, which go deeper.
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
from fsm_conn.cli.machines import Machine
from fsm_conn.cli.options import number, reasons, seconds
from fsm_conn.cli.terminal import Console, output, progress_output
from fsm_conn.machine.machine import StateMachine
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing.coverage import TransitionCoverage
from fsm_conn.testing.report import qualified

if TYPE_CHECKING:
    from fsm_conn.testing.lives.checks import ViolationError

__all__ = ["command"]


class _MachineClass(Machine):
    """An argument that names a class whose lives can be explored."""

    kind = "subclass of StateMachine, Connection or ConnectionPool"

    def fits(self, value: Any) -> bool:
        return (
            isinstance(value, type) and issubclass(value, (StateMachine, ConnectionPool)) and value is not StateMachine
        )


class _Function(Machine):
    name = "module:function"
    kind = "function"

    def fits(self, value: Any) -> bool:
        return callable(value)


def _to_be_written(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Find out now whether the file can be written, rather than after all lives were walked."""
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
@click.argument("machine_class", type=_MachineClass(), metavar="MODULE:CLASS")
@number("--depth", "Walk all lives of up to this many steps.", default=4)
@number("--lives", "How many random lives to run after that.", default=200, least=0)
@seconds("--seconds", "The time limit, half of it for the systematic walk. By default there is none.")
@number("--seed", "The seed of the random lives.", default=0, least=0)
@click.option(
    "--make",
    type=_Function(),
    metavar="MODULE:FUNCTION",
    help="A function that makes a machine, for constructors with further arguments; as make= of machine_test.",
)
@reasons("--ignore", "NAME", "Ignore an invariant, for a reason.")
@click.option(
    "--coverage",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_to_be_written,
    metavar="FILE",
    help="Write the transition coverage to this file, for fsm-conn diagram --coverage.",
)
def command(
    machine_class: type[Any],
    depth: int,
    lives: int,
    seconds: float | None,
    seed: int,
    make: Callable[..., Any] | None,
    ignore: dict[str, str],
    coverage: Path | None,
) -> None:
    """Run a class through thousands of adversarial lives in virtual time: triggers are fired, activities end in every
    way, callers come and are cancelled, the peer of a connection refuses, hangs, dies or answers. After every step the
    invariants are checked.

    Ends with status 1 when one does not hold, and shows the shortest life that leads there. Needs the extra testing.
    """
    options: dict[str, Any] = {**({"make": make} if make else {}), **({"ignore": ignore} if ignore else {})}
    console, until = output(), None if seconds is None else time.monotonic() + seconds
    with TransitionCoverage() as counted:
        violation = _lived(console, machine_class, depth, lives, seconds, seed, until, options)
    report = counted.report().only([qualified(machine_class)])
    if coverage is not None:
        _write(coverage, report.to_json() + "\n")
    if violation is None:
        console.say(report.text())
    else:
        console.say(f"\n{str(violation).rstrip()}")
        raise click.ClickException(f"{qualified(machine_class)} violates {violation.invariant}")


def _lived(
    console: Console,
    machine_class: type[Any],
    depth: int,
    lives: int,
    seconds: float | None,
    seed: int,
    until: float | None,
    options: dict[str, Any],
) -> ViolationError | None:
    try:
        from fsm_conn.testing import explore, random_lives  # it needs the extra `testing`
        from fsm_conn.testing.generating import check_make
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    with _made(machine_class):
        check_make(machine_class, **options)
    with _bar("every life, step", depth) as bar:
        half = None if seconds is None else seconds / 2
        walk = explore(
            machine_class,
            depth=depth,
            seconds=half,
            progress=lambda step, moments: bar(step, f"{moments} moments"),
            **options,
        )
    if walk.violation is not None:
        console.say(Text(str(walk).splitlines()[0]))
        return walk.violation
    console.say(Text("\n".join(line for line in str(walk).splitlines() if not line.startswith("not reached"))))
    with _bar("random lives", lives) as bar:
        lived = random_lives(
            machine_class, lives=lives, seed=seed, until=until, progress=lambda life: bar(life, ""), **options
        )
    console.say(Text("\n".join(line for line in str(lived).splitlines() if not line.startswith("not reached"))))
    return lived.violation


@contextmanager
def _made(machine_class: type[Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise click.ClickException(
            f"no {machine_class.__name__} could be made, {reason_of(error)}; give what makes one with --make"
        ) from None


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on stderr, if that is a terminal; it disappears at the end."""
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
    """Yields a function that raises KeyboardInterrupt after Ctrl-C. The error is raised nowhere else: during garbage
    collection, which is frequent here, Python would drop it. Inside Hypothesis it would be reported as a strategy's
    fault. A second Ctrl-C ends the process at once.
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
