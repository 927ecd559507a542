"""The inspector's page in a real browser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chrome import Page, chrome

from fsm_conn import Connection, RetryPolicy, State, StateMachine, Transition
from fsm_conn.cli.commands.inspect import _leading_to
from fsm_conn.inspector import Inspector
from fsm_conn.testing import conforms, read_trace

from .conftest import CALCULATOR

pytestmark = pytest.mark.timeout(600)

Open = Callable[..., Awaitable[Page]]
PILL = "document.querySelector('.pill')?.innerText"


class Door(StateMachine):
    """Two states, and a guard."""

    states = (State("closed", initial=True), State("open"), State("broken"))
    transitions = (
        Transition("push", "closed", "open", guards=("is_unlocked",)),
        Transition("push", "closed", None),
        Transition("pull", "open", "closed"),
        Transition("kick", ("closed", "open"), "broken"),
    )
    unlocked = True

    def __init__(self, name: str) -> None:
        self.name = name

    def is_unlocked(self) -> bool:
        return self.unlocked


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """One browser for all tests of this file."""
    with chrome() as found:
        yield found


@pytest.fixture
async def browse(driver: Any) -> AsyncIterator[Open]:
    """Opens windows; none of them may have complained when the test ends, but of a server that was gone."""
    pages: list[Page] = []

    async def opened(inspector: Inspector, path: str = "", **options: int) -> Page:
        url = inspector.url.replace("127.0.0.1", "localhost")
        page = await Page.opened(driver, url.partition("#")[0] + path, **options)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        complaints = [each for each in await page.complaints() if "net::ERR" not in each and "401" not in each]
        await page.do("sessionStorage.clear(); localStorage.clear()")
        await page.close()
        assert complaints == []


async def test_a_plugin_that_is_killed_is_seen_to_come_back(browse: Open) -> None:
    """Every state on the way, in the pill, in the diagram and in the table, with the reason."""
    conn = Connection(CALCULATOR, name="calculator", retry=RetryPolicy(initial_delay=0.5))
    async with Inspector(token=False, port=0) as inspector, conn:
        inspector.watch(conn)
        page = await browse(inspector)
        await page.choose("calculator")
        await page.until(f"{PILL}?.includes('connected')")
        await page.do(
            """window.seen = [];
            new MutationObserver(() => { const lit = document.querySelector('.fsm-state.lit title')?.textContent;
              if (lit && lit !== window.seen.at(-1)) window.seen.push(lit); })
              .observe(document.querySelector('.frame'), {subtree: true, attributes: true, attributeFilter: ['class']});"""
        )
        assert conn.pid is not None
        os.kill(conn.pid, signal.SIGKILL)
        await page.until("window.seen.join() === 'reconnecting,connected'")
        await page.until("document.querySelector('.facts').innerText.includes('SIGKILL')")
        await page.until("document.querySelectorAll('.frame [data-trail=\"0\"]').length")
        await page.click("[role=tab]", "Transitions")
        await page.until(
            "[...document.querySelectorAll('td')].some((each) => each.innerText.includes('was killed by SIGKILL'))"
        )
        assert await page.do("return document.querySelectorAll('#panel-transitions tbody tr').length") >= 4


async def test_what_is_exported_conforms(browse: Open) -> None:
    """As the file that the browser would save."""
    door = Door("front")
    async with Inspector(token=False, port=0) as inspector:
        inspector.watch(door)
        for trigger in ("push", "pull", "push"):
            door.fire(trigger)
        page = await browse(inspector)
        await page.choose("front")
        door.fire("pull")
        await page.click("[role=tab]", "Transitions")
        await page.until("document.querySelectorAll('#panel-transitions tbody tr').length === 4")
        await page.do(
            "URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return '#'; }"
        )
        await page.click("button", "Export JSON lines")
        saved = await page.until("window.saved")
    trace = read_trace(saved.splitlines())
    conforms(Door, trace)
    assert [line.trigger for line in trace] == ["push", "pull", "push", "pull"]
    assert {line.connection for line in trace} == {"front"}


async def test_a_thousand_machines_that_never_rest(browse: Open) -> None:
    """The page lists all, draws those in sight, and goes on answering: it scrolls, filters and draws frames."""
    doors = [Door(f"door {number}") for number in range(1000)]
    async with Inspector(token=False, port=0) as inspector:
        for door in doors:
            inspector.watch(door)
        page = await browse(inspector)

        async def flap() -> None:
            while True:
                for start in range(0, 1000, 50):
                    for door in doors[start : start + 50]:
                        door.fire("pull" if door.state == "open" else "push")
                    await asyncio.sleep(0.05)

        flapping = asyncio.create_task(flap())
        await page.until("document.getElementById('total').innerText === '1000 machines'")
        assert await page.do("return document.querySelectorAll('.line').length") < 60
        await page.do(
            "window.frames_seen = 0; (function next() { window.frames_seen++; requestAnimationFrame(next); })()"
        )
        await page.until("window.frames_seen > 60")
        await page.do("document.getElementById('list').scrollTop = 1e9")
        await page.until(
            "[...document.querySelectorAll('.line:not([hidden])')].some((each) => each.innerText.includes('door 999'))"
        )
        await page.do(
            "const box = document.getElementById('filter'); box.value = 'door 77'; box.dispatchEvent(new Event('input'))"
        )
        await page.until("document.getElementById('total').innerText === '19 of 1000 machines'")
        flapping.cancel()
        for door in doors:
            if door.state == "open":
                door.fire("pull")
        doors[77].fire("kick")
        await page.click(".chip", "broken")
        await page.until("document.getElementById('total').innerText === '1 of 1000 machines'")


async def test_two_windows_and_a_reload(browse: Open) -> None:
    """Each looks at its own machine, which it still does when it was loaded anew; both are told of both."""
    front, back = Door("front"), Door("back")
    async with Inspector(token=False, port=0) as inspector:
        inspector.watch(front)
        inspector.watch(back)
        one, two = await browse(inspector), await browse(inspector)
        await one.choose("front")
        await two.choose("back")
        front.fire("push")
        await one.until(f"{PILL}.includes('open')")
        await two.until(
            "[...document.querySelectorAll('.line')].some((each) => each.innerText.includes('front') && each.innerText.includes('open'))"
        )
        assert await two.do(f"return {PILL}") == "○ closed"
        await one.do("location.reload()")
        await one.until("document.querySelector('#detail h2')?.innerText === 'front'")
        await one.until(f"{PILL}.includes('open')")


async def test_the_server_goes_and_comes_back(browse: Open) -> None:
    """The page says so, looks for it, and shows the same machine again, as it is by then."""
    door = Door("front")
    async with Inspector(token=False, port=0) as inspector:
        inspector.watch(door)
        port = int(inspector.url.rstrip("/").rpartition(":")[2])
        page = await browse(inspector)
        await page.choose("front")
    await page.until("document.getElementById('link').dataset.link === 'lost'")
    door.fire("push")
    async with Inspector(token=False, port=port) as again:
        again.watch(door)
        await page.until("document.getElementById('link').dataset.link === 'live'")
        await page.until(f"{PILL}.includes('open')")
        door.fire("pull")
        await page.until("document.querySelector('.fsm-state.lit title')?.textContent === 'closed'")


async def test_a_hostile_name_is_nothing_but_text(browse: Open) -> None:
    """Markup, marks that turn the direction of text, and a name that is far too long, wherever names are shown."""
    wild = "<img src=x onerror=pwned=1><script>pwned=1</script>"

    class Hostile(StateMachine):
        states = (State("calm", initial=True), State("odd"))
        transitions = (Transition("go", "calm", "odd"), Transition("back", "odd", "calm"))

    Hostile.__name__ = wild
    machines = [Hostile() for _ in range(3)]
    async with Inspector(token=False, port=0) as inspector:
        for machine, name in zip(machines, (wild, "\u202egnp.exe\u2066", "x" * 10_000), strict=True):
            inspector.watch(machine, name=name)
        page = await browse(inspector)
        await page.choose("<script>")
        machines[0].fire("go", reason=OSError(wild))
        await page.until("document.querySelector('.facts').innerText.includes('<script>')")
        for tab in ("Transitions", "Coverage", "Life"):
            await page.click("[role=tab]", tab)
        await page.until("document.body.innerText.includes('\\\\u202egnp.exe')")
        assert await page.do("return window.pwned") is None
        assert await page.do("return document.querySelectorAll('main script, main img').length") == 0
        await page.click(".line:not([hidden]) .name", "xxxx")
        await page.until("document.querySelector('#detail h2').innerText.length === 201")
        assert await page.do("return document.documentElement.scrollWidth <= innerWidth")


async def test_a_trigger_is_fired_only_after_asking_back(browse: Open) -> None:
    """By default there is no button at all; with one, No changes nothing. What guards say is told before."""
    door = Door("front")
    async with Inspector(token=False, port=0) as inspector:
        inspector.watch(door)
        page = await browse(inspector)
        await page.choose("front")
        await page.until("document.querySelector('.verdict')")
        assert await page.do("return [...document.querySelectorAll('.verdict button')].length") == 0
    async with Inspector(token=False, port=0, allow=("fire",)) as inspector:
        inspector.watch(door)
        page = await browse(inspector)
        await page.choose("front")
        await page.until("document.querySelector('.guard.yes')?.innerText.includes('is_unlocked')")
        door.unlocked = False
        await page.until("document.querySelector('.guard.no')")
        door.unlocked = True
        await page.until("document.querySelector('.guard.yes')")
        await page.click(".verdict button[aria-label='Fire push']")
        await page.click("dialog[open] button", "No")
        assert door.state == "closed"
        await page.click(".verdict button[aria-label='Fire push']")
        await page.click("dialog[open] button", "Yes")
        await page.until(f"{PILL}.includes('open')")
        assert door.state == "open"


async def test_the_token_is_taken_from_the_address(browse: Open) -> None:
    """Where it does not stay; without it the page says what is missing."""
    token = "a-token-that-is-long-enough"
    door = Door("front")
    async with Inspector(port=0, token=token) as inspector:
        inspector.watch(door)
        page = await browse(inspector)
        await page.until("document.getElementById('link').innerText.includes('token is missing or wrong')")
        page = await browse(inspector, f"#token={token}")
        await page.choose("front")
        assert token not in await page.do("return location.href")


async def test_the_command_leads_there_by_a_file(driver: Any, tmp_path: Path) -> None:
    """So that the token stands in no command that starts a browser."""
    door = Door("front")
    async with Inspector(port=0) as inspector:
        inspector.watch(door)
        page = await Page.opened(driver, _leading_to(inspector.url, tmp_path))
        await page.until("location.protocol === 'http:'")
        await page.choose("front")
        assert str(inspector.token) not in await page.do("return location.href")
        await page.close()


async def test_a_table_is_walked_and_a_life_lived_again_by_the_keyboard(browse: Open) -> None:
    """Every control has a name that can be read aloud, and can be reached by keys; also on a phone."""
    async with Inspector(token=False, port=0) as inspector:
        inspector.walk(Door)
        page = await browse(inspector, width=400, height=780)
        await page.until("document.querySelector('.line:not([hidden])')")
        press = "arguments[0].dispatchEvent(new KeyboardEvent('keydown', {key: arguments[1], bubbles: true}))"
        await page.do(
            f"const list = document.getElementById('list'); list.focus(); {press.replace('arguments[0]', 'list')}",
            None,
            "Enter",
        )
        await page.until("document.getElementById('main').dataset.view === 'detail'")
        await page.click("button.guard", "is_unlocked")
        await page.until("document.querySelector('button.guard.no')")
        await page.click(".verdict button[aria-label='Fire push']")
        await page.until("document.querySelector('.facts').innerText.includes('1 transition')")
        await page.click("button.guard", "is_unlocked")
        await page.until("document.querySelector('button.guard.yes')")
        await page.click(".verdict button[aria-label='Fire push']")
        await page.until(f"{PILL}.includes('open')")
        await page.click("button", "Begin again")
        await page.until(f"{PILL}.includes('closed')")
        nameless = await page.do(
            "return [...document.querySelectorAll('button, input, select, canvas, [role=region], [role=listbox]')]"
            ".filter((each) => each.checkVisibility() && !(each.getAttribute('aria-label') || each.innerText || each.labels?.length))"
            ".map((each) => each.outerHTML)"
        )
        assert nameless == []
        assert await page.do("return document.documentElement.scrollWidth <= innerWidth")
        await page.do(
            f"const tab = document.getElementById('tab-life'); {press.replace('arguments[0]', 'tab')}",
            None,
            "ArrowRight",
        )
        await page.until("document.getElementById('panel-transitions').checkVisibility()")
        await page.do(press.replace("arguments[0]", "document"), None, "Escape")
        await page.until("document.getElementById('list').checkVisibility()")


async def test_a_recorded_life_is_played(browse: Open) -> None:
    """With its controls; sent to its end, it is where it ended."""
    line = {"v": 1, "internal": False, "attempt": 0, "connection": "front"}
    lines = [
        json.dumps({**line, "trigger": "push", "source": "closed", "dest": "open", "dwell": 5.0, "at": 105.0}),
        json.dumps({**line, "trigger": "kick", "source": "open", "dest": "broken", "dwell": 3600.0, "at": 3705.0}),
    ]
    async with Inspector(token=False, port=0) as inspector:
        replay = inspector.replay(read_trace(lines), Door)
        task = asyncio.create_task(replay.run())
        page = await browse(inspector)
        await page.choose("front")
        await page.until(f"{PILL}.includes('open')")
        await page.click("#replay button", "Pause")
        await page.until("document.querySelector('#replay button').innerText === 'Play'")
        await page.do(
            "const place = document.querySelector('#replay input'); place.value = 1000; place.dispatchEvent(new Event('change'))"
        )
        await page.until(f"{PILL}.includes('broken')")
        task.cancel()


async def test_without_a_picture_there_is_a_board(browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the state lit as well, and the reason."""
    door = Door("front")
    async with Inspector(token=False, port=0) as inspector:
        inspector.watch(door)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        page = await browse(inspector)
        await page.click(".line:not([hidden])", "front")
        await page.until("document.querySelector('.card.lit')?.innerText.includes('closed')")
        assert "pygraphviz is not installed" in await page.text("#detail")
        door.fire("push")
        await page.until("document.querySelector('.card.lit')?.innerText.includes('open')")
        monkeypatch.undo()
