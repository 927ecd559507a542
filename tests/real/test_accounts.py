"""Plugins that run as another user: they have that user's rights alone, and a directory of their own. For root."""

from __future__ import annotations

import hashlib
import os
import pickle
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import ConnectFailedError, Connection, Plugin
from fsm_conn.demo import counter_pb2, counter_pb2_grpc
from fsm_conn.demo.counter_pb2_grpc import BrowserStub

from .conftest import PYTHON

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(600)]

NOBODY = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes of other users")


@pytest.fixture
def program(binary: str) -> Iterator[str]:
    """The plugin in Go, where others may execute it."""
    with tempfile.TemporaryDirectory(prefix="a-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        path = shutil.copy(binary, directory)
        os.chmod(path, 0o755)
        yield path


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


class Adder(counter_pb2_grpc.AdderServicer):
    async def Sum(self, request: Any, context: Any) -> Any:
        return counter_pb2.Value(value=request.a + request.b)


@needs_root
@pytest.mark.parametrize("mtls", [False, True])
async def test_another_user(program: str, *, mtls: bool) -> None:
    """Neither its group nor the groups beside that are the host's; calls and the broker work, in both directions."""
    entry = pwd.getpwnam(NOBODY)
    async with Connection(Plugin([program, *["-p521"] * mtls], user=NOBODY, mtls=mtls), services=counter_pb2) as conn:
        assert conn.pid is not None
        status = status_of(conn.pid)
        assert set(status["Uid"]) == {str(entry.pw_uid)}
        assert set(status["Gid"]) == {str(entry.pw_gid)}
        assert set(status["Groups"]) <= {str(entry.pw_gid)}
        link: Any = conn.link
        private = link._process.directory
        assert os.stat(private).st_uid == os.geteuid()
        assert os.stat(private).st_mode & 0o777 == 0o711
        adder = await conn.broker.serve(
            lambda server: counter_pb2_grpc.add_AdderServicer_to_server(Adder(), server)  # type: ignore[no-untyped-call]
        )
        assert (await conn.call("Counter.Put", key="a", value=3, adder=adder.id)).value == 3
        browser = await conn.call("Counter.Browse")
        async with await conn.broker.dial(browser.id) as channel:
            stub: Any = BrowserStub(channel)
            assert [entry.key async for entry in stub.Entries(counter_pb2.Nothing())] == ["a"]
    assert not os.path.exists(private)


@needs_root
async def test_a_group_and_numbers(program: str) -> None:
    """By number, of a user whom this machine does not know, what is executed is a sealed copy."""
    digest = sha256_of(program)
    async with Connection(Plugin([program], user=54321, group=54322, sha256=digest), services=counter_pb2) as conn:
        assert conn.pid is not None
        status = status_of(conn.pid)
        assert (set(status["Uid"]), set(status["Gid"]), status["Groups"]) == ({"54321"}, {"54322"}, ["54322"])


def sha256_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user": "no-such-user"}, "is no name of a user"),
        ({"user": 54321}, "give group="),
        ({"user": 0, "group": "no-such-group"}, "is no name of a group"),
    ],
)
async def test_nobody_knows_them(options: dict[str, Any], words: str) -> None:
    """That cannot get better: it is tried once."""
    with pytest.raises(ConnectFailedError, match=words) as caught:
        await Connection(Plugin([PYTHON], **options)).connect()
    assert caught.value.attempts == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may start processes of other users")
async def test_not_root() -> None:
    """Others may not, and are told so."""
    with pytest.raises(ConnectFailedError, match="only root"):
        await Connection(Plugin([PYTHON], user=0)).connect()


def test_what_is_no_account() -> None:
    """What is wrong is refused when the plugin is described."""
    for wrong in ("", -1, True, 1.5):
        with pytest.raises(TypeError, match="neither a name nor a number"):
            Plugin([PYTHON], user=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prefork="):
        Plugin([PYTHON], user=1, prefork=True)
    plugin = Plugin([PYTHON], user="nobody", group=1)
    assert pickle.loads(pickle.dumps(plugin)) == plugin
