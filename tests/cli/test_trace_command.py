"""`fsm-conn trace`: the timeline of a recorded life, and the verdict."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import cli
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.testing import run_virtually
from fsm_conn.testing.tracefile import MOST_LIVES, write_record

LIFE: list[tuple[Any, ...]] = [
    ("connect", "disconnected", "connecting", None, 100.0),
    ("open_failed", "connecting", "reconnecting", OSError("no plugin\nevidence"), 100.5),
    ("opened", "reconnecting", "connected", None, 102.0),
]


def lines(*steps: tuple[Any, ...], **whose: str) -> list[str]:
    found, entered = [], steps[0][4]
    for trigger, source, dest, reason, at in steps:
        record = ConnectionRecord(trigger, source, dest, source == dest, reason, at - entered, at, attempt=1)
        found.append(write_record(record, **whose))
        entered = at if source != dest else entered
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A trace."""
    path = tmp_path / "life.jsonl"
    path.write_text("\n".join(lines(*LIFE)) + "\n")
    return path


def test_a_trace_that_conforms(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every transition with its number, its time from the beginning and its reason; then the verdict. Status 0."""
    assert cli.main(["trace", str(file)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines() == [
        "    1       0.000 s   disconnected -> connecting     connect",
        "    2       0.500 s     connecting -> reconnecting   open_failed  OSError: no plugin",
        "    3       2.000 s   reconnecting -> connected      opened",
        "conforms to Connection: 3 transitions of 1 life",
    ]


def test_quiet_shows_the_verdict_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For long traces."""
    assert cli.main(["trace", "-q", str(file)]) == 0
    assert capsys.readouterr().out == "conforms to Connection: 3 transitions of 1 life\n"


@pytest.mark.parametrize("arguments", [(), ("-q",)])
def test_the_first_line_that_could_not_have_happened_is_named(
    file: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown last, with status 1, and the verdict says what the table allows."""
    wrong = lines(*LIFE[:2], ("lost", "reconnecting", "failed", None, 103.0), ("closed", "x", "y", None, 104.0))
    file.write_text("\n".join(wrong))
    assert cli.main(["trace", *arguments, str(file)]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(
        f"fsm-conn trace: {file}: line 3: no row leads from 'reconnecting' to 'failed' on 'lost'"
    )
    assert shown.err.count("\n") == 1
    numbers = [line.split()[0] for line in shown.out.splitlines()]
    assert numbers == ([] if arguments else ["1", "2", "3"])


@pytest.mark.parametrize("garbage", ["{", "null", '{"v": 1}', '{"event": "health"', "\x1b[2J", "\0", "[" * 100_000])
def test_what_is_no_trace_is_refused(file: Path, garbage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the number of the line, and nothing in it reaches the terminal as it is."""
    file.write_text("\n".join([*lines(*LIFE), garbage]))
    assert cli.main(["trace", str(file)]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"fsm-conn trace: {file}: line 4: ")
    assert "\x1b" not in shown.out + shown.err
    assert len(shown.out.splitlines()) == 3


def test_events_that_are_no_transitions_keep_their_numbers(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `watch --json` writes beside them."""
    first, second, third = lines(*LIFE)
    health = json.dumps({"event": "health", "health": "serving"})
    file.write_text("\n".join([health, first, second, health, third]))
    assert cli.main(["trace", str(file)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["2", "3", "5", "conforms"]


def test_several_lives_in_one_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a beginning of its own."""
    mixed = [*lines(*LIFE, connection="a"), *lines(*LIFE, connection="b")]
    file.write_text("\n".join(mixed))
    assert cli.main(["trace", str(file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[3].split() == ["4", "0.000", "s", "disconnected", "->", "connecting", "connect", "b"]
    assert shown[-1] == "conforms to Connection: 6 transitions of 2 lives"


def test_strict_and_another_class(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trace that begins in the middle is refused only when asked for; a pool's table has no such states."""
    file.write_text("\n".join(lines(*LIFE[1:])))
    assert cli.main(["trace", str(file)]) == 0
    assert cli.main(["trace", "--strict", str(file)]) == 1
    assert "line 1: life begins in 'connecting'" in capsys.readouterr().err
    assert cli.main(["trace", "--class", "fsm_conn:ConnectionPool", str(file)]) == 1
    assert "line 1: the table has no state 'connecting'" in capsys.readouterr().err


def test_stdin(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A dash."""
    monkeypatch.setattr("sys.stdin", io.StringIO(file.read_text()))
    assert cli.main(["trace", "-q", "-"]) == 0
    assert "3 transitions" in capsys.readouterr().out


def test_an_empty_trace_conforms(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is wrong with it, and the verdict says how little it says."""
    file.write_text("")
    assert cli.main(["trace", str(file)]) == 0
    assert capsys.readouterr().out == "conforms to Connection: 0 transitions of 0 lives\n"


def test_what_a_writer_recorded_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way, from a connection that lived to the verdict."""
    from fsm_conn import Connection
    from fsm_conn.testing import SimulatedPeer, TraceWriter

    path = tmp_path / "life.jsonl"

    async def live() -> None:
        peer = SimulatedPeer()
        for what in ("open", "close"):
            peer.script(what, [])
        conn = Connection(peer, name="peer")
        with TraceWriter(path, connection=conn.name) as writer:
            conn.on_transition(writer)
            async with conn:
                pass

    run_virtually(live())
    assert cli.main(["trace", "--strict", str(path)]) == 0
    assert capsys.readouterr().out.endswith("conforms to Connection: 4 transitions of 1 life\n")


@pytest.mark.parametrize("arguments", [("trace",), ("diagram", "fsm_conn:Connection", "--coverage")])
def test_a_file_without_an_end(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Is refused once enough of it was seen."""
    tracemalloc.start()
    try:
        assert cli.main([*arguments, "/dev/zero"]) == 1
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()
    err = capsys.readouterr().err
    assert "longer than 65536 characters" in err or "more than 8388608 characters" in err
    assert len(err) < 1000


def test_one_endless_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a line only its beginning is kept."""
    path = tmp_path / "endless"
    path.write_bytes(b"x" * 20_000_000)
    tracemalloc.start()
    try:
        assert cli.main(["trace", str(path)]) == 1
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert "longer than" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file whose reading fails")
def test_a_file_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not said to be one that cannot be written."""
    assert cli.main(["trace", "/proc/self/mem"]) == 1
    assert capsys.readouterr().err == "fsm-conn trace: cannot read '/proc/self/mem': Input/output error\n"


def test_a_file_that_cannot_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is this one."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))
        assert cli.main(["trace", str(path)]) == 1
    assert f"cannot open '{path}': " in capsys.readouterr().err


def test_stdin_that_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a file that is none."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\n"), "utf-8"))
    assert cli.main(["trace", "-"]) == 1
    assert "truncated or garbled" in capsys.readouterr().err


def test_many_lives_are_counted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the timeline remembers those that went on last."""
    line = json.loads(file.read_text().splitlines()[0])
    with file.open("w") as lines:
        lines.writelines(json.dumps(line | {"life": str(number)}) + "\n" for number in range(MOST_LIVES + 10))
    assert cli.main(["trace", "--quiet", str(file)]) == 0
    assert f"of {MOST_LIVES + 10} lives" in capsys.readouterr().out
