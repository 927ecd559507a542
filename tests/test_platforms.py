"""What is said where a system cannot do what is asked, as far as that can be shown without such a system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fsm_conn import Connection, Endpoint, Plugin
from fsm_conn.links import checking
from fsm_conn.links.process import system


def test_windows_has_no_plugins_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said when the connection is made, with what to do instead; endpoints are as anywhere."""
    monkeypatch.setattr(sys, "platform", "win32")
    for target in (Plugin(["calculator"]), ["calculator"]):
        with pytest.raises(ValueError, match="Linux and macOS only, and this is Windows: connect to an Endpoint"):
            Connection(target)
    assert Connection(Endpoint("127.0.0.1:1")).name == "127.0.0.1:1"
    checking.must_have_plugins("darwin")


def test_nothing_of_processes_is_imported_for_machines_and_endpoints() -> None:
    """So it does not matter there that Windows lacks what these modules need."""
    code = """
import asyncio, sys
for name in ("fcntl", "termios", "resource", "pwd", "grp"):
    sys.modules[name] = None
import fsm_conn, fsm_conn.cli, fsm_conn.checks, fsm_conn.diagrams, fsm_conn.testing, fsm_conn.telemetry
for name in fsm_conn.__all__:
    getattr(fsm_conn, name)
async def main():
    conn = fsm_conn.Connection("127.0.0.1:9", retry=fsm_conn.RetryPolicy(max_attempts=1))
    try:
        await conn.connect()
    except fsm_conn.ConnectFailedError as error:
        print("refused" if "127.0.0.1:9" in str(error) else error)
asyncio.run(main())
print([name for name in sys.modules if name.startswith(("fsm_conn.links.process", "fsm_conn.links.plugin"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("refused\n[]\n", 0), done.stderr


def test_where_there_are_no_descriptors_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: the caller is told, and looks now and then instead. Nobody connects as anybody."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OSError, match="no descriptors of processes"):
        system.exit_descriptor(1)
    system.death_hook.cache_clear()
    system.death_wrapper.cache_clear()
    try:
        assert (system.death_hook(), system.death_wrapper()) == (None, ())
        assert system.usable_cores() >= 1
    finally:
        system.death_hook.cache_clear()
        system.death_wrapper.cache_clear()
