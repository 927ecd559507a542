"""Plugins of this machine behind an address: real plugins, real certificates, clients of all kinds."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from certificates import Authority
from screens import clean_environment

from fsm_conn import CallOptions, ConnectFailedError, Connection, Endpoint, FsmConnError, NotServingError, RetryPolicy
from fsm_conn.cluster import Recipe, ServeError, ServeLimits, Server, ServerState, Token, serve
from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc

from .conftest import CALCULATOR, PLUGINS, PYTHON, children, eventually, is_alive

LIMIT = 200.0
ONCE = RetryPolicy(max_attempts=1)
TOKEN = "a-token-of-some-length"
WAITS = CallOptions(wait_for_ready=True, timeout=LIMIT)


def recipe(**options: Any) -> Recipe:
    return Recipe(**{"plugin": CALCULATOR, "limits": ServeLimits(announce=0.05), **options})


@asynccontextmanager
async def served(given: Recipe, **options: Any) -> AsyncIterator[Server]:
    async with asyncio.timeout(2 * LIMIT), serve(given, **options) as server:
        yield server


async def add(conn: Connection, *options: CallOptions) -> float:
    return float((await conn.call("calculator.Add", *options, a=5, b=3)).result)


async def test_calls_of_all_kinds(no_leaks: None) -> None:
    """Through a relay, plugins answer calls, streams, reflection and questions of health as they do locally."""
    async with served(recipe()) as server, Connection(server.address) as conn:
        assert await add(conn) == 8
        assert [reply.result async for reply in conn.stream("calculator.Count", limit=3)] == [1, 2, 3]
        assert (await conn.call("calculator.Sum", iter([{"value": 1}, {"value": 2}]))).result == 3
        assert await conn.probe() > 0
        with pytest.raises(grpc.aio.AioRpcError, match="division by zero"):
            await conn.call("calculator.Divide", a=1, b=0)


async def test_calls_that_failed_hold_no_connection(no_leaks: None) -> None:
    """A closed channel hangs up at once, and not when the garbage collector comes by the errors of its calls."""
    gc.disable()
    try:
        async with served(recipe()) as server:
            async with Connection(server.address, services=calculator_pb2) as conn:
                stub = conn.stub(calculator_pb2_grpc.CalculatorStub)
                failing: list[Callable[[], Any]] = [
                    lambda: conn.call("calculator.Divide", a=1, b=0),
                    lambda: conn.call("calculator.Divide", CallOptions(timeout=LIMIT, idempotent=True), a=1, b=0),
                    lambda: conn.call("calculator.Nothing"),
                    lambda: conn.call("calculator.Sum", iter([{"value": "no number"}])),
                    lambda: anext(conn.stream("calculator.Count", limit=-1)),
                    lambda: stub.Divide(calculator_pb2.Operands(a=1, b=0)),
                    lambda: conn.probe(timeout=1e-9),
                ]
                for call in failing:
                    with suppress(grpc.aio.AioRpcError, FsmConnError, ValueError, TypeError, StopAsyncIteration):
                        await call()
                assert server.stats()["connections"] == 1
            await eventually(lambda: server.stats()["connections"] == 0, LIMIT)
    finally:
        gc.enable()


async def test_connections_go_to_the_plugin_that_has_the_fewest(no_leaks: None) -> None:
    """As many plugins as connections are used, and a plugin that has lost its connection is taken again."""
    async with served(recipe(plugins=2)) as server:
        async with Connection(server.address) as one, Connection(server.address) as two:
            await add(one), await add(two)
            assert server.stats() == {"plugins": 2, "connections": 2, "refused": 0}
            assert server._plugins is not None
            assert [len(plugin.relays) for plugin in server._plugins._all] == [1, 1]
        await eventually(lambda: server.stats()["connections"] == 0, LIMIT)
        assert [len(plugin.relays) for plugin in server._plugins._all] == [0, 0]


async def test_mutual_tls(no_leaks: None, tmp_path: Path) -> None:
    """Who has a certificate of the authority is served; who has none, or another authority's, is not."""
    authority = Authority(tmp_path)
    given = recipe(tls=authority.files("server"), client_tls=authority.files("client"))
    stranger = Authority(tmp_path, "another authority").files("stranger")
    async with served(given) as server:
        endpoint = given.endpoint(server.address)
        async with Connection(endpoint) as conn:
            assert await add(conn) == 8
        own = endpoint.credentials
        theirs = [None, type(own)(roots=own.roots)]
        theirs.append(type(own)(roots=own.roots, certificate=_read(stranger.certificate), key=_read(stranger.key)))
        for credentials in theirs:
            with pytest.raises(ConnectFailedError):
                await Connection(Endpoint(server.address, credentials=credentials), retry=ONCE).connect()
        await eventually(lambda: server.stats()["connections"] == 0, LIMIT)


