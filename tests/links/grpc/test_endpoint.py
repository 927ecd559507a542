"""What can be said of an endpoint, each against a real server."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import itertools
import json
import re
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fsm_conn import Connection, HealthPolicy
from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.demo.calculator import Calculator
from fsm_conn.links.base import CallOptions
from fsm_conn.links.errors import LinkError
from fsm_conn.links.grpc.endpoint import EndpointLink, channel_options
from fsm_conn.links.target import Endpoint, Tls

from .server import SERVICES, serving, wired

ADD = {"a": 1, "b": 2}
NAMES = ("calculator.Calculator", reflection.SERVICE_NAME)


async def opened(endpoint: Endpoint, services: Any = SERVICES) -> EndpointLink:
    link = EndpointLink(endpoint, services=services)
    async with asyncio.timeout(200):
        await link.open()
    return link


async def add(link: EndpointLink, options: CallOptions | None = None) -> float:
    return float((await link.call("calculator.Add", None, ADD, options)).result)


class Listening(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Notes what comes with each call."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.heard.append((details.method, dict(details.invocation_metadata)))
        return await continuation(details)


class Well(health_pb2_grpc.HealthServicer):  # type: ignore[misc,unused-ignore]
    async def Check(self, request: Any, context: Any) -> Any:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def listening(listener: Listening) -> tuple[Any, str]:
    server: Any = grpc.aio.server(interceptors=[listener])
    calculator_pb2_grpc.add_CalculatorServicer_to_server(Calculator(), server)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(Well(), server)
    reflection.enable_server_reflection(NAMES, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def test_metadata_goes_with_every_call() -> None:
    """With calls by name, stubs, health and reflection; a key that a call gives itself wins."""
    listener = Listening()
    server, address = await listening(listener)
    link = await opened(Endpoint(address, metadata={"authorization": "token", "tenant": "a"}), services=())
    assert await add(link, CallOptions(metadata={"tenant": "b"})) == 3
    assert await link.probe() is True
    stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
    assert (await stub.Add(calculator_pb2.Operands(a=1, b=1))).result == 2
    assert [reply.result async for reply in link.stream("calculator.Count", None, {"limit": 1}, None)] == [1]
    await link.close()
    await server.stop(0)
    assert {heard["authorization"] for _, heard in listener.heard} == {"token"}
    kinds = {method.rpartition("/")[2] for method, _ in listener.heard}
    assert kinds >= {"Add", "Check", "Count", "ServerReflectionInfo"}
    assert [heard["tenant"] for method, heard in listener.heard if method.endswith("Add")] == ["b", "a"]


async def test_metadata_of_a_call_goes_with_the_lookup_that_it_needs() -> None:
    """A server that asks for a token before it describes its services gets the call's."""
    listener = Listening()
    server, address = await listening(listener)
    link = await opened(Endpoint(address), services=())
    assert await add(link, CallOptions(metadata={"authorization": "mine"})) == 3
    await link.close()
    await server.stop(0)
    assert {heard.get("authorization") for _, heard in listener.heard} == {"mine"}


async def test_metadata_that_is_asked_for_at_each_call() -> None:
    """For tokens that expire."""
    numbers = itertools.count(1)
    async with serving() as served:
        link = await opened(Endpoint(served.address, metadata=lambda: {"token": str(next(numbers))}))
        assert await add(link) == await add(link) == 3
        await link.close()
        assert [each["token"] for each in served.metadata] == ["1", "2"]


class TestAFunctionThatFails:
    """A service for tokens that is down for a moment."""

    async def test_the_call_raises_what_it_raised(self) -> None:
        """And nothing is sent; the next one is, when there is a token again."""
        tokens: list[Any] = [RuntimeError("no token"), RuntimeError("no token"), 3, {"token": "1"}]

        def token() -> Any:
            told = tokens.pop(0)
            if isinstance(told, Exception):
                raise told
            return told

        async with serving() as served:
            link = await opened(Endpoint(served.address, metadata=token))
            with pytest.raises(RuntimeError, match="no token"):
                await add(link)
            stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
            with pytest.raises(RuntimeError, match="no token"):
                await stub.Add(calculator_pb2.Operands(**ADD))
            with pytest.raises(TypeError, match=r"Endpoint\(metadata=int\): give a mapping"):
                await add(link)
            assert await add(link) == 3
            await link.close()
            assert [each.get("token") for each in served.metadata] == ["1"]

    async def test_the_connection_stays(self, caplog: pytest.LogCaptureFixture) -> None:
        """Health is asked for without metadata, which is told once in a row; an answer is a sign of life."""
        is_down = True

        def token() -> dict[str, str]:
            if is_down:
                raise RuntimeError("no token")
            return {"authorization": "token"}

        listener = Listening()
        server, address = await listening(listener)
        health = HealthPolicy(interval=0.01, timeout=30)
        async with asyncio.timeout(200):
            async with Connection(Endpoint(address, metadata=token), services=SERVICES, health=health) as conn:
                link = conn.link
                for _ in range(3):
                    await conn.probe()
                with pytest.raises(RuntimeError, match="no token"):
                    await conn.call("calculator.Add", **ADD)
                is_down = False
                await conn.probe()
                assert (await conn.call("calculator.Add", **ADD)).result == 3
                assert conn.link is link
        await server.stop(0)
        checks = {heard.get("authorization") for method, heard in listener.heard if method.endswith("/Check")}
        assert checks == {None, "token"}
        assert caplog.text.count("calls for health and the like go without it") == 1


