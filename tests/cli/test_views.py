"""What `fsm-conn watch` shows of each moment, drawn and as lines."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from rich.live import Live

from fsm_conn.cli.terminal import Console
from fsm_conn.cli.views import Facts, JsonView, LineView, LiveView
from fsm_conn.connection.prober import HealthStatus
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.links.errors import LinkLostError

NOON = datetime(2026, 1, 2, 12, 0, 0, 345678, UTC)
WELL = Facts(
    name="calculator",
    pid=4711,
    state="connected",
    health=HealthStatus.SERVING,
    attempt=0,
    attempts="5",
    losses=2,
    uptime=3725.9,
    latencies=(0.001, 0.002, 0.004),
)
GONE = attrs.evolve(
    WELL, pid=None, state="reconnecting", health=HealthStatus.UNKNOWN, attempt=3, uptime=None, latencies=()
)


class _Utf8(io.StringIO):
    encoding = "utf-8"


class _Ascii(io.StringIO):
    encoding = "ascii"


def console(width: int, file: io.StringIO | None = None, terminal: bool = True) -> Console:
    return Console(file=file or _Utf8(), width=width, height=60, force_terminal=terminal, color_system=None)


def drawn(width: int, facts: Facts, file: io.StringIO | None = None) -> str:
    """What is drawn at last."""
    shown = console(width, file)
    with Live(console=shown, auto_refresh=False) as live:
        view = LiveView(shown, live, "python -m calculator")
        view.refresh(facts)
        before = shown.file.getvalue()  # type: ignore[attr-defined]
        view.health(NOON, facts)
    written: str = shown.file.getvalue()  # type: ignore[attr-defined]
    assert before != written
    return before


def lost(reason: Exception | None, trigger: str = "lost", *, internal: bool = False) -> ConnectionRecord:
    dest = "connected" if internal else "reconnecting"
    return ConnectionRecord(trigger, "connected", dest, internal, reason, dwell=12.5, at=13.0, attempt=1)


def test_all_facts_stand_side_by_side_where_there_is_room() -> None:
    """Three in a row, below the drawing and its title."""
    lines = drawn(100, WELL).splitlines()
    assert any("python -m calculator" in line for line in lines)
    first, second, third = (
        line.split() for line in lines if " state " in line or "uptime" in line or "process" in line
    )
    assert first == ["state", "connected", "health", "serving", "latency", "4.0", "ms", "▃▅█"]
    assert second == ["uptime", "1:02:05", "attempt", "0", "of", "5", "losses", "2"]
    assert third == ["process", "4711"]
    assert lines[-1].strip() == "Ctrl-C ends it, and the plugin with it"


@pytest.mark.parametrize("width", [20, 40, 60])
def test_each_has_a_line_of_its_own_where_there_is_none(width: int) -> None:
    """None is cut, and no line is wider than the terminal."""
    lines = drawn(width, WELL).splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    stripped = [line.strip() for line in lines]
    if width >= 40:
        assert [line for line in stripped if line in ("attempt 0 of 5", "losses 2", "process 4711")] == [
            "attempt 0 of 5",
            "losses 2",
            "process 4711",
        ]


def test_what_is_not_known_is_a_dash() -> None:
    """Without a connection there is no process, no uptime and no latency."""
    told = " ".join(drawn(100, GONE).split())
    assert "latency - uptime - attempt 3 of 5 losses 2 process -" in told


def test_a_connection_that_was_closed_has_no_hint() -> None:
    """There is nothing left to end."""
    assert "Ctrl-C" not in drawn(100, attrs.evolve(GONE, state="disconnected"))


def test_a_terminal_of_ascii_is_drawn_in_ascii() -> None:
    """The bars and the boxes."""
    text = drawn(100, WELL, _Ascii())
    assert text.isascii()
    assert "latency 4.0 ms -=#" in text


def test_the_last_probe_failed() -> None:
    """Its time says nothing of the peer."""
    failing = attrs.evolve(WELL, health=HealthStatus.NO_ANSWER)
    assert failing.latency is None
    assert "latency - " in " ".join(drawn(100, failing).split())


def test_a_transition_is_a_line_above_the_drawing() -> None:
    """With the reason in the first line of its words; a successful probe has none."""
    shown = console(100)
    with Live(console=shown, auto_refresh=False) as live:
        view = LiveView(shown, live, "x")
        view.moved(NOON, lost(LinkLostError("the plugin has ended\nand said more")), GONE)
        view.moved(NOON, lost(None, "probed", internal=True), WELL)
        view.moved(NOON, lost(LinkLostError("no answer"), "probe_failed", internal=True), WELL)
    lines = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    told = [line for line in lines if "the plugin has ended" in line]
    assert len(told) == 1
    assert "connected" in told[0]
    assert "reconnecting" in told[0]
    assert ".345" in told[0]
    assert not any("and said more" in line or "probed" in line for line in lines)
    assert any("probe_failed" in line and "no answer" in line for line in lines)


def test_lines_of_json_are_those_that_a_trace_has() -> None:
    """And a line for each change of health."""
    shown = console(80, terminal=False)
    view = JsonView(shown, "Connection")
    view.moved(NOON, lost(LinkLostError("the plugin has ended")), GONE)
    view.moved(NOON, lost(None, "probed", internal=True), WELL)
    view.health(NOON + timedelta(seconds=1), WELL)
    view.refresh(WELL)
    moved, health = map(json.loads, shown.file.getvalue().splitlines())  # type: ignore[attr-defined]
    assert moved["event"] == "transition"
    assert (moved["source"], moved["dest"]) == ("connected", "reconnecting")
    assert moved["pid"] is None
    assert health == {
        "event": "health",
        "time": "2026-01-02T12:00:01.345678+00:00",
        "connection": "calculator",
        "health": "serving",
        "latency_ms": 4.0,
    }


def test_health_that_nobody_knows_is_no_line() -> None:
    """The transition that lost the link has said so."""
    shown = console(80, terminal=False)
    view = LineView(shown)
    view.health(NOON, GONE)
    view.health(NOON, WELL)
    view.refresh(WELL)
    (line,) = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line.split()[1:] == ["health", "serving", "answered", "in", "4.0", "ms"]
