"""What the code of a function says that it returns: never more than stands in its source, never less than it returned.

Functions are put together at random from what `return` may stand in, and run; an independent reading of their source
says which texts they could return at most.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import textwrap
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_conn.checks.returns import returned_texts


class Word(StrEnum):
    ONE = "one"
    TWO = "two"


CONSTANT = "three"
NUMBER = 7
VALUES = {"'zero'": "zero", "Word.ONE": "one", "Word.TWO": "two", "CONSTANT": "three", "'a b'": "a b", "''": ""}
OTHERS = ("None", "NUMBER", "3", "True", "self.word()", "Word('one')", "CONSTANT + 'x'", "[CONSTANT]", "str")

expression = st.sampled_from((*VALUES, *OTHERS))
chosen = st.builds("{} if self.asked() else {}".format, expression, expression)
ending = st.builds("return {}\n".format, expression | chosen)


def _inside(head: str, body: str, tail: str = "") -> str:
    return f"{head}\n{textwrap.indent(body, '    ')}{tail}"


def _around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda body, rest: _inside("if self.asked():", body) + rest, inner, inner),
        st.builds(
            lambda body, rest: _inside("for _ in range(2):", _inside("if self.asked():", body)) + rest, inner, inner
        ),
        st.builds(lambda body: _inside("async with self.lock():", body), inner),
        st.builds(lambda body: _inside("with self.plain():", body), inner),
        st.builds(lambda body: "await self.later()\n" + body, inner),
        st.builds(
            lambda body, other: _inside("try:", "self.fail()\n" + body) + _inside("except OSError:", other),
            inner,
            inner,
        ),
        st.builds(lambda body: _inside("try:", body) + _inside("finally:", "self.asked()\n"), inner),
        st.builds(lambda body: _inside("def inner(self):", "return 'inner'\n") + body, inner),
    )


bodies = st.recursive(ending, _around, max_leaves=6)


class Answers:
    """What a function asks, answered by the bits of a number."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def asked(self) -> bool:
        self.bits, answer = divmod(self.bits, 2)
        return bool(answer)

    def fail(self) -> None:
        if self.asked():
            raise OSError

    def word(self) -> str:
        return "computed"

    async def later(self) -> None:
        await asyncio.sleep(0)

    def plain(self) -> Answers:
        return self

    lock = plain

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: object) -> None: ...


def compiled(body: str) -> Callable[[Any], Any]:
    space: dict[str, Any] = dict(globals())
    exec(compile(_inside("async def activity(self):", body), "<made>", "exec"), space)
    return space["activity"]  # type: ignore[no-any-return]


def written(body: str) -> set[str]:
    """The texts that stand in `return` statements, but for those of functions inside."""
    top = ast.parse(_inside("async def activity(self):", body)).body[0]
    found: set[str] = set()
    fresh: list[ast.AST] = [top]
    while fresh:
        node = fresh.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            ends = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            found |= {VALUES[ast.unparse(end)] for end in ends if ast.unparse(end) in VALUES}
        if node is top or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            fresh += ast.iter_child_nodes(node)
    return found


@settings(deadline=None, max_examples=300)
@given(bodies, st.lists(st.integers(0, 2**12), min_size=4, max_size=4))
def test_what_is_told_is_written_and_what_was_returned_is_told(body: str, runs: list[int]) -> None:
    """Of texts that stand in the code; others are computed, and nothing is said of them."""
    activity = compiled(body)
    told = set(returned_texts(activity))
    assert told <= written(body)
    returned = {asyncio.run(activity(Answers(bits))) for bits in runs if _is_text(bits, activity)}
    assert {each for each in returned if _can_be_told(each, body)} <= told


def _is_text(bits: int, activity: Callable[[Any], Any]) -> bool:
    return isinstance(asyncio.run(activity(Answers(bits))), str)


def _can_be_told(text: str, body: str) -> bool:
    """A constant can be everywhere; what has a name, where nothing is to be done between its reading and the end."""
    alone = {VALUES.get(line.strip().removeprefix("return ")): line for line in body.splitlines() if "return" in line}
    in_view = not any(word in body for word in ("for ", "with ", "try"))
    return text in alone and (in_view or f"return {str(text)!r}" in alone[text])


async def kept(self: Any) -> str:
    word = "kept"
    await self.say(word)
    return word


async def handed_on(self: Any) -> str:
    return await kept(self)


async def of_a_parameter(self: Any, choices: Any = Word) -> str:
    return choices.ONE  # type: ignore[no-any-return]


async def of_no_enumeration(self: Any) -> str:
    return Answers.missing  # type: ignore[attr-defined, no-any-return]


def shouting(activity: Any) -> Any:
    @functools.wraps(activity)
    async def shouted(self: Any) -> str:
        return str(await activity(self)).upper()

    return shouted


@shouting
async def wrapped(self: Any) -> str:
    return "quiet"


def test_what_cannot_be_told_is_not() -> None:
    """Variables, other functions, parameters; and what a decorator makes of it."""
    for each in (kept, handed_on, of_a_parameter, of_no_enumeration, wrapped, len, 3, None):
        assert returned_texts(each) == ()
