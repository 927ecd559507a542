"""Log records: levels, messages that people can read, and the same facts for machines."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import grpc
import pytest
from peer import TRANSIENT, Peer, Permanent

from fsm_conn import ConnectFailedError, Connection, LinkError, ProbeError, RetryPolicy, UnknownNameError
from fsm_conn.telemetry import LogObserver

PLAIN = RetryPolicy(max_attempts=3, initial_delay=1.0, jitter="none", stable_after=10.0)
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def connection(peer: Any, **options: Any) -> Connection:
    conn = Connection(peer, retry=PLAIN, name="plug")
    LogObserver(**options).attach(conn)
    return conn


def told(caplog: pytest.LogCaptureFixture, name: str = "fsm_conn.connection") -> list[str]:
    return [f"{each.levelname} {each.getMessage()}" for each in caplog.records if each.name == name]


@pytest.fixture(autouse=True)
def _all_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fsm_conn")


async def test_a_life_as_it_reads(caplog: pytest.LogCaptureFixture) -> None:
    """One line per transition, whose level says whether it matters."""
    peer = Peer(TRANSIENT, delay=0.25)
    conn = connection(peer)
    await conn.connect()
    await asyncio.sleep(20)
    await conn.probe()
    peer.lose()
    await conn.wait_for_state("reconnecting")
    await conn.ensure_connected()
    peer.probe_outcomes = ["NOT_SERVING"]
    with pytest.raises(ProbeError):
        await conn.probe()
    await conn.disconnect()
    assert told(caplog) == [
        "INFO plug: disconnected -> connecting on connect, attempt 1",
        "WARNING plug: connecting -> reconnecting on open_failed, attempt 2: try again",
        "INFO plug: reconnecting -> connected on opened, after 1.25 s",
        "DEBUG plug: stays connected on probe_passed, after 20 s",
        "WARNING plug: connected -> reconnecting on lost, attempt 1: the peer went away",
        "INFO plug: reconnecting -> connected on opened, after 0.25 s",
        "WARNING plug: stays connected on probe_failed, after 0 s: NOT_SERVING",
        "INFO plug: connected -> disconnecting on disconnect, after 0 s",
        "INFO plug: disconnecting -> disconnected on closed, after 0 s",
    ]


async def test_giving_up_is_an_error_with_all_that_is_known(caplog: pytest.LogCaptureFixture) -> None:
    """Failed attempts say one line, the end says what the plugin has said."""
    conn = connection(Peer(then=LinkError("it ended", evidence="| last words")))
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    assert told(caplog)[1:] == [
        "WARNING plug: connecting -> reconnecting on open_failed, attempt 2: it ended",
        "WARNING plug: reconnecting -> reconnecting on open_failed, attempt 3: it ended",
        "ERROR plug: reconnecting -> failed on open_failed, after 2 s: it ended\n| last words",
    ]


async def test_a_bug_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Also where the table stays in failed."""
    conn = connection(Peer(Permanent("no")))
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    conn.fire("fault", ValueError("oops"))
    assert told(caplog)[-1].startswith("ERROR plug: stays failed on fault")


async def test_the_facts_for_machines(caplog: pytest.LogCaptureFixture) -> None:
    """Plain values, under names that clash with nothing; the same names in every record."""
    conn = connection(Peer(LinkError("it ended", evidence="| last words"), delay=0.25))
    await conn.connect()
    await conn.call("a.B")
    await conn.disconnect()
    extras = [
        {key: value for key, value in vars(each).items() if key not in STANDARD}
        for each in caplog.records
        if each.name != "fsm_conn.status"
    ]
    assert extras[1] == {
        "fsm_conn_connection": "plug",
        "fsm_conn_trigger": "open_failed",
        "fsm_conn_source": "connecting",
        "fsm_conn_dest": "reconnecting",
        "fsm_conn_internal": False,
        "fsm_conn_reason": "it ended\n| last words",
        "fsm_conn_error_type": "fsm_conn.links.errors.LinkError",
        "fsm_conn_attempt": 2,
        "fsm_conn_dwell_seconds": 0.25,
    }
    assert extras[3] == {
        "fsm_conn_connection": "plug",
        "fsm_conn_method": "a.B",
        "fsm_conn_outcome": "succeeded",
        "fsm_conn_slow": False,
        "fsm_conn_reason": "",
        "fsm_conn_error_type": "",
        "fsm_conn_seconds": 0.0,
    }
    assert json.loads(json.dumps(extras)) == extras
    kinds = {type(value) for extra in extras for value in extra.values()}
    assert kinds == {str, int, float, bool}
    assert len({frozenset(extra) for extra in extras}) == 2


