"""What a test leaves behind is seen, whatever it is; and what libraries leave is not."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import wave as _wave
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import traces

from fsm_conn import Connection
from fsm_conn.machine import binding, observers

Leave = Callable[[pytest.MonkeyPatch, Path], object]


def importer(name: str) -> None:
    """As a test would write one."""


LEFT: dict[str, Leave] = {
    "the module left_behind": lambda patch, path: imported("left_behind", path),
    "the module left_none": lambda patch, path: patch.setitem(sys.modules, "left_none", None),
    "another or no module json": lambda patch, path: patch.setitem(sys.modules, "json", ModuleType("json")),
    "another or no module wave": lambda patch, path: patch.delitem(sys.modules, "wave"),
    "os.environ: b'LEFT' was None, is b'x'": lambda patch, path: patch.setenv("LEFT", "x"),
    "os.environ: b'PATH' was ": lambda patch, path: patch.delenv("PATH"),
    "the working directory: was ": lambda patch, path: patch.chdir(path),
    "sys.path: was ": lambda patch, path: patch.setattr(sys, "path", ["", *sys.path]),
    "sys.argv: was ": lambda patch, path: patch.setattr(sys, "argv", ["left"]),
    "what imports: was ": lambda patch, path: patch.setattr(sys, "meta_path", [*sys.meta_path, importer]),
    "signals: was ": lambda patch, path: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "hooks: was ": lambda patch, path: patch.setattr(threading, "excepthook", print),
    "the interpreter: was ": lambda patch, path: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
    "the collector: was ": lambda patch, path: gc.disable(),
    "the locale: was ": lambda patch, path: patch.setattr(time, "tzname", ("left", "left")),
    "tempfile.tempdir: was ": lambda patch, path: patch.setattr(tempfile, "tempdir", str(path)),
    "logging: was ": lambda patch, path: logging.disable(),
    "loggers: was ": lambda patch, path: logging.getLogger("fsm_conn").setLevel(1),
    "registries: fsm_conn.machine.observers.on_begun was ": lambda patch, path: patch.setattr(
        observers, "on_begun", [*observers.on_begun, print]
    ),
}

assert _wave

IN_A_FILE: dict[str, Leave] = {
    "code: fsm_conn.machine.binding.BoundTable.listen was ": lambda patch, path: patch.setattr(
        binding.BoundTable, "listen", print
    ),
    "code: fsm_conn.connection.connection.Connection.connect was ": lambda patch, path: patch.delattr(
        Connection, "connect"
    ),
    "code: os.kill was ": lambda patch, path: patch.setattr(os, "kill", print),
    "umask: was ": lambda patch, path: os.umask(0o70),
}


def imported(name: str, path: Path) -> None:
    (path / f"{name}.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path)
        importlib.import_module(name)


@pytest.fixture
def undone(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Whatever a test does is undone at its end."""
    handler, limit, logger = signal.getsignal(signal.SIGUSR1), sys.getrecursionlimit(), logging.getLogger("fsm_conn")
    level, mask = logger.level, os.umask(0o77)
    os.umask(mask)
    with traces.removed(str(tmp_path)), pytest.MonkeyPatch.context() as patch:
        yield patch
    signal.signal(signal.SIGUSR1, handler)
    sys.setrecursionlimit(limit)
    gc.enable()
    logging.disable(logging.NOTSET)
    logger.setLevel(level)
    os.umask(mask)


@pytest.mark.parametrize("words", LEFT)
def test_what_a_test_leaves_is_seen(words: str, undone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And told in words."""
    before = traces.of_a_test()
    LEFT[words](undone, tmp_path)
    (told,) = traces.changes(before, traces.of_a_test(), str(tmp_path))
    assert told.startswith(words)


@pytest.mark.parametrize("words", IN_A_FILE)
def test_what_a_file_leaves_is_seen(words: str, undone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also what was put in the place of code, and not taken out again."""
    before = traces.of_a_file()
    IN_A_FILE[words](undone, tmp_path)
    (told,) = traces.changes(before, traces.of_a_file(), str(tmp_path))
    assert told.startswith(words)


def test_what_is_imported_late_is_no_trace(undone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A library, wherever it lies, and what comes with it."""
    before = traces.of_a_file()
    imported("left_behind", tmp_path)
    undone.setitem(sys.modules, "left_odd", 5)  # as cffi's libraries do
    assert [*traces.changes(before, traces.of_a_file())] == []


def test_a_hostile_module_is_asked_nothing(undone: pytest.MonkeyPatch) -> None:
    """It is found all the same."""

    class Hostile:
        def __getattribute__(self, name: str) -> object:
            raise SystemExit

        def __eq__(self, other: object) -> bool:
            raise SystemExit

    before = traces.of_a_test()
    undone.setitem(sys.modules, "left_behind", Hostile())
    assert [*traces.changes(before, traces.of_a_test())] == ["the module left_behind"]
