"""The command on real plugins, on a terminal and in pipes: what is on the screen, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import warm
from screens import COMMAND, Terminal, clean_environment

from fsm_conn import Connection
from fsm_conn.testing import conforms

Run = Callable[..., subprocess.CompletedProcess[str]]
Opened = Callable[..., Terminal]
PLUGINS = Path(__file__).parent / "plugins"
CALCULATOR = ("--", sys.executable, str(PLUGINS / "lean.py"))
WITHOUT_REFLECTION = ("--", sys.executable, str(PLUGINS / "ailing.py"), "none")
WATCH, CALL = ("watch", "--start-timeout", "60"), ("call", "--start-timeout", "60")
ESCAPE = "\x1b"


def hostile(*words: str) -> tuple[str, ...]:
    return ("--", sys.executable, "-S", "-E", str(PLUGINS / "hostile.py"), *words)


@pytest.fixture(scope="module")
def process() -> Iterator[warm.Warm]:
    """What forks most of the commands; some are processes of their own, as those of users are."""
    with warm.started(clean_environment(), measured=True) as process:
        yield process


@pytest.fixture(scope="module")
def run(process: warm.Warm) -> Run:
    """`fsm-conn`, without a terminal."""
    return partial(process.run, *COMMAND[1:])


@pytest.fixture(scope="module")
def opened(process: warm.Warm) -> Opened:
    """`fsm-conn` on a terminal."""
    return partial(Terminal, by=process)


def run_after(command: Sequence[str], *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a process of its own, which another command becomes."""
    whole = [*command, *COMMAND, *arguments]
    return subprocess.run(whole, capture_output=True, text=True, timeout=300, env=clean_environment(**environment))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def plugin_on(terminal: Terminal, *not_these: int) -> int:
    """The number of the plugin's process, as soon as the screen shows one that is none of these."""
    found: list[int] = []

    def look(text: str) -> bool:
        found[:] = [pid for pid in map(int, re.findall(r"process (\d+)", text)) if pid not in not_these]
        return bool(found)

    terminal.until(look)
    return found[-1]


def moves(text: str) -> list[str]:
    """The transitions in what was shown."""
    return re.findall(r"(\w+ -> \w+)", text)


THERE_AND_BACK = [
    "disconnected -> connecting",
    "connecting -> connected",
    "connected -> reconnecting",
    "reconnecting -> connected",
    "connected -> disconnecting",
    "disconnecting -> disconnected",
]


# --- demo ---------------------------------------------------------------------------------------------------


def test_the_demo_in_a_pipe_is_plain_lines(run: Run) -> None:
    """Facts and times, without an escape code or a character that needs a terminal."""
    result = run("demo")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.isascii()
    assert ESCAPE not in result.stdout
    assert moves(result.stdout) == THERE_AND_BACK
    assert "calculator.Multiply(a=4, b=7) = 28" in result.stdout
    times = [float(found) for found in re.findall(r"^ +([\d.]+) s  ", result.stdout, re.MULTILINE)]
    assert times == sorted(times)
    noticed, answered = map(int, re.search(r"noticed after (\d+) ms, answered (\d+) ms", result.stdout).groups())  # type: ignore[union-attr]
    assert 0 <= noticed <= answered <= times[-1] * 1000


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
def test_the_demo_on_a_terminal_lights_the_state_that_it_is_in(opened: Opened, columns: int, lines: int) -> None:
    """The states are drawn below the lines; nothing is wider than the terminal; both plugins are gone at the end."""
    with opened("demo", "--pause", "0.05", columns=columns, lines=lines) as terminal:
        first = plugin_on(terminal)
        terminal.until("╭")
        terminal.until("Disconnected. No process is left")
        assert terminal.ended() == 0
        text = terminal.text
        assert moves(text) == THERE_AND_BACK
        assert text.count("╰───────────────╯   ╰────────╯   ╰────────────────╯   ╰────────────╯") == 1
        assert {cell.reverse for cell in terminal.styles("│ disconnected")} == {True}
        assert {cell.reverse for cell in terminal.styles("reconnecting  │")} == {False}
    pids = set(map(int, re.findall(r"process (\d+)", text)))
    assert first in pids
    assert not [pid for pid in pids if is_alive(pid)]


