"""The inspector: what watching costs a machine, how soon a real browser shows a transition, and 1,000 machines at once.

A transition is timed by the CPU time of this process, watched and not watched in turn, so that a busy machine does not
count. Beside it stands one that is told to a function that does nothing, the least that watching can cost. The window
is one that reads nothing. The browser is Debian's chromium, headless, on the same machine; the time of a picture is
that of the first frame after the state was lit in the page, and both clocks are the system's. Without it these rows are
left out. How late the loop is, is what `asyncio.sleep(0.005)` takes beyond that, less the same without a window; the
browser's own load is on the same cores. An hour of 1,000 machines, each of which changes once a second, is 3.6 million
transitions: they are taken as fast as they can be, with a window that reads.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsm_conn
from benchmarks.core import Progress, Row, row_of, turns
from fsm_conn import State, StateMachine, Transition
from fsm_conn.inspector import Inspector
from fsm_conn.inspector.window import Window

MACHINES = 1000
CPU_BOUND = (
    "This is no ratio, but the time of a processor whose speed differs by a factor of two between machines and hours: "
    "watching has always cost some six tenths of a transition. More than half of that is the record, made for whoever "
    "watches, and the way to any observer, as the row of one that does nothing shows; the rest keeps the record, and "
    "counts it, 64 at a time."
)
LIT = """
window.lit = [];
new MutationObserver(() => requestAnimationFrame(() => window.lit.push(performance.timeOrigin + performance.now())))
  .observe(document.querySelector('.frame'), {subtree: true, attributes: true, attributeFilter: ['aria-current']});
