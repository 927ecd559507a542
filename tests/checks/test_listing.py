"""The documentation lists what is checked, as the code says it: code, severity, meaning and remedy.

After a change to the rules: `python tests/checks/test_listing.py` writes the list anew.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fsm_conn.checks import RULES, markdown

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
BLOCK = re.compile(r"(<!-- checks -->\n)(.*?)(\n?<!-- end -->)", re.DOTALL)


def test_the_documentation_lists_what_is_checked() -> None:
    """With the words of the code."""
    found = BLOCK.search(PAGE.read_text("utf-8"))
    assert found is not None, "the page has lost the comments between which the list of checks stands"
    assert found[2] == markdown(), "run `python tests/checks/test_listing.py`, which writes the list anew"


def test_the_package_prints_the_list() -> None:
    """For documents elsewhere."""
    command = [sys.executable, "-m", "fsm_conn.checks"]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout == markdown() + "\n"


def test_every_rule_says_in_a_sentence_what_is_wrong_and_what_to_do() -> None:
    """A list of codes alone would be no help; and none has a character that would break the table."""
    said = [text for rule in RULES.values() for text in (rule.meaning, rule.remedy)]
    assert [text for text in said if not re.fullmatch(r"[A-Z][^|\n]{10,220}\.", text)] == []
    assert [code for code, rule in RULES.items() if code != rule.code or not re.fullmatch(r"FSM1\d\d", code)] == []
    assert len({rule.name for rule in RULES.values()}) == len({rule.meaning for rule in RULES.values()}) == len(RULES)
    assert list(RULES) == sorted(RULES)


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + markdown() + "\n" + found[3].lstrip(), text), "utf-8")
