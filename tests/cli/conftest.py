"""What commands import from a user's files, and where they look for them, is forgotten after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import traces


@pytest.fixture(autouse=True)
def forgotten(scratch: str) -> Iterator[None]:
    """A command is a process of its own, and need not tidy up."""
    with traces.removed(scratch):
        yield
