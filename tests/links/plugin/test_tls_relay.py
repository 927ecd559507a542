"""The relay on servers of Python's own `ssl`: whom it believes, what it passes on, and what it leaves behind."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_conn._util import workers
from fsm_conn.links.errors import LinkError
from fsm_conn.links.plugin import tls_relay as tlsrelay
from fsm_conn.links.plugin.client import PluginClient
from fsm_conn.links.plugin.tls_relay import LOCALHOST, MOST, Credentials, TlsRelay, is_beyond_grpc
from fsm_conn.links.target import Plugin

QUICK = 200.0
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
MEGABYTE = 1024 * 1024
PLENTY = 32 * MEGABYTE
HELD_BACK = 4 * MEGABYTE
"""More than sockets, TLS and the relay hold together, and much less than is sent."""

KEYS: dict[str, tuple[Callable[[], Any], bool]] = {
    "rsa": (lambda: rsa.generate_private_key(65537, 2048), False),
    "p256": (lambda: ec.generate_private_key(ec.SECP256R1()), False),
    "p384": (lambda: ec.generate_private_key(ec.SECP384R1()), False),
    "p521": (lambda: ec.generate_private_key(ec.SECP521R1()), True),
    "ed25519": (ed25519.Ed25519PrivateKey.generate, True),
}


@attrs.frozen
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def identity(
    kind: str = "p521",
    *,
    name: str = "localhost",
    ends: datetime.datetime = NOW + DAY,
    signed_by: Identity | None = None,
) -> Identity:
    """A certificate like those of go-plugin: it signs itself, and is an authority."""
    key = KEYS[kind][0]()
    # One that is signed by another has to have another subject, or else it seems to sign itself.
    common = f"{name}, signed" if signed_by else name
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by.certificate.subject if signed_by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 2 * DAY)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    algorithm = None if kind == "ed25519" else hashes.SHA256()
    return Identity(builder.sign(signed_by.key if signed_by else key, algorithm), key)


SERVER = identity()
CLIENT = identity("p384", name="fsm_conn")
GOOD = Credentials(server=SERVER.der, client=CLIENT.pem, client_key=CLIENT.key_pem)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def private() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="r-") as directory:
        yield Path(directory)


def server_context(who: Identity, directory: Path, client: Identity | None = CLIENT) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = directory / "server.pem"
    file.write_text(who.pem + who.key_pem)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    if client is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client.der)
    return context


@asynccontextmanager
async def serving(
    directory: Path, handler: Handler = echo, who: Identity = SERVER, client: Identity | None = CLIENT
) -> AsyncIterator[str]:
    """A server with TLS on a unix socket, whose path this yields. Its connections are ended with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        plain = writer.transport  # asyncio's TLS may have forgotten it in the end
        with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
            await writer.start_tls(context)
            await handler(reader, writer)
        plain.abort()
        writer.close()
        tasks.discard(task)

    path = str(directory / "server.sock")
    context = server_context(who, directory, client)
    server = await asyncio.start_unix_server(handle, path)
    try:
        yield path
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def relay_to(path: str, credentials: Credentials = GOOD) -> TlsRelay:
    async with asyncio.timeout(QUICK):
        return await TlsRelay.open("unix", path, credentials)


