"""What is read back from files that anybody may have written: a value, or an error that says what is wrong, in bounds."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harmless import assert_harmless, unhurried
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn import Connection
from fsm_conn.testing.conformance import ConformanceError, conforms, read_trace
from fsm_conn.testing.report import LARGEST, Count, Edge, Report, ReportError
from fsm_conn.testing.tracefile import MOST_LIVES

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(10**4000),
        st.floats(),
        st.text(st.characters(exclude_categories=()), max_size=6),
        st.just("x" * 10_000),
        st.just("\x1b[2J"),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
LINE: dict[str, Any] = {
    "v": 1,
    "trigger": "connect",
    "source": "disconnected",
    "dest": "connecting",
    "internal": False,
    "reason": None,
    "attempt": 0,
    "dwell": 0.0,
    "at": 1.0,
}
ROW: dict[str, Any] = {
    "index": 0,
    "trigger": "connect",
    "source": "disconnected",
    "dest": None,
    "guards": ["ok"],
    "taken": 1,
    "refused": 0,
}


def judged(lines: Any) -> None:
    try:
        conforms(Connection, lines)
    except ConformanceError as error:
        assert_harmless(error)


def read(text: str) -> None:
    try:
        report = Report.from_json(text)
    except ReportError as error:
        assert_harmless(error)
    else:
        assert report.text()
        assert Report.from_json(report.to_json()) == report


def report(**changes: Any) -> str:
    rows = {"a.B": [ROW | changes]}
    return json.dumps({"format": "fsm_conn transition coverage", "version": 1, "classes": rows})


@unhurried
@given(st.dictionaries(st.sampled_from([*LINE, "connection", "class", "life"]), json_values, max_size=3))
def test_any_value_in_a_line_of_a_trace(changes: dict[str, Any]) -> None:
    """It could have happened, or the line and the field are told."""
    judged([json.dumps(LINE | changes)])
    judged([json.dumps(LINE), json.dumps(LINE | changes)])


@unhurried
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=60), max_size=4))
def test_any_text_as_a_trace(lines: list[str]) -> None:
    """No JSON at all."""
    judged(lines)


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_as_the_file_of_a_trace(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No text at all."""
    path = tmp_path_factory.getbasetemp() / "trace"
    path.write_bytes(data)
    judged(path)


def test_a_trace_whose_line_does_not_end(tmp_path: Path) -> None:
    """A file without an end of line is refused by its beginning, and not read."""
    path = tmp_path / "trace"
    with path.open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(ConformanceError, match="longer than") as caught:
            read_trace(path)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert_harmless(caught.value)


def test_deep_and_long_values_in_a_trace() -> None:
    """JSON that is read, but could not be shown."""
    for depth in (10, 900, 990, 100_000):
        judged([json.dumps(LINE)[:-1] + ', "reason": ' + '{"a":' * depth + "1" + "}" * depth + "}"])
    judged([json.dumps(LINE | {"attempt": 10**4299})])
    judged([json.dumps(LINE | {"trigger": "t" * 100_000})])


@unhurried
@given(st.dictionaries(st.sampled_from([*ROW]), json_values, max_size=3))
def test_any_value_in_a_report(changes: dict[str, Any]) -> None:
    """A report that can be shown and written again, or an error that names the field."""
    read(report(**changes))


@unhurried
@given(st.one_of(st.text(max_size=60), json_values.map(json.dumps)))
def test_any_text_as_a_report(text: str) -> None:
    """No report at all."""
    read(text)
    read(json.dumps({"format": "fsm_conn transition coverage", "version": 1, "classes": {text: text}}))


def test_counts_whose_sum_has_too_many_digits() -> None:
    """Two rows of one edge are added up: what could not be shown then is refused before."""
    row = ROW | {"taken": 10**4299 * 9}
    rows = {"format": "fsm_conn transition coverage", "version": 1, "classes": {"a.B": [row, row]}}
    with pytest.raises(ReportError, match="'taken'") as caught:
        Report.from_json(json.dumps(rows))
    assert_harmless(caught.value)


@pytest.mark.parametrize("guards", [[3], [None], [["x"]], [{"a": 1}], ["ok", 1]])
def test_guards_of_a_report_are_names(guards: list[Any]) -> None:
    """What is no name is refused, and not made one."""
    with pytest.raises(ReportError, match="'guards'"):
        Report.from_json(report(guards=guards))


def test_deep_and_long_values_in_a_report() -> None:
    """JSON that is read, but could not be shown."""
    for depth in (10, 900, 990, 100_000):
        read(report(dest=None)[:-4] + ', "index": ' + "[" * depth + "]" * depth + "}]}}")
    read(report(taken="x" * 100_000))
    read(json.dumps({"format": "fsm_conn transition coverage", "version": "x" * 100_000}))


def test_what_was_written_is_read() -> None:
    """What the tests above would not notice if nothing were read at all."""
    assert Report.from_json(report()).counts == {
        Edge("a.B", 0, "connect", "disconnected", None, ("ok",)): Count(taken=1)
    }
    assert len(read_trace([json.dumps(LINE)])) == 1


def lives(count: int, again: int = 0) -> Iterator[str]:
    """Lines of so many lives, each of one transition; then those of some of them again."""
    for number in range(count):
        yield json.dumps(LINE | {"life": str(number)})
    for number in range(again):
        yield json.dumps(LINE | {"life": str(number), "trigger": "opened", "source": "connecting", "dest": "connected"})


def test_a_trace_of_many_lives_takes_no_more_memory_than_one_of_some() -> None:
    """Those that went on last are remembered."""
    tracemalloc.start()
    try:
        conforms(Connection, lives(3 * MOST_LIVES))
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_life_that_was_forgotten_begins_anew() -> None:
    """Wherever it is, unless each is to begin in the initial state."""
    conforms(Connection, lives(MOST_LIVES + 5, again=5))
    with pytest.raises(ConformanceError, match="life begins in 'connecting'"):
        conforms(Connection, lives(MOST_LIVES + 5, again=5), strict=True)


@pytest.mark.parametrize("name", ["trigger", "source", "dest"])
def test_an_error_about_a_long_name_is_short(name: str) -> None:
    """Whatever it consists of, and however often it would be named."""
    for character in ("x", "\x1b", "\U000e0001", "'"):
        with pytest.raises(ConformanceError) as caught:
            conforms(Connection, [json.dumps(LINE | {name: character * 1000})])
        assert len(str(caught.value)) < 4000


def test_a_report_of_many_classes_is_read_in_proportion() -> None:
    """Each row is looked at as often as in a report of few."""
    rows = {Edge(f"fsm_conn.C{number}", 0, "go", "a", "b"): Count(number % 2) for number in range(16_000)}
    steps = []
    for count in (1000, 2000):
        report = Report(dict(list(rows.items())[:count]))
        steps.append(calls_of(lambda report=report: report.of_interest().text()))  # type: ignore[misc]
    assert steps[1] < 2.5 * steps[0]
    assert len(Report(rows).of_interest().text().splitlines()) == 8001


def calls_of(function: Callable[[], Any]) -> int:
    """How many calls of Python functions, and lines of them, running it takes: whatever the machine's speed."""
    count = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_a_report_without_an_end() -> None:
    """Is not even begun with."""
    with pytest.raises(ReportError, match="more than"):
        Report.from_json(" " * (LARGEST + 1))
