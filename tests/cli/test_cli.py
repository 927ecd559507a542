"""The command as a whole: help, wrong arguments, a pipe that closes, an interrupt, and the extra that is missing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from screens import COMMAND, clean_environment

from fsm_conn import ConnectFailedError, cli
from fsm_conn.cli import app
from fsm_conn.version import __version__


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=clean_environment(**environment),
    )


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        f"{sys.executable} -m fsm_conn {command}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=clean_environment(),
    )


def test_help_names_the_commands() -> None:
    """On stdout, with status 0."""
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for name, text in app.COMMANDS.items():
        assert name in result.stdout
        assert text.split()[0] in result.stdout
    assert app.EXIT_STATUS.split()[0] in result.stdout


@pytest.mark.parametrize("name", app.COMMANDS)
def test_the_help_of_a_command_has_an_example_and_the_exit_status(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For each command, and its first example is one that its parser accepts."""
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"fsm-conn {name}" in shown.partition("Example")[2]
    assert "130" in shown


def test_asking_for_help_twice_says_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is added to a command when it is fetched, which happens again and again."""
    cli.main(["demo", "--help"])
    cli.main(["demo", "--help"])
    assert capsys.readouterr().out.count("Exit status") == 2


def test_version() -> None:
    """The version of the package."""
    assert run("--version").stdout == f"fsm-conn {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dmeo",), "fsm-conn: No such command 'dmeo' (did you mean 'demo'?). See 'fsm-conn --help'."),
        (("demo", "--nonsense"), "fsm-conn demo: No such option '--nonsense'. See 'fsm-conn demo --help'."),
        (("demo", "more"), "unexpected extra argument"),
        (("call", "a.B"), "Give the plugin's command after '--'"),
        (("call", "--list", "a.B", "--", "x"), "Give a method, such as calculator.Add, or --list"),
        (("call", "a.B", "c=1", "--json", "{}", "--", "x"), "Give fields or --json, not both."),
        (("call", "--list", "--json", "{}", "--", "x"), "--json goes with a method."),
        (("watch",), "Give the plugin's command after '--'"),
        (("watch", "--interval", "0", "--", "x"), "0.0 is not in the range"),
        (("explore", "--ignore", "name", "fsm_conn:Connection"), "--ignore takes NAME=REASON"),
        (("check",), "Missing argument 'MODULE:CLASS...'"),
        (("check", "--accept", "FSM101", "fsm_conn:Connection"), "--accept takes CODE=REASON"),
        (("check", "--accept", "FSM101=", "fsm_conn:Connection"), "--accept takes CODE=REASON"),
        (
            ("diagram", "fsm_conn"),
            "'fsm_conn': give module:Class; 'fsm_conn' has these: AutoReconnectClient, Connection",
        ),
        (("diagram", "--format", "gif", "fsm_conn:Connection"), "'gif' is not one of"),
        (("trace", "no-such-file"), "'no-such-file' does not exist"),
        (("completion", "tcsh"), "'tcsh' is not one of"),
    ],
)
def test_wrong_arguments_end_with_status_2_and_one_line(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, without a traceback, and nothing on stdout."""
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("fsm-conn")


def test_no_arguments_at_all_show_the_help_on_stderr() -> None:
    """With status 2."""
    result = run()
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: fsm-conn" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
@pytest.mark.parametrize("command", ["completion bash", "diagram fsm_conn:Connection", "check fsm_conn:Connection"])
def test_a_full_disk_is_one_line(command: str) -> None:
    """Whatever writes."""
    result = shell(f"{command} >/dev/full")
    name = command.partition(" ")[0]
    assert (result.returncode, result.stderr) == (1, f"fsm-conn {name}: cannot write: No space left on device\n")


@pytest.mark.parametrize("command", ["--help", "completion zsh", "diagram fsm_conn:Connection", "trace -"])
def test_a_reader_that_has_gone_is_no_error(command: str) -> None:
    """Quiet, and status 0, as for `| head`."""
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [*COMMAND, *command.split()],
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=200,
        check=False,
        env=clean_environment(),
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_character_that_stdout_does_not_have_is_written_as_its_escape() -> None:
    """And not as a traceback."""
    result = run("diagram", "fsm_conn:Connection", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (result.returncode, result.stderr) == (0, "")
    assert r"\xabfinal\xbb" in result.stdout


def test_stdin_that_is_closed_is_an_empty_one() -> None:
    """There is nothing to read."""
    result = shell("trace - <&-")
    assert (result.returncode, result.stderr) == (0, "")
    assert "0 transitions" in result.stdout


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    """What would be written there goes nowhere."""
    result = shell(f"diagram fsm_conn:Connection {closed}")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConnectFailedError("calculator: could not connect"), 1, "fsm-conn demo: calculator: could not connect\n"),
        (ConnectFailedError("\x1b[2Jgone"), 1, "fsm-conn demo: \\x1b[2Jgone\n"),
        (click.ClickException("it is so"), 1, "fsm-conn demo: it is so\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_one_line_without_a_traceback(
    error: BaseException, status: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What went wrong is told on stderr, and by the exit status."""
    from fsm_conn.cli.commands import demo

    async def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(demo, "tour", fail)
    assert cli.main(["demo"]) == status
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_cancel_and_what_was_begun_is_cleaned_up(
    number: signal.Signals, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, a polite end and a terminal that goes away: all the same to what runs."""
    from fsm_conn.cli.commands import demo

    cleaned: list[str] = []

    async def wait(*args: object, **kwargs: object) -> None:
        signal.raise_signal(number)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned.append("yes")

    monkeypatch.setattr(demo, "tour", wait)
    assert cli.main(["demo"]) == status
    assert cleaned == ["yes"]


def test_nohup_stays_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked to ignore the end of the terminal is not ended by it."""
    from fsm_conn.cli.commands import demo

    async def survive(*args: object, **kwargs: object) -> None:
        signal.raise_signal(signal.SIGHUP)
        await asyncio.sleep(0)

    monkeypatch.setattr(demo, "tour", survive)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.main(["demo"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ["click", "rich"])
def test_without_the_extra_one_line_says_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not a traceback."""
    monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["demo"]) == 1
    said = f"fsm-conn needs {name!r}, which is not installed: pip install 'fsm_conn[cli]'\n"
    assert capsys.readouterr().err == said


def test_the_package_and_the_help_import_no_more_than_they_need() -> None:
    """`import fsm_conn` neither click nor rich; the help neither rich, nor grpc, nor the commands."""
    code = (
        "import sys, fsm_conn; fsm_conn.Connection(['x']); print({'click', 'rich'} & set(sys.modules));"
        "from fsm_conn import cli; cli.main(['--help']);"
        "print([name for name in sys.modules if name.partition('.')[0] in ('rich', 'grpc', 'google', 'asyncio.runners')"
        " or name.startswith('fsm_conn.cli.') and name.rpartition('.')[2] in cli.app.COMMANDS])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    ).stdout.splitlines()
    assert (shown[0], shown[-1]) == ("set()", "[]")


def test_the_help_imports_no_asyncio() -> None:
    """Which would be a third of its time."""
    code = "import sys; from fsm_conn import cli; cli.main(['--help']); print('asyncio' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200).stdout
    assert shown.splitlines()[-1] == "False"
