"""Traces are written, read and checked: what happened conforms, what could not have happened is named."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import TRANSIENT, Peer

from fsm_conn import Connection, ConnectionRecord, RetryPolicy, insert_state
from fsm_conn.testing.conformance import ConformanceError, TraceWriter, conforms, read_trace, write_record
from fsm_conn.testing.lives.checks import ViolationError
from fsm_conn.testing.lives.connections.life import Life


class Authenticated(Connection):
    """A connection with a state of its own."""

    states, transitions = insert_state(
        Connection, "authenticating", trigger="opened", before="connected", then="authenticated", like="connecting"
    )

    async def while_authenticating(self) -> str:
        """Say who we are."""
        async with asyncio.timeout(self.start_timeout):
            await self.call("auth.Login")
        return "authenticated"


def lived(cls: type[Connection], seed: int, choices: list[int]) -> list[ConnectionRecord]:
    """The history of a life in which each step is chosen by a number. Whether its invariants hold is not asked here."""
    life = Life(cls, seed=seed)
    with contextlib.closing(life), contextlib.suppress(ViolationError):
        for choice in choices:
            offered = [step for step, weight in life.offers() for _ in range(weight)]
            offered[choice % len(offered)].take(life)
    return list(life.seen)


CHOICES = st.lists(st.integers(0, 9999), min_size=5, max_size=40)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([Connection, Authenticated]), st.integers(0, 3), CHOICES)
def test_every_life_conforms(cls: type[Connection], seed: int, choices: list[int]) -> None:
    """As records, as lines and as what was read from them; also from the middle on."""
    records = lived(cls, seed, choices)
    lines = [write_record(record) for record in records]
    conforms(cls, records, strict=True)
    conforms(cls, lines, strict=True)
    conforms(cls, read_trace(lines), strict=True)
    conforms(cls, lines[len(lines) // 2 :])


def edges(cls: type[Connection]) -> set[tuple[str, str, str | None]]:
    """What the table allows, worked out in another way than by what is tested."""
    events = cls.lifecycle.machine.events.items()
    return {
        (trigger, source, row.dest)
        for trigger, event in events
        for source, found in event.transitions.items()
        for row in found
    }


def impossible(cls: type[Connection], lines: list[dict[str, Any]], index: int) -> Iterator[dict[str, Any]]:
    """The line at `index` with one field changed, in every way that makes it impossible."""
    line, allowed = lines[index], edges(cls)
    names = [str(name) for name in cls.lifecycle.states]
    triggers = list(cls.lifecycle.machine.events)
    changes: list[dict[str, Any]] = [{"trigger": each} for each in [*triggers, "conect"]]
    changes += [{field: each} for field in ("source", "dest") for each in [*names, "nowhere"]]
    changes.append({"internal": not line["internal"]})
    for change in changes:
        mutant = line | change
        edge = (mutant["trigger"], mutant["source"], None if mutant["internal"] else mutant["dest"])
        torn = index > 0 and mutant["source"] != lines[index - 1]["dest"]
        if edge not in allowed or torn or (mutant["internal"] and mutant["source"] != mutant["dest"]):
            yield mutant
    for change in ({"dwell": -1.0}, {"dwell": float("nan")}, {"attempt": -1}, {"attempt": 1.5}, {"attempt": True}):
        yield line | change
    yield line | {"at": None}
    yield line | {"reason": "because"}
    if index > 0:
        yield line | {"at": lines[index - 1]["at"] - 1}
        yield line | {"dwell": line["dwell"] + 1}
    for field in ("trigger", "source", "dest", "internal", "attempt", "dwell", "at"):
        yield {key: value for key, value in line.items() if key != field}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Connection, Authenticated]), CHOICES, st.integers(0, 1000))
def test_whatever_makes_a_line_impossible_is_found_at_that_line(
    cls: type[Connection], choices: list[int], where: int
) -> None:
    """One field of one line is changed."""
    lines = [json.loads(write_record(record)) for record in lived(cls, 0, choices)]
    if not lines:
        return
    index = where % len(lines)
    for mutant in impossible(cls, lines, index):
        changed = [json.dumps(each) for each in [*lines[:index], mutant, *lines[index + 1 :]]]
        with pytest.raises(ConformanceError) as caught:
            conforms(cls, changed)
        assert caught.value.line == index + 1, (mutant, str(caught.value))


async def history() -> list[str]:
    """A life with a failed attempt, and health probes, as lines."""
    conn = Connection(Peer(TRANSIENT), retry=RetryPolicy(max_attempts=2, initial_delay=1), name="shop")
    await conn.connect()
    await conn.probe()
    await conn.disconnect()
    return [write_record(record) for record in conn.history]


def mutated(line: str, **fields: Any) -> str:
    return json.dumps(json.loads(line) | fields)


@pytest.mark.parametrize(
    ("index", "fields", "message"),
    [
        (0, {"trigger": "conect"}, "line 1: the table has no trigger 'conect'"),
        (0, {"source": "idle"}, "line 1: the table has no state 'idle'"),
        (0, {"dest": "connectd"}, "line 1: the table has no state 'connectd'"),
        (1, {"dest": "connected"}, "on 'open_failed' in 'connecting': -> reconnecting, -> failed"),
        (1, {"trigger": "lost"}, "the table allows in 'connecting': disconnect, fault, open_failed, opened"),
        (2, {"source": "connecting"}, "line 3: begins in 'connecting', and line 2 ended in 'reconnecting'"),
        (3, {"internal": False}, "line 4: marked as not internal, and the row is the opposite"),
        (2, {"internal": True}, "line 3: internal, and yet it leads from 'reconnecting' to 'connected'"),
        (2, {"dwell": -1}, "line 3: a dwell of -1 s is less than 0"),
        (2, {"dwell": 99.0}, "line 3: a dwell of 99 s, and 'reconnecting' was entered"),
        (2, {"at": -5.0}, "line 3: time runs backwards: -5 s"),
        (2, {"attempt": -1}, "line 3: attempt -1 is less than 0"),
        (2, {"v": 9}, "line 3: of version 9; this release reads 1"),
        (2, {"internal": 1}, "line 3: 'internal' is 1, which is no bool"),
        (2, {"reason": {}}, "line 3: 'reason' is {}"),
        (2, {"at": 10**400}, "line 3: 'at' is no finite number of seconds"),
    ],
)
async def test_the_error_says_what_is_wrong_and_what_is_allowed(
    index: int, fields: dict[str, Any], message: str
) -> None:
    """The line, what is wrong with it, and what the table allows there."""
    lines = await history()
    lines[index] = mutated(lines[index], **fields)
    with pytest.raises(ConformanceError) as caught:
        conforms(Connection, lines)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "garble", [lambda line: line[:-5], lambda line: "x" + line, lambda line: "[1]", lambda line: "[" * 100_000]
)
async def test_a_garbled_line_is_named(garble: Callable[[str], str]) -> None:
    """Truncated, garbled, or something else: after what is wrong before it, and not instead."""
    lines = await history()
    lines[3] = garble(lines[3])
    with pytest.raises(ConformanceError, match=r"^line 4: "):
        conforms(Connection, lines)
    with pytest.raises(ConformanceError, match=r"^line 4: "):
        read_trace(lines)
    lines[1] = mutated(lines[1], trigger="lost")
    with pytest.raises(ConformanceError, match=r"^line 2: "):
        conforms(Connection, lines)


async def test_strict_begins_in_the_initial_state() -> None:
    """A log may begin anywhere, unless it is said to be whole."""
    lines = (await history())[1:]
    conforms(Connection, lines)
    with pytest.raises(ConformanceError, match=r"^line 1: life begins in 'connecting'.* begin in 'disconnected'"):
        conforms(Connection, lines, strict=True)


def test_a_log_that_begins_with_what_did_not_leave_the_state_tells_when_it_was_entered() -> None:
    """So the dwell of the next line is known too."""
    first = ConnectionRecord("probe_passed", "connected", "connected", True, None, 7.0, 100.0, attempt=1)
    conforms(Connection, [first, first._replace(dwell=8.0, at=101.0)])
    with pytest.raises(ConformanceError, match=r"^line 2: a dwell of 9 s, and 'connected' was entered 8 s before"):
        conforms(Connection, [first, first._replace(dwell=9.0, at=101.0)])


async def test_connections_of_one_file_are_told_apart(tmp_path: Path) -> None:
    """By name, and by writer: two of one name, such as before and after a restart, are two lives."""
    path = tmp_path / "trace.jsonl"
    conns = [Connection(Peer(), name=name) for name in ("a", "b", "b")]
    for conn in conns:
        conn.on_transition(TraceWriter(path, connection=conn.name, connection_class="Connection"))
    for conn in conns:
        await conn.connect()
    for conn in conns:
        await conn.disconnect()
    conforms(Connection, path, strict=True)
    lines = read_trace(str(path))
    assert [line.connection for line in lines] == ["a", "a", "b", "b", "b", "b"] * 2
    assert {line.connection_class for line in lines} == {"Connection"}
    with pytest.raises(ConformanceError, match=r"^line 3: "):
        conforms(Connection, [mutated(line, connection="a", life="x") for line in path.read_text().splitlines()])


async def test_the_reason_is_written_as_type_and_first_line() -> None:
    """No traceback, one line, not endless; an error that cannot be shown is said to be one."""
    record = ConnectionRecord("lost", "connected", "failed", False, OSError("one\ntwo"), 0.5, 2.0, attempt=1)
    data = json.loads(write_record(record, connection="shop"))
    assert data["reason"] == {"type": "OSError", "message": "one"}
    assert data["connection"] == "shop"
    assert "class" not in data

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "cannot be read" in write_record(record._replace(reason=Unspeakable()))
    assert len(write_record(record._replace(reason=OSError("x" * 10_000)))) < 1500
    line = write_record(record._replace(reason=OSError("\udcff \u2028 é")))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert read_trace([line])[0].reason == ("OSError", "\udcff ")


async def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    """Flushed after every transition, to a path and to a file of one's own, which stays open."""
    path, other = tmp_path / "trace.jsonl", tmp_path / "mine.jsonl"
    conn = Connection(Peer())
    with TraceWriter(path) as writer, other.open("w") as mine:
        conn.on_transition(writer)
        conn.on_transition(TraceWriter(mine))
        await conn.connect()
        assert len(read_trace(path)) == len(read_trace(other)) == 2
        await conn.disconnect()
        TraceWriter(mine).close()
        assert not mine.closed
    assert len(read_trace(path)) == len(read_trace(other)) == 4


