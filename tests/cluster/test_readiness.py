"""A service manager is told where the environment says, and nobody where it does not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fsm_conn.cluster.serving.readiness import notify


def manager(address: str) -> socket.socket:
    """A service manager that listens."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.settimeout(200)
    listening.bind(address)
    return listening


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_manager_hears_all_lines_in_one_datagram(
    is_abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that begins with `@` is in the abstract namespace, which has no file."""
    path = str(tmp_path / "s")
    with manager("\0" + path if is_abstract else path) as listening:
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path if is_abstract else path)
        assert notify("READY=1", "STATUS=serving")
        assert listening.recv(1000) == b"READY=1\nSTATUS=serving"


@pytest.mark.parametrize("where", ["", "/", "@", "relative", "/nowhere/at/all"])
def test_without_a_manager_nobody_is_told(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that is no error."""
    monkeypatch.setenv("NOTIFY_SOCKET", where)
    assert not notify("READY=1")
