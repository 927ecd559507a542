"""Whether a function answers: of what ended without an answer when it ran, that is always told beforehand."""

from __future__ import annotations

import asyncio
import functools
import linecache
import textwrap
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_conn.checks.answers import can_end_silently, never_answers

from .test_returns import Answers, _around, _inside

NUMBERS = count()
LEAVES = st.sampled_from(("return 'a'\n", "return None\n", "return\n", "self.asked()\n", "raise KeyError\n",
                          "return 'a' if self.asked() else None\n", "return 'b' if self.asked() else 'c'\n"))  # fmt: skip
ONCE = "async with self.lock():\n    return 'a'\n"
LOOPS = st.sampled_from(
    (
        "while True:\n    if self.asked():\n        break\n    return 'a'\n",
        "while True:\n    if self.asked():\n        return 'a'\n    return 'b'\n",
        "while self.asked():\n    return 'a'\n",
        "while True:\n    for _ in range(2):\n        break\n    return 'a'\n",
        "for _ in range(2):\n    return 'a'\nelse:\n    raise KeyError\n",
        "match self.asked():\n    case True:\n        return 'a'\n    case _:\n        return 'b'\n",
        "match self.asked():\n    case True:\n        return 'a'\n",
        "try:\n    return 'a'\nfinally:\n    self.asked()\n",
        ONCE,
    )
)
bodies = st.recursive(
    LEAVES | LOOPS, lambda inner: _around(inner) | st.builds("{}{}".format, inner, inner), max_leaves=6
)


def compiled(body: str) -> Callable[[Any], Any]:
    """A function with a source."""
    source = _inside("async def activity(self):", body)
    name = f"<made {next(NUMBERS)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space: dict[str, Any] = {}
    exec(compile(source, name, "exec"), space)
    return space["activity"]  # type: ignore[no-any-return]


async def outcome(activity: Callable[[Any], Any], bits: int) -> Any:
    try:
        return await activity(Answers(bits))
    except (KeyError, OSError):
        return "an error"


@settings(deadline=None, max_examples=300)
@given(bodies, st.lists(st.integers(0, 2**12), min_size=4, max_size=4))
def test_what_ended_without_an_answer_was_told_to(body: str, runs: list[int]) -> None:
    activity = compiled(body)
    if any(asyncio.run(outcome(activity, bits)) is None for bits in runs):
        assert can_end_silently(activity)


@pytest.mark.parametrize(
    "body",
    [
        ONCE,
        "while True:\n    await self.later()\n",
        "while True:\n    if self.asked():\n        return 'a'\n",
        "while True:\n    for _ in range(2):\n        break\n",
        "if self.asked():\n    return 'a'\nelse:\n    raise KeyError\n",
        "try:\n    return 'a'\nexcept OSError:\n    return 'b'\n",
        "try:\n    await self.later()\nexcept OSError:\n    return 'b'\nelse:\n    return 'a'\n",
        "try:\n    await self.later()\nfinally:\n    return 'a'\n",
        "match self.asked():\n    case True:\n        return 'a'\n    case _:\n        return 'b'\n",
        "def inner(self):\n    return None\nreturn 'a'\n",
        "for _ in range(2):\n    return 'a'\nelse:\n    raise KeyError\n",
        "assert False\n",
        "typing.assert_never(self)\n",
    ],
)
def test_what_always_answers_is_left_alone(body: str) -> None:
    assert not can_end_silently(compiled(body))


def no(self: Any, reason: object) -> None: ...


def yes_sometimes(self: Any, reason: object) -> bool | None:
    return True if reason else None


def raises(self: Any, reason: object) -> None:
    raise KeyError(reason)


def wrapping(guard: Any) -> Any:
    @functools.wraps(guard)
    def answered(self: Any, reason: object) -> bool:
        return guard(self, reason) is None

    return answered


def test_a_guard_that_never_answers() -> None:
    assert never_answers(no)
    assert never_answers(staticmethod(no))
    assert never_answers(lambda reason: None)


@pytest.mark.parametrize("guard", [yes_sometimes, raises, wrapping(no), len, 3, None, asyncio.sleep, Path.exists])
def test_what_may_answer_or_cannot_be_looked_into_is_left_alone(guard: Any) -> None:
    assert not never_answers(guard)


def test_what_has_no_source_is_left_alone() -> None:
    space: dict[str, Any] = {}
    exec(textwrap.dedent("async def activity(self): ..."), space)
    for each in (space["activity"], len, 3, lambda: None):
        assert not can_end_silently(each)
