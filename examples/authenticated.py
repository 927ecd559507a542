"""One more state: a connection that logs in after every open, the first and each later one.

    python examples/authenticated.py

The plugin forgets its sessions when its process ends. A connection without the additional state would be
`connected` after a restart and yet refused; this one is `connected` only when it has logged in again.
"""

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

from fsm_conn import CallOptions, Connection, ConnectionState, LinkError, LinkState, Trigger, insert_state


class WrongTokenError(LinkError):
    """The plugin does not know our token. Trying again would not help, so it is not tried."""

    permanent = True


class Authenticated(Connection):
    """Derived from the base table: not one of its rows is copied."""

    states, transitions = insert_state(
        Connection,
        LinkState(
            "authenticating",
            on_error=Trigger.OPEN_FAILED,
            timeout="start_timeout",
            on_timeout=Trigger.OPEN_FAILED,
        ),
        trigger=Trigger.OPENED,
        before=ConnectionState.CONNECTED,
        then="authenticated",
        like=ConnectionState.CONNECTING,
    )

    def __init__(self, target: Any, token: str, **options: Any) -> None:
        super().__init__(target, **options)
        self._token = token
        self._session = ""

    async def while_authenticating(self) -> str:
        """Log in over the new link; nobody else is served until that is done. The state has a time limit."""
        import grpc

        try:
            reply = await self.call("vault.Login", token=self._token)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise WrongTokenError(f"the plugin refused our token: {error.details()}") from None
            raise LinkError(f"could not log in: {error.details()}") from error
        self._session = reply.id
        return "authenticated"

    async def read(self, name: str) -> str:
        """One of the plugin's secrets, by the session of the present link."""
        await self.ensure_connected()
        reply = await self.call("vault.Read", CallOptions(metadata={"session": self._session}, timeout=30), name=name)
        return str(reply.value)


async def main() -> None:
    token = secrets.token_hex()
    plugin = [sys.executable, str(Path(__file__).with_name("vault_plugin.py"))]
    async with Authenticated(plugin, token, env={"VAULT_TOKEN": token}, name="vault") as conn:
        conn.on_transition(print)
        print(await conn.read("first"))
        assert conn.pid is not None
        os.kill(conn.pid, signal.SIGKILL)
        await conn.wait_for_state(ConnectionState.RECONNECTING)
        print(await conn.read("second"))


if __name__ == "__main__":
    asyncio.run(main())
