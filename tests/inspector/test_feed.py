"""What an open window is told: everything it needs, soon, and in bounded memory."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest
from browsing import Browser

from fsm_conn import Connection, ConnectionPool, State, StateMachine, Transition
from fsm_conn.inspector import Inspector
from fsm_conn.inspector.hub import MOST_WINDOWS
from fsm_conn.inspector.window import MOST_ENTRIES, MOST_GONE
from fsm_conn.testing import SimulatedLink, conforms


class Door(StateMachine):
    """Two states, and a trigger that comes with a secret."""

    states = (State("closed", initial=True), State("open"))
    transitions = (
        Transition("push", "closed", "open"),
        Transition("pull", "open", "closed"),
        Transition("knock", "closed", None),
        Transition("unlock", "closed", "open", effects=("take",)),
    )

    def __init__(self, name: str) -> None:
        self.name = name

    def take(self, password: str) -> None: ...


STATE = 4


async def test_a_window_is_told_of_all_machines_and_of_each_change() -> None:
    """What there is when it opens, what comes, what moves, and what goes."""
    inspector = Inspector(token=False)
    door = Door("front")
    inspector.watch(door)
    async with Browser(inspector.app).feed() as feed:
        await feed.until(lambda: feed.rows)
        assert feed.named("front")[1:5] == ["front", "machine", "Door", "closed"]
        door.fire("push")
        await feed.until(lambda: feed.named("front")[STATE] == "open")
        other = Door("back")
        inspector.watch(other, name="the other")
        await feed.until(lambda: len(feed.rows) == 2)
        assert feed.named("the other")
        del other
        gc.collect()
        await feed.until(lambda: len(feed.rows) == 1)


async def test_the_chosen_machine_is_told_with_all_its_steps() -> None:
    """Those before it was chosen, and each one after; and its table, its counts and where it stands."""
    inspector = Inspector(token=False)
    door = Door("front")
    inspector.watch(door)
    door.fire("push")
    async with Browser(inspector.app).feed() as feed:
        told = await feed.look("front")
        assert [state["name"] for state in told["chart"]["states"]] == ["closed", "open"]
        assert [entry[1] for entry in feed.entries] == ["push"]
        for _ in range(300):
            door.fire("pull")
            door.fire("push")
        await feed.until(lambda: len(feed.entries) == 601)
        assert [entry[0] for entry in feed.entries] == list(range(1, 602))
        await feed.until(lambda: sum(way[4] for way in feed.details["ways"]) == 601)
        assert feed.details["snapshot"]["state"] == "open"


async def test_a_slow_browser_costs_nothing_and_misses_nothing_but_pictures() -> None:
    """While it does not read, what waits for it is bounded; afterwards it is right again."""
    inspector = Inspector(token=False)
    doors = [Door(f"door {number}") for number in range(10)]
    for door in doors:
        inspector.watch(door)
    async with Browser(inspector.app).feed() as feed:
        await feed.look("door 0")
        feed.blocked = asyncio.Event()
        await asyncio.sleep(1)
        for _ in range(3 * MOST_ENTRIES):
            for door in doors:
                door.fire("push")
                door.fire("pull")
        (window,) = inspector._hub.windows
        assert len(window.changed) == 10
        assert len(window._entries) == MOST_ENTRIES
        doors[3].fire("push")
        feed.blocked.set()
        feed.blocked = None
        await feed.until(lambda: feed.named("door 3")[STATE] == "open")
        await feed.until(lambda: feed.entries[-1][0] == 6 * MOST_ENTRIES)


async def test_machines_that_come_and_go_are_not_kept_for_a_browser_that_reads_nothing() -> None:
    """Its stream ends when it has missed too many, and it begins anew; nothing of them stays meanwhile."""
    inspector = Inspector(token=False)
    async with Browser(inspector.app).feed() as feed:
        await feed.until(lambda: feed.hello)
        feed.blocked = asyncio.Event()
        (window,) = inspector._hub.windows
        for _ in range(MOST_GONE + 10):
            inspector.watch(Door("passing"))()
        assert window.changed == {}
        assert len(window.gone) == MOST_GONE
        feed.blocked.set()
        feed.blocked = None
        await feed.task
    assert inspector._hub.windows == ()


async def test_a_vanished_browser_is_forgotten() -> None:
    """And so are those of an inspector that ends; nobody waits for them."""
    inspector = Inspector(token=False)
    async with Browser(inspector.app).feed():
        assert len(inspector._hub.windows) == 1
    assert inspector._hub.windows == ()
    async with Browser(inspector.app).feed() as feed:
        await inspector.aclose()
        await feed.task


async def test_windows_are_told_each_for_itself() -> None:
    """Two that look at different machines are told of these, and both of all."""
    inspector = Inspector(token=False)
    front, back = Door("front"), Door("back")
    inspector.watch(front)
    inspector.watch(back)
    browser = Browser(inspector.app)
    async with browser.feed() as one, browser.feed() as two:
        await one.look("front")
        await two.look("back")
        front.fire("push")
        await one.until(lambda: one.entries)
        await two.until(lambda: two.named("front")[STATE] == "open")
        assert two.entries == []


async def test_windows_are_bounded() -> None:
    """One too many is refused, with a word."""
    inspector = Inspector(token=False)
    browser = Browser(inspector.app)
    async with asyncio.TaskGroup():
        feeds = [browser.feed() for _ in range(MOST_WINDOWS + 1)]
        for feed in feeds:
            await feed.__aenter__()
        assert [feed.status for feed in feeds] == [200] * MOST_WINDOWS + [503]
        for feed in feeds:
            await feed.__aexit__()


async def test_nothing_of_what_came_with_a_trigger_is_told() -> None:
    """Nor of what an error holds beside its first line."""
    inspector = Inspector(token=False)
    door = Door("front")
    inspector.watch(door)
    said: list[bytes] = []
    browser = Browser(inspector.app)
    async with browser.feed() as feed:
        take = feed._take
        feed._take = lambda message: (said.append(json.dumps(message).encode()), take(message))[1]  # type: ignore[assignment, func-returns-value]
        await feed.look("front")
        door.fire("unlock", reason=OSError("first line\nsecret second line"), password="hunter2")
        await feed.until(lambda: feed.entries and feed.details)
        await asyncio.sleep(2)
    told = b"".join(said)
    assert b"first line" in told
    assert b"hunter2" not in told
    assert b"second line" not in told


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "\u202eevil\u2066", "x" * 10_000, "a\nb\x1b[31m", "\ud800"]
)
async def test_a_hostile_name_is_cut_and_made_visible(name: str) -> None:
    """It can be no markup, for the page makes text of it; nor turn what stands around it, nor fill the page."""
    inspector = Inspector(token=False)
    door = Door(name)
    inspector.watch(door)
    async with Browser(inspector.app).feed() as feed:
        await feed.until(lambda: feed.rows)
        (row,) = feed.rows.values()
    assert len(row[1]) <= 1300
    assert not any(ord(char) < 32 or 0x202A <= ord(char) <= 0x202E or 0x2060 <= ord(char) <= 0x206F for char in row[1])


async def test_a_connection_is_told_with_its_attempts_and_calls() -> None:
    """The reason of its last trouble, its attempt, and of its calls numbers alone."""
    inspector = Inspector(token=False)
    conn = Connection(SimulatedLink.script(opens=["refuse", "ok"], calls=["ok", "lost"]), name="peer")
    inspector.watch(conn)
    async with Browser(inspector.app).feed() as feed:
        await feed.look("peer")
        async with conn:
            await conn.call("calculator.Add", {"a": "secret"})
            await feed.until(lambda: feed.named("peer")[STATE] == "connected" and feed.details.get("calls"))
            assert [entry[8] for entry in feed.entries][-1] == 2
            assert "refuse" in json.dumps(feed.named("peer")) or feed.named("peer")[7]
            (method,) = feed.details["calls"]["methods"]
            assert (method["count"], method["failed"]) == (1, 0)
            lines = [
                json.dumps(
                    {
                        "v": 1,
                        "trigger": entry[1],
                        "source": entry[2],
                        "dest": entry[3],
                        "internal": entry[4],
                        "reason": entry[5] and {"type": entry[5][0], "message": entry[5][1]},
                        "dwell": entry[6],
                        "at": entry[7],
                        "attempt": entry[8],
                        "connection": "peer",
                    }
                )
                for entry in feed.entries
            ]
            conforms(Connection, lines)


async def test_a_pool_is_told_with_its_slots_leases_and_waiters() -> None:
    """And all its connections are listed under it."""
    inspector = Inspector(token=False)
    pool = ConnectionPool(SimulatedLink.script(), pool_size=2, max_overflow=0, name="workers")
    inspector.watch(pool)
    async with Browser(inspector.app).feed() as feed, pool:
        await feed.look("workers")
        await feed.until(lambda: len(feed.rows) == 3)
        assert {row[9] for row in feed.rows.values()} == {None, feed.named("workers")[0]}
        async with pool.acquire(), pool.acquire():
            waiter = asyncio.create_task(pool.acquire().__aenter__())
            await feed.until(lambda: feed.details["pool"]["stats"]["waiting"] == 1)
            assert [slot["leases"] for slot in feed.details["pool"]["slots"]] == [1, 1]
            waiter.cancel()
        await feed.until(lambda: feed.details["pool"]["stats"]["leased"] == 0)


async def test_without_pygraphviz_the_page_is_told_so(monkeypatch: Any) -> None:
    """It shows a board instead of a picture."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    inspector = Inspector(token=False)
    door = Door("front")
    inspector.watch(door)
    browser = Browser(inspector.app)
    async with browser.feed() as feed:
        await feed.until(lambda: feed.rows)
        answer = await browser.get(f"/api/picture?of={feed.named('front')[0]}&theme=dark&detail=full")
    assert "fsm_conn[diagrams]" in answer.json["error"]
