"""No stranger is ever signalled: whoever reaps the children of this host, and on every path."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from fsm_conn.links.process import child as child_module
from fsm_conn.links.process import directory
from fsm_conn.links.process.child import is_ours, signal_group
from fsm_conn.links.process.prefork_child import ForkedChild
from fsm_conn.links.process.spawner import Started


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The groups that were signalled."""
    sent: list[Any] = []
    kill = os.killpg
    monkeypatch.setattr(os, "killpg", lambda *each: (sent.append(each), kill(*each)))
    return sent


def child(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-E", "-c", code], stdout=subprocess.PIPE, process_group=0)


@pytest.mark.parametrize("ignored", [False, True])
def test_one_that_was_reaped_by_others(ignored: bool, signalled: list[Any]) -> None:
    """By a handler of the host, or by the system, where SIGCHLD is ignored: its number may be a stranger's by now."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        popen = child("pass")
        assert popen.stdout is not None
        popen.stdout.read()
        if not ignored:
            os.waitpid(popen.pid, 0)
        while is_ours(popen):
            pass
        Started(popen, directory.make()).undo()
        signal_group(popen, signal.SIGTERM, signal.SIGKILL)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert signalled == []


@pytest.mark.parametrize("forked", [False, True])
def test_one_that_ends_late_is_reaped_all_the_same(forked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it, and no zombie stays, as on a machine that is too busy to end it within the limit."""
    monkeypatch.setattr(child_module, "REAP_LIMIT", 0)
    popen = child("import time; print(flush=True); time.sleep(60)")
    os.kill(popen.pid, signal.SIGSTOP)
    assert popen.stdout is not None
    late = ForkedChild(popen.pid, popen.stdout, popen.stdout, lambda: None) if forked else popen
    kill = threading.Timer(0.1, os.killpg, (popen.pid, signal.SIGKILL))
    monkeypatch.setattr(os, "killpg", lambda *each: kill.start())
    Started(late, directory.make()).undo()
    kill.join()
    while is_ours(late):
        time.sleep(0.001)
    popen.returncode = late.wait()
    assert popen.returncode == -signal.SIGKILL


def test_one_that_runs(signalled: list[Any]) -> None:
    """It is ours, and ends; also when SIGCHLD is ignored."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        popen = child("import time; print(flush=True); time.sleep(60)")
        assert popen.stdout is not None
        popen.stdout.read(1)
        Started(popen, directory.make()).undo()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert signalled == [(popen.pid, signal.SIGKILL)]
    assert not is_ours(popen)
