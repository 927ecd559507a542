"""Whether a function answers at all: a guard that forgot its `return`, an activity that can end without a trigger.

The rules that hold here: nothing is called; what cannot be looked into is taken to answer. A guard is judged by its
compiled code. An activity is judged by its source, where a way to the end is one that Python's syntax allows: what an
exception, a `break` or a condition can lead to, but not what only a called function could tell, such as one that never
returns. Of context managers only `suppress` is taken to swallow an exception.
"""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any

__all__ = ["can_end_silently", "never_answers"]

_ENDS = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_OWN_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def never_answers(function: Any) -> bool:
    """Whether a plain function returns, and always None."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if not isinstance(code, CodeType) or code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE):
        return False
    returned = list(_returned(code))
    return bool(returned) and all(returned)


def _returned(code: CodeType) -> Iterator[bool]:
    """For each `return`, whether it returns None."""
    done = [each for each in dis.get_instructions(code) if each.opname not in ("NOP", "CACHE", "PRECALL")]
    for place, each in enumerate(done):
        if each.opname == "RETURN_CONST":  # Python 3.12 and 3.13
            yield each.argval is None
        elif each.opname == "RETURN_VALUE":
            last = done[place - 1]
            yield last.opname == "LOAD_CONST" and last.argval is None and not each.is_jump_target


def can_end_silently(function: Any) -> bool:
    """Whether some way through a function's source returns None."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):
        return False  # typed in, built in, or a part of an expression
    body = tree.body[0] if tree.body else None
    if not isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return _falls(body.body) or any(_is_none(each.value) for each in _within(body.body) if isinstance(each, ast.Return))


def _is_none(value: ast.expr | None) -> bool:
    if isinstance(value, ast.IfExp):
        return _is_none(value.body) or _is_none(value.orelse)
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _within(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All that belongs to the function itself."""
    for each in body:
        yield each
        if not isinstance(each, _OWN_SCOPE):
            yield from _within(list(ast.iter_child_nodes(each)))


def _falls(body: Sequence[ast.stmt]) -> bool:
    """Whether a way leads past the last of these statements."""
    return all(_passes(each) for each in body)


def _passes(each: ast.stmt) -> bool:
    if isinstance(each, _ENDS):
        return False
    if isinstance(each, ast.If):
        return _falls(each.body) or _falls(each.orelse)
    if isinstance(each, ast.While | ast.For | ast.AsyncFor):
        return _leaves(each)
    if isinstance(each, ast.With | ast.AsyncWith):
        return _falls(each.body) or any("suppress" in ast.unparse(item.context_expr) for item in each.items)
    if isinstance(each, ast.Match):
        return any(_falls(case.body) for case in each.cases) or not any(map(_is_any, each.cases))
    if isinstance(each, ast.Try | ast.TryStar):
        tried = _falls(each.body) and _falls(each.orelse)
        return _falls(each.finalbody) and (tried or any(_falls(handler.body) for handler in each.handlers))
    return not _is_never(each)


def _leaves(loop: ast.While | ast.For | ast.AsyncFor) -> bool:
    for_ever = isinstance(loop, ast.While) and isinstance(loop.test, ast.Constant) and bool(loop.test.value)
    return (not for_ever and _falls(loop.orelse)) or _is_broken(loop.body)


def _is_broken(body: Sequence[ast.AST]) -> bool:
    """Whether a `break` of this loop, and not of one inside it, stands here."""
    for each in body:
        inner = (
            each.orelse if isinstance(each, ast.While | ast.For | ast.AsyncFor) else list(ast.iter_child_nodes(each))
        )
        if isinstance(each, ast.Break) or (not isinstance(each, _OWN_SCOPE) and _is_broken(inner)):
            return True
    return False


def _is_any(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None


def _is_never(each: ast.stmt) -> bool:
    """`assert False` and `assert_never(...)`."""
    if isinstance(each, ast.Assert):
        return isinstance(each.test, ast.Constant) and not each.test.value
    called = each.value if isinstance(each, ast.Expr) else None
    return isinstance(called, ast.Call) and ast.unparse(called.func).rpartition(".")[2] == "assert_never"
