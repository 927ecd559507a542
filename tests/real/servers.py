"""Servers of others for tests, on loopback, as a user without rights: PostgreSQL and Redis, where they are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..ports import free_port

__all__ = ["postgres", "redis"]

PATIENCE = 200.0
"""Seconds for a server to listen."""


def _program(name: str) -> str:
    """The path of a program, also where Debian keeps it off the PATH; skips the test where there is none."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install postgresql redis-server")
    return found


def _user() -> dict[str, Any]:
    """Whom servers run as that refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


@contextmanager
def _running(command: list[str], directory: Path, port: int) -> Iterator[None]:
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, start_new_session=True, **_user())
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > end:
                    text = (directory / "log").read_text(errors="replace")
                    raise RuntimeError(f"{command[0]} does not listen:\n{text}") from None
                time.sleep(0.05)
        yield
    finally:
        server.terminate()
        try:
            server.wait(100)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(asking: list[str]) -> None:
    """It listens before it lets anybody in."""
    end = time.monotonic() + PATIENCE
    while subprocess.run(asking, capture_output=True, timeout=PATIENCE).returncode != 0:
        assert time.monotonic() < end, "it listens, and is not ready"
        time.sleep(0.05)


@contextmanager
def _directory() -> Iterator[Path]:
    # Beside the tests' own directory, into which the server's user may not look.
    with tempfile.TemporaryDirectory(prefix="fsm-servers-", dir="/tmp", ignore_cleanup_errors=True) as name:
        path = Path(name)
        if ids := _user():
            os.chown(path, ids["user"], ids["group"])
        yield path


@contextmanager
def postgres() -> Iterator[dict[str, str | int]]:
    """A PostgreSQL of one's own: what to connect to, by asyncpg's names."""
    initdb, server = _program("initdb"), _program("postgres")
    with _directory() as directory:
        data = directory / "data"
        words = [initdb, "-D", str(data), "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(words, check=True, capture_output=True, cwd=directory, timeout=PATIENCE * 2, **_user())
        port = free_port()
        settings = {"fsync": "off", "max_connections": 60, "unix_socket_directories": str(directory)}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [server, "-D", str(data), "-h", "127.0.0.1", "-p", str(port), *flags]
        with _running(command, directory, port):
            _wait_until_ready([_program("pg_isready"), "-h", "127.0.0.1", "-p", str(port)])
            yield {"host": "127.0.0.1", "port": port, "user": "tester", "database": "postgres"}


@contextmanager
def redis() -> Iterator[dict[str, str | int]]:
    """A Redis of one's own: what to connect to."""
    server = _program("redis-server")
    with _directory() as directory:
        port = free_port()
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
        with _running(command, directory, port):
            yield {"host": "127.0.0.1", "port": port}
