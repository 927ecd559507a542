"""Counting lines changes nothing that a test may ask for."""

from __future__ import annotations

import sys
import weakref

import pytest

pytest.importorskip("slipcover")

import lines


class Thing:
    pass


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="no marks are taken out of code")
def test_what_a_test_drops_is_freed() -> None:
    """Also when marks are taken away while it runs, which replaces the code of functions."""
    thing = Thing()
    alive = weakref.ref(thing)
    counter = lines.Counter(branch=True)
    code = test_what_a_test_drops_is_freed.__code__
    counter.replace_map[code] = code
    counter.deinstrument_seen()
    assert counter.replace_map == {}
    del thing
    assert alive() is None