async def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """After a crash in the middle of a line, the next begins on a line of its own."""
    path = tmp_path / "trace.jsonl"
    path.write_text('{"v": 1, "trig')
    conn = Connection(Peer())
    conn.on_transition(TraceWriter(path))
    await conn.connect()
    torn, *whole = path.read_text().splitlines()
    assert torn == '{"v": 1, "trig'
    conforms(Connection, whole, strict=True)
    with pytest.raises(ConformanceError, match=r"^line 1: truncated or garbled"):
        conforms(Connection, path)


async def test_a_write_that_came_short_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: it is counted, the connection goes on, and the next line is whole."""
    path = tmp_path / "trace.jsonl"
    conn = Connection(Peer())
    writer = TraceWriter(path)
    conn.on_transition(writer)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
        await conn.connect()
    await conn.disconnect()
    assert (writer.errors, conn.observer_errors) == (2, 0)
    assert isinstance(writer.last_error, OSError)
    first, second, *whole = path.read_text().splitlines()
    assert len(first) == 10
    assert len(second) == 9  # behind the end of the line that the first one lacks
    assert [line.source for line in read_trace(whole)] == ["connected", "disconnecting"]


async def test_a_writer_never_raises_into_the_connection(tmp_path: Path) -> None:
    """A closed file, and one that refuses: counted, with the last error."""
    writer = TraceWriter(tmp_path / "trace.jsonl")
    writer.close()
    closed = TraceWriter(io.StringIO())
    closed._file.close()  # type: ignore[attr-defined]
    conn = Connection(Peer())
    conn.on_transition(writer)
    conn.on_transition(closed)
    await conn.connect()
    assert (writer.errors, closed.errors, conn.observer_errors) == (2, 2, 0)
    assert "closed" in str(writer.last_error)
    with pytest.raises(FileNotFoundError):
        TraceWriter(tmp_path / "no" / "such" / "directory")


def test_empty_lines_are_skipped() -> None:
    """Nothing is what nothing conforms to."""
    conforms(Connection, [])
    conforms(Connection, ["", "\n", "  "], strict=True)
    record = ConnectionRecord("connect", "disconnected", "connecting", False, None, 0.0, 0.0, attempt=1)
    assert read_trace(["", write_record(record)])[0].number == 2
