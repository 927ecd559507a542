"""Docstrings of settings that list the fields: `help(RetryPolicy)` shows each with its type, default and meaning.

Python does not keep the docstring below a field, so it is read from the source when the docstring is asked for.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

import attrs

__all__ = ["FIELDS", "FieldDocs", "documented"]

FIELDS = "Fields:"
"""The line below which they stand."""


def documented(owner: type) -> Iterator[tuple[str, str]]:
    """The fields of a class and the docstrings below them, each on one line, in the order of the source.

    Raises:
        OSError: the source is not there.
    """
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(body, ast.ClassDef)
    for line, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
            assert isinstance(below.value, ast.Constant)
            yield line.target.id, " ".join(inspect.cleandoc(str(below.value.value)).split())


class FieldDocs:
    """The `__doc__` of a class of attrs.

    Args:
        text: the docstring without the fields.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._whole: dict[type, str] = {}

    def __get__(self, instance: object, owner: type) -> str:
        if owner not in self._whole:
            try:
                self._whole[owner] = _with_fields(self._text, owner)
            except (OSError, SyntaxError, TypeError):  # there is no source to read
                return self._text
        return self._whole[owner]


def _with_fields(text: str, owner: type) -> str:
    fields: Any = attrs.fields_dict(owner)
    parts = [inspect.cleandoc(text), "", FIELDS]
    for name, meaning in documented(owner):
        if name in fields:
            parts.append(f"    {name}: {fields[name].type}{_default(fields[name])}")
            parts += textwrap.wrap(meaning, 100, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(parts)


def _default(field: Any) -> str:
    if field.default is attrs.NOTHING:
        return ""
    return " = ..." if isinstance(field.default, attrs.Factory) else f" = {field.default!r}"  # type: ignore[arg-type]
