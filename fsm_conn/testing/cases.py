"""`machine_test`, `lifecycle_test` and `pool_test`: thousands of adversarial lives of a class, as a test case.

    from fsm_conn.testing import machine_test
    TestUpload = machine_test(Upload)

makes a class that pytest and unittest collect. Hypothesis sets the number of lives and their seed, as for its own
tests: by profiles (`max_examples`, `stateful_step_count`, `derandomize`, `database`) and by `--hypothesis-seed`. A life
that failed is tried first in the next run.
"""

from __future__ import annotations

import secrets
import unittest
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from fsm_conn.connection.connection import Connection
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing._extra import needed
from fsm_conn.testing.generating import Lived, random_lives
from fsm_conn.testing.lives.kinds import life_for, life_of
from fsm_conn.testing.lives.pools.hooks import HOOKS
from fsm_conn.testing.lives.pools.life import PoolLife

hypothesis = needed("hypothesis")
core = needed("hypothesis.core")

__all__ = ["LivesCase", "lifecycle_test", "machine_test", "pool_test"]

__unittest = True  # unittest leaves the frames of this module out of what it shows


class LivesCase(unittest.TestCase):
    """Random lives of a class, as a test case. `machine_test`, `lifecycle_test` and `pool_test` make it.

    Attributes:
        settings: Hypothesis's settings; `max_examples`, `stateful_step_count`, `derandomize` and `database` are used.
        lived: the result of the last run; None before the first.
    """

    subject: ClassVar[type]
    life: ClassVar[type[Any]]
    options: ClassVar[Mapping[str, Any]]
    settings: ClassVar[Any]
    lived: ClassVar[Lived | None] = None

    def runTest(self) -> None:  # noqa: N802 - the name is unittest's
        """Live; a violation is shown by the shortest life that leads there."""
        __tracebackhide__ = True
        for seed in self._seeds():
            lived = type(self).lived = random_lives(
                self.subject,
                life=self.life,
                lives=self.settings.max_examples,
                steps=self.settings.stateful_step_count,
                seed=seed,
                **self.options,
            )
            self._keep(seed, failed=lived.violation is not None)
            if lived.violation is not None:
                lived.violation.notes = (f"Found in life {lived.lives} of --hypothesis-seed={seed}",)
                raise lived.violation.with_traceback(None) from None
        print(f"{self.subject.__name__}: {self.lived}")  # noqa: T201 - pytest shows it with -rP or -s

    def _seeds(self) -> Iterator[int]:
        """The seed to live by; before that the one of the last run that failed."""
        if self.settings.derandomize:
            yield zlib.crc32(self._key())
        elif core.global_force_seed is not None:
            yield (
                zlib.crc32(repr(core.global_force_seed).encode())
                if not _is_seed(core.global_force_seed)
                else int(core.global_force_seed)
            )
        else:
            if self.settings.database is not None:
                yield from [int(each) for each in self.settings.database.fetch(self._key())][:1]
            yield secrets.randbelow(2**32)

    def _keep(self, seed: int, *, failed: bool) -> None:
        database = self.settings.database
        if database is None or self.settings.derandomize or core.global_force_seed is not None:
            return
        if failed:
            database.save(self._key(), str(seed).encode())
        else:
            database.delete(self._key(), str(seed).encode())

    def _key(self) -> bytes:
        return f"fsm_conn lives of {self.subject.__module__}.{self.subject.__qualname__}".encode()


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.isdigit())


def machine_test(
    subject: type,
    *,
    max_examples: int | None = None,
    steps: int | None = None,
    life: type[Any] | None = None,
    **options: Any,
) -> type[LivesCase]:
    """Make a test case of a class.

    Args:
        subject: a subclass of `StateMachine`, `Connection` or `ConnectionPool`.
        max_examples: lives per run; by default that of Hypothesis's profile.
        steps: the largest number of steps per life; by default the profile's `stateful_step_count`.
        life: a kind of life with steps of your own, derived from `MachineLife`, `Life` or `PoolLife`.
        options: keywords of the life: `make`, `ignore`, `invariants` and others of its kind.

    Returns:
        a `unittest.TestCase`; assign it to a name that begins with `Test`.

    Raises:
        TypeError: the class is none of these.
    """
    life_of(subject, who="machine_test")
    return _case(machine_test, subject, life, max_examples, steps, options)


def lifecycle_test(
    connection_class: type[Connection],
    *,
    max_examples: int | None = None,
    steps: int | None = None,
    life: type[Any] | None = None,
    **options: Any,
) -> type[LivesCase]:
    """As `machine_test`, for a subclass of `Connection`; the options are the keywords of `Life`."""
    if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
        raise TypeError(
            f"lifecycle_test({connection_class!r}): give a subclass of Connection, "
            "and what makes one, if that takes more, as make="
        )
    return _case(lifecycle_test, connection_class, life, max_examples, steps, options)


def pool_test(
    pool_class: type[ConnectionPool],
    *,
    max_examples: int | None = None,
    steps: int | None = None,
    life: type[Any] | None = None,
    hooks: tuple[str, ...] = HOOKS,
    **options: Any,
) -> type[LivesCase]:
    """As `machine_test`, for a subclass of `ConnectionPool`; the options are the keywords of `PoolLife`.

    `hooks` names the kinds of hooks to try: some of `"", "plain", "async", "failing", "hanging"`; `("",)` for a class
    with hooks of its own.

    Triggers that the class of its connections adds are fired in them, too, except triggers that lead to a final state
    without service, because a pool waits for its connections to come back on their own.
    """
    if not (isinstance(pool_class, type) and issubclass(pool_class, ConnectionPool)):
        raise TypeError(f"pool_test({pool_class!r}): give a subclass of ConnectionPool")
    if not hooks or not set(hooks) <= set(HOOKS):
        raise ValueError(f"pool_test(hooks={hooks!r}): give some of {HOOKS}")
    life = life or PoolLife
    if hooks != HOOKS:
        life = type(life.__name__, (life,), {"hook_kinds": tuple(hooks)})
    return _case(pool_test, pool_class, life, max_examples, steps, options)


def _case(
    asking: Callable[..., Any],
    subject: type,
    life: type[Any] | None,
    max_examples: int | None,
    steps: int | None,
    options: dict[str, Any],
) -> type[LivesCase]:
    kind = life_for(asking, subject, life, options)
    given = {"max_examples": max_examples, "stateful_step_count": steps}
    members = {
        "__module__": subject.__module__,
        "__qualname__": f"{subject.__qualname__}Lives",
        "subject": subject,
        "life": kind,
        "options": options,
        "settings": hypothesis.settings(**{name: value for name, value in given.items() if value is not None}),
    }
    return type(f"{subject.__name__}Lives", (LivesCase,), members)
