"""Waits with a limit, and tasks that nobody waits for any more."""

from __future__ import annotations

import asyncio
import gc
import weakref

from fsm_conn._util.timing import keep


async def test_what_is_kept_is_not_collected_while_it_runs() -> None:
    """`asyncio` refers to tasks weakly: one that waits for what nobody else knows would be thrown away in between."""

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    task = asyncio.ensure_future(wait())
    keep(task)
    seen = weakref.ref(task)
    del task
    await asyncio.sleep(0)
    gc.collect()
    kept = seen()
    assert kept is not None
    kept.cancel()
    await asyncio.wait({kept})
    await asyncio.sleep(0)
    del kept
    gc.collect()
    assert seen() is None
