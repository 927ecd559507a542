"""Where a server of plugins listens: who can connect there, how many, and what is left of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http2 import most_streams

from fsm_conn.cluster.errors import ServeError
from fsm_conn.cluster.recipe import ServeLimits
from fsm_conn.cluster.serving.health import MOST_QUESTIONS, HealthServer
from fsm_conn.cluster.serving.listener import Listener, check_address, listen

PATIENT = 200.0
NO_PLUGINS: Any = None


@pytest.fixture
def path() -> Iterator[Path]:
    """A short path for a socket."""
    with tempfile.TemporaryDirectory(prefix="l-") as directory:
        yield Path(directory) / "s"


def listener_at(path: Path) -> Listener:
    listening, address = listen(f"unix:{path}")
    assert address == f"unix:{path}"
    return Listener(listening, None, None, NO_PLUGINS, ServeLimits())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the umask alone counts")
def test_other_users_cannot_connect_to_a_socket_of_the_file_system(path: Path) -> None:
    """Whatever the umask: neither a certificate nor a token is asked for there."""
    for umask, mode in ((0, 0o660), (0o022, 0o640), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            listening, _ = listen(f"unix:{path}")
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        listening.close()
        path.unlink()


@pytest.mark.parametrize(
    "address", ["unix:", "unix://", "unix:\0abstract", "a..b:0", f"{'a' * 80}:0", "\udce9:0", "[::1:x"]
)
def test_no_address_is_refused(address: str) -> None:
    """Without a path a socket would have a name of the system's, and no mode that keeps other users away."""
    with pytest.raises(ServeError, match="listen at"):
        listen(address)
    if address.startswith("unix:"):
        with pytest.raises(ServeError, match="give a path, such as unix:"):
            check_address(address)


async def test_the_file_of_a_socket_goes_with_it(path: Path) -> None:
    """So that the next server can listen there; but what a successor has put in its place stays."""
    for _ in range(2):
        listener = listener_at(path)
        with pytest.raises(ServeError, match="in use"):
            listen(f"unix:{path}")
        await listener.close()
        assert not path.exists()
    listener = listener_at(path)
    path.rename(path.with_name("old"))
    successor = listener_at(path)
    await listener.close()
    assert path.exists()
    await successor.close()


def test_a_socket_that_a_killed_server_left_is_replaced(path: Path) -> None:
    """Where nobody listens any more; but nothing else that is there, and no socket while another server begins."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.listen()
    with pytest.raises(ServeError, match="in use"):
        listen(f"unix:{path}")
    left.close()
    other = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(ServeError, match="in use"):
        listen(f"unix:{path}")
    os.close(other)
    listening, _ = listen(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listening.close()
    path.unlink()
    for make in (path.touch, path.mkdir, lambda: path.symlink_to(path.with_name("elsewhere"))):
        make()
        with pytest.raises(ServeError, match="in use"):
            listen(f"unix:{path}")
        path.rmdir() if path.is_dir() else path.unlink()


async def test_who_asks_for_health_is_one_of_so_many() -> None:
    """Those beyond are closed: whoever comes from anywhere cannot use up the descriptors of the server."""
    server = HealthServer(None, None, 4)
    address = await server.start("127.0.0.1:0")
    loop, opened = asyncio.get_running_loop(), []
    async with asyncio.timeout(PATIENT):
        where = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        assert await most_streams(*where) == MOST_QUESTIONS
        for _ in range(10):
            each = socket.socket()
            each.setblocking(False)
            await loop.sock_connect(each, ("127.0.0.1", int(address.rpartition(":")[2])))
            opened.append(each)
        while sum(map(_is_closed, opened)) < 6:
            await asyncio.sleep(0.01)
    for each in opened:
        each.close()
    await server.stop()


def _is_closed(connection: socket.socket) -> bool:
    try:
        while said := connection.recv(4096):
            pass
        return not said
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
