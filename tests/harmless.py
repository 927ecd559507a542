"""What tests of untrusted input agree on: which errors may come of it, and what may stand in them."""

from __future__ import annotations

import re

from hypothesis import settings

from fsm_conn import FsmConnError

LONGEST_MESSAGE = 4000
"""Characters of an error: a list of twenty names, a nearest one, and what was wrong."""

unhurried = settings(deadline=None)
"""For properties: how long one input takes says nothing on a machine that does other things, too."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def assert_harmless(error: BaseException) -> None:
    """It is one of ours, and its text is bounded and rewrites no terminal."""
    assert isinstance(error, FsmConnError), f"{type(error).__name__}: {error!s:.300}"
    assert_fit_to_be_shown(str(error))


def assert_fit_to_be_shown(text: str, limit: int = LONGEST_MESSAGE) -> None:
    """It is bounded, and has no control characters."""
    assert len(text) <= limit, f"{len(text)} characters: {text:.100}..."
    assert not (found := _CONTROL.search(text)), f"{found!r} in {text!r:.500}"