async def test_a_server_says_that_its_certificate_has_expired(
    no_leaks: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At its start, which is allowed, for the certificate can be replaced at any time."""
    authority = Authority(tmp_path)
    old = authority.files("server", days=-1)
    async with served(recipe(tls=old, client_tls=authority.files("client"))):
        (told,) = [record.getMessage() for record in caplog.records if "refuse this server" in record.getMessage()]
    assert f"its certificate {old.certificate} expired on 20" in told


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_token(no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    """Who shows it is served; who shows none, or another one, gets UNAUTHENTICATED, and no call of his is executed."""
    monkeypatch.setenv("TOKEN", TOKEN)
    authority = Authority(tmp_path)
    given = recipe(
        token=Token(env="TOKEN"),
        tls=authority.files("server", mutual=False) if secure else None,
        client_tls=authority.files("client") if secure else None,
    )
    async with served(given) as server:
        endpoint = given.endpoint(server.address)
        async with Connection(endpoint) as conn:
            assert await add(conn) == 8
            assert await conn.probe() > 0
        for metadata in ({}, {"authorization": "Bearer another-token-of-length"}, {"authorization": TOKEN}):
            other = Endpoint(
                server.address, credentials=endpoint.credentials, metadata=metadata, options=endpoint.options
            )
            async with grpc_channel(other) as channel:
                method = channel.unary_unary("/calculator.Calculator/Add")
                assert "token" in await unauthenticated(method)
        # Channels of Endpoints do not try calls again that have crossed a GOAWAY: connections do.
        options = {**dict(endpoint.options), "grpc.enable_retries": 1}
        bare = Endpoint(server.address, credentials=endpoint.credentials, options=options)
        async with grpc_channel(bare) as channel:  # as a proxy has one for all its clients
            method = channel.unary_unary("/calculator.Calculator/Add")
            for _ in range(2):
                await method(b"", timeout=LIMIT, metadata=endpoint.metadata, wait_for_ready=True)
                await unauthenticated(method)


async def unauthenticated(method: Any) -> str:
    """What the server says to a call that it refuses. The error is not kept: the connection would be kept with it."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"", timeout=LIMIT)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    said = caught.value.details() or ""
    del caught
    return said


def grpc_channel(endpoint: Endpoint) -> Any:
    from fsm_conn.links.grpc.endpoint import new_channel

    return new_channel(endpoint)


async def test_health_tells_of_the_server(no_leaks: None) -> None:
    """SERVING while a plugin serves; NOT_SERVING while none does, and as soon as the end is announced."""
    given = recipe(
        limits=ServeLimits(announce=LIMIT),
        retry=RetryPolicy(max_attempts=1, recover_after=LIMIT),
    )
    async with served(given, health="127.0.0.1:0") as server, Connection(server.health_address) as asking:
        await asking.probe()
        asking_again = NotServingError
        (pid,) = server.pids
        os.kill(pid, signal.SIGKILL)
        await _until_refused(asking, asking_again)
        assert server._plugins is not None
        await server._plugins._all[0].conn.reconnect()
        await _until_answered(asking)
        stopping = asyncio.create_task(server.stop())
        await _until_refused(asking, asking_again)
        assert server.state == ServerState.DRAINING
        await server.stop()  # the second time, nothing is waited for
        await stopping


async def _until_refused(asking: Connection, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        async with asyncio.timeout(LIMIT):
            while True:
                await asking.probe()
                await asyncio.sleep(0.01)


async def _until_answered(asking: Connection) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                await asking.probe()
                return
            except NotServingError:
                await asyncio.sleep(0.01)


async def test_a_stop_loses_no_call(no_leaks: None) -> None:
    """Calls under way are answered, a long stream to its end; the next connection is opened elsewhere."""
    async with served(recipe()) as first, served(recipe()) as second:
        conn = Connection(first.address)
        targets = iter([first.address, *[second.address] * 10])
        conn = Connection(lambda: _link_to(next(targets)))
        async with conn:
            stream = conn.stream("calculator.Accumulate", _slowly(released := asyncio.Event()))
            assert (await anext(stream)).result == 1
            stopping = asyncio.create_task(first.stop())
            await conn.wait_for_state("renewing")
            for _ in range(20):
                assert await add(conn, WAITS) == 8
            released.set()
            assert [reply.result async for reply in stream] == [2, 3]
            await stopping
            assert await add(conn) == 8


def _link_to(address: str) -> Any:
    from fsm_conn.links.grpc.endpoint import EndpointLink

    return EndpointLink(address)


async def _slowly(released: asyncio.Event) -> AsyncIterator[dict[str, float]]:
    yield {"value": 1}
    await released.wait()
    yield {"value": 1}
    yield {"value": 1}


async def test_what_does_not_end_is_ended(no_leaks: None) -> None:
    """A call that goes on for ever holds a stop back for `drain_timeout`, and no longer."""
    given = recipe(limits=ServeLimits(announce=0, drain_timeout=0.2))
    async with served(given) as server, Connection(server.address, retry=ONCE) as conn:
        stream = conn.stream("calculator.Accumulate", _slowly(asyncio.Event()))
        assert (await anext(stream)).result == 1
        await server.stop()
        with pytest.raises(Exception, match=r"lost|Connection refused"):
            await anext(stream)


async def test_a_plugin_that_is_killed_is_started_again(no_leaks: None) -> None:
    """Its clients learn of it at once, and are served by another one."""
    async with served(recipe(plugins=2)) as server, Connection(server.address) as conn:
        assert await add(conn) == 8
        assert server._plugins is not None
        (mine,) = [plugin for plugin in server._plugins._all if plugin.relays]
        assert mine.conn.pid is not None
        left: list[str] = []
        conn.on_transition(lambda record: left.append(record.source))
        os.kill(mine.conn.pid, signal.SIGKILL)
        await eventually(lambda: "connected" in left, LIMIT)
        assert await add(conn, WAITS) == 8
        await eventually(lambda: server.stats()["plugins"] == 2, LIMIT)


async def test_slow_handshakes_are_bounded(no_leaks: None, tmp_path: Path) -> None:
    """Who connects and says nothing is dropped when there are too many of them, the oldest first; clients get in."""
    authority = Authority(tmp_path)
    given = recipe(
        tls=authority.files("server"),
        client_tls=authority.files("client"),
        limits=ServeLimits(announce=0, max_handshakes=3, handshake_timeout=LIMIT),
    )
    async with served(given) as server:
        host, _, port = server.address.rpartition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(4)]
        assert await asyncio.wait_for(idle[0][0].read(), LIMIT) == b""  # the oldest was dropped
        idle[1][1].write(b"\x16\x03")  # and who drips is no better
        async with Connection(given.endpoint(server.address)) as conn:
            assert await add(conn) == 8
        assert server.stats()["refused"] >= 1
        for _, writer in idle:
            writer.close()


async def test_a_handshake_has_a_limit(no_leaks: None, tmp_path: Path) -> None:
    """Who connects and says nothing is dropped after `handshake_timeout`."""
    given = recipe(tls=Authority(tmp_path).files("server"), limits=ServeLimits(announce=0, handshake_timeout=0.2))
    async with served(given) as server:
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await asyncio.wait_for(reader.read(), LIMIT) == b""
        await eventually(lambda: server.stats()["connections"] == 0, LIMIT)
        writer.close()


async def test_connections_are_bounded(no_leaks: None) -> None:
    """One more than `max_connections` is closed at once; when another ends, there is room again."""
    async with served(recipe(limits=ServeLimits(announce=0, max_connections=1))) as server:
        async with Connection(server.address) as conn:
            assert await add(conn) == 8
            with pytest.raises(ConnectFailedError):
                await Connection(server.address, retry=ONCE).connect()
        await eventually(lambda: server.stats()["connections"] == 0, LIMIT)
        async with Connection(server.address) as conn:
            assert await add(conn) == 8
        assert server.stats()["refused"] >= 1


async def test_a_start_that_fails_leaves_nothing(no_leaks: None) -> None:
    """A plugin that cannot be started, and an address that is taken: told with the reason."""
    with pytest.raises(ServeError, match="nowhere"):
        await serve(["/nowhere/plugin"]).start_serving()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServeError, match="cannot listen at"):
            await serve(recipe(), f"127.0.0.1:{taken.getsockname()[1]}").start_serving()
    with pytest.raises(ServeError, match="give host:port"):
        serve(recipe(), "127.0.0.1")


