"""Random lives of a connection class, by Hypothesis and by a seed, so that the same command finds the same life.

Hypothesis has no limit of time for a whole run, so the lives come in batches, and time is looked at between them. What
fails is made shorter here: leaving out step by step takes a second, where Hypothesis looks for minutes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any, ClassVar

import attrs

from fsm_conn.connection.connection import Connection
from fsm_conn.testing._extra import needed
from fsm_conn.testing.exploring import explore
from fsm_conn.testing.lives.checks import ViolationError
from fsm_conn.testing.lives.life import Life
from fsm_conn.testing.lives.replaying import replay, shortest
from fsm_conn.testing.lives.script import Script
from fsm_conn.testing.stateful import LifecycleMachine, lifecycle_test
from fsm_conn.testing.virtual import VirtualLoop

hypothesis = needed("hypothesis")
configuration = needed("hypothesis.configuration")
stateful = needed("hypothesis.stateful")

__all__ = ["Lived", "check_make", "explore", "random_lives"]

BATCH = 50
"""Lives between two looks at the clock."""


@attrs.frozen
class Lived:
    """What was lived.

    Attributes:
        lives: how many there were; when one failed, it was among so many.
        complete: whether it was all of them; False when time was up first.
        violation: of the life that failed, made as short as it can be; None when there was none.
    """

    lives: int
    complete: bool
    violation: ViolationError | None = None


def check_make(connection_class: type[Connection], options: dict[str, Any]) -> None:
    """Make one connection, and throw it away: whatever is wrong with that is raised."""
    loop = VirtualLoop()
    try:
        Life(connection_class, loop=loop, **options).close()
    finally:
        loop.close()


def random_lives(
    connection_class: type[Connection],
    *,
    lives: int,
    seed: int,
    until: float | None,
    progress: Callable[[int], None],
    **options: Any,
) -> Lived:
    """Live at random.

    Args:
        connection_class: the class under test.
        lives: how many.
        seed: the same seed gives the same lives.
        until: when to stop, by `time.monotonic()`; None: no limit.
        progress: called with the number of lives so far.
        options: `make` and `ignore`, as for `lifecycle_test`.
    """
    for number, first in enumerate(range(0, lives, BATCH)):
        if until is not None and time.monotonic() > until:
            return Lived(first, complete=False)
        last = min(first + BATCH, lives)
        case = lifecycle_test(
            connection_class, max_examples=last - first, machine=_counting(first, last, progress), **options
        )
        try:
            _run(case, f"{seed}.{number}")
        except ViolationError as error:
            return Lived(last, complete=False, violation=_simplest(error, options))
    return Lived(lives, complete=True)


def _run(case: Any, seed: str) -> None:
    quiet, phases = hypothesis.Verbosity.quiet, (hypothesis.Phase.generate,)
    settings = hypothesis.settings(case.settings, database=None, verbosity=quiet, phases=phases)
    with tempfile.TemporaryDirectory() as directory:
        configuration.set_hypothesis_home_dir(directory)  # or it would leave one of its own in the working directory
        try:
            stateful.run_state_machine_as_test(hypothesis.seed(seed)(case.machine), settings=settings)
        finally:
            configuration.set_hypothesis_home_dir(None)


def _simplest(error: ViolationError, options: dict[str, Any]) -> ViolationError:
    """The same violation by as few steps as can be found, and with the usual policies, where these show it too."""
    error = shortest(error, **options)
    assert error.script is not None
    for name in tuple(error.script.options):
        usual = {key: value for key, value in error.script.options.items() if key != name}
        try:
            replay(Script(error.script.connection_class, usual, error.script.steps), **options).close()
        except ViolationError as other:
            if other.invariant == error.invariant and other.script is not None:
                error = other
    return error


def _counting(first: int, last: int, progress: Callable[[int], None]) -> type[LifecycleMachine]:
    """A machine that tells of each life that ends, from `first` on; one that failed is lived again."""

    class Machine(LifecycleMachine):
        ended: ClassVar[int] = first

        def teardown(self) -> None:
            """The life ends."""
            Machine.ended = min(Machine.ended + 1, last)
            progress(Machine.ended)
            super().teardown()

    return Machine
