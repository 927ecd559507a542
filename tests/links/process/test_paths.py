"""A host whose working directory was removed: it is told so, where that matters, and otherwise does not notice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsm_conn.links.errors import CommandNotExecutableError
from fsm_conn.links.plugin.client import PluginClient
from fsm_conn.links.plugin.link import PluginLink
from fsm_conn.links.process.paths import absolute
from fsm_conn.links.target import Plugin


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()


def test_from_a_directory_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is absolute stays; what is not is meant from the base, or from where this process is."""
    monkeypatch.chdir(tmp_path)
    assert absolute("/a/b", "/base", "command") == absolute("/a/b", None, "command") == "/a/b"
    assert absolute("a/b", "/base", "command") == "/base/a/b"
    assert absolute("./b", None, "command") == os.path.join(os.getcwd(), "./b")


@pytest.mark.usefixtures("nowhere")
class TestNowhere:
    def test_what_needs_none(self) -> None:
        """Absolute paths, and those that a directory was named for."""
        assert absolute("/a", None, "command") == "/a"
        assert absolute("a", "/base", "command") == "/base/a"
        PluginLink(["x"], cwd="/")

    def test_a_working_directory_for_the_plugin(self) -> None:
        """A relative one is refused for good, in words."""
        with pytest.raises(
            CommandNotExecutableError, match=r"working directory 'sub' is relative .* was removed: give"
        ):
            PluginLink(["x"], cwd="sub")

    def test_a_directory_for_its_sockets(self) -> None:
        """An absolute one is taken; a relative one is refused, by the name of its variable."""
        assert PluginClient(Plugin(("x",), env={"TMPDIR": "/a"}))._directories() == ["/a"]
        with pytest.raises(CommandNotExecutableError, match=r"plugin's TMPDIR 'a' is relative"):
            PluginClient(Plugin(("x",), env={"TMPDIR": "a"}))._directories()