async def connect(relay: TlsRelay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(relay.target.removeprefix("unix:"))


async def caller(relay: TlsRelay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    pair = await connect(relay)
    async with asyncio.timeout(QUICK):
        await relay.join()
    return pair


def descriptors() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(found)


def own_directories(private: Path) -> list[Path]:
    """Those that this process has made there for itself."""
    return list(private.glob(f"fsm-{os.getpid()}-*"))


@pytest.fixture
async def no_leaks(private: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The test leaves no descriptor, no task, and no file of the relay behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    await workers.run("spawner", int)
    before, tasks = Counter(descriptors()), asyncio.all_tasks()

    def more() -> list[object]:
        now = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
        return [*(Counter(descriptors()) - before), *(now - tasks)]

    yield
    end = time.monotonic() + QUICK
    while left := more():
        assert time.monotonic() < end, f"left behind: {left}"
        await asyncio.sleep(0.005)
    left = {path.name for path in private.iterdir()} - {"server.sock", "server.pem"}
    assert not left


pytestmark = pytest.mark.usefixtures("no_leaks")


class TestWhatGrpcRefuses:
    @pytest.mark.parametrize("kind", KEYS)
    async def test_as_foretold(self, kind: str, private: Path) -> None:
        """GRPC refuses exactly the kinds of keys that are foretold: no other plugin gets a relay, and none lacks one."""
        who = identity(kind)
        shaken = asyncio.Event()

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            shaken.set()
            await reader.read()

        async with serving(private, note, who, client=None) as path:
            channel = grpc.aio.secure_channel(
                f"unix:{path}",
                grpc.ssl_channel_credentials(who.pem.encode()),
                options=[("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)],
            )
            waiting = [asyncio.create_task(shaken.wait()), asyncio.create_task(failing(channel))]
            async with asyncio.timeout(QUICK):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused = not shaken.is_set()
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            await channel.close()
        assert refused == is_beyond_grpc(who.der) == KEYS[kind][1]

    @pytest.mark.parametrize(
        "garbage",
        [b"", b"\0", b"0\x03\x02\x01", SERVER.der[:-1], SERVER.der + b"x"],
        ids=["nothing", "a zero", "a number", "cut off", "and more"],
    )
    def test_no_certificate(self, garbage: bytes) -> None:
        """What is no certificate is refused, and nothing else happens."""
        with pytest.raises(ValueError, match=r"\w"):
            is_beyond_grpc(garbage)

    @given(st.binary(max_size=200), st.integers(0, len(SERVER.der) - 1))
    def test_anything(self, garbage: bytes, where: int) -> None:
        """A certificate with any bytes anywhere is an answer or a `ValueError`."""
        with suppress(ValueError):
            assert is_beyond_grpc(SERVER.der[:where] + garbage + SERVER.der[where + len(garbage) :]) in (True, False)


def resolver_that_is_asked(*known: str) -> Callable[..., Any]:
    """`getaddrinfo` for literal addresses alone, which need no resolver."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        assert host in known, f"{host} was looked up"
        return real(host, *arguments, **options)

    return getaddrinfo


async def failing(channel: grpc.aio.Channel) -> None:
    while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
        await channel.wait_for_state_change(state)


class TestWhomItBelieves:
    async def test_the_announced_one(self, private: Path) -> None:
        """The server that was announced is believed, and believes this side."""
        async with serving(private) as path:
            relay = await relay_to(path)
            reader, writer = await caller(relay)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await relay.close()

    async def test_protocol(self, private: Path) -> None:
        """HTTP/2 is agreed upon: newer gRPC servers insist on that."""
        agreed: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            agreed.set_result(writer.get_extra_info("ssl_object").selected_alpn_protocol())
            await reader.read()

        async with serving(private, note) as path:
            relay = await relay_to(path)
            async with asyncio.timeout(QUICK):
                assert await agreed == "h2"
            await relay.close()

    @pytest.mark.parametrize(
        ("who", "words"),
        [
            pytest.param(identity(), "verify failed", id="another with the same name"),
            pytest.param(identity(signed_by=SERVER), "not the one that was announced", id="signed by it"),
        ],
    )
    async def test_another_one(self, who: Identity, words: str, private: Path) -> None:
        """Another certificate is refused, even one that the announced one has signed."""
        async with serving(private, who=who) as path:
            with pytest.raises(ssl.SSLError, match=words):
                await relay_to(path)

    @pytest.mark.parametrize(
        ("who", "words"),
        [
            pytest.param(identity(name="example.org"), "Hostname mismatch", id="name"),
            pytest.param(identity(ends=NOW - DAY), "expired", id="expired"),
        ],
    )
    async def test_announced_but_wrong(self, who: Identity, words: str, private: Path) -> None:
        """The announced certificate must be for localhost, and valid today, as gRPC would have it."""
        async with serving(private, who=who) as path:
            with pytest.raises(ssl.SSLError, match=words):
                await relay_to(path, attrs.evolve(GOOD, server=who.der))

    async def test_signed_by_another(self, private: Path) -> None:
        """The announced certificate is trusted for itself, whoever signed it."""
        who = identity(signed_by=SERVER)
        async with serving(private, who=who) as path:
            await (await relay_to(path, attrs.evolve(GOOD, server=who.der))).close()

    @pytest.mark.parametrize("client", [None, identity("p384")])
    async def test_server_that_wants_another_client(self, client: Identity | None, private: Path) -> None:
        """A server that does not believe this side ends the connection, and the relay knows why."""
        wrong = Credentials(
            server=SERVER.der, client=client.pem if client else "", client_key=client.key_pem if client else ""
        )
        async with serving(private) as path:
            relay = await relay_to(path, wrong)
            reader, writer = await caller(relay)
            assert await ended(reader)
            writer.close()
            async with asyncio.timeout(QUICK):
                while relay.fault is None:
                    await asyncio.sleep(0.005)
            await relay.close()

    async def test_no_tls_at_all(self, private: Path) -> None:
        """A server without TLS, and one that hangs up, are errors of the connection."""
        for words in (b"HTTP/1.1 200 OK\r\n\r\n", b""):

            async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: bytes = words) -> None:
                writer.write(words)
                writer.close()

            path = str(private / "server.sock")
            server = await asyncio.start_unix_server(say, path)
            with pytest.raises(OSError, match=r"\w"):
                await relay_to(path)
            server.close()
            await server.wait_closed()

    async def test_no_server(self, private: Path) -> None:
        """A server that is not there is an error of the connection."""
        with pytest.raises(FileNotFoundError):
            await relay_to(str(private / "nobody.sock"))

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
    async def test_over_tcp(self, host: str, private: Path) -> None:
        """A server may listen on TCP, too."""
        bare = host.strip("[]")
        try:
            server = await asyncio.start_server(echo, bare, 0, ssl=server_context(SERVER, private))
        except OSError:
            pytest.skip(f"this machine has no {bare}")
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(QUICK):
            relay = await TlsRelay.open("tcp", f"{host}:{port}", GOOD)
            reader, writer = await caller(relay)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await relay.close()
            server.close()
            await server.wait_closed()

    @pytest.mark.parametrize("listening", LOCALHOST)
    async def test_localhost_is_not_looked_up(
        self, listening: str, private: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is this machine, by either family, whatever a resolver would say; and no thread is made to ask one."""
        monkeypatch.setattr(socket, "getaddrinfo", resolver_that_is_asked(listening))
        try:
            server = await asyncio.start_server(echo, listening, 0, ssl=server_context(SERVER, private))
        except OSError:
            pytest.skip(f"this machine has no {listening}")
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(QUICK):
            relay = await TlsRelay.open("tcp", f"localhost:{port}", GOOD)
            await relay.close()
            server.close()
            await server.wait_closed()
        assert getattr(asyncio.get_running_loop(), "_default_executor", None) is None

    async def test_nobody_at_localhost(self, private: Path) -> None:
        """The first error is told, as it is for the family that most servers are of."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1"):
                await TlsRelay.open("tcp", f"localhost:{taken.getsockname()[1]}", GOOD)
        assert getattr(asyncio.get_running_loop(), "_default_executor", None) is None

    @pytest.mark.parametrize("wrong", [{"client_key": "nonsense"}, {"client": "nonsense"}, {"server": b"nonsense"}])
    async def test_useless_credentials(self, wrong: dict[str, Any], private: Path) -> None:
        """A certificate or a key that cannot be used is an error, and the key lies nowhere."""
        with pytest.raises(OSError, match=r"\w"):
            attrs.evolve(GOOD, **wrong).context()
        assert not list(private.iterdir())

    def test_secrets(self, private: Path) -> None:
        """No key is shown, and none lies in the directory when the context is made."""
        assert "PRIVATE" not in repr(GOOD)
        GOOD.context()
        assert not list(private.iterdir())


class TestWhoMayConnect:
    async def test_again(self, private: Path) -> None:
        """The channel may connect again, beside its first connection, and has another one to the server."""
        async with serving(private) as path:
            relay = await relay_to(path)
            pairs = [await caller(relay), await connect(relay)]
            for reader, writer in pairs:
                writer.write(b"x")
                async with asyncio.timeout(QUICK):
                    assert await reader.readexactly(1) == b"x"
            await relay.close()
            for reader, writer in pairs:
                assert await ended(reader)
                writer.close()

    async def test_again_and_nobody_is_there(self, private: Path) -> None:
        """Where the server is gone, the connection ends, and so does one that was closed before it was passed on."""
        async with serving(private) as path:
            relay = await relay_to(path)
            _, first = await caller(relay)
        for _ in range(2):
            reader, writer = await connect(relay)
            async with asyncio.timeout(QUICK):
                assert await ended(reader)
            writer.close()
        reader, writer = await connect(relay)
        await relay.close()
        for each in (first, writer):
            each.close()

    async def test_they_are_bounded(self, private: Path) -> None:
        """In number: more are turned away."""
        async with serving(private) as path:
            relay = await relay_to(path)
            pairs = [await caller(relay), *[await connect(relay) for _ in range(MOST + 1)]]
            async with asyncio.timeout(QUICK):
                assert await ended(pairs[-1][0])
            for _, writer in pairs:
                writer.close()
            await relay.close()

    async def test_where_the_system_does_not_tell_who_connects(
        self, private: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the channel has connected, the socket is gone, and nobody else gets in."""
        monkeypatch.setattr(tlsrelay.system, "connected_process", lambda connection: None)
        async with serving(private) as path:
            relay = await relay_to(path)
            reader, writer = await caller(relay)
            writer.write(b"x")
            await reader.readexactly(1)
            with pytest.raises(FileNotFoundError):
                await connect(relay)
            await relay.close()
            writer.close()

    async def test_directory_of_its_own(self, private: Path) -> None:
        """Nobody else may enter it, nothing but the socket is in it, and it is gone with the relay."""
        async with serving(private) as path:
            relay = await relay_to(path)
            (own,) = own_directories(private)
            assert own.stat().st_mode & 0o777 == 0o700
            assert [each.name for each in own.iterdir()] == [tlsrelay.SOCKET_NAME]
            _, writer = await caller(relay)
            await relay.close()
            assert not own_directories(private)
            writer.close()

    async def test_after_the_plugins_directory_was_removed(self, private: Path) -> None:
        """That one is none of the relay's business: it goes when the plugin does."""
        client: Any = PluginClient(Plugin(("x",)))
        client.process = SimpleNamespace(directory=str(private / "nothing"))
        client.client_cert, client.client_key_pem = CLIENT.pem, CLIENT.key_pem
        client._server_cert = base64.b64encode(SERVER.der).decode()
        async with serving(private) as path:
            async with asyncio.timeout(QUICK):
                relay = await TlsRelay.open("unix", path, client.dialler().tls)
                await relay.close()

    async def test_no_room(self, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no directory can be made, for the key or for the socket, it is told, and nothing is left behind."""
        async with serving(private, client=None) as path:
            for credentials in (GOOD, attrs.evolve(GOOD, client="", client_key="")):
                with monkeypatch.context() as patch, pytest.raises(LinkError, match="no private directory"):
                    patch.setattr(tempfile, "tempdir", str(private / "nothing"))
                    await relay_to(path, credentials)

    async def test_no_socket(self, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the directory can be made, and the socket in it cannot, the directory is removed."""
        async with serving(private) as path:
            monkeypatch.setattr(tlsrelay, "SOCKET_NAME", "x" * 200)
            with pytest.raises(OSError, match="too long"):
                await relay_to(path)
            assert not own_directories(private)

    async def test_directory_replaced(self, private: Path) -> None:
        """A server that puts a file in the place of the directory breaks neither the joining nor the end."""
        gone = private / "gone"
        async with serving(private) as path:
            for joined in (True, False):
                relay = await relay_to(path)
                (own,) = own_directories(private)
                with socket.socket(socket.AF_UNIX) as channel:
                    channel.connect(relay.target.removeprefix("unix:"))
                    own.rename(gone)
                    own.touch()
                    if joined:
                        async with asyncio.timeout(QUICK):
                            await relay.join()
                    await relay.close()
                own.unlink()
                (gone / tlsrelay.SOCKET_NAME).unlink()
                gone.rmdir()

    async def test_another_process(self, private: Path) -> None:
        """Another process of the same user is turned away, and does not take the channel's place."""
        script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"
        async with serving(private) as path:
            relay = await relay_to(path)
            joining = asyncio.create_task(relay.join())
            stranger = await workers.run(
                "spawner",
                subprocess.Popen,
                [sys.executable, "-S", "-c", script, relay.target[5:]],
                stdout=subprocess.PIPE,
            )
            async with asyncio.timeout(QUICK):
                while stranger.poll() is None:
                    await asyncio.sleep(0.005)
            assert stranger.communicate()[0].strip() == b"b''"
            reader, writer = await connect(relay)
            async with asyncio.timeout(QUICK):
                await joining
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            await relay.close()
            writer.close()

    async def test_no_descriptor_left(self, private: Path) -> None:
        """A connection that cannot be accepted is an error, and not a loop that spins."""
        async with serving(private) as path:
            relay = await relay_to(path)
            address = relay.target.removeprefix("unix:")
            with socket.socket(socket.AF_UNIX) as channel:
                channel.connect(address)
                spare = os.dup(0)
                os.close(spare)
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
                try:
                    async with asyncio.timeout(QUICK):
                        with pytest.raises(OSError, match="Too many open files"):
                            await relay.join()
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert not os.path.exists(address)
            await relay.close()


class TestWhatItPassesOn:
    @settings(deadline=None, max_examples=25)
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 300_000)), max_size=12))
    def test_everything_in_order(self, chunks: list[tuple[bool, int]]) -> None:
        """Whatever the two say at the same time, in whatever pieces, arrives whole, and so does the channel's end."""

        async def both_ways(directory: Path) -> None:
            heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                listening = asyncio.create_task(reader.readexactly(len(to_server)))
                await say(writer, to_client)
                heard.set_result(await listening)
                assert await reader.read() == b""

            async with serving(directory, talk) as path, asyncio.timeout(QUICK):
                relay = await relay_to(path)
                reader, writer = await caller(relay)
                listening = asyncio.create_task(reader.readexactly(len(to_client)))
                await say(writer, to_server)
                assert await listening == to_client
                assert await heard == to_server
                writer.close()
                await relay.close()

        async def say(writer: asyncio.StreamWriter, data: bytes) -> None:
            for start in range(0, len(data), 50_000):
                writer.write(data[start : start + 50_000])
                await writer.drain()

        to_server = b"".join(os.urandom(size) for up, size in chunks if up)
        to_client = b"".join(os.urandom(size) for up, size in chunks if not up)
        with tempfile.TemporaryDirectory(prefix="r-") as directory:
            asyncio.run(both_ways(Path(directory)))

    @pytest.mark.parametrize("polite", [True, False])
    async def test_last_words_of_the_server(self, polite: bool, private: Path) -> None:
        """What the server said last arrives before its end does, whether or not it says goodbye."""
        words = os.urandom(3 * MEGABYTE)

        def say(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with server_context(SERVER, private).wrap_socket(connection, server_side=True) as secure:
                secure.sendall(words)
                if polite:
                    secure.unwrap()

        with socket.socket(socket.AF_UNIX) as listener:
            path = str(private / "server.sock")
            listener.bind(path)
            listener.listen()
            thread = threading.Thread(target=say, args=(listener,))
            thread.start()
            relay = await relay_to(path)
            reader, writer = await caller(relay)
            await asyncio.sleep(0.05)  # so that the server waits for its reader
            async with asyncio.timeout(QUICK):
                assert await reader.read() == words
            writer.close()
            await relay.close()
            thread.join()

    async def test_last_words_of_the_channel(self, private: Path) -> None:
        """What the channel said last arrives before its end does, also at a server that reads slowly."""
        words = os.urandom(3 * MEGABYTE)
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.05)
            heard.set_result(await reader.read())

        async with serving(private, listen) as path:
            relay = await relay_to(path)
            _, writer = await caller(relay)
            writer.write(words)
            writer.close()
            async with asyncio.timeout(QUICK):
                assert await heard == words
            await relay.close()

    async def test_said_before_anybody_listens(self, private: Path) -> None:
        """What the server says with the end of its handshake waits for the channel."""

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"settings")
            await reader.read()

        async with serving(private, greet) as path:
            relay = await relay_to(path)
            await asyncio.sleep(0.05)
            reader, writer = await caller(relay)
            async with asyncio.timeout(QUICK):
                assert await reader.readexactly(8) == b"settings"
            await relay.close()
            writer.close()

    async def test_said_in_one_breath(self, private: Path) -> None:
        """What the server says in the very packet that ends the handshake (TLS 1.2) waits for the channel, too."""
        context = server_context(SERVER, private)
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_side=True)
            while not await hands_shaken(tls):
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
            tls.write(b"settings")
            writer.write(outgoing.read())
            await reader.read()
            writer.close()

        async def hands_shaken(tls: ssl.SSLObject) -> bool:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            return True

        path = str(private / "server.sock")
        server = await asyncio.start_unix_server(greet, path)
        relay = await relay_to(path)
        reader, writer = await caller(relay)
        async with asyncio.timeout(QUICK):
            assert await reader.readexactly(8) == b"settings"
        await relay.close()
        writer.close()
        server.close()

    async def test_no_channel_yet(self, private: Path) -> None:
        """A server that says much before the channel has come is held up."""
        sent = [0]

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await flood_with(writer, sent)

        async with serving(private, flood) as path:
            relay = await relay_to(path)
            await settled(lambda: sent[0])
            assert sent[0] < HELD_BACK
            await relay.close()

    async def test_slow_channel(self, private: Path) -> None:
        """A channel that does not read holds the server up, and then gets all of it."""
        sent = bytearray()
        done = asyncio.Event()

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for number in range(PLENTY // MEGABYTE):
                data = bytes([number]) * MEGABYTE
                sent.extend(data)
                writer.write(data)
                await writer.drain()
            done.set()
            await reader.read()

        async with serving(private, flood) as path:
            relay = await relay_to(path)
            reader, writer = await caller(relay)
            await settled(lambda: len(sent))
            assert len(sent) < HELD_BACK
            assert not done.is_set()
            async with asyncio.timeout(QUICK):
                received, total = hashlib.sha256(), 0
                while total < PLENTY:
                    data = await reader.read(MEGABYTE)
                    received.update(data)
                    total += len(data)
            assert received.digest() == hashlib.sha256(sent).digest()
            assert len(sent) == total
            await relay.close()
            writer.close()

    async def test_slow_server(self, private: Path) -> None:
        """A server that does not read holds the channel up, and then gets all of it."""
        go_on = asyncio.Event()
        received: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def sleepy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go_on.wait()
            total = 0
            while data := await reader.read(MEGABYTE):
                total += len(data)
            received.set_result(total)

        async with serving(private, sleepy) as path:
            relay = await relay_to(path)
            _, writer = await caller(relay)
            sent = [0]
            flooding = asyncio.create_task(flood_with(writer, sent))
            await settled(lambda: sent[0])
            assert sent[0] < HELD_BACK
            assert not flooding.done()
            go_on.set()
            async with asyncio.timeout(QUICK):
                await flooding
                writer.close()
                assert await received == PLENTY
            await relay.close()


async def flood_with(writer: asyncio.StreamWriter, sent: list[int]) -> None:
    for _ in range(PLENTY // 65536):
        writer.write(bytes(65536))
        sent[0] += 65536
        await writer.drain()


async def settled(amount: Callable[[], int]) -> None:
    """Wait until something has begun, and then does not grow for a while."""
    async with asyncio.timeout(QUICK):
        same, last = 0, 0
        while same < 20:
            await asyncio.sleep(0.01)
            same, last = (same + 1 if last and amount() == last else 0), amount()


class TestEnd:
    async def test_server_dies(self, private: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A server that dies under a busy channel ends it, and nobody complains."""

        async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(MEGABYTE)

        async with serving(private, die) as path:
            relay = await relay_to(path)
            reader, writer = await caller(relay)
            with suppress(ConnectionError):
                async with asyncio.timeout(QUICK):
                    await flood_with(writer, [0])
            assert await ended(reader)
            assert relay.fault is not None
            await relay.close()
            writer.close()
        assert not caplog.records

    async def test_channel_goes(self, private: Path) -> None:
        """When the channel has closed its connection, the server's is closed, too."""
        gone = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            gone.set()

        async with serving(private, wait) as path:
            relay = await relay_to(path)
            _, writer = await caller(relay)
            writer.close()
            async with asyncio.timeout(QUICK):
                await gone.wait()
            await relay.close()

    async def test_server_goes_before_the_channel_comes(self, private: Path) -> None:
        """Then the channel's connection ends as soon as it is joined, and the reason is known."""

        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with serving(private, leave) as path:
            relay = await relay_to(path)
            await asyncio.sleep(0.05)
            reader, writer = await caller(relay)
            assert await ended(reader)
            writer.close()
            async with asyncio.timeout(QUICK):
                while relay.fault is None:
                    await asyncio.sleep(0.005)
            await relay.close()

    @pytest.mark.parametrize("busy", [False, True])
    @pytest.mark.parametrize("how", [None, connect, caller])
    async def test_close(self, how: Any, busy: bool, private: Path) -> None:
        """Closed at any time, and twice, it is gone when close() returns, however much is under way."""

        async def sleep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(PLENTY))
            await asyncio.Event().wait()

        async with serving(private, sleep) as path:
            before = descriptors()
            relay = await relay_to(path)
            writer = None
            if how is not None:
                _, writer = await how(relay)
            if writer is not None and busy:
                sent = [0]
                flooding = asyncio.create_task(flood_with(writer, sent))
                await settled(lambda: sent[0])
                flooding.cancel()
                await asyncio.wait((flooding,))
            await relay.close()
            await relay.close()
            assert not own_directories(private)
            if writer is not None:
                writer.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            # The server's own end of the connection is the server's to close.
            assert len(descriptors()) <= len(before) + 1

    async def test_cancelled_at_every_step(self, private: Path) -> None:
        """Cancelled in any round of the loop, from open() over join() to close(), a relay leaves nothing behind."""
        async with serving(private) as path:
            done = False

            async def used(path: str) -> None:
                relay = await TlsRelay.open("unix", path, GOOD)
                writer = None
                try:
                    _, writer = await connect(relay)
                    await relay.join()
                finally:
                    if writer is not None:
                        writer.transport.abort()
                    await relay.close()

            for steps in range(10_000):
                opening = asyncio.create_task(used(path))
                for _ in range(steps):
                    await asyncio.sleep(0)
                    if done := opening.done():
                        break
                opening.cancel()
                await asyncio.wait((opening,))
                if done:
                    break
                with pytest.raises(asyncio.CancelledError):
                    opening.result()
                await workers.run(
                    "spawner", int
                )  # The key is removed by whoever has made it, after the cancellation, too.
                assert not own_directories(private)
            assert done

    async def test_silent_server(self, private: Path) -> None:
        """A server that accepts and says nothing is waited for as long as the caller likes."""

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        path = str(private / "server.sock")
        server = await asyncio.start_unix_server(mute, path)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await TlsRelay.open("unix", path, GOOD)
        server.close()
        await server.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bool:
    with suppress(ConnectionError):
        async with asyncio.timeout(QUICK):
            await reader.read()
    return True
