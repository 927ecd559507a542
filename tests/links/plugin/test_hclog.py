"""The lines of hclog: their level and fields in the log, without secrets, and whatever else a plugin may print."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn._util.redact import Redactor
from fsm_conn.links.plugin.hclog import TRACE, LineReader
from fsm_conn.links.process.output import Entry, LineLog
from fsm_conn.links.target import Plugin


def read_entry(line: str) -> Entry:
    """What the first line of a plugin says."""
    return LineReader()(line)


LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels(name: str) -> None:
    """As JSON and as text, with the time before it and without."""
    said = {"@level": name, "@message": "hello", "@module": "kv.store", "@timestamp": "2024-01-01T00:00:00Z", "n": 3}
    entry = read_entry(json.dumps(said))
    assert entry == Entry("kv.store: hello: n=3", LEVELS[name], "kv.store", {"n": 3})
    for line in (f"[{name.upper()}] hello", f"2024-01-01T00:00:00.123+0100 [{name.upper()}]  kv: hello"):
        assert read_entry(line) == Entry(line, LEVELS[name])


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "",
        "see [ERROR] in the middle",
        "[FATAL] unknown",
        "{",
        '{"@message": ',
        '{"@message": 3}',
        '["@message"]',
        '{"message": "another logger"}',
        '{"@message": ' + "[" * 100_000,
    ],
)
def test_other_lines(line: str) -> None:
    """Are shown as they are, at INFO."""
    assert read_entry(line) == Entry(line)


def test_what_is_nested_without_a_bottom(caplog: pytest.LogCaptureFixture) -> None:
    """Wherever it stands, and however deep: it is logged as it is, and so is what comes after it."""
    for depth in (40, 500, 992, 1500):
        nested = "[" * depth + "]" * depth
        for line in (f'{{"@message": "m", "x": {nested}}}', f'{{"@message": "m", "@module": {nested}}}'):
            caplog.clear()
            assert read_entry(line) == Entry(line)
            assert [record.getMessage() for record in logged(caplog, f"{line}\nnext\n", read=read_entry)] == [
                line,
                "next",
            ]


def test_a_message_without_a_level() -> None:
    """Is one at INFO, whatever else stands where the level belongs."""
    for level in ({}, {"@level": "loud"}, {"@level": None}, {"@level": ["x"]}):
        assert read_entry(json.dumps({"@message": "x", **level})) == Entry("x")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.text() | st.dictionaries(st.text() | st.sampled_from(["@message", "@level", "@module"]), VALUES).map(json.dumps)
)
def test_any_line_gives_an_entry(line: str) -> None:
    """Never an error, and only a level that there is."""
    entry = read_entry(line)
    assert entry.level in LEVELS.values()
    assert isinstance(entry.text, str)


def logged(caplog: pytest.LogCaptureFixture, text: str, redact: Redactor | None = None, **options: Any) -> Any:
    caplog.set_level(TRACE, "fsm_conn.plugin")
    log = LineLog(redact or Redactor(), lambda: 0.0, {"plugin_name": "p"}, **options)
    log.feed(text.encode())
    log.end()
    return caplog.records


def test_a_crash_of_go_is_an_error_to_its_end() -> None:
    """As go-plugin's own client has it from 1.7 on; a line with a level has its own."""
    read = LineReader()
    lines = ["ready", "panic: out of range", "", "goroutine 1 [running]:", "[INFO] bye", "exit status 2"]
    assert [read(line).level for line in lines] == [20, 40, 40, 40, 20, 40]
    assert LineReader()("fatal error: all goroutines are asleep - deadlock!").level == logging.ERROR
    assert LineReader()("do not panic: it is well").level == logging.INFO


def test_a_line_of_json_that_was_cut_short_has_its_level() -> None:
    """Hclog writes that first, and a line may be longer than what is read of it."""
    for before in ({}, {"@caller": 'C:\\a "b".go:37'}):  # hclog sorts the names
        said = {**before, "@level": "error", "@message": "m", "x": "y" * 9000}
        line = json.dumps(said, separators=(",", ":"))[:8192]
        assert read_entry(line) == Entry(line, logging.ERROR)
    other = json.dumps({"@message": "m", "x": '"@level":"error",', "y": "z" * 9000}, separators=(",", ":"))[:8192]
    assert read_entry(other) == Entry(other)