def test_a_terminal_without_colours_or_without_anything(opened: Opened) -> None:
    """NO_COLOR leaves the drawing, without colours. A dumb terminal gets lines, and no escape code."""
    with opened("demo", "--pause", "0", NO_COLOR="1") as terminal:
        assert terminal.ended() == 0
        assert {cell.fg for row in terminal.screen.buffer.values() for cell in row.values()} == {"default"}
        assert "╭" in terminal.text
    with opened("demo", TERM="dumb") as terminal:
        assert terminal.ended() == 0
        assert ESCAPE.encode() not in terminal.written
        assert "╭" not in terminal.text


def test_a_terminal_without_unicode_is_drawn_on_in_ascii() -> None:
    """By its locale."""
    with Terminal("demo", "--pause", "0", PYTHONIOENCODING="ascii") as terminal:
        assert terminal.ended() == 0
        assert terminal.written.isascii()
        assert "| disconnected  |--->|" in terminal.text


def test_a_narrow_terminal_is_told_the_state_by_its_name(opened: Opened) -> None:
    """Half a drawing would tell less."""
    with opened("demo", "--pause", "0", columns=40, lines=10) as terminal:
        assert terminal.ended() == 0
        assert "╭" not in terminal.text
        assert {cell.reverse for cell in terminal.styles("     disconnected ")[5:]} == {True}


def test_ctrl_c_ends_the_demo_and_its_plugin() -> None:
    """With status 130, and without a traceback."""
    with Terminal("demo", "--pause", "60") as terminal:
        terminal.until("A calculator plugin")
        terminal.interrupt()
        assert terminal.ended() == 130
        assert "Traceback" not in terminal.text
    with Terminal("demo", "--pause", "1") as terminal:
        pid = plugin_on(terminal)
        terminal.interrupt()
        assert terminal.ended() == 130
        assert "Traceback" not in terminal.text
        assert not is_alive(pid)


# --- watch --------------------------------------------------------------------------------------------------


def test_on_a_narrow_terminal_each_fact_has_a_line(opened: Opened) -> None:
    """None is cut off, and nothing is drawn of which half would be missing."""
    with opened(*WATCH, "--interval", "0.2", *CALCULATOR, columns=40, lines=14) as terminal:
        shown = terminal.until(lambda text: re.search(r"state connected\n +health serving\n", text) is not None)
        assert re.search(r"attempt 1 of 5\n +losses 0\n +process \d+\n", shown)
        assert "╭" not in shown
        terminal.interrupt()
        assert terminal.ended() == 130


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
def test_a_plugin_that_is_killed_is_seen_to_come_back(opened: Opened, columns: int, lines: int) -> None:
    """Connected and healthy; killed, reconnecting, with the reason; connected and healthy again, in another process."""
    with opened(*WATCH, "--interval", "0.2", *CALCULATOR, columns=columns, lines=lines) as terminal:
        terminal.until("health serving")
        assert {cell.bg for cell in terminal.styles("   connected   ")} == {"green"}
        first = plugin_on(terminal)
        os.kill(first, signal.SIGKILL)
        terminal.until(lambda text: f"process {first} was killed by SIGKILL" in text)
        second = plugin_on(terminal, first)
        shown = terminal.until(lambda text: text.count("serving  answered in") == 2)
        assert moves(shown) == THERE_AND_BACK[:4]
        assert "losses 1" in terminal.until("losses 1")
        assert "attempt 2 of 5" in terminal.text
        terminal.interrupt()
        assert terminal.ended() == 130
        assert terminal.is_in_order
        assert moves(terminal.text) == THERE_AND_BACK
        assert "Traceback" not in terminal.text
        assert not is_alive(second)
        assert max(map(len, terminal.text.splitlines())) <= columns


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_what_is_watched_with_the_watcher(opened: Opened, number: int, status: int) -> None:
    """As Ctrl-C does."""
    with opened(*WATCH, *CALCULATOR) as terminal:
        pid = plugin_on(terminal)
        os.kill(terminal.pid, number)
        assert terminal.ended() == status
        assert terminal.is_in_order
        assert not is_alive(pid)


def test_a_watcher_that_is_killed_leaves_the_terminal_in_order() -> None:
    """It cannot clean up after itself, so there is nothing to clean up: echo and cursor were never turned off."""
    with Terminal(*WATCH, *CALCULATOR) as terminal:
        terminal.until("health serving")
        os.kill(terminal.pid, signal.SIGKILL)
        assert terminal.ended() == -signal.SIGKILL
        assert terminal.shows_what_is_typed


