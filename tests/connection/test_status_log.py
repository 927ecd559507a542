"""What a service reads in its log, with nothing attached."""

from __future__ import annotations

import asyncio
import logging

import pytest
from peer import Peer

from fsm_conn import ConnectFailedError, Connection, LinkError, RetryPolicy
from fsm_conn.connection.status_log import LONGEST_WHY

PATIENT = RetryPolicy(initial_delay=2, jitter="none", max_attempts=3)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What was logged, by whatever logger of ours."""
    return [(record.levelname, record.getMessage()) for record in told(caplog)]


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("fsm_conn")]


async def test_a_whole_life(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each: connected, lost, reconnected; and nothing about transitions."""
    caplog.set_level(logging.INFO)
    peer = Peer(None, LinkError("not yet"))
    async with Connection(peer, retry=PATIENT, name="plug") as conn:
        await asyncio.sleep(5)
        peer.lose(LinkError("killed by SIGKILL\nits last words"))
        await conn.wait_for_state("reconnecting")
        await conn.wait_for_state("connected")
        await conn.reconnect()
    assert lines(caplog) == [
        ("INFO", "plug: connected"),
        ("WARNING", "plug: lost after 5 s: killed by SIGKILL"),
        ("INFO", "plug: reconnected after 4 s, at attempt 3"),
        ("INFO", "plug: reconnected after 0 s, at attempt 1"),
    ]
    assert {record.name for record in told(caplog)} == {"fsm_conn.status"}


async def test_hours_are_shown_in_whole_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """And not as 3.6e+03."""
    caplog.set_level(logging.INFO)
    peer = Peer(None)
    async with Connection(peer, retry=PATIENT, name="plug") as conn:
        await asyncio.sleep(3600)
        peer.lose(LinkError("killed"))
        await conn.wait_for_state("reconnecting")
    assert ("WARNING", "plug: lost after 3600 s: killed") in lines(caplog)


async def test_giving_up(caplog: pytest.LogCaptureFixture) -> None:
    """After how many attempts, and why."""
    caplog.set_level(logging.INFO)
    peer = Peer(None, then=LinkError("no such plugin"))
    conn = Connection(peer, retry=PATIENT, name="plug")
    await conn.connect()
    peer.lose()
    await conn.wait_for_state("failed")
    assert lines(caplog)[2:] == [("ERROR", "plug: gave up after 3 attempts: no such plugin")]
    peer.then = None
    await conn.connect()
    assert lines(caplog)[3][1].startswith("plug: reconnected after ")
    await conn.disconnect()
    await conn.connect()
    assert lines(caplog)[4:] == [("INFO", "plug: connected")]
    await conn.disconnect()


async def test_attempts_before_the_first_link(caplog: pytest.LogCaptureFixture) -> None:
    """Are counted when it is there."""
    caplog.set_level(logging.INFO)
    async with Connection(Peer(LinkError("not yet")), retry=PATIENT, name="plug"):
        pass
    assert lines(caplog) == [("INFO", "plug: connected, at attempt 2")]


async def test_a_reason_is_one_short_line_without_commands(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it says."""
    conn = Connection(Peer(then=LinkError("\x1b[2J" + "x" * 10_000)), retry=RetryPolicy(max_attempts=1), name="plug")
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    ((level, text),) = lines(caplog)
    assert level == "ERROR"
    assert len(text) < LONGEST_WHY + 100
    assert "\x1b" not in text


async def test_what_is_in_a_record(caplog: pytest.LogCaptureFixture) -> None:
    """For filters and for machines."""
    caplog.set_level(logging.INFO)
    peer = Peer(None, LinkError("not yet"))
    async with Connection(peer, retry=PATIENT, name="plug") as conn:
        peer.lose()
        await conn.wait_for_state("reconnecting")
        await conn.wait_for_state("connected")
    found = [vars(record) for record in told(caplog)]
    assert [each["fsm_conn_event"] for each in found] == ["connected", "lost", "reconnected"]
    assert {each["fsm_conn_connection"] for each in found} == {"plug"}
    assert found[1]["fsm_conn_error_type"] == "LinkLostError"
    assert found[2]["fsm_conn_seconds"] == pytest.approx(4)
