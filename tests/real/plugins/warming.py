"""The calculator, which says NOT_SERVING until it gets SIGUSR1."""

import asyncio
import os
import signal

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from lean import Calculator

from fsm_conn.demo.calculator_pb2_grpc import add_CalculatorServicer_to_server


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    add_CalculatorServicer_to_server(Calculator(), server)
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    ready = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ready.set)
    print(f"1|1|unix|{path}|grpc|", flush=True)
    await ready.wait()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    await server.wait_for_termination()


asyncio.run(main())
