"""The plugin is killed, and the host goes on."""

import asyncio
import logging
import os
import signal
import sys

import grpc
from host import GREETER

from fsm_conn import CallOptions, Connection, ConnectionLostError


async def main() -> None:
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("fsm_conn.status").setLevel(logging.INFO)
    safe_to_repeat = CallOptions(idempotent=True, timeout=30)

    async with Connection(GREETER, name="greeter") as conn:
        assert conn.pid is not None
        os.kill(conn.pid, signal.SIGKILL)
        try:
            reply = await conn.call("greeter.Greet", safe_to_repeat, name="Ada")
            print(reply.text)
        except ConnectionLostError as error:
            print("lost; executed, perhaps:", error.maybe_executed)
        except grpc.aio.AioRpcError as error:
            print("the plugin's own answer:", error.code(), error.details())


if __name__ == "__main__":
    asyncio.run(main())
