"""The calculator, which closes connections in good order: `orderly.py max_connection_age_ms=300`; at SIGTERM it stops so."""

import asyncio
import os
import signal
import sys

import grpc.aio
from lean import Calculator

from fsm_conn.demo.calculator_pb2_grpc import add_CalculatorServicer_to_server


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    options = [(f"grpc.{name}", int(value)) for name, value in (word.split("=") for word in sys.argv[1:])]
    server = grpc.aio.server(options=options)
    add_CalculatorServicer_to_server(Calculator(), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print(f"1|1|unix|{path}|grpc|", flush=True)
    await stopping.wait()
    await server.stop(60)


asyncio.run(main())
