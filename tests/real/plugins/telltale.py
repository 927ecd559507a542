"""A plugin that repeats what it was given wherever it can: on stderr, as health details, and as words about services."""

import asyncio
import os
import sys

import grpc
import grpc.aio

told = " ".join(f"{name}={os.environ[name]}" for name in ("API_TOKEN", "DATABASE", "TLS_KEY", "PLUGIN_MAGIC_COOKIE"))


async def refuse(request, context):
    await context.abort(grpc.StatusCode.INTERNAL, told)


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(refuse)
    both = grpc.stream_stream_rpc_method_handler(refuse)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),
            grpc.method_handlers_generic_handler(
                "grpc.reflection.v1alpha.ServerReflection", {"ServerReflectionInfo": both}
            ),
        )
    )
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print(told, file=sys.stderr, flush=True)
    print(f"1|1|unix|{path}|grpc|", flush=True)
    print(told, flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
