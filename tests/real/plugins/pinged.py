"""A plugin without go-plugin's library whose health service knows what its argument names, ill or well, and nothing else."""

import asyncio
import os
import sys

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc


class Health(health_pb2_grpc.HealthServicer):
    def __init__(self, services):
        self.services = services

    async def Check(self, request, context):
        if request.service not in self.services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown")
        return health_pb2.HealthCheckResponse(status=self.services[request.service])


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server()
    services = {
        name: health_pb2.HealthCheckResponse.ServingStatus.Value(status) for name, status in eval(sys.argv[1]).items()
    }
    health_pb2_grpc.add_HealthServicer_to_server(Health(services), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print(f"1|1|unix|{path}|grpc|", flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
