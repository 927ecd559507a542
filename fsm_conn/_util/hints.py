"""The nearest match for a misspelt name, for error messages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """` (did you mean 'x'?)` for the nearest of `known`, or an empty string when none is near."""
    import difflib  # only errors need it

    found = difflib.get_close_matches(str(name), [str(each) for each in known], n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
