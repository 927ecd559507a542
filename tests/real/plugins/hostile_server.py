"""Plugins that serve the calculator and misbehave in one way meanwhile. See hostile.py for those that never serve.

Its methods are taken by their names and answer in raw bytes, so that it starts as fast as grpc can be imported.
"""

import asyncio
import os
import signal
import subprocess
import sys

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

kind, *rest = sys.argv[1:]
EIGHT = b"\x09\x00\x00\x00\x00\x00\x00\x20\x40"
"""A `calculator.Result` of 8."""


def say(text, stream=sys.stderr):
    stream.write(text + "\n")
    stream.flush()


def flood(fd, megabytes):
    data = (b"x" * 99 + b"\n") * 655
    for _ in range(megabytes * 16):
        os.write(fd, data)


def die():
    say("out of paper")
    os._exit(7)


def stop():
    say("going to sleep")
    os.kill(os.getpid(), signal.SIGSTOP)


def unlink():
    os.unlink(os.path.join(os.environ["TMPDIR"], "s.sock"))


def flood_as_told():
    flood(int(rest[0]), int(rest[1]))


async def hang():
    await asyncio.Event().wait()


WORK = {"dies-in-call": die, "stops-in-call": stop, "deletes-its-socket": unlink, "floods-in-call": flood_as_told}
REPLIES = {"huge-reply": b"\x12" + b"x" * (5 * 1024 * 1024), "bad-reply": b"\xff\xff"}


async def add(request, context):
    if kind == "dies-between-calls":
        context.add_done_callback(lambda _: die())
    elif kind in ("no-answer", "neither"):
        await hang()
    elif kind in WORK:
        await asyncio.to_thread(WORK[kind])
    return REPLIES.get(kind, EIGHT)


async def count(request, context):
    yield EIGHT
    if kind == "dies-in-stream":
        die()
    elif kind == "stops-in-stream":
        stop()


class Silent(health.aio.HealthServicer):
    async def Check(self, request, context):
        await hang()

    async def Watch(self, request, context):
        await hang()


def handlers():
    methods = {
        "Add": grpc.unary_unary_rpc_method_handler(add),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    return grpc.method_handlers_generic_handler("calculator.Calculator", methods)


async def announce(path):
    line = f"1|1|unix|{path}|grpc|\n"
    if kind == "announces-in-pieces":
        for character in line:
            sys.stdout.write(character)
            sys.stdout.flush()
            await asyncio.sleep(0.001)
        return
    if kind == "announces-late":
        await asyncio.sleep(0.5)
    sys.stdout.write(line)
    sys.stdout.flush()


def on_sigterm():
    if kind == "ignores-sigterm":
        return
    if kind == "dies-in-close":
        say("cannot save")
        os._exit(9)
    os._exit(0)


async def main():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers(),))
    servicer = (Silent if kind in ("no-health", "neither") else health.aio.HealthServicer)()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_sigterm)
    if kind == "floods-first":
        flood_as_told()
    if kind.startswith("child"):
        # One that leaves its group is not killed with it, and keeps the pipes open for as long as it lives.
        command = [sys.executable, "-S", "-E", "-c", "import time; time.sleep(3600)"]
        say(str(subprocess.Popen(command, start_new_session=kind == "child-escapes").pid))
    await announce(path)
    if kind == "closes-stdout":
        sys.stdout.close()
        os.close(1)
    await hang()


if "TELL" in os.environ:
    say("token {API_TOKEN} cookie {PLUGIN_MAGIC_COOKIE} host {HOST_PASSWORD}".format(**os.environ))
asyncio.run(main())
