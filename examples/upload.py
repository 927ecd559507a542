"""An upload: an activity that takes time, is tried again, and has a limit.

python examples/upload.py
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fsm_conn import Fires, State, StateMachine, Transition


class Upload(StateMachine):
    """Sent at the third attempt at the latest, or failed."""

    states = (
        State("idle", initial=True),
        State("sending", on_error="broken", timeout=30, on_timeout="expired"),
        State("done", final=True),
        State("failed", final=True),
    )
    transitions = (
        Transition("send", ("idle", "failed"), "sending", effects="count"),
        Transition("sent", "sending", "done"),
        Transition("broken", "sending", "sending", guards="may_retry", effects="count"),
        Transition("broken", "sending", "failed"),
        Transition("expired", "sending", "failed"),
        Transition("fault", "*", "failed"),
    )

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.attempts = 0

    def may_retry(self) -> bool:
        """Whether another attempt may be made."""
        return self.attempts < 3

    def count(self) -> None:
        """One more attempt begins."""
        self.attempts += 1

    async def while_sending(self) -> Annotated[str, Fires("sent")]:
        """Send it; here, as if the network broke a few times."""
        await asyncio.sleep(0.01)
        if self.attempts <= self.failures:
            raise ConnectionResetError("the network is gone")
        return "sent"


async def main() -> None:
    """One that is sent at the second attempt, and one that fails."""
    for failures in (1, 3):
        async with Upload(failures) as job:
            job.on_transition(print)
            job.fire("send")
            print(await job.wait_for_state("done", "failed"), f"after {job.attempts} attempts")


if __name__ == "__main__":
    asyncio.run(main())
