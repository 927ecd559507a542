"""Shells complete commands, options, formats, states and the classes of a module."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from screens import clean_environment

from fsm_conn import cli

CASES = [
    ("d", "demo diagram"),
    ("diagram fsm_conn:Conn", "fsm_conn:Connection fsm_conn:ConnectionPool"),
    ("explore fsm_conn:Conn", "fsm_conn:Connection fsm_conn:ConnectionPool"),
    ("diagram no_such_module:", ""),
    ("diagram --format m", "mermaid markdown"),
    ("diagram fsm_conn:Connection --state re", "renewing reconnecting"),
    ("diagram fsm_conn:Nothing --state re", ""),
    ("diagram --state re", ""),
    ("check fsm_conn:Connection --format s", "sarif"),
    ("explore --se", "--seconds --seed"),
    ("completion f", "fish"),
]


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_what_a_shell_is_told(
    line: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the protocol of zsh, which takes words as they are; nothing is ever said on stderr."""
    monkeypatch.setenv("COMP_WORDS", f"fsm-conn {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split())))
    monkeypatch.setenv("_FSM_CONN_COMPLETE", "zsh_complete")
    assert cli.main([]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert " ".join(shown.out.splitlines()[1::3]).replace("\\:", ":") == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Calls the command by its name, and parses, where the shell is there to tell."""
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_FSM_CONN_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=200)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("d", "demo diagram"),
        ("diagram fsm_conn : Conn", "Connection ConnectionPool"),
        ("explore fsm_conn : Man", "ManagedConnection"),
        ("diagram fsm_conn:Conn", "fsm_conn:Connection fsm_conn:ConnectionPool"),
        ("diagram fsm_conn : Connection --state re", "renewing reconnecting"),
        ("trace --class fsm_conn : Stateful", "StatefulConnection"),
    ],
)  # fmt: skip
def test_bash_completes_what_follows_a_colon(words: str, expected: str, tmp_path: Path) -> None:
    """A colon ends a word of its, as long as COMP_WORDBREAKS has one: only what follows it is replaced."""
    command = tmp_path / "fsm-conn"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fsm_conn "$@"\n')
    command.chmod(0o755)
    program = f"""
eval "$(fsm-conn completion bash)"
COMP_WORDS=(fsm-conn {words})
COMP_CWORD={len(words.split())}
_fsm_conn_completion fsm-conn
echo "${{COMPREPLY[*]}}"
"""
    environment = clean_environment(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    result = subprocess.run(
        ["bash", "--norc", "-c", program], capture_output=True, text=True, timeout=200, check=True, env=environment
    )
    assert (result.stdout, result.stderr) == (f"{expected}\n", "")
