"""What transition coverage counts, how it is reported, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest
from peer import TRANSIENT, Peer

from fsm_conn import Connection, RetryPolicy, State, Transition
from fsm_conn.machine import binding as machine
from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing.coverage import Count, Edge, Report, ReportError, TransitionCoverage

STATES = (State("shut", initial=True, final=True), "open", State("broken", final=True))
ROWS = (
    Transition("push", "shut", "open", guards="is_unlocked"),
    Transition("push", ("shut", "open"), None),
    Transition("pull", "open", "shut"),
    Transition("kick", "*", "broken", effects="count_kick"),
)


def door(name: str) -> type[Any]:
    """A class that has a table, and is used by no other test."""

    def is_unlocked(self: Any, reason: BaseException | None) -> bool:
        return bool(self.unlocked)

    def count_kick(self: Any, reason: BaseException | None) -> None:
        if self.kicks:
            raise RuntimeError("enough")
        self.kicks += 1

    members = {"states": STATES, "transitions": ROWS, "unlocked": True, "kicks": 0}
    members |= {"is_unlocked": is_unlocked, "count_kick": count_kick}
    return type(name, (StateMachine,), {**members, "__module__": "shop", "__qualname__": name})


def rows(report: Report, owner: str) -> list[tuple[str, int, int]]:
    """Of each row of a class: the row, and how often it was taken and refused."""
    return [(str(row), row.taken, row.refused) for row in report.rows if row.owner == owner]


async def test_it_counts_rows_and_what_their_guards_said() -> None:
    """Taken, refused, and neither when an effect raises; each row stays one row, whatever the states it starts from."""
    cls = door("Counted")
    with TransitionCoverage() as coverage:
        it = cls()
        it.fire("push")
        it.fire("push")
        it.fire("pull")
        it.unlocked = False
        it.fire("push")
        it.fire("kick")
        with pytest.raises(RuntimeError):
            it.fire("kick")
    report = coverage.report()
    assert rows(report, "shop.Counted") == [
        ("push: shut -> open [is_unlocked]", 1, 1),
        ("push: shut|open (stays)", 2, 0),
        ("pull: open -> shut", 1, 0),
        ("kick: shut|open|broken -> broken", 1, 0),
    ]
    kick = report.only(["shop.Counted"]).rows[-1]
    assert (kick.index, kick.untaken_sources) == (3, ("open", "broken"))


async def test_classes_made_while_it_counts_are_counted() -> None:
    """As are those which existed before; each under its own name, base and derived."""
    with TransitionCoverage() as coverage:
        made_later = door("MadeLater")

        class Derived(made_later):
            pass

        Derived().fire("push")
        made_later().fire("kick")
    counted = {(edge.owner, edge.trigger) for edge, count in coverage.report().counts.items() if count.taken}
    assert counted == {(f"{__name__}.{Derived.__qualname__}", "push"), ("shop.MadeLater", "kick")}


async def test_every_row_and_outcome_of_a_connection_is_there() -> None:
    """The table of `Connection`, rows in order, with guards; what ran is counted."""
    with TransitionCoverage() as coverage:
        conn = Connection(Peer(TRANSIENT), retry=RetryPolicy(max_attempts=2, initial_delay=0))
        await conn.connect()
        await conn.disconnect()
    report = coverage.report().only(["fsm_conn.connection.connection.Connection"])
    assert [(row.index, row.trigger) for row in report.rows] == list(
        enumerate(str(row.trigger) for row in Connection.transitions)
    )
    taken = {(row.trigger, row.dest) for row in report.rows if row.taken}
    assert taken == {
        ("connect", "connecting"),
        ("open_failed", "reconnecting"),
        ("opened", "connected"),
        ("disconnect", "disconnecting"),
        ("closed", "disconnected"),
    }
    assert report.overlay(Connection)["opened", "reconnecting", "connected"] == 1
    assert report.overlay(Connection)["opened", "connecting", "connected"] == 0
    assert report.overlay()["probe_passed", "connected", None] == 0


async def test_when_nobody_counts_nothing_is_wrapped() -> None:
    """After the last one has stopped, in whatever order, the machines are as they were; later lives are not counted."""
    cls = door("Unwrapped")
    first, second = TransitionCoverage(), TransitionCoverage()
    hooks, wrapped = list(machine.on_bound), is_wrapped(cls)
    first.start()
    first.start()
    second.start()
    cls().fire("push")
    first.stop()
    cls().fire("kick")
    assert is_wrapped(cls)
    second.stop()
    second.stop()
    cls().fire("kick")
    assert (machine.on_bound, is_wrapped(cls)) == (hooks, wrapped)
    assert [taken for _, taken, _ in rows(first.report(), "shop.Unwrapped")] == [1, 0, 0, 0]
    assert [taken for _, taken, _ in rows(second.report(), "shop.Unwrapped")] == [1, 0, 0, 1]


def is_wrapped(cls: type[Any]) -> bool:
    """Whether anybody listens to its table."""
    return bool(cls.lifecycle.listeners)


def test_classes_are_not_kept_alive() -> None:
    """A class that was counted is collected when it is dropped."""
    with TransitionCoverage():
        dropped = weakref.ref(door("Dropped"))
        gc.collect()
        assert dropped() is None


def report(owner: str = "shop.Door", taken: int = 1, refused: int = 1) -> Report:
    """A report of one guarded row, and of one that was never taken."""
    return Report(
        {
            Edge(owner, 0, "push", "shut", "open", ("is_unlocked",)): Count(taken, refused),
            Edge(owner, 1, "kick", "shut", None): Count(),
        }
    )


def test_reports_add_up() -> None:
    """Of two workers: the sum; classes of either are there."""
    merged = report().merge(report(taken=3), report("shop.Gate", 0, 0))
    assert merged.owners == ("shop.Door", "shop.Gate")
    assert rows(merged, "shop.Door")[0] == ("push: shut -> open [is_unlocked]", 4, 2)
    assert (merged.total, len(merged.missing)) == (6, 4)
    assert merged.percentage == pytest.approx(100 / 3)
    assert merged.only(["*.Door"]).owners == ("shop.Door",)
    assert merged.overlay()["push", "shut", "open"] == 4
    assert merged.overlay("shop.Gate") == {("push", "shut", "open"): 0, ("kick", "shut", None): 0}


def test_ours_that_never_ran_are_no_concern_of_a_user() -> None:
    """Classes of the package are reported when they ran; a user's own always."""
    merged = Report().merge(
        report("fsm_conn.connection.connection.Connection", 0, 0),
        report("fsm_conn.connection.clients.X"),
        report("shop.Door", 0, 0),
    )
    assert merged.of_interest().owners == ("fsm_conn.connection.clients.X", "shop.Door")


