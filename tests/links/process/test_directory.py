"""Private directories: how they are made, and which of those that dead hosts left are removed."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn.links.errors import LinkError
from fsm_conn.links.process import directory

NOBODY = 400_000_000
"""A number that no process has: Linux counts to four million."""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where directories are made."""
    short = Path(tempfile.mkdtemp(prefix="d-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    yield short
    directory.remove(str(short))


def of(pid: int, *, world: str | None = None, tail: str = "abc_0123") -> str:
    """The name of a directory that a host with this number has made."""
    return f"fsm-{pid}-{directory._world() if world is None else world}-{tail}"


def left(base: Path, name: str, mode: int = 0o700) -> Path:
    path = base / name
    path.mkdir()
    path.chmod(mode)
    return path


linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is swept")


class TestMake:
    def test_private(self, base: Path) -> None:
        """It is empty, this user's alone, and named by the process that has made it."""
        path = Path(directory.make())
        assert path.parent == base
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert path.name.startswith(f"fsm-{os.getpid()}-")
        assert not list(path.iterdir())

    def test_short_enough(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A socket fits into it, however long TMPDIR is, and however large this process's number."""
        monkeypatch.setattr(os, "getpid", lambda: 4_194_304)
        for length in (directory.LONGEST_BASE, directory.LONGEST_BASE + 1):
            long = base / ("x" * (length - len(str(base)) - 1))
            long.mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(long))
            path = directory.make()
            assert os.path.dirname(path) in (str(long), directory.SHORT_BASE)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.join(path, "pyvider-01234567.sock"))
            directory.remove(path)

    def test_impossible(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a place for it the error says what to do."""
        monkeypatch.setattr(tempfile, "tempdir", str(base / "nowhere"))
        with pytest.raises(LinkError, match="set TMPDIR"):
            directory.make()


@linux
class TestSweep:
    def test_of_a_dead_host(self, base: Path) -> None:
        """What a dead host left is removed with all that is in it, and what links in it lead to stays."""
        kept = base / "kept"
        kept.mkdir()
        (kept / "file").touch()
        path = left(base, of(NOBODY))
        (path / "deep").mkdir()
        (path / "deep" / "file").touch()
        (path / "link").symlink_to(kept)
        directory.sweep(str(base))
        assert not path.exists()
        assert (kept / "file").exists()

    def test_of_a_host_that_has_just_died(self, base: Path) -> None:
        """The number of a process that was reaped is dead; while the process lives, it is not."""
        host = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
        path = left(base, of(host.pid))
        directory.sweep(str(base))
        assert path.exists()
        host.communicate()
        directory.sweep(str(base))
        assert not path.exists()

    def test_own_is_made_as_it_is_swept(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What `make` makes is what `sweep` knows, once its maker is dead."""
        monkeypatch.setattr(os, "getpid", lambda: NOBODY)
        path = directory.make()
        directory.sweep(str(base))
        assert not os.path.exists(path)

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(of(os.getpid()), id="this process"),
            pytest.param(of(os.getppid()), id="a living process"),
            pytest.param(of(1), id="another user's process, or a living one"),
            pytest.param(of(NOBODY, world="00000000"), id="another machine, boot or namespace"),
            pytest.param(f"fsm-{NOBODY}-abc_0123", id="no mark"),
            pytest.param(of(NOBODY, tail="abc_01234"), id="too long"),
            pytest.param(of(NOBODY, tail="abc_012"), id="too short"),
            pytest.param(of(NOBODY) + ".bak", id="a copy"),
            pytest.param("x" + of(NOBODY), id="another prefix"),
            pytest.param(of(-1), id="all processes"),
            pytest.param(of(0), id="this group"),
            pytest.param(of(10**12), id="no number of a process"),
        ],
    )
    def test_kept_for_its_name(self, name: str, base: Path) -> None:
        """What may be somebody's, or is named in another way, stays."""
        path = left(base, name)
        directory.sweep(str(base))
        assert path.exists()

    @pytest.mark.parametrize("mode", [0o755, 0o701, 0o770, 0o600, 0o1700])
    def test_kept_for_its_mode(self, mode: int, base: Path) -> None:
        """What others may enter is no private directory."""
        path = left(base, of(NOBODY), mode)
        directory.sweep(str(base))
        assert path.exists()
        path.chmod(0o700)

    def test_kept_for_its_owner(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another user's directory stays, even for root."""
        path = left(base, of(NOBODY))
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        directory.sweep(str(base))
        assert path.exists()

    def test_no_directory(self, base: Path) -> None:
        """A file or a link of that name stays, and so does what the link leads to."""
        target = left(base, "target")
        (base / of(NOBODY)).symlink_to(target)
        (base / of(NOBODY, tail="file0000")).touch(0o700)
        directory.sweep(str(base))
        assert len(list(base.iterdir())) == 3

    @given(st.one_of(st.text(max_size=40), st.from_regex(directory._NAME, fullmatch=True)))
    def test_only_the_dead(self, name: str) -> None:
        """Whatever a name is, only one with our mark and the number of no process is that of a dead host."""
        words = name.split("-")
        foretold = directory._NAME.fullmatch(name) is not None and words[2] == directory._world()
        if directory._is_of_the_dead(name):
            assert foretold
            assert not Path("/proc", words[1]).exists()

    def test_no_mark(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody can tell whose numbers these are, nothing is swept, not even without a mark."""
        monkeypatch.setattr(directory, "_world", lambda: "")
        paths = [left(base, f"fsm-{NOBODY}-abc_0123"), left(base, f"fsm-{NOBODY}--abc_0123")]
        own = directory.make()
        assert os.path.basename(own).count("-") == 2
        directory.sweep(str(base))
        assert all(path.exists() for path in paths)

    def test_nothing_there(self, base: Path) -> None:
        """A base that is gone is nothing to complain about."""
        directory.sweep(str(base / "nowhere"))


class TestRemove:
    @linux
    def test_no_proc(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where /proc is not mounted nothing can be unlocked, and what is not locked is removed all the same."""
        chmod = os.chmod

        def without_proc(path: str, mode: int) -> None:
            if path.startswith("/proc/"):
                raise FileNotFoundError(path)
            chmod(path, mode)

        (base / "full" / "deep" / "deeper").mkdir(parents=True)
        (base / "full" / "deep" / "file").touch()
        monkeypatch.setattr(os, "chmod", without_proc)
        directory.remove(str(base / "full"))
        assert not (base / "full").exists()

    def test_a_slice_at_a_time(self, base: Path) -> None:
        """What a plugin has filled is removed in slices, each of them bounded; at last nothing is left."""
        top = base / "full"
        for number in range(300):
            (top / str(number) / "below").mkdir(parents=True)
        slices = 0
        while not directory.remove(str(top), 0.0005):
            slices += 1
            assert top.exists()
        assert slices > 0
        assert not top.exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_a_stranger_s_in_the_place_of_ours(self, base: Path) -> None:
        """Is neither entered nor removed."""
        (base / "other").mkdir()
        (base / "other" / "file").touch()
        os.chown(base / "other", 12345, 12345)
        assert directory.remove(str(base / "other"))
        assert (base / "other" / "file").exists()
        os.chown(base / "other", 0, 0)


class TestNeighbours:
    @pytest.fixture
    def short(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A directory that is used where the usual one will not do."""
        with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as path:
            monkeypatch.setattr(directory, "SHORT_BASE", path)
            yield Path(path)

    def test_another_is_chosen(self, base: Path, short: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Where others may rename what is ours, nothing is made; the log says so."""
        base.chmod(0o777)
        made = Path(directory.make())
        assert made.parent == short
        assert "may be written to by others and is not sticky" in caplog.text
        made.rmdir()
        base.chmod(0o1777)
        made = Path(directory.make())
        assert made.parent == base
        made.rmdir()

    def test_none_is_left(self, base: Path, short: Path) -> None:
        """Then a plugin is not started."""
        for each in (base, short):
            each.chmod(0o777)
        with pytest.raises(LinkError, match="may be written to by others and is not sticky"):
            directory.make()
        assert [*base.iterdir(), *short.iterdir()] == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_an_owner_above(self, base: Path, short: Path) -> None:
        """Who owns a directory above ours can put another in its place."""
        inner = base / "inner"
        inner.mkdir(mode=0o700)
        os.chown(base, 12345, 12345)
        assert "belongs to user 12345" in str(directory.who_may_tamper(str(inner)))
        os.chown(base, 0, 0)
        assert directory.who_may_tamper(str(inner)) is None
