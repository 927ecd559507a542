"""Not a server of grpc's but one on h2, which answers every call with the `:authority` that it came with."""

import asyncio
import os

from tests.links.grpc.server import Wire


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    ended = asyncio.Event()
    serving = set()

    async def connected(reader, writer):
        wire = Wire(reader, writer)
        serving.add(asyncio.create_task(wire.serve()))
        while True:
            stream = await wire.streams.get()
            headers = wire.headers[stream // 2]
            wire.answer(stream, headers[b":authority"])
            if headers[b":path"] == b"/plugin.GRPCController/Shutdown":
                ended.set()

    await asyncio.start_unix_server(connected, path)
    print(f"1|1|unix|{path}|grpc|", flush=True)
    await ended.wait()


asyncio.run(main())
