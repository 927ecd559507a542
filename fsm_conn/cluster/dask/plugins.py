"""Dask's own mechanism by which nannies and workers learn what to host, those that join later, too."""

from __future__ import annotations

from typing import Any

from fsm_conn._util.extras import missing
from fsm_conn.cluster.dask.hosting import Hosting, end, ensure, hosted_by

try:
    from distributed import NannyPlugin, WorkerPlugin
except ImportError as error:
    raise missing("fsm_conn.cluster.dask", "dask", error.name) from error

__all__ = ["InNanny", "InWorker", "ensure_in", "reported_by"]


class InNanny(NannyPlugin):
    """Hosts in the nanny: neither a busy worker nor one that dies is felt there."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self.name = hosting.topic

    def setup(self, nanny: Any) -> None:
        """Begin, and return at once, so that the worker is not held up."""
        ensure(self._hosting, nanny)

    async def teardown(self, nanny: Any) -> None:
        """End it with the nanny, or when it is not wanted any more."""
        await end(self._hosting, nanny)


class InWorker(WorkerPlugin):
    """Hosts in a worker that has no nanny."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting
        self.name = f"{hosting.topic}-worker"

    def setup(self, worker: Any) -> None:
        """Begin, and return at once, so that its tasks are not held up."""
        if not worker.nanny:
            ensure(self._hosting, worker)

    async def teardown(self, worker: Any) -> None:
        """End it with the worker, or when it is not wanted any more."""
        await end(self._hosting, worker)


async def ensure_in(hosting: Hosting, dask_worker: Any = None) -> dict[str, Any]:
    """Run in a nanny or a worker: host it, if that was missed, and tell how it is."""
    return ensure(hosting, dask_worker)


async def reported_by(name: str | None, dask_worker: Any = None) -> dict[str, Any] | None:
    """Run in a nanny or a worker: tell how what it hosts is; None: it hosts no such thing, or several."""
    found = hosted_by(dask_worker, name)
    return None if found is None else {**found.report(), "name": found.hosting.name, "recipe": found.hosting.recipe}
