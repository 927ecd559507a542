"""The views of `fsm-conn watch`: drawn on a terminal, as lines in a pipe, or as JSON.

A view receives events in the order in which they happened. It may also be refreshed in between.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any, Protocol

import attrs
from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fsm_conn._util.text import plain_json, plain_line
from fsm_conn.cli.drawing import INDENT, draw, first_line, last_words, transition_line
from fsm_conn.cli.terminal import Console, state_text
from fsm_conn.connection.prober import HealthStatus
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.testing.tracefile import write_record

__all__ = ["Facts", "JsonView", "LineView", "LiveView", "View"]

_ANSWERED = (HealthStatus.SERVING, HealthStatus.UNSUPPORTED)
_HEALTH_STYLES = {
    HealthStatus.SERVING: "bold green",
    HealthStatus.NOT_SERVING: "bold red",
    HealthStatus.NO_ANSWER: "bold red",
}
_COLUMNS = (21, 23, 28)
_WIDTH = sum(_COLUMNS) + 2 * (len(_COLUMNS) + 1)
"""Columns of the terminal that the facts need side by side; on a narrower terminal, each has a line of its own."""
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-:=+*#"


@attrs.frozen(kw_only=True)
class Facts:
    """The state of the connection at one moment."""

    name: str
    pid: int | None
    state: str
    health: HealthStatus
    attempt: int
    attempts: str
    """The number of attempts allowed."""
    losses: int
    uptime: float | None
    """Seconds since it connected; None when it is not connected."""
    latencies: tuple[float, ...]
    """Seconds that the last probes took."""

    @property
    def latency(self) -> float | None:
        """Seconds that the last probe took; None unless it succeeded."""
        return self.latencies[-1] if self.latencies and self.health in _ANSWERED else None


class View(Protocol):
    """An object that receives the events."""

    def moved(self, moment: datetime, record: ConnectionRecord, facts: Facts) -> None:
        """A transition was taken."""

    def health(self, moment: datetime, facts: Facts) -> None:
        """The health has changed."""

    def refresh(self, facts: Facts) -> None:
        """Time has passed."""


class LineView:
    """A line for each transition, and for each change of health."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def moved(self, moment: datetime, record: ConnectionRecord, facts: Facts) -> None:
        """Print a line; a successful probe is reported by `health`."""
        why = first_line(record.reason)
        if not record.internal:
            line = transition_line(_clock(moment), record.source, record.dest, why, width=self._console.room)
        elif why:
            line = _note(moment, str(record.trigger), why)
        else:
            return
        self._console.say(line)
        if not record.internal:
            for words in last_words(record.reason):
                self._console.say(Text(f"{' ' * INDENT}| {words}", "dim"))

    def health(self, moment: datetime, facts: Facts) -> None:
        """Print a line, unless a transition has said the same: when the link is gone, its health is unknown."""
        if facts.health is not HealthStatus.UNKNOWN:
            latency = "" if facts.latency is None else f"answered in {_milliseconds(facts.latency)}"
            self._console.say(_note(moment, "health", f"{facts.health}  {latency}".rstrip()))

    def refresh(self, facts: Facts) -> None:
        """Do nothing."""


class JsonView:
    """A line of JSON for each of the same events. `fsm-conn trace` reads the lines of transitions."""

    def __init__(self, console: Console, connection_class: str) -> None:
        self._console = console
        self._class = connection_class
        self._life = secrets.token_hex(4)

    def moved(self, moment: datetime, record: ConnectionRecord, facts: Facts) -> None:
        """Print a line."""
        if record.internal and record.reason is None:
            return
        line = json.loads(write_record(record, connection=facts.name, connection_class=self._class, life=self._life))
        words = {"last_words": last_words(record.reason)} if last_words(record.reason) else {}
        self._write({"event": "transition", "time": moment.isoformat(), "pid": facts.pid} | line | words)

    def health(self, moment: datetime, facts: Facts) -> None:
        """Print a line."""
        latency = None if facts.latency is None else round(facts.latency * 1e3, 3)
        line = {"event": "health", "time": moment.isoformat(), "connection": facts.name, "health": str(facts.health)}
        self._write(line | {"latency_ms": latency})

    def refresh(self, facts: Facts) -> None:
        """Do nothing."""

    def _write(self, line: dict[str, Any]) -> None:
        self._console.print(Text(plain_json(json.dumps(line, ensure_ascii=False))), soft_wrap=True)


class LiveView(LineView):
    """The same lines, with the states and the facts drawn below them."""

    def __init__(self, console: Console, live: Live, title: str) -> None:
        super().__init__(console)
        self._live = live
        self._title = title
        self._last: tuple[str, str] | None = None

    def moved(self, moment: datetime, record: ConnectionRecord, facts: Facts) -> None:
        """Print a line, and redraw."""
        if not record.internal:
            self._last = (record.source, record.dest)
        super().moved(moment, record, facts)
        self.refresh(facts)

    def health(self, moment: datetime, facts: Facts) -> None:
        """Print a line, and redraw."""
        super().health(moment, facts)
        self.refresh(facts)

    def refresh(self, facts: Facts) -> None:
        """Redraw."""
        ascii_only = not self._console.encoding.startswith("utf")
        width, bars = self._console.width, _ASCII_BARS if ascii_only else _BARS
        drawing = draw(facts.state, self._last, ascii_only=ascii_only, room=width - 2)
        hint = "Ctrl-C ends it, and the plugin with it" if facts.state != "disconnected" else ""
        parts = Group(
            Text(plain_line(self._title), "bold", no_wrap=True, overflow="ellipsis"),
            Padding(drawing, (0, 0, 0, 2)),
            Padding(_table(facts, bars, columns=3 if width >= _WIDTH else 1), (0, 2)),
            Text(hint, "dim"),
        )
        self._live.update(Padding(parts, (1, 0, 0, 0)), refresh=True)


def _table(facts: Facts, bars: str, columns: int) -> Table:
    uptime = "-" if facts.uptime is None else _duration(facts.uptime)
    latency = "-" if facts.latency is None else _milliseconds(facts.latency)
    table = Table.grid(padding=(0, 2))
    for width in _COLUMNS if columns > 1 else (max(_COLUMNS),):
        table.add_column(width=width, no_wrap=True)
    cells = (
        _fact("state", state_text(facts.state)),
        _fact("health", Text(facts.health, _HEALTH_STYLES.get(facts.health, ""))),
        _fact("latency", Text(f"{latency} {_bars(facts.latencies[-10:], bars)}")),
        _fact("uptime", Text(uptime)),
        _fact("attempt", Text(f"{facts.attempt} of {facts.attempts}")),
        _fact("losses", Text(f"{facts.losses}")),
        _fact("process", Text(f"{facts.pid or '-'}")),
    )
    for first in range(0, len(cells), columns):
        table.add_row(*cells[first : first + columns])
    return table


def _fact(label: str, value: Text) -> Text:
    return Text(f"{label} ", "dim").append_text(value)


def _note(moment: datetime, what: str, text: str) -> Text:
    return Text.assemble(
        (f"{_clock(moment)}  ", "dim"), (f"{plain_line(what):>13} ", "dim"), (f"   {plain_line(text)}", "")
    )


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}.{moment.microsecond // 1000:03}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _bars(values: tuple[float, ...], bars: str) -> str:
    """A sparkline, from zero to the longest value."""
    longest = max(values, default=0.0) or 1.0
    return "".join(bars[min(int(value / longest * len(bars)), len(bars) - 1)] for value in values)


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)