async def test_calls_by_how_they_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Failed ones are to be seen, others are there for who looks for them."""
    peer = Peer()
    async with connection(peer) as conn:
        await conn.call("a.B")
        said = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "no such key")
        mute = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "")
        peer.call_outcomes = [said, mute, UnknownNameError("no method 'C'")]
        for name in ("a.B", "a.B", "a.C\nforged line"):
            with pytest.raises((grpc.aio.AioRpcError, UnknownNameError)):
                await conn.call(name)
        replies = conn.stream("a.S")
        await anext(replies)
        await replies.aclose()
    assert told(caplog, "fsm_conn.call") == [
        "DEBUG plug: call of 'a.B' succeeded after 0 s",
        "WARNING plug: call of 'a.B' failed after 0 s: no such key",
        "WARNING plug: call of 'a.B' failed after 0 s: INTERNAL",
        "WARNING plug: call of 'a.C\\nforged line' failed after 0 s: no method 'C'",
        "DEBUG plug: call of 'a.S' cancelled after 0 s",
    ]


async def test_slow_calls(caplog: pytest.LogCaptureFixture) -> None:
    """A warning, if so many seconds were named."""
    peer = Peer()
    async with connection(peer, slow_after=2) as conn:
        replies = conn.stream("a.S")
        await anext(replies)
        await asyncio.sleep(3)
        assert [reply async for reply in replies] == [2, 3]
    assert told(caplog, "fsm_conn.call") == ["WARNING plug: call of 'a.S' succeeded after 3 s"]


async def test_calls_need_not_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Then they cost nothing."""
    async with connection(Peer(), calls=False) as conn:
        await conn.call("a.B")
        assert not conn._calls
    assert told(caplog, "fsm_conn.call") == []


async def test_what_nobody_reads_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    """By the level of the logger: no error is even asked for its text."""

    class Unreadable(LinkError):
        def __str__(self) -> str:
            raise AssertionError

    caplog.set_level(logging.ERROR, "fsm_conn")
    peer = Peer(Unreadable("no"))
    peer.call_outcomes = [Unreadable("no")]
    async with connection(peer) as conn:
        with pytest.raises(Unreadable):
            await conn.call("a.B")
    assert caplog.records == []
    assert conn.observer_errors == 0


@pytest.mark.parametrize("value", [0, -1])
def test_a_wrong_setting_is_refused(value: float) -> None:
    """When the observer is made, not with the first call."""
    with pytest.raises(ValueError, match="give a finite number of seconds, more than zero, or None"):
        LogObserver(slow_after=value)


@pytest.mark.parametrize("value", ["1", True, b"1", [1]])
def test_what_is_no_number_of_seconds_is_refused(value: Any) -> None:
    """Not taken for one, and named."""
    with pytest.raises(TypeError, match=r"LogObserver\(slow_after=.*\): give a number of seconds, or None"):
        LogObserver(slow_after=value)


@pytest.mark.parametrize("value", ["no", None, 0])
def test_whether_calls_are_logged_is_true_or_false(value: Any) -> None:
    """A "no" would mean yes."""
    with pytest.raises(TypeError, match=r"LogObserver\(calls=.*\): give True or False"):
        LogObserver(calls=value)
