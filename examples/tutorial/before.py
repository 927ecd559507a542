"""A connection that logs in after every open, patiently. It has a bug; see README.md."""

import asyncio

from fsm_conn import Connection, ConnectionState, LinkError, Trigger, insert_state


class PatientLogin(Connection):
    """Connected only when it is logged in."""

    states, transitions = insert_state(
        Connection,
        "logging_in",
        trigger=Trigger.OPENED,
        before=ConnectionState.CONNECTED,
        then="logged_in",
        like=ConnectionState.CONNECTING,
    )

    async def while_logging_in(self) -> str:
        """Log in. The server is slow at times, so an attempt without an answer is made again."""
        for _ in range(3):
            try:
                await asyncio.wait_for(self.call("session.Login", user="me"), 2)
                return "logged_in"
            except (TimeoutError, asyncio.CancelledError):
                await asyncio.sleep(1)
        raise LinkError("could not log in: three attempts without an answer")
