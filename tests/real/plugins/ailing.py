"""A plugin with the health service that its argument asks for: `none`, or `watch`, which stops serving on SIGUSR1."""

import asyncio
import os
import signal
import sys

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server()
    if sys.argv[1] == "watch":
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        fall_ill = servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: asyncio.ensure_future(fall_ill))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print(f"1|1|unix|{path}|grpc|", flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
