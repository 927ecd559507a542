"""The legs of a relay, on real sockets: nothing is lost, and what is held back is bounded."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from certificates import Authority

from fsm_conn.cluster.recipe import TlsFiles
from fsm_conn.cluster.serving.legs import CHUNK, MOST_READ, MOST_UNSENT, Leg
from fsm_conn.cluster.serving.relay import Relay

PATIENT = 200.0
MUCH = 8 * 1024 * 1024
SMALL = 64 * 1024
"""Bytes of the system's buffers, so that not all is delivered before it is closed."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _client_context(files: TlsFiles) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=files.authorities)
    found.load_cert_chain(files.certificate, files.key)
    found.check_hostname = False
    return found


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def contexts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    """TLS of the server and of the client; or none."""
    if not request.param:
        return None
    authority = Authority(tmp_path)
    server = authority.files("server").server_context()
    return server, _client_context(authority.files("client"))


def _connected() -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection by TCP: what a socket of the file system has sent cannot be taken back."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    return here, there


@asynccontextmanager
async def relayed(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None, directory: Path
) -> AsyncIterator[tuple[Relay, Streams, Streams]]:
    """A relay, its client's streams, and its plugin's."""
    plugins: asyncio.Queue[Streams] = asyncio.Queue()
    path = str(directory / "p")
    here, there = _connected()
    over = asyncio.Event()
    async with asyncio.timeout(PATIENT):
        plugin = await asyncio.start_unix_server(lambda *streams: plugins.put_nowait(streams), path)
        relay = Relay(here, None, lambda relay: None, lambda relay: over.set())
        there.setblocking(False)
        tls = {} if contexts is None else {"ssl": contexts[1], "server_hostname": ""}
        proving = asyncio.create_task(relay.client.prove(contexts[0] if contexts else None))
        client = await asyncio.open_connection(sock=there, **tls)  # type: ignore[arg-type]
        await proving
        await relay.join("unix", path)
        ours = await plugins.get()
        try:
            yield relay, client, ours
        finally:
            client[1].close(), ours[1].close()
            relay.abort()
            await over.wait()
            plugin.close()


async def test_who_reads_slowly_is_waited_for(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None, tmp_path: Path
) -> None:
    """In both directions: what is held back is bounded, and in the end all of it is there, in order."""
    said = random.Random(1).randbytes(MUCH)
    async with relayed(contexts, tmp_path) as (relay, client, plugin):
        for (reader, _), (_, writer) in ((client, plugin), (plugin, client)):
            writer.write(said)
            leg = relay.client if reader is client[0] else relay._plugin
            assert leg is not None
            while not leg.is_full():
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(leg._unsent) <= MOST_UNSENT + MOST_READ
            assert await reader.readexactly(MUCH) == said
            assert not leg._unsent


async def test_what_was_said_last_is_delivered() -> None:
    """Though the client has said something that nobody reads any more: a socket closed at once would take it back."""
    loop, said, heard = asyncio.get_running_loop(), random.Random(1).randbytes(2 * SMALL), bytearray()
    here, there = _connected()
    there.setblocking(False)
    leg = Leg(here, lambda leg: None)
    leg.write(said)
    there.send(b"and another thing")
    leg.finish()
    async with asyncio.timeout(PATIENT):
        while data := await loop.sock_recv(there, CHUNK):
            heard += data
        assert heard == said
        there.close()
        await leg.lost


async def test_a_leg_whose_words_cannot_be_dealt_with_is_closed() -> None:
    """Nothing that comes after them is delivered; the error is the loop's to tell, as for any callback."""
    here, there = socket.socketpair()
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
    leg, other = Leg(here, lambda leg: None), Leg(there.dup(), lambda leg: None)

    def fail(data: bytes) -> None:
        raise LookupError("a bug")

    leg.join(other, fail)
    there.send(b"x")
    await asyncio.wait_for(leg.lost, PATIENT)
    assert [type(error) for error in told] == [LookupError]
    other.abort()
    there.close()


async def test_a_number_that_is_another_s_by_now_is_let_be() -> None:
    """A handshake that is given up must not have the loop forget the next socket, which has got its number."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    leg = Leg(here, lambda leg: None)
    waiting = asyncio.create_task(leg._until(loop.add_reader, loop.remove_reader))
    await asyncio.sleep(0)
    number = here.fileno()
    waiting.cancel()
    leg.abort()
    mine, other = socket.socketpair()
    taken = mine if mine.fileno() == number else other
    assert taken.fileno() == number
    heard = asyncio.Event()
    loop.add_reader(number, heard.set)
    await asyncio.wait((waiting,))
    (other if taken is mine else mine).send(b"x")
    await asyncio.wait_for(heard.wait(), PATIENT)
    loop.remove_reader(number)
    for each in (there, mine, other):
        each.close()


async def test_who_has_gone_before_the_handshake_is_an_oserror(tmp_path: Path) -> None:
    """And the leg can be ended as any other."""
    context = Authority(tmp_path).files("server").server_context()
    listening = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listening.getsockname()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    here, _ = listening.accept()
    listening.close()
    leg = Leg(here, lambda leg: None)
    with pytest.raises(OSError):
        await leg.shake_hands(context)
    leg.abort()
    assert leg.lost.done()
