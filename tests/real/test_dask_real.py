"""Dask as the engine: real schedulers, workers, nannies and plugins; most of them in this process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, Worker
from screens import clean_environment

from fsm_conn import CallOptions, Connection, Plugin
from fsm_conn.cluster import ClusterPolicy, ClusterPool, NoMemberError, Recipe, ServeLimits
from fsm_conn.cluster.dask import DaskMembers, local_pool
from fsm_conn.cluster.dask import hosting as engine_hosting
from fsm_conn.cluster.dask.hosting import Hosting, _hosted, end, ensure
from fsm_conn.links.process import prefork

from .conftest import CALCULATOR, PYTHON, Leftovers, children, eventually, is_alive

LIMIT = 200.0
SAFE = CallOptions(idempotent=True, timeout=LIMIT)
pytestmark = [
    pytest.mark.timeout(1200),
    # of Dask and Tornado, when what belongs to a cluster is collected after its loop
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(distributed|tornado|dask).*"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers in this process add directories of their own to `sys.path`."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="module", autouse=True)
def short_linger() -> Iterator[None]:
    """Templates end soon after their plugins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefork, "LINGER", 0.2)
        yield


def recipe(*command: str, **options: Any) -> Recipe:
    plugin = Plugin(command or CALCULATOR, prefork=not command)
    return Recipe(plugin=plugin, limits=ServeLimits(announce=0.05), **options)


@asynccontextmanager
async def clustered(workers: int = 2, **options: Any) -> AsyncIterator[Client]:
    """A cluster in this process, and a client."""
    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", **options}
    async with (
        asyncio.timeout(5 * LIMIT),
        LocalCluster(n_workers=workers, asynchronous=True, **options) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        yield client


@asynccontextmanager
async def pooled(members: DaskMembers, at_least: int) -> AsyncIterator[ClusterPool]:
    policy = ClusterPolicy(wait_timeout=4 * LIMIT, slow_start=0.0)
    pool = ClusterPool(members, members.hosting.recipe, policy=policy)
    try:
        await pool.open(at_least=at_least)
    except NoMemberError as error:
        error.add_note(f"what the hosts said: {members.reports}")
        raise
    try:
        yield pool
    finally:
        await pool.close()


async def add(pool: ClusterPool, number: int = 1) -> float:
    return float((await pool.call("calculator.Add", SAFE, a=number, b=1)).result)


def through_thread(number: int) -> float:
    return float(local_pool("calculator").call("calculator.Add", SAFE, a=number, b=1).result)


async def through_loop(number: int) -> float:
    pool = await local_pool("calculator").opened()
    with pytest.raises(RuntimeError, match="would block the worker's loop"):
        local_pool("calculator").call("calculator.Add", a=1, b=1)
    return float((await pool.call("calculator.Add", SAFE, a=number, b=2)).result)


async def test_workers_host_and_tasks_call(leftovers: Leftovers) -> None:
    """Every worker serves; calls go to all; a task calls the plugins of its own machine, from a thread and from its
    loop; one that joins later serves, too; and when the pool is closed, no plugin is left.
    """
    assert leftovers
    before = children()
    async with clustered(2) as client:
        client.scheduler_info = _stale  # what it remembers is not asked
        members = DaskMembers(client, recipe(), per_worker=1, name="calculator", interval=0.5)
        async with pooled(members, 2) as pool:
            assert sorted(await asyncio.gather(*(add(pool, number) for number in range(20)))) == [*range(1, 21)]
            assert all(row["calls"] for row in pool.stats()["members"])
            assert await client.gather(client.map(through_thread, range(3))) == [1, 2, 3]
            assert await client.gather(client.map(through_loop, range(3))) == [2, 3, 4]
            async with Worker(client.scheduler.address, nthreads=1) as late:
                await eventually(lambda: pool.stats()["serving"] == 3, LIMIT)
                assert late.address in members.reports
            await eventually(lambda: pool.stats()["serving"] == 2, LIMIT)
            assert await add(pool) == 2
        await eventually(lambda: children() <= before, LIMIT)


def _stale() -> None:
    raise AssertionError("a client's own memory of the scheduler was asked")


async def test_a_worker_that_was_missed_is_found() -> None:
    """Dask's plugins can miss who is joining; who does not host is asked to."""
    async with clustered(1) as client:
        members = DaskMembers(client, recipe(), per_worker=1, interval=0.2)
        async with pooled(members, 1) as pool:
            worker = Worker(client.scheduler.address, nthreads=1)
            worker.plugin_add = _missed  # type: ignore[method-assign]
            async with worker:
                await eventually(lambda: pool.stats()["serving"] == 2, LIMIT)


async def _missed(**_: Any) -> dict[str, str]:
    return {"status": "OK"}


async def test_what_cannot_be_served_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Dask itself is silent about a setup that fails on a new worker."""
    async with clustered(1) as client:
        members = DaskMembers(client, recipe("/nowhere/plugin"), per_worker=1, interval=0.2)
        pool = ClusterPool(members, members.hosting.recipe, policy=ClusterPolicy(wait_timeout=LIMIT))
        opening = asyncio.create_task(pool.open())
        await eventually(lambda: any(each["error"] for each in members.reports.values()), LIMIT)
        (report,) = members.reports.values()
        assert "/nowhere/plugin does not exist" in report["error"]
        assert "cannot be served there" in caplog.text
        assert not opening.done()
        opening.cancel()
        await asyncio.wait((opening,))


async def test_a_start_that_takes_long_holds_back_no_task() -> None:
    """Tasks run on the worker while its plugins start, or never do."""
    async with clustered(1) as client:
        members = DaskMembers(client, recipe(PYTHON, "-c", "import time; time.sleep(600)"), per_worker=1, interval=0.2)
        pool = ClusterPool(members, members.hosting.recipe, policy=ClusterPolicy(wait_timeout=LIMIT))
        opening = asyncio.create_task(pool.open())
        await eventually(lambda: any(each["state"] == "starting" for each in members.reports.values()), LIMIT)
        assert await client.submit(sum, [1, 2]) == 3
        assert not opening.done()
        opening.cancel()
        await asyncio.wait((opening,))


class Host:
    """A host of its own, without Dask."""

    address = "tcp://127.0.0.1:1"
    scheduler = status = None

    def log_event(self, topic: str, report: dict[str, Any]) -> None:
        pass


def hosting(**options: Any) -> Hosting:
    return Hosting(
        **{"name": "x", "recipe": recipe(), "per_worker": 1, "orphaned_after": LIMIT, "outlives": LIMIT, **options}
    )


async def test_what_nobody_asks_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was killed leaves nothing behind for long."""
    host, wanted = Host(), hosting(orphaned_after=1.0)
    await eventually(lambda: ensure(wanted, host)["state"] == "serving", LIMIT)
    monkeypatch.setattr(engine_hosting, "UNUSED_AFTER", 0.5)
    await eventually(lambda: _state(host) == "closed", LIMIT)
    await end(wanted, host)
    assert ensure(wanted, host)["state"] == "closed", "a late question must not begin it again"


def _state(host: Host) -> str:
    return str(_hosted[host]["x"].report()["state"])


async def test_who_is_connected_is_served_when_the_scheduler_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a host waits for its clients then, as long as was said; also for one that has to connect again."""
    monkeypatch.setattr(engine_hosting, "LOOK", 0.05)
    host, wanted = Host(), hosting()
    ensure(wanted, host)
    await eventually(lambda: _state(host) == "serving", LIMIT)
    address = _hosted[host]["x"].report()["address"]
    async with Connection(address) as conn:
        assert (await conn.call("calculator.Add", a=1, b=1)).result == 2
        ending = asyncio.create_task(end(wanted, host))
        await asyncio.sleep(0.5)
        assert (await conn.call("calculator.Add", a=1, b=2)).result == 3
    await asyncio.sleep(0.5)
    async with Connection(address) as conn:
        assert (await conn.call("calculator.Add", a=1, b=3)).result == 4
        assert not ending.done()
    monkeypatch.setattr(engine_hosting, "UNUSED_AFTER", 0.0)
    await asyncio.wait_for(ending, LIMIT)


def test_a_client_must_be_asynchronous() -> None:
    """And there must be at least one plugin."""
    with pytest.raises(TypeError, match="asynchronous=True"):
        DaskMembers(object(), recipe())


class Started:
    """A program of Dask's in a process of its own."""

    def __init__(self, kind: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments],
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)

    @property
    def children(self) -> set[int]:
        found: set[int] = set()
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
                found.update(map(int, (task / "children").read_text().split()))
        return found


