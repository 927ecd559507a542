"""The documented clients, each with what it is for, on the packaged calculator.

    python examples/clients.py

All of them are connections with other policies and a few more names; what a `Connection` can do, each can do.
"""

import asyncio
import os
import signal
import sys

from fsm_conn import (
    AutoReconnectClient,
    CallOptions,
    ConnectionState,
    HealthMonitoredClient,
    ManagedConnection,
    NotConnectedError,
    StatefulConnection,
)

CALCULATOR = [sys.executable, "-m", "fsm_conn.demo.calculator"]


async def managed() -> None:
    """Connects when a call needs it: up to three attempts, one and two seconds apart."""
    connection = ManagedConnection(CALCULATOR)
    reply = await connection.call_with_connection_check("calculator.Add", a=5, b=3)
    print("managed:", reply.result, connection.connected, connection.connection_attempts)
    await connection.disconnect()


async def monitored() -> None:
    """Asks the plugin whether it is well, and reports how it is."""
    async with HealthMonitoredClient(CALCULATOR) as client:
        for number in range(3):
            await client.call_with_health_tracking("calculator.Add", a=number, b=1)
        report = client.health_report()
        print("monitored:", report.total_calls, "calls,", report.success_rate_percent, "% answered")


async def reconnecting() -> None:
    """Is killed, and goes on: a call that may be repeated is, within its deadline."""
    client = AutoReconnectClient(CALCULATOR)
    client.max_reconnect_attempts = 8
    await client.connect()
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    options = CallOptions(idempotent=True, timeout=30)
    reply = await client.call_with_auto_reconnect("calculator.Multiply", options, a=4, b=7)
    print("reconnecting:", reply.result)
    await client.close()


async def stateful() -> None:
    """Does what it is told and nothing by itself, and tells of every change."""
    connection = StatefulConnection(CALCULATOR)
    connection.on_state_change(ConnectionState.FAILED, lambda old, new: print("stateful:", old, "->", new))
    await connection.connect()
    assert connection.pid is not None
    os.kill(connection.pid, signal.SIGKILL)
    await connection.wait_for_state(ConnectionState.FAILED)
    try:
        await connection.call_method("calculator.Add", a=1, b=1)
    except NotConnectedError as error:
        print("stateful:", error.state, "is no state to call in")
    await connection.reconnect()
    print("stateful:", connection.get_state_info())
    await connection.disconnect()


async def main() -> None:
    """One after the other."""
    for example in (managed, monitored, reconnecting, stateful):
        await example()


if __name__ == "__main__":
    asyncio.run(main())
