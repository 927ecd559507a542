"""Certificates that are replaced while a server serves and clients are connected."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc.aio
import pytest
from certificates import Authority
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fsm_conn import CallOptions, ConnectFailedError, Connection, Endpoint, RetryPolicy, Tls
from fsm_conn.cluster import ClusterPolicy, ClusterPool, Recipe, ServeLimits, StaticMembers, TlsFiles, serve
from fsm_conn.links.errors import LinkError
from fsm_conn.links.grpc.channel import channel_credentials

from .conftest import CALCULATOR

LIMIT = 200.0
SAFE = CallOptions(idempotent=True, timeout=LIMIT)
ONCE = RetryPolicy(max_attempts=1)


def written(directory: Path) -> tuple[TlsFiles, TlsFiles]:
    """Certificates of a new authority, in the same files as before."""
    authority = Authority(directory)
    return authority.files("server"), authority.files("client")


async def test_new_certificates_are_taken_up(no_leaks: None, tmp_path: Path) -> None:
    """New connections are made with the new files, by the server, its health service and the clients of a pool; what
    is connected stays so, and files that cannot be used change nothing.
    """
    tls, client_tls = written(tmp_path)
    recipe = Recipe(plugin=CALCULATOR, tls=tls, client_tls=client_tls, limits=ServeLimits(announce=0.05))
    async with serve(recipe, health="127.0.0.1:0") as server:
        old = recipe.endpoint(server.address)
        members, policy = StaticMembers([server.address]), ClusterPolicy(slow_start=0.0, wait_timeout=LIMIT)
        async with ClusterPool(members, recipe, policy=policy) as cluster, Connection(old) as connected:
            assert (await cluster.call("calculator.Add", SAFE, a=1, b=1)).result == 2
            Path(tls.certificate).write_text("no certificate")
            async with Connection(old) as conn:
                assert (await conn.call("calculator.Add", a=1, b=2)).result == 3
            written(tmp_path)
            assert (await connected.call("calculator.Add", a=1, b=3)).result == 4
            async with Connection(recipe.endpoint(server.address)) as conn:
                assert (await conn.call("calculator.Add", a=1, b=4)).result == 5
            with pytest.raises(ConnectFailedError):
                await Connection(old, retry=ONCE).connect()
            assert await asked(server.health_address, recipe) == health_pb2.HealthCheckResponse.SERVING
            os.kill(server.pids[0], signal.SIGKILL)  # so that the pool has to connect again
            assert (await cluster.call("calculator.Add", SAFE, a=1, b=5)).result == 6


async def asked(address: str, recipe: Recipe) -> int:
    """What the health service says to a client with the certificates of now."""
    credentials = channel_credentials(recipe.endpoint(address).credentials)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=LIMIT, wait_for_ready=True)
        return int(reply.status)


async def test_credentials_that_cannot_be_had() -> None:
    """A function for credentials is called for each attempt to connect, which fails when the function does."""
    asked: list[int] = []

    def credentials() -> Tls:
        asked.append(1)
        raise FileNotFoundError("no such file")

    conn = Connection(
        Endpoint("127.0.0.1:1", credentials=credentials), retry=RetryPolicy(max_attempts=2, initial_delay=0.001)
    )
    with pytest.raises(ConnectFailedError, match="its credentials could not be had: no such file") as failed:
        await conn.connect()
    assert isinstance(failed.value.reason, LinkError)
    assert len(asked) == 2
