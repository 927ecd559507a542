"""What is read of a file, and remembered of it, has bounds."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn._util.reading import FileTooLargeError, Recent, lines_within, read_within, why_unread


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """One character too much is seen; a device without an end is left in time."""
    path = tmp_path / "file"
    path.write_text("x" * 10)
    assert read_within(path, 10) == "x" * 10
    for large, most in ((path, 9), (Path("/dev/zero"), 1_000_000)):
        with pytest.raises(FileTooLargeError) as caught:
            read_within(large, most)
        assert why_unread(caught.value) == f"it has more than {most} characters"


def test_why_a_file_was_not_read(tmp_path: Path) -> None:
    """In the words of the system, or of the decoder."""
    with pytest.raises(OSError, match="No such file") as caught:
        read_within(tmp_path / "none", 1)
    assert why_unread(caught.value) == "No such file or directory"
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError) as other:
        read_within(tmp_path / "bytes", 1)
    assert "can't decode" in why_unread(other.value)


@given(st.text(st.sampled_from("ab\n")), st.integers(1, 5))
def test_lines(text: str, longest: int) -> None:
    """Nothing is lost, nothing is longer than one more, and whole lines stay whole."""
    lines = list(lines_within(io.StringIO(text), longest))
    assert "".join(lines) == text
    assert all(len(line) <= longest + 1 for line in lines)
    assert all(line.endswith("\n") or len(line) == longest + 1 for line in lines[:-1])


@given(st.lists(st.integers(0, 8)), st.integers(1, 5))
def test_the_recent_are_remembered(keys: list[int], most: int) -> None:
    """As many as there may be, those that were asked for last; the others are made anew."""
    recent: Recent[int, list[int]] = Recent(most, list)
    for number, key in enumerate(keys):
        known = list(dict.fromkeys(reversed(keys[:number])))[:most]
        value = recent[key]
        assert bool(value) == (key in known)
        value.append(number)
        assert len(recent) <= most
    assert recent.made >= len(set(keys))