def certificates(begins: float = 0.0) -> tuple[bytes, bytes]:
    """A certificate for 127.0.0.1, which is its own authority, and its key; it is valid for a day, in `begins` days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=begins)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("other.test")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


@pytest.mark.parametrize("how", ["value", "grpc's"])
async def test_mutual_tls(how: str) -> None:
    """Roots and a client's certificate; whoever has none is refused."""
    certificate, key = certificates()
    asks = grpc.ssl_server_credentials([(key, certificate)], certificate, require_client_auth=True)
    async with serving(credentials=asks) as served:
        mine: Any = Tls(roots=certificate, certificate=certificate, key=key)
        if how != "value":
            mine = grpc.ssl_channel_credentials(certificate, key, certificate)
        link = await opened(Endpoint(served.address, credentials=mine))
        assert await add(link) == 3
        await link.close()
        for other in (Tls(roots=certificate), None):
            with pytest.raises((LinkError, grpc.aio.AioRpcError)):  # a server may say so only to the first call
                other_link = await opened(Endpoint(served.address, credentials=other))
                try:
                    await other_link.channel.unary_unary("/calculator.Calculator/Add")(b"", timeout=5)
                finally:
                    await other_link.close()


async def test_large_replies() -> None:
    """6 MiB, with the option; gRPC's default is 4 MiB."""

    async def large(request: bytes, context: Any) -> bytes:
        return bytes(6 * 1024 * 1024)

    handler = grpc.method_handlers_generic_handler("big.Big", {"Get": grpc.unary_unary_rpc_method_handler(large)})
    async with serving(services=lambda server: server.add_generic_rpc_handlers((handler,))) as served:
        link = await opened(Endpoint(served.address, max_message=8 * 1024 * 1024))
        assert len(await link.channel.unary_unary("/big.Big/Get")(b"")) == 6 * 1024 * 1024
        await link.close()
        link = await opened(Endpoint(served.address))
        with pytest.raises(grpc.aio.AioRpcError, match="larger than max"):
            await link.channel.unary_unary("/big.Big/Get")(b"")
        await link.close()


@pytest.mark.parametrize(("authority", "sent"), [(None, b"localhost"), ("service.test", b"service.test")])
async def test_the_authority_of_a_socket(tmp_path: Path, authority: str | None, sent: bytes) -> None:
    """Not its path, which servers in Rust refuse."""
    async with wired(f"{tmp_path}/s.sock", authority=authority) as (link, wires):
        wire = await wires.get()
        pending = asyncio.create_task(add(link))
        await wire.streams.get()
        assert wire.headers[0][b":authority"] == sent
        pending.cancel()


async def test_compression_interceptors_and_options() -> None:
    """As grpc.aio has them."""
    seen: list[Any] = []

    class Seeing(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc,unused-ignore]
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.method)
            return await continuation(details, request)

    async with wired(compression="gzip") as (link, wires):
        wire = await wires.get()
        pending = asyncio.create_task(add(link))
        await wire.streams.get()
        assert wire.headers[0][b"grpc-encoding"] == b"gzip"
        pending.cancel()
    async with serving() as served:
        link = await opened(Endpoint(served.address, interceptors=[Seeing()]))
        assert await add(link) == 3
        await link.close()
    assert len(seen) == 1
    told = dict(channel_options(Endpoint("h:1", options={"grpc.min_reconnect_backoff_ms": 7, "x": "y"})))
    assert (told["grpc.min_reconnect_backoff_ms"], told["x"]) == (7, "y")


async def test_no_proxy_for_what_is_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is named for the outside is not asked for loopback; elsewhere, an error names the variable."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with serving() as served:
        link = await opened(Endpoint(served.address))
        assert await add(link) == 3
        await link.close()
    with pytest.raises(LinkError, match=r"cannot reach 192\.0\.2\.1:1 \(through the proxy that .* http_proxy names"):
        await opened(Endpoint("192.0.2.1:1"))


