"""A plugin without go-plugin's library that tells of itself: what it was given, and how large its replies may be."""

import asyncio
import os
import signal
import sys
from contextlib import suppress

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


def listens(server):
    """As go-plugin's servers choose where: a port on Windows, a socket elsewhere."""
    if sys.argv[1:] == ["tcp"]:
        for port in range(int(os.environ["PLUGIN_MIN_PORT"]), int(os.environ["PLUGIN_MAX_PORT"]) + 1):
            with suppress(RuntimeError):
                return f"tcp|127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
        sys.exit("no port is free")
    path = os.path.join(os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or os.environ["TMPDIR"], "s.sock")
    server.add_insecure_port(f"unix:{path}")
    if group := os.environ.get("PLUGIN_UNIX_SOCKET_GROUP"):
        os.chown(path, -1, int(group))
        os.chmod(path, 0o660)
    return f"unix|{path}"


async def main():
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    methods = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in (("Told", told), ("Large", large))}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("odd.Odd", methods),))
    where = listens(server)
    await server.start()
    version = os.environ.get("PLUGIN_PROTOCOL_VERSIONS", "1").split(",")[-1]
    multiplexes = "|true" if os.environ.get("PLUGIN_MULTIPLEX_GRPC") else ""  # whatever the variable says
    print(f"1|{version}|{where}|grpc|{multiplexes}", flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
