"""`DaskMembers`: a server of plugins on every worker of a Dask cluster, as a source of members.

Dask only tells which workers exist: calls go directly to the servers. The rules that hold here:

- Hosts tell of themselves by Dask's events, and are asked every few seconds besides: events get lost, a plugin of
  Dask's misses nannies that are joining, and its setup is silent on workers that come later.
- Each host is asked for itself: a question to all would wait for 30 seconds for one that has just died.
- Who is there is asked of the scheduler itself (`identity`). What a client remembers of it is old.
- A host that the scheduler does not know for a moment (its worker is restarted) is a member still; its own connection
  tells whether it serves.
- While the scheduler cannot be asked, the members stand.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import attrs

from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn._util.validators import check_seconds, shown
from fsm_conn.cluster.dask.hosting import Hosting
from fsm_conn.cluster.dask.plugins import InNanny, InWorker, ensure_in
from fsm_conn.cluster.membership.info import MemberInfo
from fsm_conn.cluster.recipe import as_recipe
from fsm_conn.cluster.serving.table import ServerState

__all__ = ["DaskMembers"]

_log = logging.getLogger("fsm_conn.cluster.dask")
FORGET_AFTER = 30.0
"""Seconds for which a host that the scheduler does not know any more is a member still."""
ASKING = 10.0
"""Seconds for one question to the scheduler."""
ANSWER = 1.0
"""Seconds to wait for the answers of hosts, before those are looked at that have come."""


class DaskMembers:
    """The workers of a Dask cluster as members, each with plugins by a recipe.

        members = DaskMembers(client, recipe, per_worker=2)
        async with ClusterPool(members, recipe) as cluster:
            ...

    Args:
        client: a `distributed.Client(..., asynchronous=True)`, of the loop of the pool.
        recipe: what is served; beyond loopback it needs certificates or a token, as for `serve`.
        per_worker: how many processes of the plugin there are on each worker.
        name: its name in the cluster, for `local_pool(name)`; None: a unique name.
        interval: seconds between two polls of all hosts.
        orphaned_after: seconds without a poll after which a host without connections ends its plugins, for example
            because the client was killed.
        outlives: seconds for which a host that closes because the scheduler is gone serves its connected clients.

    Nannies host the plugins, or workers where there are no nannies. The plugins end when the pool is closed, with their
    host, or when they are orphaned.

    Raises:
        ImportError: Dask is not installed; the message says how to install it.
        TypeError: the client is not asynchronous.
    """

    def __init__(
        self,
        client: Any,
        recipe: Any,
        *,
        per_worker: int = 2,
        name: str | None = None,
        interval: float = 5.0,
        orphaned_after: float = 300.0,
        outlives: float = 60.0,
    ) -> None:
        if not getattr(client, "asynchronous", False):
            raise TypeError(f"DaskMembers({client!r}): give a client that was made by Client(..., asynchronous=True)")
        if not isinstance(per_worker, int) or per_worker < 1:
            raise ValueError(f"DaskMembers(per_worker={per_worker!r}): give a whole number, 1 or more")
        self.hosting = Hosting(
            name=name or uuid.uuid4().hex,
            recipe=as_recipe(recipe),
            per_worker=per_worker,
            orphaned_after=check_seconds(f"DaskMembers(orphaned_after={shown(orphaned_after)})", orphaned_after),
            outlives=check_seconds(f"DaskMembers(outlives={shown(outlives)})", outlives, zero=True),
        )
        self._client = client
        self._interval = check_seconds(f"DaskMembers(interval={shown(interval)})", interval)
        self._reports: dict[str, dict[str, Any]] = {}
        self._seen_at: dict[str, float] = {}
        self._questions: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    @property
    def reports(self) -> Mapping[str, Mapping[str, Any]]:
        """The last report of each host, by its address: `state`, `error`, counts in `stats`."""
        return dict(self._reports)

    async def watch(self) -> AsyncIterator[Collection[MemberInfo]]:
        """Start the servers on all workers, and yield those that serve, whenever they change."""
        self.hosting = attrs.evolve(self.hosting, watch=uuid.uuid4().hex)
        client, hosting = self._client, self.hosting
        client.subscribe_topic(hosting.topic, self._heard)
        try:
            await client.register_plugin(InNanny(hosting))
            await client.register_plugin(InWorker(hosting))
            last: Any = None
            while True:
                await self._ask()
                members = self._members()
                if members != last:
                    yield members
                    last = members
                # What is told meanwhile is looked at together, and at once.
                with suppress(ExpiredError):
                    await within(self._interval, self._news.wait())
                    members = self._members()
                    self._news.clear()
                    if members != last:
                        yield members
                        last = members
        finally:
            await self._end()

    # --- how it is done -------------------------------------------------------------------------------------------

    async def _heard(self, event: Any) -> None:
        """An event of Dask's: a pair of a time and what was told."""
        _, report = event
        self._take(report)
        self._news.set()

    def _take(self, report: dict[str, Any]) -> None:
        host = str(report["host"])
        known = self._reports.get(host)
        if report.get("error") and (known is None or known.get("error") != report["error"]):
            _log.warning("%s: %s cannot be served there: %s", self.hosting.name, host, report["error"])
        self._reports[host] = report
        self._seen_at[host] = asyncio.get_running_loop().time()

    async def _ask(self) -> None:
        """Ask all hosts how they are; who does not host yet begins with it."""
        try:
            workers = await within(ASKING, self._workers())
        except Exception as error:  # of Dask's, when the scheduler has gone: the members stand
            _log.info("%s: the cluster could not be asked: %s", self.hosting.name, said(error))
            return
        for worker, in_nanny in workers.items():
            if worker not in self._questions:
                question = asyncio.create_task(self._ask_one(worker, in_nanny))
                self._questions[worker] = question
                question.add_done_callback(partial(self._has_answered, worker))
        if self._questions:
            await asyncio.wait(tuple(self._questions.values()), timeout=ANSWER)
        self._forget()

    async def _workers(self) -> dict[str, bool]:
        """Whether each worker has a nanny, by the scheduler's own word."""
        identity = await self._client.scheduler.identity(n_workers=-1)
        return {address: bool(each.get("nanny")) for address, each in identity["workers"].items()}

    async def _ask_one(self, worker: str, in_nanny: bool) -> None:
        answers = await self._client.run(ensure_in, self.hosting, workers=[worker], nanny=in_nanny, on_error="ignore")
        for report in answers.values():
            self._take(report)

    def _has_answered(self, worker: str, question: asyncio.Task[None]) -> None:
        self._questions.pop(worker, None)
        if not question.cancelled() and (error := question.exception()) is not None:
            _log.info("%s: %s could not be asked: %s", self.hosting.name, worker, said(error))

    def _forget(self) -> None:
        now = asyncio.get_running_loop().time()
        for host, seen_at in tuple(self._seen_at.items()):
            if now - seen_at > FORGET_AFTER:
                del self._seen_at[host], self._reports[host]

    def _members(self) -> tuple[MemberInfo, ...]:
        return tuple(
            MemberInfo(
                f"{host} {report['address']}",
                target=report["address"],
                connections=report["connections"],
                is_draining=report["state"] == ServerState.DRAINING,
            )
            for host, report in sorted(self._reports.items())
            if report["address"] and report["state"] in (ServerState.SERVING, ServerState.DRAINING)
        )

    async def _end(self) -> None:
        """Nobody needs it any more. Whom this does not reach ends by itself."""
        client, hosting = self._client, self.hosting
        questions = tuple(self._questions.values())
        for question in questions:
            question.cancel()
        if questions:
            await asyncio.wait(questions)
        with suppress(Exception):  # of Dask's, when the scheduler has gone
            client.unsubscribe_topic(hosting.topic)
        if client.status != "running":
            return  # the scheduler has gone: nobody would hear it, and to wait for that would take long
        for name, nanny in ((hosting.topic, True), (f"{hosting.topic}-worker", False)):
            with suppress(Exception):
                await within(ASKING, client.unregister_worker_plugin(name, nanny=nanny))
