"""SECURITY.md names tests: they exist, under these names, in these files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fsm_conn.links import base
from fsm_conn.links.grpc import reflection
from fsm_conn.links.process import output

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/*.]+\.py)(?:::(\w+))?`", TEXT)))


def test_tests_are_named() -> None:
    """Else what follows would prove nothing; and each row of what is defended has one."""
    assert len(NAMED) > 25
    defended = TEXT.partition("## What is defended")[2].partition("## What is not defended")[0]
    rows = [line for line in defended.splitlines() if line.startswith("| ") and not line.startswith("| what |")]
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_they_exist(path: str, name: str) -> None:
    """The file, and in it the test."""
    files = list(ROOT.glob(path))
    assert files
    if name:
        assert re.search(rf"def {name}\(", files[0].read_text())


def test_the_numbers_are_those_of_the_code() -> None:
    """Each bound that is written down."""
    kib = 1024
    assert (64 * kib, 8 * kib, 16 * kib) == (output.LONGEST_LINE, output.TAIL_BYTES, output.CHUNK)
    assert (output.TAIL_LINES, output.LONGEST_LOGGED, output.LINES_PER_SECOND, output.DRAIN_LIMIT) == (
        20,
        4096,
        1000,
        16,
    )
    assert (2 * kib * kib, 1024, 4096) == (reflection._MAX_BYTES, reflection._MAX_FILES, reflection._MAX_SERVICES)
    assert reflection._TIMEOUT == 10
    assert "metadata" not in repr(base.CallOptions(metadata={"a": "b"}))
