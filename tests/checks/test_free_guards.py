"""What is concluded about ways and rows is what happens, when every guard says all it may say.

Random tables are run by `transitions` itself, from every state, with every answer of every guard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from transitions import Machine

from fsm_conn.checks import check
from fsm_conn.checks.guards import Term, is_covered

GUARDS = ("hot", "late", "old")
Literals = frozenset[tuple[str, bool]]
guard = st.tuples(st.sampled_from(GUARDS), st.booleans())


@attrs.frozen
class Row:
    trigger: str
    source: int
    dest: int | None
    guards: tuple[tuple[str, bool], ...]

    @property
    def shown(self) -> str:
        asked = [name for name, answer in self.guards if answer] + [
            f"not {n}" for n, answer in self.guards if not answer
        ]
        dest = "(stays)" if self.dest is None else f"s{self.dest}"
        return f"{self.trigger}: s{self.source} -> {dest}" + (f" [{', '.join(asked)}]" if asked else "")

    def agrees(self, answers: dict[str, bool]) -> bool:
        return all(answers[name] == answer for name, answer in self.guards)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[bool], list[Row]]:
    """Which of the states are final, and the rows."""
    final = draw(st.lists(st.booleans(), min_size=2, max_size=5))
    state = st.integers(0, len(final) - 1)
    rows = st.builds(
        Row,
        st.sampled_from(("go", "come")),
        state,
        st.none() | state,
        st.lists(guard, max_size=3, unique=True).map(tuple),
    )
    return final, draw(st.lists(rows, max_size=9))


class Ran:
    """What happens in a table: the rows that are taken, and the moves."""

    def __init__(self, final: list[bool], rows: list[Row]) -> None:
        self.final, self.rows = final, rows
        self.taken: set[int] = set()
        self.moves: set[tuple[int, int]] = set()
        self.last = -1
        self.model = type("Model", (), {})()
        self.machine = Machine(
            self.model,
            [{"name": f"s{number}", "final": each} for number, each in enumerate(final)],
            initial="s0",
            auto_transitions=False,
            ignore_invalid_triggers=True,
        )
        for index, row in enumerate(rows):
            self.machine.add_transition(
                row.trigger,
                f"s{row.source}",
                None if row.dest is None else f"s{row.dest}",
                conditions=[name for name, answer in row.guards if answer],
                unless=[name for name, answer in row.guards if not answer],
                before=self.effect(index),
            )
        self.run()

    def effect(self, index: int) -> Any:
        def effect() -> None:
            self.last = index

        effect.__name__ = f"e{index}"
        return effect

    def run(self) -> None:
        for source, answers in product(range(len(self.final)), everything()):
            vars(self.model).update(answers)
            for trigger in self.machine.events:
                self.machine.set_state(f"s{source}", self.model)
                if self.machine.events[trigger].trigger(self.model):
                    self.taken.add(self.last)
                    self.moves.add((source, int(self.model.state[1:])))

    def led(self, begin: int) -> set[int]:
        found, fresh = set(), {begin}
        while fresh:
            found |= fresh
            fresh = {dest for source, dest in self.moves if source in fresh} - found
        return found

    def findings(self) -> Iterator[str]:
        reached = self.led(0)
        traps = {s for s in reached if not self.final[s] and all(dest == s for src, dest in self.moves if src == s)}
        home = {0, *traps, *(s for s in reached if self.final[s])}
        yield from (f"FSM101 s{s}" for s in range(len(self.final)) if s not in reached)
        yield from (f"FSM102 s{s}" for s in traps)
        yield from (f"FSM103 s{s}" for s in reached if not self.led(s) & home)
        yield from (f"FSM104 {trigger} in s{source}" for trigger, source in self.ambiguous())
        yield from (f"FSM105 {row.shown}" for index, row in enumerate(self.rows) if index not in self.taken)

    def ambiguous(self) -> set[tuple[str, int]]:
        found = set()
        for answers, (first, second) in product(everything(), combinations(self.rows, 2)):
            key = (first.trigger, first.source)
            if key != (second.trigger, second.source):
                continue
            agreeing = [row for row in self.rows if (row.trigger, row.source) == key and row.agrees(answers)]
            both = first.agrees(answers) and second.agrees(answers)
            special = set(first.guards) >= set(second.guards)
            if both and not special and agreeing[0] is first and self.rows_index(second) in self.taken:
                found.add(key)
        return found

    def rows_index(self, row: Row) -> int:
        return next(index for index, each in enumerate(self.rows) if each is row)


def everything() -> list[dict[str, bool]]:
    return [dict(zip(GUARDS, answers, strict=True)) for answers in product((False, True), repeat=len(GUARDS))]


@given(tables())
@settings(max_examples=400, deadline=None)
def test_what_is_found_is_what_happens(table: tuple[list[bool], list[Row]]) -> None:
    """Unreachable, trap, no way home, ambiguous and never taken: all of these, and none besides."""
    ran = Ran(*table)
    assert Counter(finding.key for finding in check(ran.machine)) == Counter(ran.findings())


NAMES = "abcdef"
terms = st.frozensets(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=4)


@given(terms, st.lists(terms, max_size=8))
@settings(max_examples=400, deadline=None)
def test_covered_is_what_holds_for_all_answers(term: Term, others: list[Term]) -> None:
    """Asked one after the other."""
    worlds = [frozenset(zip(NAMES, answers, strict=True)) for answers in product((False, True), repeat=len(NAMES))]
    held = [world for world in worlds if term <= world]
    assert is_covered(term, others) == all(any(other <= world for other in others) for world in held)
