"""A state beside `connected` that serves: a plugin that answers slowly is `degraded`, and goes on being used.

    python examples/degraded.py

The application can do without what is optional meanwhile; what keeps the connection alive, pools included, takes it for
a connected one. A loss, a failed probe and a `disconnect` mean there what they mean in `connected`.
"""

import asyncio
import os
import signal
import sys

from fsm_conn import CallRecord, Connection, ConnectionState, LinkState, Trigger, add_state


class Degradable(Connection):
    """Degraded by a call that took too long, and connected again after some time."""

    slow = 0.1
    """Seconds that a call may take."""
    pause = 1.0
    """Seconds to be degraded."""

    states, transitions = add_state(
        Connection,
        LinkState("degraded", on_error=Trigger.LOST, serves=True, timeout="pause", on_timeout="improve"),
        beside=ConnectionState.CONNECTED,
        trigger="degrade",
        back="improve",
        back_effects="forget_probes",
    )

    while_degraded = Connection.while_connected
    """Watch the link, and the health of the peer, as ever."""

    def judge(self, call: CallRecord) -> None:
        """Be told of a call that has ended; for `on_call`."""
        if call.seconds > self.slow and self.state == ConnectionState.CONNECTED:
            self.fire("degrade")


async def main() -> None:
    async with Degradable([sys.executable, "-m", "fsm_conn.demo.calculator"], name="calculator") as conn:
        await conn.calculator.Add(a=1, b=2)
        conn.on_transition(print)
        conn.on_call(conn.judge)
        assert conn.pid is not None
        os.kill(conn.pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.5, os.kill, conn.pid, signal.SIGCONT)
        print((await conn.calculator.Add(a=1, b=2)).result)
        print(conn.state, conn.is_connected(), (await conn.calculator.Add(a=3, b=4)).result)
        await conn.wait_for_state(ConnectionState.CONNECTED)


if __name__ == "__main__":
    asyncio.run(main())
