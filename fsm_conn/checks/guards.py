"""What guards can say together, whatever each of them says alone.

A row's guards are a set of names that must hold, or must not; nothing is known about a guard but that it answers the
same when it is asked twice. So every question here is one of propositional logic, and is answered exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fsm_conn.machine.chart import ChartRow

__all__ = ["Term", "ambiguous", "is_contradictory", "is_covered", "term_of"]

Term = frozenset[tuple[str, bool]]
"""Guards that must all hold: each by its name, and with what it must answer."""

_NOT = "not "


def term_of(row: ChartRow) -> Term:
    """What must hold for the row to be taken, as far as its own guards say."""
    return frozenset((name.removeprefix(_NOT), not name.startswith(_NOT)) for name in row.guards)


def is_contradictory(term: Term) -> bool:
    """Whether one guard must both hold and not hold."""
    return any((name, not value) in term for name, value in term)


def is_covered(term: Term, others: Iterable[Term]) -> bool:
    """Whether, whenever `term` holds, one of `others` holds too; also when it never does."""
    if is_contradictory(term):
        return True
    left = [other - term for other in others if not is_contradictory(other | term)]
    if not all(left):
        return True
    said = frozenset[tuple[str, bool]]().union(*left)
    one_sided = frozenset((name, not value) for name, value in said if (name, not value) not in said)
    if one_sided:  # nothing speaks against the answers that refuse these terms
        return is_covered(term | one_sided, left)
    return bool(left) and all(is_covered(term | {(min(said)[0], answer)}, left) for answer in (True, False))


def ambiguous(rows: Sequence[ChartRow]) -> list[tuple[ChartRow, ChartRow]]:
    """Of the alternatives for one trigger and source: pairs of which only the order decides which one is taken.

    A row whose guards include those of a later one is a special case of it, and comes first by right; so does
    whatever comes before a last row without guards. Where an earlier row stands for all cases in which both agree, and
    where both come to the same, nothing is left to the order.
    """
    terms = [term_of(row) for row in rows]
    return [
        (first, second)
        for place, first in enumerate(rows)
        for later, second in enumerate(rows[place + 1 :], place + 1)
        if not terms[place] >= terms[later]
        and (first.dest, first.effects) != (second.dest, second.effects)
        and not is_covered(terms[later], terms[:later])
        and not is_covered(terms[place] | terms[later], terms[:place])
    ]