def test_the_text_says_what_was_never_taken() -> None:
    """Aligned, with a share for each class, and what is missing below it."""
    assert report(refused=0).merge(report("shop.LongerName")).text().splitlines() == [
        "transition coverage: 50.0 %, 3 of 6 (rows taken, guards refused)",
        "  shop.Door         33.3 %, 1 of 3",
        "    never refused  push: shut -> open [is_unlocked]",
        "    never taken    kick: shut (stays)",
        "  shop.LongerName   66.7 %, 2 of 3",
        "    never taken    kick: shut (stays)",
    ]
    assert report(taken=0, refused=0).text().splitlines()[1:] == [
        "  shop.Door    0.0 %, 0 of 3",
        "    no row was ever tried",
    ]
    assert Report().text() == "transition coverage: no class was counted"
    assert Report().percentage == 0


def test_json_brings_back_the_same() -> None:
    """Written and read: equal, and written the same again."""
    merged = report().merge(report("shop.Gate", 0, 7))
    again = Report.from_json(merged.to_json())
    assert again == merged
    assert again.to_json() == merged.to_json()
    assert json.loads(merged.to_json())["version"] == 1


def changed(**fields: Any) -> str:
    data = json.loads(report().to_json())
    data["classes"]["shop.Door"][0].update(fields)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a coverage report: Expecting value"),
        ("[" * 100_000, "not a coverage report"),
        ("[]", "an object with format="),
        ('{"version": 1}', "an object with format="),
        (report().to_json().replace('"version": 1', '"version": 2'), "version 2; this release reads 1"),
        (report().to_json().replace('"classes"', '"klasses"'), "without its 'classes'"),
        ('{"format": "fsm_conn transition coverage", "version": 1, "classes": {"A": 1}}', "rows of 'A' are no list"),
        ('{"format": "fsm_conn transition coverage", "version": 1, "classes": {"A": [1]}}', "wrong or no 'index'"),
        (changed(taken="1"), "wrong or no 'taken'"),
        (changed(taken=True), "wrong or no 'taken'"),
        (changed(refused=-1), "negative 'refused'"),
        (changed(guards="is"), "wrong or no 'guards'"),
    ],
)
def test_what_is_no_report_is_refused(text: str, message: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(ReportError, match="coverage report") as caught:
        Report.from_json(text)
    assert message in str(caught.value)
