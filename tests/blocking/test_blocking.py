"""Synchronous code: connections and pools without `await`, from any thread, on one background loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

pytest.importorskip("anyio")

from fsm_conn import (
    ConnectFailedError,
    IllegalTriggerError,
    LeaseError,
    NotConnectedError,
    PoolClosed,
    PoolTimeoutError,
    RequestError,
    RetryPolicy,
)
from fsm_conn.blocking import Connection, ConnectionPool
from fsm_conn.demo.calculator_pb2 import Limit, Operands
from fsm_conn.demo.calculator_pb2_grpc import CalculatorStub

PLUGIN = [sys.executable, "-m", "fsm_conn.demo.calculator"]


@pytest.fixture(scope="module")
def conn() -> Iterator[Connection]:
    with Connection(PLUGIN, name="calculator", start_timeout=200) as conn:
        yield conn


@pytest.fixture(scope="module")
def pool() -> Iterator[ConnectionPool]:
    with ConnectionPool(PLUGIN, 2, 0, start_timeout=200) as pool:
        yield pool


def test_calls_by_name_and_by_attribute(conn: Connection) -> None:
    """The reply is there when the call returns."""
    assert conn.call("calculator.Add", a=5, b=3).result == 8
    assert conn.calculator.Multiply(a=4, b=7).result == 28
    assert (conn.state, conn.connected, conn.name) == ("connected", True, "calculator")
    assert conn.probe(30) >= 0
    assert repr(conn).startswith("<blocking <Connection 'calculator' connected")


def test_a_compiled_stub_blocks_too(conn: Connection, pool: ConnectionPool) -> None:
    """Its methods return the reply, or an iterator of replies, and take gRPC's own options."""
    stub = conn.stub(CalculatorStub)
    assert stub.Add(Operands(a=5, b=3), timeout=200).result == 8
    assert [reply.result for reply in stub.Count(Limit(limit=3))] == [1, 2, 3]
    assert "Add" in dir(stub)
    with pytest.raises(grpc.RpcError, match="division by zero"):
        stub.Divide(Operands(a=5, b=0))
    with pool.acquire(timeout=200) as lease:
        assert lease.stub(CalculatorStub).Add(Operands(a=5, b=3)).result == 8


def test_errors_advise_what_synchronous_code_can_do() -> None:
    """No `await`, and no `async with`."""
    with pytest.raises(PoolClosed, match=r"'pool.initialize\(\)' first, or use 'with'"):
        ConnectionPool(PLUGIN).call("calculator.Add")
    with pytest.raises(NotConnectedError, match=r"call 'conn.connect\(\)' first, or use 'with'"):
        Connection(PLUGIN).call("calculator.Add")


def test_a_stream_by_attribute_is_told_what_to_write(conn: Connection) -> None:
    """The error names the method that works here, and says that `async for` is for async code."""
    with pytest.raises(RequestError, match=r"use stream\(\), or in async code"):
        conn.calculator.Count(limit=3)


def test_a_stream_is_an_iterator_and_may_be_left_early(conn: Connection) -> None:
    """All of it, and a part of it; what is not read is given up, and calls go on."""
    assert [reply.result for reply in conn.stream("calculator.Count", limit=3)] == [1, 2, 3]
    for reply in conn.stream("calculator.Count", limit=1000):
        if reply.result == 2:
            break
    assert conn.calculator.Add(a=1, b=1).result == 2


def test_a_subscription_is_an_iterator_too(conn: Connection) -> None:
    """As a stream, which goes on after a reconnect."""
    assert [reply.result for reply in conn.subscribe("calculator.Count", limit=3)] == [1, 2, 3]


def test_completion_shows_what_the_plugin_offers(conn: Connection) -> None:
    """At the first look: it is asked in the background, and waited for."""
    names = dir(conn)
    assert {"calculator", "call", "subscribe"} < set(names)
    assert names.index("subscribe") < names.index("__init__")
    assert {"Add", "Count"} < set(dir(conn.calculator))


def test_a_killed_plugin_comes_back(conn: Connection) -> None:
    """In the background, while this thread does nothing; observers are told there."""
    told: list[str] = []
    stop = conn.on_transition(lambda record: told.append(f"{record.dest} in {threading.current_thread().name}"))
    pid = conn.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    conn.wait_for_state("reconnecting", "renewing", "connecting", timeout=60)
    assert conn.wait_for_state("connected", timeout=60) == "connected"
    stop()
    assert told
    assert {line.partition(" in ")[2] for line in told} == {"fsm_conn.blocking"}
    assert conn.pid != pid
    assert any(record.dest == "reconnecting" for record in conn.history)
    assert conn.reason is not None


