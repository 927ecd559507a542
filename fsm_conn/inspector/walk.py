"""Walks a table by hand: the user fires triggers and answers guards, and no code of the application runs.

Each answer of a guard holds until it is changed. The declaration tells which functions a step would call, and what the
activity of a state would do.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from fsm_conn._util.timing import now
from fsm_conn.inspector.hub import Hub
from fsm_conn.inspector.subject import Subject
from fsm_conn.inspector.wire import Entry, shown
from fsm_conn.machine.chart import chart_of
from fsm_conn.machine.chart_values import ChartRow

__all__ = ["Walk"]

DEPTH = 1000
NOT = "not "


class Walk(Subject):
    """A walk through a table.

    Args:
        machine: a class with a table, or a `transitions.Machine`.
        hub: told of each step.

    Raises:
        ChartError: it has no table.
    """

    kind = "walk"

    def __init__(self, machine: Any, hub: Hub) -> None:
        chart = chart_of(machine)
        super().__init__(f"{chart.name}, by hand", chart, hub, DEPTH, Counter())
        self._answers: dict[str, bool] = {}
        self.forget()

    @property
    def state(self) -> str:
        """The current state of the walk."""
        return self._state

    @property
    def since(self) -> float | None:
        """When the state was entered."""
        return self._since

    def forget(self) -> None:
        """Go back to the beginning."""
        super().forget()
        self._ways.clear()
        self._state = (*self.chart.begins, self.chart.states[0].name)[0]
        self._since = now()

    def answer(self, guard: str, says: bool) -> str | None:
        """Set the answer of a guard from now on.

        Returns:
            the reason why that is wrong; None when it was set.
        """
        if guard not in {_bare(name) for row in self.chart.rows for name in row.guards}:
            return f"the table has no guard {shown(guard)!r}"
        self._answers[guard] = says
        return None

    def fire(self, trigger: str) -> str | None:
        """Take the first row whose guards all agree.

        Returns:
            the reason why the trigger was refused; None when a row was taken.
        """
        rows = self.chart.alternatives.get((trigger, self._state), ())
        if not rows:
            return f"{shown(trigger)!r} cannot happen in state {shown(self._state)!r}"
        row = next((row for row in rows if self._is_taken(row)), None)
        if row is None:
            return f"no row of {shown(trigger)!r} is taken: of each, a guard says no"
        at, source = now(), self._state
        internal = row.dest is None
        dest = source if row.dest is None else row.dest
        entry = Entry(trigger, source, dest, internal, None, at - self._since, at, 0)
        if not internal:
            self._state, self._since = entry.dest, at
        self.note(entry)
        return None

    def details(self, *, guards: bool) -> dict[str, Any]:
        """The details of every subject, and: the answers of the guards, and the triggers that can be fired."""
        found = super().details(guards=guards)
        if guards:
            fired = dict.fromkeys(trigger for trigger, source in self.chart.alternatives if source == self._state)
            found["guards"] = [self._verdict(trigger) for trigger in fired]
        return found

    def _verdict(self, trigger: str) -> dict[str, Any]:
        rows = self.chart.alternatives[trigger, self._state]
        return {
            "trigger": shown(trigger),
            "rows": [
                {
                    "row": row.index,
                    "guards": [{"guard": shown(each), "says": self._says(each), "why": None} for each in row.guards],
                }
                for row in rows
            ],
            "taken": next((row.index for row in rows if self._is_taken(row)), None),
            "needs": [],
        }

    def _is_taken(self, row: ChartRow) -> bool:
        return all(map(self._says, row.guards))

    def _says(self, guard: str) -> bool:
        """The guard's answer for a row; `not name` negates the answer. Guards agree unless told otherwise."""
        told = self._answers.get(_bare(guard))
        return True if told is None else told is not guard.startswith(NOT)


def _bare(guard: str) -> str:
    return guard.removeprefix(NOT)
