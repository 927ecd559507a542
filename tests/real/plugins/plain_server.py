"""The calculator as a plain gRPC server, no plugin: at the address that it is given, which it prints when it serves."""

import asyncio
import sys

import grpc.aio
from lean import Calculator

from fsm_conn.demo.calculator_pb2_grpc import add_CalculatorServicer_to_server


async def main(address: str) -> None:
    server = grpc.aio.server()
    add_CalculatorServicer_to_server(Calculator(), server)
    server.add_insecure_port(address)
    await server.start()
    print(address, flush=True)
    await server.wait_for_termination()


asyncio.run(main(sys.argv[1]))