def test_waiting_has_a_limit(conn: Connection) -> None:
    """A state that does not come is waited for as long as was said."""
    with pytest.raises(TimeoutError):
        conn.wait_for_state("failed", timeout=0.05)
    with pytest.raises(IllegalTriggerError):
        conn.fire("no_such_trigger")


def test_errors_are_those_of_the_async_connection() -> None:
    """With the same messages; and the connection can be used again."""
    lost = Connection(["no-such-command-anywhere"], retry=RetryPolicy(max_attempts=1))
    with pytest.raises(NotConnectedError):
        lost.call("a.B")
    with pytest.raises(ConnectFailedError, match="no-such-command-anywhere"):
        lost.connect()
    lost.close()
    assert lost.state == "disconnected"


def test_many_threads_share_one_pool(pool: ConnectionPool) -> None:
    """Each lease has one holder; all are served."""
    with ThreadPoolExecutor(8) as threads:

        def work(number: int) -> float:
            with pool.acquire(timeout=60) as client:
                return float(client.calculator.Add(a=number, b=1).result)

        assert list(threads.map(work, range(40))) == [number + 1.0 for number in range(40)]
    assert pool.call("calculator.Add", a=2, b=2).result == 4
    assert [reply.result for reply in pool.stream("calculator.Count", limit=2)] == [1, 2]
    assert pool.get_pool_stats()["leased"] == 0


def test_a_lease_ends_with_its_block(pool: ConnectionPool) -> None:
    """Also when the block raises; afterwards it is refused."""
    lease = pool.acquire(timeout=200)
    with pytest.raises(ZeroDivisionError), lease:
        1 / 0
    with pytest.raises(LeaseError, match="not held"):
        lease.call("calculator.Add", a=1, b=1)
    with pool.acquire(), pool.acquire(), pytest.raises(PoolTimeoutError), pool.acquire(timeout=0.05):
        pass
    assert pool.get_pool_stats()["leased"] == 0


def test_an_observer_that_would_wait_for_its_own_loop_is_refused(conn: Connection) -> None:
    """At once, with what to do; it would wait for ever."""
    refusals: list[BaseException] = []

    def impatient(record: object) -> None:
        try:
            conn.call("calculator.Add", a=1, b=1)
        except RuntimeError as error:
            refusals.append(error)

    stop = conn.on_transition(impatient)
    conn.reconnect()
    stop()
    assert refusals
    assert "hand the work to another thread" in str(refusals[0])


def run(code: str, *, interrupt_at: str | None = None) -> tuple[int, str, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if interrupt_at is not None:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == interrupt_at
        time.sleep(0.2)  # until it waits; sooner is as good, for the signal is kept
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_what_is_left_open_is_closed_when_the_interpreter_ends() -> None:
    """Without a word, and without a process left."""
    code = """
    import sys
    from fsm_conn.blocking import Connection
    conn = Connection([sys.executable, "-m", "fsm_conn.demo.calculator"], start_timeout=200)
    conn.connect()
    print(conn.pid)
    """
    status, out, err = run(code)
    assert (status, err) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(out), 0)


def test_ctrl_c_ends_a_wait_at_once() -> None:
    """A wait that would take an hour; what was waited for is cancelled, and the program ends as Python's do."""
    code = """
    import signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from fsm_conn.blocking import Connection
    with Connection([sys.executable, "-m", "fsm_conn.demo.calculator"], start_timeout=200) as conn:
        try:
            print("waiting", flush=True)
            conn.wait_for_state("failed", timeout=3600)
        except KeyboardInterrupt:
            print("interrupted", conn.calculator.Add(a=1, b=1).result)
    """
    assert run(code, interrupt_at="waiting") == (0, "interrupted 2.0\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_refused_what_its_parent_made() -> None:
    """It says so, instead of waiting for a thread that the child does not have."""
    code = """
    import os, sys
    from fsm_conn.blocking import Connection
    conn = Connection([sys.executable])
    pid = os.fork()
    if pid == 0:
        try:
            conn.connect()
        except RuntimeError as error:
            print("forked" in str(error), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    """
    status, out, err = run(code)
    assert (status, out) == (0, "True\n"), err


@pytest.mark.once
def test_without_the_library_the_extra_is_named() -> None:
    """The error says what to install."""
    code = """
    import sys
    sys.modules["anyio"] = sys.modules["anyio.from_thread"] = None
    from fsm_conn.blocking import Connection
    try:
        Connection(["x"])
    except ImportError as error:
        print(error)
    """
    assert "pip install 'fsm_conn[blocking]'" in run(code)[1]
