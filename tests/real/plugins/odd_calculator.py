"""A plugin without go-plugin's library that tells of itself: what it was given, and how large its replies may be."""

import asyncio
import os
import signal
import sys

import grpc
import grpc.aio


async def told(request, context):
    name = request.decode()
    if name == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return b""
    if name == "stdin":
        return sys.stdin.buffer.read()
    if name == "metadata":
        await context.send_initial_metadata((("seen", "yes"),))
        context.set_trailing_metadata((("cost-bin", b"\x01"),))
        return repr(sorted(map(tuple, context.invocation_metadata()))).encode()
    if name == "names":
        return " ".join(sorted(os.environ)).encode()
    return os.environ.get(name, "").encode()


async def large(request, context):
    return bytes(int(request))


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    methods = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in (("Told", told), ("Large", large))}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("odd.Odd", methods),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    version = os.environ.get("PLUGIN_PROTOCOL_VERSIONS", "1").split(",")[-1]
    print(f"1|{version}|unix|{path}|grpc|", flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
