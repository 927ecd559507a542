"""A plugin without go-plugin's library that says something in each way there is: on its pipes, and by the stdio service."""

import asyncio
import json
import os
import sys

import grpc
import grpc.aio
from pyvider.rpcplugin.protocol.grpc_stdio_pb2 import StdioData
from pyvider.rpcplugin.protocol.grpc_stdio_pb2_grpc import GRPCStdioServicer, add_GRPCStdioServicer_to_server


class Stdio(GRPCStdioServicer):
    async def StreamStdio(self, request, context):
        yield StdioData(channel=StdioData.STDOUT, data=b"streamed out\n")
        yield StdioData(channel=StdioData.STDERR, data=b"2024-01-01T00:00:00.000Z [ERROR] streamed err\n")
        await asyncio.Event().wait()


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server()
    add_GRPCStdioServicer_to_server(Stdio(), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print(f"1|1|unix|{path}|grpc|", flush=True)
    print("printed out", flush=True)
    print(
        json.dumps({"@level": "warn", "@message": "printed err", "@module": "loud", "n": 1}),
        file=sys.stderr,
        flush=True,
    )
    await asyncio.sleep(3600)


asyncio.run(main())
