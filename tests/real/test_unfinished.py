"""What a program leaves unfinished when its loop ends prints nothing and leaves nothing, with and without a close."""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Callable, Iterator

import pytest
import warm

from .conftest import CALCULATOR, is_alive

Run = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = """
import asyncio, logging
from fsm_conn import *
from fsm_conn.demo import calculator_pb2
from fsm_conn.demo.calculator_pb2_grpc import CalculatorStub

logging.disable(logging.WARNING)  # a close that cuts off what is under way says so
kept = []

def begin(work):
    # In a task whose error nobody asks for.
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    kept.append(task)

async def endless():
    yield calculator_pb2.Number(value=1)
    await asyncio.Event().wait()

async def leave(conn, pool):
{left}

async def main():
    pool = ConnectionPool({command!r}, 1, 0)
    conn = Connection({command!r})
    if {pools}:
        await pool.initialize()
        print(*(slot.conn.pid for slot in pool._leases.slots), flush=True)
    if {connects}:
        await conn.connect()
        print(conn.pid, flush=True)
    await leave(conn, pool)
    if {pools} and {closes}:
        await asyncio.wait_for(pool.close_all(timeout=0.5), 60)
    if {connects} and {closes}:
        await asyncio.wait_for(conn.disconnect(), 60)

asyncio.run(main())
"""

LEFT = {
    "nothing but a connection and a pool": """
        kept.extend((conn, pool))
    """,
    "a call": """
        begin((conn.call("calculator.Sum", endless())))
        await asyncio.sleep(0.05)
    """,
    "a call that waits": """
        begin((conn.reconnect()))
        await asyncio.sleep(0)
        begin((conn.call("calculator.Add", CallOptions(wait_for_ready=True), a=1, b=2)))
        await asyncio.sleep(0)
    """,
    "a stream that is read": """
        replies = conn.stream("calculator.Accumulate", endless())
        kept.append(replies)
        await anext(replies)
    """,
    "a stream that was never read": """
        kept.append(conn.stream("calculator.Count", limit=3))
    """,
    "a stream that was dropped": """
        await anext(conn.stream("calculator.Accumulate", endless()))
    """,
    "a pool's stream": """
        replies = pool.stream("calculator.Accumulate", endless())
        kept.append(replies)
        await anext(replies)
    """,
    "a stub's call": """
        begin((conn.stub(CalculatorStub).Sum(endless())))
        await asyncio.sleep(0.05)
    """,
    "a stub's stream": """
        replies = conn.stub(CalculatorStub).Accumulate(endless())
        kept.append(replies)
        await replies.read()
    """,
    "a lease": """
        kept.append(await pool.acquire())
    """,
    "a lease with a stream": """
        lease = await pool.acquire()
        replies = lease.stream("calculator.Accumulate", endless())
        kept.extend((lease, replies))
        await anext(replies)
    """,
    "who waits for a lease": """
        async def wait():
            async with pool.acquire():
                pass
        kept.append(await pool.acquire())
        begin((wait()))
        await asyncio.sleep(0.05)
    """,
    "observers": """
        async def slow(record):
            await asyncio.sleep(0.5)
        conn.on_transition(slow)
        conn.on_call(kept.append)
        await conn.call("calculator.Add", a=1, b=2)
        begin((conn.wait_for_state("failed")))
        begin((conn.reconnect()))
        await asyncio.sleep(0.05)
    """,
    "a connection that connects": """
        other = Connection(conn._make_link)
        kept.append(other)
        begin((other.connect()))
        await asyncio.sleep(0.2)
    """,
}


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Programs that tell of every warning."""
    with warm.started({**os.environ, "PYTHONWARNINGS": "always"}) as process:
        yield process.run


@pytest.mark.parametrize("closes", [False, True], ids=["left open", "closed"])
@pytest.mark.parametrize("left", LEFT)
def test_nothing_is_printed_and_nothing_is_left(run: Run, left: str, closes: bool) -> None:
    """Whatever it was, the program ends with status 0, without a word, and its plugins with it. It starts those that
    what is left is of.
    """
    connects, pools = "conn" in LEFT[left], "pool" in LEFT[left]
    body = textwrap.indent(textwrap.dedent(LEFT[left]), "    ")
    text = PROGRAM.format(left=body, command=list(CALCULATOR), connects=connects, pools=pools, closes=closes)
    done = run("-c", text)
    said = [line for line in done.stderr.splitlines() if "chttp2_transport" not in line]  # a note of gRPC's own
    assert (done.returncode, said) == (0, [])
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == connects + pools > 0
    assert not any(map(is_alive, pids))
