"""Which sockets a host connects to: those that are where the plugin was told to put them, and nobody else's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsm_conn.links.plugin.socket_file import what_is_wrong


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a socket in it, and a socket beside it."""
    (tmp_path / "given").mkdir()
    (tmp_path / "beside").mkdir()
    servers = []
    for place in ("given", "beside"):
        monkeypatch.chdir(tmp_path / place)  # for paths of sockets are short
        servers.append(socket.socket(socket.AF_UNIX))
        servers[-1].bind("s")
    yield tmp_path / "given"
    for server in servers:
        server.close()


def test_its_own(given: Path) -> None:
    """In the directory or below it, and also what is not there yet."""
    below = given / "below"
    below.mkdir()
    for path in (given / "s", given / "later", below / "later", below / ".." / "s"):
        assert what_is_wrong(str(path), [str(given)]) == ""


def test_a_directory_by_another_name(given: Path) -> None:
    """The directory itself may be reached by a link, as temporary directories of macOS are."""
    link = given.parent / "link"
    link.symlink_to(given)
    assert what_is_wrong(str(link / "s"), [str(given)]) == ""
    assert what_is_wrong(str(given / "s"), [str(link)]) == ""


def test_one_of_several(given: Path) -> None:
    """Whichever the user has named."""
    assert what_is_wrong(str(given / "s"), ["/nowhere", str(given)]) == ""
    assert "outside" in what_is_wrong(str(given / "s"), [])


@pytest.mark.parametrize("path", ["../beside/s", "../given2/s", "link/s", "link/later", "/s", "/nowhere/s"])
def test_outside(given: Path, path: str) -> None:
    """By its words, or by where its directory leads."""
    (given / "link").symlink_to(given.parent / "beside")
    assert "is outside of the directory" in what_is_wrong(os.path.join(given, path), [str(given)])


def test_no_socket_of_its_own(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, wherever it leads; a file; a socket of another user."""
    for name, target in (("inside", given / "s"), ("out", given.parent / "beside" / "s"), ("nowhere", "/nowhere")):
        (given / name).symlink_to(target)
        assert "symbolic link" in what_is_wrong(str(given / name), [str(given)])
    (given / "file").touch()
    assert "is no socket" in what_is_wrong(str(given / "file"), [str(given)])
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr("fsm_conn.links.plugin.socket_file.ROOT", 4712)
    assert "belongs to another user" in what_is_wrong(str(given / "s"), [str(given)])


def test_only_its_own_of_a_plugin_that_runs_as_another_user(given: Path) -> None:
    """Not ours, nor root's, to which it may have made a hard link: it would have us talk to a service that it may not."""
    me = os.geteuid()
    assert what_is_wrong(str(given / "s"), [str(given)], me) == ""
    assert "belongs to another user" in what_is_wrong(str(given / "s"), [str(given)], me + 1)