@asynccontextmanager
async def programs(directory: Path) -> AsyncIterator[tuple[Started, list[Started], Client]]:
    """A scheduler and two workers with nannies, each a program, and a client."""
    where = directory / "scheduler.json"
    options = ("--scheduler-file", str(where))
    scheduler = Started("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *options)
    started = [scheduler]
    try:
        async with asyncio.timeout(8 * LIMIT):
            await eventually(lambda: where.exists() and where.read_text(), LIMIT)
            for number in range(2):
                local = ("--local-directory", str(directory / f"w{number}"))
                started.append(Started("worker", "--nthreads", "1", "--no-dashboard", *options, *local))
            async with Client(scheduler_file=str(where), asynchronous=True, timeout=LIMIT) as client:
                await client.wait_for_workers(2)
                yield scheduler, started[1:], client
    finally:
        for each in started:
            if each.process.poll() is None:
                each.kill()


async def test_kills_of_a_worker_a_nanny_and_the_scheduler(tmp_path: Path) -> None:
    """Under calls all the time: a worker's death is not felt, for its plugins are the nanny's; a nanny's is made up for
    by the others; and the scheduler's ends no call. No plugin outlives its nanny.
    """
    async with programs(tmp_path) as (scheduler, nannies, client):
        members = DaskMembers(client, recipe(*CALCULATOR), per_worker=1, interval=0.5)
        async with pooled(members, 2) as pool:
            stop = asyncio.Event()
            answered: list[float] = []

            async def caller() -> None:
                while not stop.is_set():
                    answered.append(await add(pool))

            async def some_more() -> None:
                enough = len(answered) + 30
                await eventually(lambda: len(answered) >= enough or any(each.done() for each in callers), LIMIT)

            def reply_of_a_task() -> Any:
                return local_pool().call("calculator.Add", SAFE, a=4, b=5)

            assert (await client.submit(reply_of_a_task)).result == 9  # from another process, its class and all
            callers = [asyncio.create_task(caller()) for _ in range(4)]
            await some_more()
            workers = await client.run(os.getpid)
            os.kill(next(iter(workers.values())), signal.SIGKILL)
            await some_more()
            victims = nannies[0].children
            nannies[0].kill()
            await eventually(lambda: not any(map(is_alive, victims)), LIMIT)
            await some_more()
            scheduler.kill()
            await some_more()
            await asyncio.sleep(1.0)
            await some_more()
            stop.set()
            await asyncio.gather(*callers)
            assert {*answered} == {2.0}
            assert client.status != "running"
            asked: list[str] = []
            client.unregister_worker_plugin = lambda name, **_: asked.append(name)
        assert asked == [], "who is not there would be waited for"
