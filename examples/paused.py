"""A state beside `connected`: a connection that can be paused, and keeps its link meanwhile.

    python examples/paused.py

While it is paused nobody is served: calls that may wait do, all others are refused. The plugin is watched all the time,
so a loss is made good as ever, and what was paused is then connected.
"""

import asyncio
import os
import signal
import sys
from typing import Annotated

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionState,
    Fires,
    LinkState,
    NotConnectedError,
    Trigger,
    add_state,
)


class Pausable(Connection):
    """Derived from the base table: a loss and a `disconnect` mean in `paused` what they mean in `connected`.

    It is in order to stay paused for ever, so the state is final: nothing but the application leads back.
    """

    states, transitions = add_state(
        Connection,
        LinkState("paused", on_error=Trigger.LOST, final=True),
        beside=ConnectionState.CONNECTED,
        trigger="pause",
        back="resume",
        back_effects="forget_probes",
    )

    async def while_paused(self) -> Annotated[str, Fires(Trigger.PROBE_PASSED, Trigger.PROBE_FAILED)]:
        """Watch the link, and the health of the peer: what is true of `connected` is true here."""
        return await self.while_connected()

    def pause(self) -> None:
        """Serve nobody from now on; for a `connected` one.

        Raises:
            IllegalTriggerError: it is not connected.
        """
        self.fire("pause")

    def resume(self) -> None:
        """Serve again; nothing is to be done if the link was replaced meanwhile, for then it is not paused any more."""
        if self.state == "paused":
            self.fire("resume")


async def main() -> None:
    async with Pausable([sys.executable, "-m", "fsm_conn.demo.calculator"], name="calculator") as conn:
        conn.on_transition(print)
        conn.pause()
        try:
            await conn.calculator.Add(a=1, b=2)
        except NotConnectedError as error:
            print(error)
        waiting = asyncio.create_task(conn.call("calculator.Add", CallOptions(wait_for_ready=True), a=1, b=2))
        await asyncio.sleep(0)
        conn.resume()
        print((await waiting).result)

        conn.pause()
        assert conn.pid is not None
        os.kill(conn.pid, signal.SIGKILL)
        await conn.wait_for_state(ConnectionState.CONNECTED)
        print((await conn.calculator.Add(a=3, b=4)).result)


if __name__ == "__main__":
    asyncio.run(main())
