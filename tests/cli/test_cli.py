"""The command, as people use it: help, wrong arguments, a pipe that closes, an interrupt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import ConnectFailedError, cli
from fsm_conn.version import __version__


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fsm_conn", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_help_names_the_commands() -> None:
    """On stdout, with status 0; for a command too, with an example."""
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "demo" in result.stdout
    result = run("demo", "--help")
    assert result.returncode == 0
    assert "Example: fsm-conn demo" in result.stdout


def test_version() -> None:
    """The version of the package."""
    assert run("--version").stdout == f"fsm-conn {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("dmeo",), ("demo", "--nonsense"), ("demo", "more")])
def test_wrong_arguments_end_with_status_2_and_usage_on_stderr(arguments: tuple[str, ...]) -> None:
    """No traceback, and nothing on stdout."""
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "usage: fsm-conn" in result.stderr
    assert "Traceback" not in result.stderr


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A full disk, and a closed stdout."""
    if Path("/dev/full").exists():
        result = subprocess.run(
            f"{sys.executable} -m fsm_conn demo >/dev/full",
            shell=True,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (result.returncode, result.stderr) == (1, "fsm-conn demo: cannot write: No space left on device\n")
    result = subprocess.run(
        f"{sys.executable} -m fsm_conn demo >&-", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConnectFailedError("calculator: could not connect"), 1, "fsm-conn demo: calculator: could not connect\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_one_line_without_a_traceback(
    error: BaseException, status: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What went wrong is told on stderr, and by the exit status."""

    async def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "_demo", fail)
    assert cli.main(["demo"]) == status
    assert capsys.readouterr().err == message