def test_keys_that_are_pressed_do_not_spoil_the_drawing(opened: Opened) -> None:
    """They are shown and drawn over; Enter moves the drawing on by a line, and nothing of it is left behind."""
    with opened(*WATCH, "--interval", "0.2", *CALCULATOR, lines=40) as terminal:
        terminal.until("health serving")
        for keys in ("x", "\n", "yes\n", "\n"):
            terminal.press(keys)
            terminal.until_drawn_anew()
        # What is read now may be half of a drawing; the next one is whole.
        terminal.until(lambda text: text.count("Ctrl-C ends it") == 1 and text.count("╭───────────────╮") == 2)
        terminal.interrupt()
        assert terminal.ended() == 130
        assert terminal.is_in_order
        assert terminal.text.count("╭───────────────╮") == 2


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_watching_ends_with_its_reader(options: tuple[str, ...]) -> None:
    """`| head -1` ends it at once: without a further event, which here would not come for an hour."""
    command = [*COMMAND, *WATCH, "--interval", "3600", *options, *CALCULATOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        for line in watching.stdout:
            if b"-> connected" in line or b'"dest": "connected"' in line:
                break
        watching.stdout.close()
        assert watching.wait(timeout=300) == 0
        assert watching.stderr.read() == b""


def test_a_plugin_that_is_stopped_is_noticed_by_its_probes(opened: Opened) -> None:
    """No answer, said with the reason; and then it is replaced."""
    options = ("--interval", "0.2", "--probe-timeout", "0.3", "--threshold", "2")
    with opened(*WATCH, *options, *CALCULATOR) as terminal:
        terminal.until("health serving")
        first = plugin_on(terminal)
        os.kill(first, signal.SIGSTOP)
        terminal.until("no answer to a health probe within 0.3 s")
        second = plugin_on(terminal, first)
        terminal.interrupt()
        assert terminal.ended() == 130
        assert not is_alive(first)
        assert not is_alive(second)


def test_watching_in_a_pipe_is_plain_lines_and_ends_when_it_is_given_up(run: Run) -> None:
    """Each attempt with its reason, status 1, and the last reason in the line on stderr."""
    result = run(*WATCH, "--attempts", "2", *hostile("exit"))
    assert result.returncode == 1
    assert ESCAPE not in result.stdout
    assert moves(result.stdout)[:3] == [
        "disconnected -> connecting",
        "connecting -> reconnecting",
        "reconnecting -> failed",
    ]
    assert re.fullmatch(
        r"fsm-conn watch: given up after 2 attempts: the plugin's process \d+ exited with status 3 before its handshake: .+\n",
        result.stderr,
    )


def test_watching_as_json_is_a_trace_that_conforms(run: Run, tmp_path: Path) -> None:
    """A line for each transition and change of health, which `trace` and `conforms` read."""
    command = [*COMMAND, *WATCH, "--json", "--interval", "0.1", *CALCULATOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        lines, healthy = [], 0
        for text in watching.stdout:
            lines.append(json.loads(text))
            if lines[-1].get("health") == "serving":
                healthy += 1
                pid = next(line["pid"] for line in reversed(lines) if line.get("dest") == "connected")
                os.kill(*((pid, signal.SIGKILL) if healthy == 1 else (watching.pid, signal.SIGINT)))
        assert watching.stderr.read() == b""
    assert watching.returncode == 130
    file = tmp_path / "life.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    # A probe that was under way when the plugin was killed may fail before its end is noticed.
    health = [line for line in lines if line["event"] == "health" and line["health"] != "no answer"]
    assert [line["health"] for line in health] == ["serving", "unknown", "serving", "unknown"]
    assert [line["latency_ms"] is not None for line in health] == [True, False, True, False]
    transitions = [line for line in lines if line["event"] == "transition"]
    assert [f"{line['source']} -> {line['dest']}" for line in transitions] == THERE_AND_BACK
    assert transitions[2]["reason"]["type"] == "PluginExitedError"
    conforms(Connection, map(json.dumps, transitions), strict=True)
    result = run("trace", "--strict", str(file))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("conforms to Connection: 6 transitions of 1 life\n")


def test_what_a_plugin_prints_cannot_command_the_terminal(run: Run, opened: Opened) -> None:
    """Neither as the reason of a failure, nor as its output: no colour, no clearing, no markup."""
    evil = "\x1b[31;1m[bold red]boo[/]\x1b[2J\x07"
    with opened("watch", "-v", "--attempts", "1", *hostile("line", evil), columns=200) as terminal:
        assert terminal.ended() == 1
        assert "[bold red]boo[/]" in terminal.text
        assert b"\x1b[2J" not in terminal.written
        assert b"\x07" not in terminal.written
        assert b"\x1b[31;1m" not in terminal.written
    result = run(*CALL, "a.B", *hostile("line", evil))
    assert result.returncode == 1
    assert "[bold red]boo[/]" in result.stderr
    assert ESCAPE not in result.stderr


def test_a_command_that_does_not_exist(run: Run, opened: Opened) -> None:
    """One line, also below a drawing."""
    with opened(*WATCH, "--", "no-such-plugin", columns=300) as terminal:
        assert terminal.ended() == 1
        assert terminal.text.splitlines()[-1].startswith(
            "fsm-conn watch: given up at the first attempt: the plugin's command"
        )
    result = run(*CALL, "--list", "--", "no-such-plugin")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)


# --- call ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "given", "replies"),
    [
        (("calculator.Add", "a=5", "b=3"), None, [{"result": 8.0}]),
        (("calculator.Subtract", "a=5", "b=5"), None, [{"result": 0.0}]),
        (("calculator.Calculator.Add", "--json", '{"a": 1, "b": 2}'), None, [{"result": 3.0}]),
        (("calculator.Add", "--json", "-"), '{"a": 1, "b": 2}', [{"result": 3.0}]),
        (("calculator.Count", "limit=3"), None, [{"result": 1.0}, {"result": 2.0}, {"result": 3.0}]),
        (("calculator.Count", "limit=0"), None, []),
        (("calculator.Sum", "--json", '[{"value": 1}, {"value": 2}]'), None, [{"result": 3.0}]),
        (("calculator.Sum", "--json", "-"), '{"value": 1}\n{"value": 2}\n', [{"result": 3.0}]),
        (("calculator.Sum", "value=4"), None, [{"result": 4.0}]),
        (("calculator.Accumulate", "--json", "[]"), None, []),
        (("--services", "fsm_conn.demo.calculator_pb2", "calculator.Add", "a=1"), None, [{"result": 1.0}]),
    ],
)
def test_replies_are_lines_of_json(run: Run, arguments: tuple[str, ...], given: str | None, replies: list[Any]) -> None:
    """For every kind of method, and every way to give the request."""
    result = run(*CALL, *arguments, *CALCULATOR, given=given)
    assert (result.returncode, result.stderr) == (0, "")
    assert [json.loads(line) for line in result.stdout.splitlines()] == replies