class TestInTheLog:
    def test_level_module_and_fields(self, caplog: pytest.LogCaptureFixture) -> None:
        """The record has the line's level, and the fields as they are."""
        line = json.dumps({"@level": "warn", "@message": "slow", "@module": "kv", "took": 1.5, "keys": ["a"]})
        (record,) = logged(caplog, line + "\n", read=read_entry)
        assert (record.levelname, record.getMessage()) == ("WARNING", 'kv: slow: took=1.5 keys=["a"]')
        assert (record.plugin_module, record.plugin_fields) == ("kv", {"took": 1.5, "keys": ["a"]})
        assert record.plugin_name == "p"

    def test_fields_are_of_their_own_line(self, caplog: pytest.LogCaptureFixture) -> None:
        """A line without fields does not have those of the line before."""
        said = json.dumps({"@level": "warn", "@message": "slow", "@module": "kv", "took": 1.5})
        _, record = logged(caplog, f"{said}\nplain\n", read=read_entry)
        assert not hasattr(record, "plugin_fields")
        assert not hasattr(record, "plugin_module")
        assert record.plugin_name == "p"

    def test_what_is_below_the_loggers_level_is_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """A plugin's debug lines are not the host's information."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        log = LineLog(Redactor(), lambda: 0.0, {}, read=read_entry)
        log.feed(b"[DEBUG] a\n[ERROR] b\nc\n")
        assert [(record.levelname, record.message) for record in caplog.records] == [
            ("ERROR", "[ERROR] b"),
            ("INFO", "c"),
        ]

    @pytest.mark.parametrize("listens", [logging.WARNING, logging.ERROR])
    def test_who_listens_to_errors_alone_hears_them(self, caplog: pytest.LogCaptureFixture, listens: int) -> None:
        """As by default: the standard library's loggers begin at WARNING."""
        caplog.set_level(listens, "fsm_conn.plugin")
        log = LineLog(Redactor(), lambda: 0.0, {}, read=LineReader(), loudest=logging.ERROR)
        log.feed(b"[INFO] a\n[ERROR] b\nc\n")
        assert [record.message for record in caplog.records] == ["[ERROR] b"]

    def test_secrets_that_json_had_escaped(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither the message nor a field, however deep, shows what the line had hidden by its escapes."""
        secret = 'gr\u00fc\u00df-"dich"-4711'
        line = json.dumps({"@level": "info", "@message": f"token {secret}", "deep": {"list": [secret], secret: 1}})
        escaped = line.replace("4711", "\\u0034\\u0037\\u0031\\u0031")
        (record,) = logged(caplog, escaped + "\n", Redactor([secret]), read=read_entry)
        assert secret not in record.getMessage()
        assert secret not in repr(record.plugin_fields)
        assert "[redacted]" in record.getMessage()

    def test_a_module_is_shown_like_a_field(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without secrets, and without what a terminal would obey."""
        secret = "tok-4711-8f3a"
        line = json.dumps({"@message": "m", "@module": f"kv {secret} \x1b[31m"}).replace(
            "4711", "\\u0034\\u0037\\u0031\\u0031"
        )
        (record,) = logged(caplog, line + "\n", Redactor([secret]), read=read_entry)
        assert "[redacted]" in record.plugin_module
        assert secret not in record.plugin_module
        assert "\x1b" not in record.plugin_module

    def test_a_long_message_is_cut(self, caplog: pytest.LogCaptureFixture) -> None:
        """As every line is."""
        (record,) = logged(caplog, json.dumps({"@level": "error", "@message": "x" * 6000}) + "\n", read=read_entry)
        assert record.levelname == "ERROR"
        assert len(record.getMessage()) < 5000

    def test_it_can_be_turned_off(self) -> None:
        """By the target; and what is no function is refused there."""
        assert Plugin(["x"]).log_levels
        assert not Plugin(["x"], log_levels=False).log_levels
        with pytest.raises(TypeError, match="give a function of bytes"):
            Plugin(["x"], stdout="file")  # type: ignore[arg-type]


class TestSink:
    def test_gets_all_bytes_though_nobody_logs(self, caplog: pytest.LogCaptureFixture) -> None:
        """As they come, with what is hidden from the log."""
        caplog.set_level(logging.CRITICAL, "fsm_conn.plugin")
        heard: list[bytes] = []
        log = LineLog(Redactor(["hunter2"]), lambda: 0.0, {}, sink=heard.append)
        for chunk in (b"half", b" a line\n\xff hunter2", b"\n"):
            log.feed(chunk)
        assert b"".join(heard) == b"half a line\n\xff hunter2\n"

    def test_one_that_raises_hurts_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        """It is told once, and not called again; the log goes on."""
        calls = []

        def broken(data: bytes) -> None:
            calls.append(data)
            raise ZeroDivisionError("mine")

        records = logged(caplog, "a\nb\n", sink=broken)
        assert [record.getMessage() for record in records][1:] == ["a", "b"]
        assert "is not called again" in caplog.text
        assert "ZeroDivisionError: mine" in caplog.text
        assert len(calls) == 1


def test_nothing_is_printed_where_no_logging_is_set_up() -> None:
    """What a plugin says is for those who ask for it."""
    code = "import logging, fsm_conn.links.plugin.hclog; logging.getLogger('fsm_conn.plugin').error('boom')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
