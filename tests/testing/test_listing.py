"""The documentation lists what every life is checked for, as the code says it: name, meaning, and when it is checked.

After a change to the invariants: `python tests/testing/test_listing.py` writes the list anew.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import fsm_conn.testing
from fsm_conn.testing.lives.connections.invariants import INVARIANTS, RULES_OF_STEPS
from fsm_conn.testing.lives.machines.life import MachineLife

PAGE = Path(__file__).parents[2] / "docs" / "invariants.md"
BLOCK = re.compile(r"(<!-- begin: what every life is checked for -->\n)(.*?)(\n?<!-- end -->)", re.DOTALL)


def sentence(doc: str) -> str:
    """The first paragraph of a docstring, in one line, fit for a table."""
    return " ".join(doc.strip().partition("\n\n")[0].split()).replace("|", "\\|")


def listing() -> str:
    """The table for the page."""
    rows = [(each.name, sentence(each.doc), each.moment) for each in INVARIANTS]
    rows += [(name, sentence(meaning), "in a step") for name, meaning in RULES_OF_STEPS.items()]
    return "\n".join(
        ["| name | what must hold | when |", "|---|---|---|", *(f"| `{a}` | {b} | {c} |" for a, b, c in rows)]
    )


def documented() -> str:
    """The table that is on the page."""
    found = BLOCK.search(PAGE.read_text("utf-8"))
    assert found is not None, "the page has lost the comments between which the list stands"
    return found[2]


def raised() -> set[str]:
    """The names of the rules that the code of the harness gives to a violation, wherever it finds one."""
    found = set()
    rooms = Path(fsm_conn.testing.__file__).parent.rglob("*.py")
    for path in (room for room in rooms if room.parent.name != "pools"):  # those of pools are named there
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("self._fail", "Finding", "ViolationError"):
                first = call.args[0] if call.args else None
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_the_documentation_lists_what_every_life_is_checked_for() -> None:
    """By name, with the words of the code."""
    assert documented() == listing(), "run `python tests/testing/test_listing.py`, which writes the list anew"


def test_every_invariant_says_in_a_sentence_what_must_hold() -> None:
    """A list of names alone would be no help."""
    meanings = [sentence(doc) for doc in (*(each.doc for each in INVARIANTS), *RULES_OF_STEPS.values())]
    assert [text for text in meanings if not re.fullmatch(r"[A-Z`].{10,160}\.", text)] == []
    names = {*(each.name for each in INVARIANTS), *RULES_OF_STEPS}
    assert len(set(meanings)) == len(meanings) == len(names)


def test_every_rule_that_a_step_can_break_is_listed() -> None:
    """Also those which are no functions of their own."""
    assert raised() - {each.name for each in INVARIANTS} == {*RULES_OF_STEPS, *MachineLife.rules}


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + listing() + "\n" + found[3].lstrip(), text), "utf-8")