def test_in_a_directory_that_was_removed(tmp_path: Path) -> None:
    """A plugin that needs none is started and called as ever; one that does is refused once, with the reason."""
    (tmp_path / "gone").mkdir()
    gone = ("/bin/sh", "-c", f'cd "{tmp_path}/gone" && rmdir "{tmp_path}/gone" && exec "$@"', "sh")
    called = run_after(gone, *CALL, "calculator.Add", "a=5", "b=3", *CALCULATOR)
    assert (called.returncode, called.stdout, called.stderr) == (0, '{"result": 8.0}\n', "")
    (tmp_path / "gone").mkdir()
    for path in (
        os.defpath,
        os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
    ):  # found by the shell or not
        toured = run_after(gone, "demo", PATH=path)
        assert (toured.returncode, toured.stderr) == (0, "")
        assert moves(toured.stdout) == THERE_AND_BACK
        (tmp_path / "gone").mkdir()
    refused = run_after(gone, "watch", "--", "./plugin")
    assert refused.returncode == 1
    assert refused.stderr == (
        "fsm-conn watch: given up at the first attempt: the plugin's command './plugin' is relative to the working "
        "directory of this process, which was removed: give an absolute path, or change to a directory that exists\n"
    )


def test_a_request_from_a_file(run: Run, tmp_path: Path) -> None:
    """And one that cannot be read."""
    file = tmp_path / "request.json"
    file.write_text('{"a": 20, "b": 22}')
    assert run(*CALL, "calculator.Add", "--json", f"@{file}", *CALCULATOR).stdout == '{"result": 42.0}\n'
    result = run(*CALL, "calculator.Add", "--json", f"@{tmp_path}/nothing", *CALCULATOR)
    assert (result.returncode, result.stderr) == (
        1,
        f"fsm-conn call: cannot read '{tmp_path}/nothing': No such file or directory\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("calculator.Add", "a=x"), "field 'a' takes a float, not 'x'"),
        (("calculator.Add", "c=1"), "calculator.Operands has no field 'c'. Its fields: a, b"),
        (("calculator.Ad",), "calculator.Calculator has no method 'Ad'. Did you mean 'Add'?"),
        (("calc.Add",), "no service 'calc' is known. Its services: calculator.Calculator."),
        (("Add",), "'Add' names no method: give 'calculator.Calculator.Add'"),
        (("calculator.Divide", "a=1"), "calculator.Calculator.Divide: INVALID_ARGUMENT: division by zero"),
        (("calculator.Add", "--json", "{"), "--json is not valid: "),
        (("calculator.Add", "--json", "{}{}"), "calculator.Calculator.Add takes one request, and --json has 2"),
        (("calculator.Sum",), "calculator.Calculator.Sum takes a stream: give --json"),
        (("calculator.Add", "--json", "[]"), "calculator.Operands: "),
        (("--describe", "calcul"), "no service 'calcul' is known."),
        (("calculator.Count", "limit=1000000000", "--timeout", "1"), "calculator.Calculator.Count: no answer within 1 s"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_one_line(run: Run, arguments: tuple[str, ...], said: str) -> None:
    """With status 1, and what exists instead."""
    result = run(*CALL, *arguments, *CALCULATOR)
    assert result.returncode == 1
    assert result.stderr.startswith(f"fsm-conn call: {said}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("calculator.Add",), ("--list",), ("--describe", "calculator")])
def test_a_plugin_without_reflection_is_told_how_to_be_called(run: Run, arguments: tuple[str, ...]) -> None:
    """What the library says of it; with --services it can be."""
    result = run(*CALL, *arguments, *WITHOUT_REFLECTION)
    assert result.returncode == 1
    assert "The peer does not offer server reflection: declare its services" in result.stderr
    assert result.stderr.count("\n") == 1
    declared = run(*CALL, "--services", "fsm_conn.demo.calculator_pb2", *arguments, *WITHOUT_REFLECTION)
    assert "reflection" not in declared.stderr
    if arguments[0] != "calculator.Add":
        assert declared.returncode == 0
        assert "calculator.Calculator" in declared.stdout


def test_services_are_listed_and_described(run: Run) -> None:
    """With their types; those of gRPC itself are left out."""
    listed = run(*CALL, "--list", *CALCULATOR).stdout
    assert listed.startswith("calculator.Calculator\n  Add(calculator.Operands) -> calculator.Result\n")
    assert "  Accumulate(stream calculator.Number) -> stream calculator.Result\n" in listed
    assert "grpc." not in listed
    shown = run(*CALL, "--describe", "calculator", *CALCULATOR).stdout
    assert "  rpc Sum(stream calculator.Number) returns (calculator.Result);\n" in shown
    assert "message calculator.Operands {\n  double a = 1;\n  double b = 2;\n}\n" in shown


def test_a_reply_on_a_terminal_is_indented_and_coloured(opened: Opened) -> None:
    """Where people read it."""
    with opened(*CALL, "calculator.Add", "a=5", "b=3", *CALCULATOR) as terminal:
        assert terminal.ended() == 0
        assert json.loads(terminal.text) == {"result": 8.0}
        assert len(terminal.text.splitlines()) == 3
        assert {cell.fg for cell in terminal.styles("result")} != {"default"}


def test_a_reader_that_has_enough_ends_a_stream() -> None:
    """As `| head -1` does: quiet, status 0, and no process is left."""
    command = f"{sys.executable} -m fsm_conn call calculator.Count limit=100000000 {' '.join(CALCULATOR)} | head -1"
    result = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=clean_environment(),
    )
    assert (result.stdout, result.stderr) == ('{"result": 1.0}\n0\n', "")


def test_ctrl_c_ends_a_call_and_the_plugin(opened: Opened) -> None:
    """However long the stream."""
    with opened(*CALL, "calculator.Count", "limit=100000000", *CALCULATOR) as terminal:
        terminal.until('{"result": 50.0}')
        pids = children_of(terminal.pid)
        terminal.interrupt()
        assert terminal.ended() == 130
        assert "Traceback" not in terminal.text
        assert pids
        assert not [pid for pid in pids if is_alive(pid)]


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def test_what_a_plugin_prints_is_shown_on_stderr_when_asked_for(run: Run) -> None:
    """And not otherwise; the reply alone is on stdout."""
    talkative = ("--", sys.executable, str(PLUGINS / "talkative.py"))
    quiet, verbose = run(*CALL, "calculator.Add", *talkative), run(*CALL, "-v", "calculator.Add", *talkative)
    assert (quiet.returncode, verbose.returncode) == (0, 0)
    assert quiet.stdout == verbose.stdout == '{"result": 0.0}\n'
    assert quiet.stderr == ""
    assert verbose.stderr.startswith("| ")
