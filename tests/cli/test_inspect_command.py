"""`fsm-conn inspect`: what it is given, and what it says when that cannot be shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fsm_conn import cli
from fsm_conn.cli.commands import inspect
from fsm_conn.inspector import Inspector

LINE = '{"v":1,"trigger":"connect","source":"disconnected","dest":"connecting","internal":false,"attempt":0,"dwell":0,"at":1}'


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "Give a trace, a module:Class, or a peer after '--'; one of them."),
        (("life.jsonl", "--", "plugin"), 2, "one of them."),
        (("nowhere.jsonl",), 1, "cannot read 'nowhere.jsonl': No such file or directory"),
        (("empty.jsonl",), 1, "empty.jsonl: it has no transition"),
        (("garbled.jsonl",), 1, "garbled.jsonl: line 1: truncated or garbled"),
        (("long.jsonl",), 1, "long.jsonl: more than 3 transitions; give a part of it"),
        (("fsm_conn:Nothing",), 1, "'fsm_conn' has no 'Nothing'"),
        (("fsm_conn:RetryPolicy",), 1, "and not a state machine"),
        (("--class", "fsm_conn:RetryPolicy", "life.jsonl"), 1, "and not a class with a table of states"),
        (("--speed", "0", "life.jsonl"), 2, "--speed"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    arguments: tuple[str, ...],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything listens, and with a word about what to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inspect, "MOST_LINES", 3)
    for name, text in (("empty", "\n"), ("garbled", "{"), ("long", f"{LINE}\n" * 4), ("life", LINE)):
        Path(f"{name}.jsonl").write_text(text)
    assert cli.main(["inspect", *arguments]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_a_trace_of_watch_is_read_as_well(tmp_path: Path) -> None:
    """Its other events are passed over."""
    path = tmp_path / "life.jsonl"
    path.write_text(f'{{"event":"health","status":"healthy"}}\n{LINE}\n\n{LINE[:-1]},"event":"transition"}}\n')
    assert [line.number for line in inspect._lines(str(path))] == [2, 4]


def test_the_token_is_in_no_command_of_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of the machine sees these: the browser is led to the page by a file that this user alone may read."""
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", asked.append)

    async def looked(inspector: Inspector) -> None:
        (address,) = asked
        file = Path(address.removeprefix("file://"))
        assert str(inspector.token) not in address
        assert f"url={inspector.url}" in file.read_text()
        assert file.parent.stat().st_mode & 0o077 == 0

    asyncio.run(inspect._inspect(looked, 0, True, ()))
    assert not Path(asked[0].removeprefix("file://")).exists()