"""


class Door(StateMachine):
    """Nothing but transitions."""

    states = (State("closed", initial=True), State("open"))
    transitions = (Transition("push", "closed", "open"), Transition("pull", "open", "closed"))


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    found = [*_costs(quick, progress), _memory(quick), _weight()]
    if shutil.which("chromium") and shutil.which("chromedriver") and find_spec("selenium"):
        with _browser() as driver:
            found += asyncio.run(_seen(driver, quick, progress))
    return found


def _costs(quick: bool, progress: Progress) -> Iterator[Row]:
    plain, told, unseen, seen = Door(), Door(), Door(), Door()
    told.on_transition(lambda record: None)
    alone, shown = Inspector(token=False), Inspector(token=False)
    alone.watch(unseen)
    shown.watch(seen)
    window = Window()
    shown._hub.windows = (window,)
    window.look(shown._registry.all()[0], asks_guards=True)
    doors = (plain, told, unseen, seen)
    times: list[list[float]] = [[] for _ in doors]
    for which, door in turns(doors, 20 if quick else 60, progress):
        times[which].append(_taken(door))
    found = (1, "an observer that does nothing", None), (2, "watched, no window", 1.0), (3, "watched, one window", 10.0)
    for which, name, goal in found:
        more = [mine - other for mine, other in zip(times[which], times[0], strict=True)]
        yield row_of(
            more,
            name=name,
            work="a transition of a machine with two states, beyond that of one that nobody watches",
            unit="us",
            goal=goal,
            strict=True,
            why=CPU_BOUND,
            detail=f"{statistics.median(times[which]):.2f} less {statistics.median(times[0]):.2f} us",
        )


def _taken(door: Door) -> float:
    """Microseconds of CPU for a transition."""
    began = time.process_time()
    for _ in range(10_000):
        door.fire("push")
        door.fire("pull")
    return (time.process_time() - began) / 20_000 * 1e6


def _memory(quick: bool) -> Row:
    return asyncio.run(_an_hour(60 if quick else 3600))


async def _an_hour(seconds: int) -> Row:
    """Traced memory after a tenth of the transitions, when all that is bounded is full, and after all."""
    inspector = Inspector(token=False)
    doors = [Door() for _ in range(MACHINES)]
    for door in doors:
        inspector.watch(door)
    stream = inspector._hub.stream({}, inspector._registry.all, dict)
    told = asyncio.create_task(_read(stream))
    await asyncio.sleep(0.2)
    for door in doors:  # fill what is bounded
        for _ in range(300):
            door.fire("push")
            door.fire("pull")
    await asyncio.sleep(0.2)
    gc.collect()
    tracemalloc.start()
    for second in range(seconds):
        for door in doors:
            door.fire("pull" if second % 2 else "push")
        if second % 10 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = sum(len(subject._entries) for subject in inspector._registry.all())
    inspector._hub.close()
    await told
    # What was there before is replaced meanwhile, and was not traced: of each entry one is new.
    return Row(
        name="memory, after as many transitions as an hour has",
        work=f"{MACHINES} machines, {seconds * MACHINES:,} transitions, one window",
        value=grown / kept,
        unit="bytes per kept transition",
        goal=1000,
        detail=f"{grown / 1e6:.1f} MB for {kept:,} kept, which is all that is ever kept of them",
    )


async def _read(stream: Any) -> None:
    async for _ in stream:
        pass


def _weight() -> Row:
    page = Path(fsm_conn.__file__).parent / "inspector" / "page"
    size = sum(path.stat().st_size for path in page.iterdir())
    return Row(name="the page", work="all its files", value=size / 1000, unit="kB", goal=300, strict=True)


@contextmanager
def _browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run"
        flags += " --disable-background-networking --disable-component-update --disable-sync --window-size=1400,900"
        for flag in (*flags.split(), f"--user-data-dir={directory}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver")), log_output=os.devnull))
        try:
            yield driver
        finally:
            driver.quit()


async def _seen(driver: Any, quick: bool, progress: Progress) -> list[Row]:
    doors = [Door() for _ in range(MACHINES)]
    async with Inspector(token=False, port=0) as inspector:
        inspector.watch(doors[0], name="the one")
        await asyncio.to_thread(driver.get, inspector.url)
        await _until(driver, "document.querySelector('.frame .lit')")
        await asyncio.to_thread(driver.execute_script, LIT)
        lit = await _lit(driver, doors[0], 20 if quick else 100)
        for number, door in enumerate(doors[1:]):
            inspector.watch(door, name=f"door {number}")
        await _until(driver, "document.getElementById('total').innerText === '1000 machines'")
        frames = "window.frames_seen = 0; (function next() { window.frames_seen++; requestAnimationFrame(next); })()"
        await asyncio.to_thread(driver.execute_script, frames)
        before = await asyncio.to_thread(driver.execute_script, "return window.frames_seen")
        began = time.monotonic()
        late = await _flap(doors, 10 if quick else 30)
        after = await asyncio.to_thread(driver.execute_script, "return window.frames_seen")
        rate = (after - before) / (time.monotonic() - began)
    await asyncio.to_thread(driver.get, "about:blank")
    alone = await _flap(doors, 10 if quick else 30)
    return [
        row_of(
            lit,
            name="shown in the browser",
            work="from a transition to the lit state",
            unit="ms",
            goal=100,
            strict=True,
        ),
        Row(
            name="the loop is late",
            work=f"{MACHINES} machines, each changes once a second, one window; the 99th of 100",
            value=_percentile(late) - _percentile(alone),
            unit="ms",
            goal=20,
            strict=True,
            detail=f"{_percentile(late):.1f} less {_percentile(alone):.1f} ms without; "
            f"median {statistics.median(late):.2f} ms",
        ),
        Row(
            name="from one frame to the next",
            work="the same",
            value=1000 / rate,
            unit="ms",
            goal=1000 / 30,
            detail=f"{rate:.0f} frames a second",
        ),
    ]


async def _lit(driver: Any, door: Door, repeats: int) -> list[float]:
    """Milliseconds from each transition to the first frame that shows it."""
    found = []
    for number in range(repeats):
        await asyncio.sleep(0.11 + number % 10 * 0.007)
        seen = await asyncio.to_thread(driver.execute_script, "window.lit = []; return 0")
        at = time.time()
        door.fire("pull" if door.state == "open" else "push")
        await _until(driver, "window.lit.length")
        seen = await asyncio.to_thread(driver.execute_script, "return window.lit[0]")
        found.append(seen - at * 1000)
    return found


async def _until(driver: Any, expression: str) -> None:
    async with asyncio.timeout(120):
        while not await asyncio.to_thread(driver.execute_script, f"return Boolean({expression})"):
            await asyncio.sleep(0.005)


async def _flap(doors: list[Door], seconds: int) -> list[float]:
    """How late the loop is, in milliseconds, while each door changes once a second."""
    late: list[float] = []
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        began = time.perf_counter()
        for door in doors[number : number + 5]:
            door.fire("pull" if door.state == "open" else "push")
        number = (number + 5) % len(doors)
        await asyncio.sleep(0.005)
        late.append((time.perf_counter() - began - 0.005) * 1e3)
    return late


def _percentile(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
