"""Serves until it gets SIGUSR1, then stops serving and lives on."""

import asyncio
import os
import signal

import grpc.aio


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    print(f"1|1|unix|{path}|grpc|", flush=True)
    await told.wait()
    await server.stop(None)
    await asyncio.sleep(3600)


asyncio.run(main())