# ---- what services say to grpc.aio --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["localhost:{port}", "dns:///localhost:{port}", "ipv4:127.0.0.1:1,127.0.0.1:{port}"]
)
async def test_names_and_lists_of_addresses(address: str) -> None:
    """A name is resolved; of several addresses one that answers is enough."""
    async with serving() as served:
        link = await opened(Endpoint(address.format(port=served.address.rpartition(":")[2])))
        assert await add(link) == 3
        await link.close()


class Plugin(grpc.AuthMetadataPlugin):  # type: ignore[misc,unused-ignore]
    """A token for each call, as from a service for tokens."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)

    def __call__(self, context: Any, callback: Any) -> None:
        callback((("authorization", f"Bearer {next(self.numbers)}"),), None)


async def test_credentials_for_each_call() -> None:
    """As gRPC has them, together with its roots: `composite_channel_credentials`."""
    certificate, key = certificates()
    async with serving(credentials=grpc.ssl_server_credentials([(key, certificate)])) as served:
        roots = grpc.ssl_channel_credentials(certificate)
        calls = grpc.metadata_call_credentials(Plugin())
        link = await opened(Endpoint(served.address, credentials=grpc.composite_channel_credentials(roots, calls)))
        assert await add(link) == await add(link) == 3
        await link.close()
        assert [each["authorization"] for each in served.metadata] == ["Bearer 1", "Bearer 2"]


async def test_credentials_that_cannot_be_had_tell_nothing_of_the_peer() -> None:
    """A service for tokens that is down for a moment: calls fail as gRPC has it, and the link stays."""

    class Failing(grpc.AuthMetadataPlugin):  # type: ignore[misc,unused-ignore]
        def __call__(self, context: Any, callback: Any) -> None:
            raise RuntimeError("no token")

    certificate, key = certificates()
    async with serving(credentials=grpc.ssl_server_credentials([(key, certificate)])) as served:
        roots, calls = grpc.ssl_channel_credentials(certificate), grpc.metadata_call_credentials(Failing())
        link = await opened(Endpoint(served.address, credentials=grpc.composite_channel_credentials(roots, calls)))
        assert await link.probe() is False
        with pytest.raises(grpc.aio.AioRpcError, match="no token"):
            await add(link)
        await link.close()


async def test_the_authority_of_a_server_with_another_name() -> None:
    """TLS goes by it: the certificate is for `other.test`, and the server is called by an address."""
    certificate, key = certificates()
    async with serving(credentials=grpc.ssl_server_credentials([(key, certificate)])) as served:
        credentials = Tls(roots=certificate)
        link = await opened(Endpoint(served.address, credentials=credentials, authority="other.test"))
        assert await add(link) == 3
        await link.close()
        with pytest.raises(LinkError):
            await opened(Endpoint(served.address, credentials=credentials, authority="unknown.test"))


def service_config(**config: Any) -> dict[str, str]:
    return {"grpc.service_config": json.dumps(config)}


async def test_a_service_config_may_repeat_calls() -> None:
    """GRPC's own `retryPolicy`: two refusals are not seen by the caller."""
    refusals = [grpc.StatusCode.UNAVAILABLE] * 2

    class Refusing(Calculator):
        async def Add(self, request: Any, context: Any) -> Any:
            if refusals:
                await context.abort(refusals.pop(), "not yet")
            return await super().Add(request, context)

    server: Any = grpc.aio.server()
    calculator_pb2_grpc.add_CalculatorServicer_to_server(Refusing(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    retries = {
        "maxAttempts": 4,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = service_config(methodConfig=[{"name": [{"service": "calculator.Calculator"}], "retryPolicy": retries}])
    link = await opened(Endpoint(f"127.0.0.1:{port}", options=config))
    assert await add(link) == 3
    assert refusals == []
    await link.close()
    await server.stop(0)


async def test_a_service_config_may_spread_calls() -> None:
    """`round_robin` over a list of addresses: each server gets its share."""
    async with serving() as one, serving() as other:
        ports = [each.address.rpartition(":")[2] for each in (one, other)]
        endpoint = Endpoint(
            "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports),
            options=service_config(loadBalancingConfig=[{"round_robin": {}}]),
        )
        link = await opened(endpoint)
        async with asyncio.timeout(200):
            while not (one.metadata and other.metadata):
                await add(link)
        before = len(one.metadata), len(other.metadata)
        for _ in range(10):
            await add(link)
        assert (len(one.metadata) - before[0], len(other.metadata) - before[1]) == (5, 5)
        await link.close()


async def test_keepalive_notices_a_server_that_is_silent() -> None:
    """Its pings are not answered: the link is lost, without a call."""
    options = {
        "grpc.keepalive_time_ms": 1000,
        "grpc.http2.ping_timeout_ms": 500,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
    }
    async with wired(options=options) as (link, wires):
        wire = await wires.get()
        async with asyncio.timeout(200):
            while wire.pings < 2:  # answered by h2
                await asyncio.sleep(0.05)
            wire.is_silent = True
            assert isinstance(await link.lost(), LinkError)


async def test_gzip_is_understood_by_a_server() -> None:
    """And by us, in its replies."""
    async with serving() as served:
        for compression in ("gzip", "deflate", grpc.Compression.Gzip):
            link = await opened(Endpoint(served.address, compression=compression))
            assert await add(link) == 3
            await link.close()


def file_of(package: str, number: int) -> Any:
    """A file `types.proto`, as two teams both call theirs, each with its own service and an `Item` of its own."""
    from google.protobuf import descriptor_pb2

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="types.proto", package=package, syntax="proto3")
    item = file.message_type.add(name="Item")
    item.field.add(name="a", number=number, type=field.TYPE_DOUBLE, label=field.LABEL_OPTIONAL)
    service = file.service.add(name="Calculator")
    service.method.add(name="Add", input_type=f".{package}.Item", output_type=f".{package}.Item")
    return file


async def test_modules_whose_names_clash() -> None:
    """Two files of one name cannot be in one pool: each has a pool of its own, and its services are declared from there."""
    from google.protobuf import descriptor_pool

    services = []
    for package, number in (("calculator", 1), ("other", 2)):
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file_of(package, number))
        services.append(pool.FindServiceByName(f"{package}.Calculator"))
    async with serving() as served:
        link = await opened(Endpoint(served.address), services)
        reply = await link.call("calculator.Calculator.Add", None, {"a": 4}, None)
        assert (reply.a, reply.DESCRIPTOR.file.pool) == (4, services[0].file.pool)
        with pytest.raises(grpc.aio.AioRpcError, match="Method not found"):
            await link.call("other.Calculator.Add", None, {"a": 4}, None)
        await link.close()


def test_a_certificate_that_was_refused_is_told_in_plain_words() -> None:
    """Those of gRPC are of a library inside it."""
    from fsm_conn.links.grpc.endpoint import _hint

    endpoint = Endpoint("127.0.0.1:33725", credentials=Tls())
    assert "refused our certificate" in _hint("ipv4:127.0.0.1:33725: Unwrap failed (TSI_DATA_CORRUPTED)", endpoint)
    assert _hint("Connection refused", endpoint) == _hint("Connection refused", Endpoint("127.0.0.1:33725")) == ""


@pytest.mark.parametrize(
    ("begins", "theirs", "ours"),
    [
        (-2, "certificate has expired: OK; the peer needs a new one", "our own certificate expired on 20"),
        (2, "not yet valid: OK; perhaps the clock", "our own certificate is not valid before 20"),
    ],
)
async def test_a_certificate_out_of_its_time_is_told(begins: int, theirs: str, ours: str) -> None:
    """The server's, and our own, which the server refuses without a word that gRPC passes on."""
    (good, key), (bad, bad_key) = certificates(), certificates(begins)
    async with serving(credentials=grpc.ssl_server_credentials([(bad_key, bad)])) as served:
        with pytest.raises(LinkError, match=re.escape(theirs)):
            await EndpointLink(Endpoint(served.address, credentials=Tls(roots=bad))).open()
    asks = grpc.ssl_server_credentials([(key, good)], bad, require_client_auth=True)
    async with serving(credentials=asks) as served:
        mine = Tls(roots=good, certificate=bad, key=bad_key)
        with pytest.raises(LinkError, match=re.escape(ours)):
            await EndpointLink(Endpoint(served.address, credentials=mine)).open()


async def _http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def test_a_server_of_another_kind_is_told_with_the_remedy() -> None:
    """TLS where plain text is expected, and the other way round; another authority, another name, HTTP/1.1."""
    certificate, key = certificates()
    trusting, stranger = Tls(roots=certificate), Tls(roots=certificates()[0])
    other = await asyncio.start_server(_http1, "127.0.0.1", 0)
    async with serving() as plain, serving(credentials=grpc.ssl_server_credentials([(key, certificate)])) as secure:
        for target, hint in (
            (Endpoint(secure.address), "perhaps it expects TLS: give credentials=Tls"),
            (Endpoint(plain.address, credentials=trusting), "leave credentials= away"),
            (Endpoint(secure.address, credentials=stranger), "no authority in Tls(roots=...) vouches for"),
            (Endpoint(secure.address, credentials=trusting, authority="a.test"), "give that as authority="),
            (Endpoint(f"127.0.0.1:{other.sockets[0].getsockname()[1]}"), "another kind of server listens there"),
        ):
            with pytest.raises(LinkError, match=re.escape(hint)):
                await EndpointLink(target).open()
    other.close()
