"""Serves for a moment, then stops serving and lives on."""

import asyncio
import os

import grpc.aio


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print(f"1|1|unix|{path}|grpc|", flush=True)
    await asyncio.sleep(0.7)
    await server.stop(None)
    await asyncio.sleep(3600)


asyncio.run(main())
