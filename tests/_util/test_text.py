"""Nothing that a plugin, a file or a module says can command the terminal."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn._util.redact import Redactor
from fsm_conn._util.text import RISKY, brief, plain, plain_json, plain_line, sanitised, shortened
from fsm_conn.cli.drawing import transition_line
from fsm_conn.diagrams.words import visible

PASSING = "\n\t\u200c\u200d"
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
ANY_TEXT = st.text(st.characters(exclude_categories=[]))


def is_harmless(text: str) -> bool:
    """Whether each character is one that is shown; the end of a line and the tab are, too."""
    return all(each in PASSING or unicodedata.category(each) not in UNSEEN for each in text)


@given(ANY_TEXT)
def test_no_control_character_gets_through(text: str) -> None:
    """Whatever the text; and what is shown can be written as UTF-8."""
    assert is_harmless(plain(text))
    plain(text).encode()


@given(ANY_TEXT)
def test_within_a_line_it_stays_one(text: str) -> None:
    """Whatever the text, nothing in it ends the line or moves on to the next column."""
    assert is_harmless(plain_line(text))
    assert len(plain_line(text).splitlines()) <= 1
    assert "\t" not in plain_line(text)


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=5))
def test_json_stays_what_it_is(value: object) -> None:
    """Read again, it is the same, and no control character is in it."""
    text = plain_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert is_harmless(text)


@pytest.mark.parametrize("text", ["plain", "Grüße, 世界", "a\tb\nc", "[bold]no markup[/bold]"])
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    """Other scripts, and what only looks like markup."""
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("\x1b[31mred", "\\x1b[31mred"), ("a\rb", "a\\rb"), ("\x9b2J", "\\x9b2J"), ("‮", "\\u202e")]
)
def test_what_commands_is_shown_as_its_escape(text: str, shown: str) -> None:
    """Colours, overwriting, clearing, turning around."""
    assert plain(text) == shown


@given(ANY_TEXT, ANY_TEXT, st.integers(20, 200))
def test_a_line_of_the_timeline_is_harmless(state: str, why: str, width: int) -> None:
    """Names of states come from users' classes and files, reasons from plugins."""
    line = transition_line("0.0 s", state, state, why, note=state, width=width).plain
    assert is_harmless(line)
    assert line.count("\n") <= 1  # before a reason that has no room beside the rest


def test_the_filter_knows_all_of_unicode() -> None:
    """Of each character that there is: what is of these categories is made visible, what can be seen is not."""
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    passed = [each for each in RISKY.sub("", text) if unicodedata.category(each) in UNSEEN]
    assert passed == list("\t\n\u200c\u200d")
    assert {unicodedata.category(each) for each in RISKY.findall(text)} <= {*UNSEEN, "Cn"}


def test_one_filter_for_all() -> None:
    """What the terminal, logs, errors and diagrams make visible is the same."""
    for each in map(chr, [*range(0x300), 0x61C, *range(0x2000, 0x2070), 0xFEFF, 0xE0041]):
        risky = bool(RISKY.match(each))
        assert (plain(each) != each) == risky
        assert (sanitised(each) != each) == risky
        assert (Redactor()(each) != each) == risky
        assert risky <= (visible(each) != each)


@given(ANY_TEXT, st.integers(1, 50))
def test_brief_is_one_line(text: str, limit: int) -> None:
    """Of bounded length."""
    line = brief(text, limit)
    assert is_harmless(line)
    assert "\n" not in line
    assert len(line) <= limit + 3


@given(st.text(), st.integers(10, 50))
def test_shortened(text: str, limit: int) -> None:
    """The beginning and the end are kept."""
    short = shortened(text, limit)
    assert short == text if len(text) <= limit else len(short) < limit + 50
    assert (short[: limit // 2], short[-(limit // 2) :]) == (text[: limit // 2], text[-(limit // 2) :])