async def test_a_start_that_is_cancelled_leaves_nothing(no_leaks: None) -> None:
    """Nobody waits for it any more, so it is given up."""
    hangs = recipe(plugin=(PYTHON, "-c", "import time; time.sleep(600)"))
    server, before = serve(hangs), children()
    starting = asyncio.create_task(server.start_serving())
    await eventually(lambda: children() - before, LIMIT)
    starting.cancel()
    await asyncio.wait((starting,))
    await server.wait_closed()


def test_the_tls_of_a_server_is_strict(tmp_path: Path) -> None:
    """TLS 1.2 or newer, HTTP/2 only, and a certificate of the client where authorities are named."""
    authority = Authority(tmp_path)
    strict = authority.files("server").server_context()
    assert strict.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert authority.files("server", mutual=False).server_context().verify_mode is ssl.CERT_NONE


class Served:
    """`fsm-conn serve` in a process of its own."""

    def __init__(
        self, *arguments: str, env: dict[str, str] | None = None, command: tuple[str, ...] = CALCULATOR
    ) -> None:
        self.process = subprocess.Popen(
            [PYTHON, str(PLUGINS / "measured.py"), "fsm_conn.cli", "serve", *arguments, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**clean_environment(), **(env or {})},
        )

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def ready(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def test_the_command_says_when_it_is_ready_and_stops_when_told(tmp_path: Path) -> None:
    """A line on stdout and a word to systemd when it is ready; SIGTERM: a word that it stops, and status 0."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT)
        with Served(env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as serving:
            line = serving.ready()
            address = line.rpartition(" ")[2]
            assert line == f"serving lean.py at {address}"
            assert manager.recv(1000).decode() == f"READY=1\nSTATUS=serving at {address}"
            assert asyncio.run(_one_call(address)) == 8
            serving.process.send_signal(signal.SIGTERM)
            assert manager.recv(1000).decode().startswith("STOPPING=1")
            assert serving.process.wait(LIMIT) == 0


async def test_the_command_can_be_told_to_stop_while_it_starts() -> None:
    """That is no failure, so its status is 0, and no plugin is left: a service manager would call the unit failed."""
    with Served(command=(PYTHON, "-c", "import time; time.sleep(600)")) as serving:
        tasks = Path(f"/proc/{serving.process.pid}/task")

        def plugins() -> set[int]:
            found = set()
            with suppress(OSError):  # of who has just gone
                for pid in {pid for task in tasks.glob("*/children") for pid in task.read_text().split()}:
                    if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.add(int(pid))
            return found

        await eventually(plugins, LIMIT)
        pids = plugins()
        serving.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(serving.process.wait, LIMIT) == 0
        assert not any(map(is_alive, pids))


async def _one_call(address: str) -> float:
    async with asyncio.timeout(LIMIT), Connection(address) as conn:
        return await add(conn)


def test_the_command_has_exit_statuses() -> None:
    """1 when the plugin cannot be started, 2 for wrong arguments, each with a line that says what to do."""
    for arguments, command, status, words in (
        ((), ("/nowhere/plugin",), 1, "could not be served"),
        (("--listen", "0.0.0.0:0"), CALCULATOR, 2, "give --cert, --key and --cacert"),
        (("--cert", str(PLUGINS / "calculator.py")), CALCULATOR, 2, "Give both --cert and --key"),
        ((), (), 2, "Give the plugin's command"),
    ):
        with Served(*arguments, command=command) as serving:
            _, told = serving.process.communicate(timeout=LIMIT)
            assert serving.process.returncode == status
            assert words in told


def test_no_plugin_outlives_a_server_that_is_killed() -> None:
    """Not even with SIGKILL."""
    with Served() as serving:
        serving.ready()
        children = Path(f"/proc/{serving.process.pid}/task")
        pids = {int(pid) for task in children.iterdir() for pid in (task / "children").read_text().split()}
        assert pids
        serving.process.kill()
        serving.process.wait(LIMIT)
        asyncio.run(eventually(lambda: not any(map(is_alive, pids)), LIMIT))
