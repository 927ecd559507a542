"""Attaching and letting go, what it costs who has none of it, and that it stays where it belongs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import grpc
import pytest
from peer import Peer
from readings import Otel, Prometheus

import fsm_conn
from fsm_conn import (
    AmbiguousNameError,
    CallError,
    CallOutcome,
    CallRecord,
    ConnectAbandonedError,
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    ConnectionRecord,
    RequestError,
    telemetry,
)
from fsm_conn.telemetry import LogObserver, reading
from fsm_conn.telemetry.reading import KnownMethods

PACKAGE = Path(fsm_conn.__file__).parent


def observers() -> list[Any]:
    return [LogObserver(), Prometheus().observer, Otel().observer]


@pytest.fixture(params=range(3), ids=["logs", "prometheus", "otel"])
def observer(request: pytest.FixtureRequest) -> Any:
    return observers()[request.param]


async def test_a_connection_that_is_dropped_is_freed(observer: Any) -> None:
    """By reference counting alone, whatever it has lived through."""
    conn = Connection(Peer(), name="plug")
    observer.attach(conn)
    async with conn:
        await conn.call("a.B")
    await asyncio.sleep(0)
    gc.disable()
    try:
        alive = weakref.ref(conn)
        del conn
        assert alive() is None
        assert observer._watches == {}
    finally:
        gc.enable()


async def test_a_connection_lives_on_when_its_observer_is_dropped() -> None:
    """And is observed by what is left of it."""
    conn = Connection(Peer(), name="plug")
    LogObserver().attach(conn)
    async with conn:
        await conn.call("a.B")
    assert conn.observer_errors == 0


async def test_attaching_twice_is_attaching_once(observer: Any) -> None:
    """And gives the same way out."""
    conn = Connection(Peer(), name="plug")
    assert observer.attach(conn) is observer.attach(conn)
    assert len(conn._fsm_observers._callbacks) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("thing", [None, "plug", Connection])
def test_only_a_connection_can_be_attached(observer: Any, thing: Any) -> None:
    """Refused with the name of what was given it, and nothing is kept."""
    with pytest.raises(TypeError, match=rf"{type(observer).__name__}\.attach\(.*\): give a Connection"):
        observer.attach(thing)
    assert observer._watches == {}


async def test_all_of_them_at_once_and_none_is_in_the_way() -> None:
    """Nobody raises anything in a life with everything in it."""
    peer = Peer()
    conn = Connection(peer, name="plug")
    detaching = [observer.attach(conn) for observer in observers()]
    async with conn:
        await conn.call("a.B")
        await conn.probe()
        peer.lose()
        await conn.wait_for_state("reconnecting")
        await conn.ensure_connected()
    for detach in detaching:
        detach()
    assert conn.observer_errors == 0
    assert conn._fsm_observers._callbacks == {}  # type: ignore[union-attr]


# --- what records mean ------------------------------------------------------------------------------------------


def call(method: Any, error: BaseException | None = None) -> CallRecord:
    outcome = CallOutcome.SUCCEEDED if error is None else CallOutcome.FAILED
    return CallRecord(method, outcome, error, 0.0, 0.0)


def test_which_errors_leave_a_name_unknown() -> None:
    """Those by which one cannot tell whether there is such a method."""
    methods = KnownMethods("unknown")
    unimplemented = grpc.aio.AioRpcError(grpc.StatusCode.UNIMPLEMENTED, grpc.aio.Metadata(), grpc.aio.Metadata())
    nothing_was_sent = (
        ConnectionLostError("not sent", maybe_executed=False),
        ConnectFailedError("gave up", reason=None, attempts=1),
        ConnectAbandonedError("disconnected"),
        CallError("the peer could not be asked"),
        asyncio.CancelledError(),
        GeneratorExit(),
    )
    for error in (AmbiguousNameError("which?"), RequestError("two requests"), unimplemented, *nothing_was_sent):
        assert methods.named(call("a.B", error)) == "unknown"
    assert methods.named(call(["not", "a", "name"], TypeError("unhashable"))) == "['not', 'a', 'name']"
    assert methods.named(call("a.Sent", ConnectionLostError("lost", maybe_executed=True))) == "a.Sent"
    assert methods.named(call("a.B", OSError("broken"))) == "a.B"
    assert methods.named(call("a.B", RequestError("no such field"))) == "a.B"


def test_what_happens_within_a_state_decides_no_attempt() -> None:
    """A subclass may have rows in `connecting` that do not leave it."""
    within = ConnectionRecord("progress", "connecting", "connecting", True, None, 0.0, 0.0, attempt=1)
    assert reading.attempt_outcome(within) is None
    assert reading.attempt_outcome(within._replace(internal=False)) is reading.ConnectOutcome.ABANDONED


def test_the_type_of_an_error_is_its_class_by_its_full_name() -> None:
    """Built-in ones without a module; a `code` that is no status is none."""

    class Strange(Exception):
        code = 7

    assert reading.error_type(ValueError()) == "ValueError"
    assert reading.error_type(Strange()).endswith(".Strange")
    assert reading.status_code(Strange()) is None
    assert reading.status_code(None) == "OK"


# --- what it costs ----------------------------------------------------------------------------------------------


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=200).stdout


def test_it_costs_nothing_when_absent() -> None:
    """Neither the package nor the names of this part import a library; logs need none."""
    code = (
        "import sys, fsm_conn; fsm_conn.Connection(['x']); early = 'fsm_conn.telemetry' in sys.modules;"
        "import fsm_conn.telemetry; dir(fsm_conn.telemetry); fsm_conn.telemetry.LogObserver();"
        "print(early, [name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus', 'grpc'))])"
    )
    assert run(code) == "False []\n"


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [("OpenTelemetry", "opentelemetry", "opentelemetry"), ("PrometheusMetrics", "prometheus_client", "prometheus")],
)
def test_a_missing_library_is_named_with_its_extra(name: str, library: str, extra: str) -> None:
    """When the observer is asked for, in words that can be pasted."""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"try:\n    from fsm_conn.telemetry import {name}\n"
        "except ImportError as error:\n    print(error)"
    )
    assert run(code).startswith(f"{name} needs '{library}', which is not installed: pip install 'fsm_conn[{extra}]'")


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match=r"module 'fsm_conn\.telemetry' has no attribute 'Statsd'"):
        telemetry.Statsd
    assert set(telemetry.__all__) <= set(dir(telemetry))


def test_everything_public_has_a_docstring() -> None:
    """Classes, and the methods of each."""
    for name in telemetry.__all__:
        thing = getattr(telemetry, name)
        public = [value for key, value in vars(thing).items() if callable(value) and not key.startswith("_")]
        assert all((each.__doc__ or "").strip() for each in (thing, *public)), name
