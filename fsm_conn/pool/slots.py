"""One place of a pool, and the connection that fills it.

A slot is kept by one task. It connects, and connects again after a pause when the connection ended in `failed`; while a
link is open it offers the slot to its pool, and takes it back in the same moment in which the link is lost, told by the
connection's own transitions. What the pool decides about slots is `pool`'s business; nothing here knows of waiters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fsm_conn.driver import finish
from fsm_conn.errors import ConnectFailedError
from fsm_conn.lifecycle import ConnectionState
from fsm_conn.links.base import CallOptions, Link

if TYPE_CHECKING:
    import random

    from fsm_conn.connection import Connection
    from fsm_conn.pool.lease import Lease
    from fsm_conn.pool.policy import PoolPolicy
    from fsm_conn.record import TransitionRecord

__all__ = ["CountedLink", "Kind", "Slot"]

_log = logging.getLogger("fsm_conn.pool")
CONNECTED = ConnectionState.CONNECTED


class Kind(StrEnum):
    """What a slot is there for."""

    REGULAR = "regular"
    """One of the pool's `size`, or of its standby."""
    OVERFLOW = "overflow"
    """Opened because all others were leased; closed when it was not needed for a while."""


class Slot:
    """One place.

    Args:
        conn: the connection that fills it.
        kind: what it is there for.
        policy: the pool's.
        rng: where jitter is drawn from.
        on_open: called with the connection after each of its links came up, before the slot is offered.
        offer: told when the slot can be leased.
        withdraw: told when it cannot any more; may be told again.
        troubled: told when an attempt to make the connection has failed.

    Attributes:
        in_service: whether a link is open and ready to be leased.
        holders: the leases that hold it now.
        calls: calls of the pool's own that go through it now.
        served: how many leases it had.
        links: how many links it had in service.
        active: whether the pool counts it among those that it leases, rather than as standby.
        resetting: whether what the last lease has left is being cleaned up.
        cause: what the connection failed with, since it was last in service; None when it did not.
        has_given_up: whether its connection ended in `failed`, since it was last in service.
        expires_at: when the present link is to be replaced, by the loop's clock; None: never.
        idle_since: since when nobody has leased it, by the loop's clock.
        stale: whether the link is to be replaced before the next lease.
    """

    __slots__ = (
        "_offer",
        "_on_open",
        "_policy",
        "_rng",
        "_task",
        "_troubled",
        "_unsubscribe",
        "_withdraw",
        "active",
        "calls",
        "cause",
        "conn",
        "expires_at",
        "has_given_up",
        "holders",
        "idle_since",
        "in_service",
        "kind",
        "links",
        "resetting",
        "served",
        "stale",
    )

    def __init__(
        self,
        conn: Connection,
        kind: Kind,
        *,
        policy: PoolPolicy,
        rng: random.Random,
        on_open: Callable[[Connection], Awaitable[None]] | None,
        offer: Callable[[Slot], None],
        withdraw: Callable[[Slot], None],
        troubled: Callable[[Slot], None],
    ) -> None:
        self.conn = conn
        self.kind = kind
        self.active = self.in_service = self.stale = self.resetting = self.has_given_up = False
        self.holders: list[Lease] = []
        self.calls = self.served = self.links = 0
        self.cause: BaseException | None = None
        self.expires_at: float | None = None
        self.idle_since = 0.0
        self._policy = policy
        self._rng = rng
        self._on_open = on_open
        self._offer = offer
        self._withdraw = withdraw
        self._troubled = troubled
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe = conn.on_transition(self._moved)

    def __repr__(self) -> str:
        service = "in service" if self.in_service else "out of service"
        return f"<{self.kind} slot of {self.conn!r}, {service}, leases={len(self.holders)}>"

    @property
    def is_awake(self) -> bool:
        """Whether it is kept at all, rather than closed because nobody needs it."""
        return self._task is not None

    @property
    def is_leasable(self) -> bool:
        """Whether it can be leased, but for the leases that it has already."""
        return self.active and self.in_service and not self.stale and not self.resetting

    @property
    def is_free(self) -> bool:
        """Whether it can be leased now."""
        return self.is_leasable and len(self.holders) < self._policy.leases_per_connection

    @property
    def is_hopeful(self) -> bool:
        """Whether it is in service, or on its way and nothing has failed yet."""
        return self.in_service or (self.is_awake and self.cause is None)

    def wake(self) -> None:
        """Begin to keep it."""
        if self._task is None:
            self.cause, self.has_given_up = None, False
            self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"{self.conn!r}.slot")

    def sleep(self) -> asyncio.Task[None] | None:
        """Stop keeping it: its connection is closed by the task that is returned; None when there is nothing to do."""
        task, self._task = self._task, None
        self._leave_service()
        if task is not None:
            task.cancel()
        return task

    def dismiss(self) -> asyncio.Task[None] | None:
        """As `sleep`, for good: it is not heard of any more."""
        self._unsubscribe()
        return self.sleep()

    def renew(self) -> None:
        """Replace its link by a fresh one."""
        self.stale = False
        if self._task is not None and self.conn.state == CONNECTED:
            self._leave_service()
            self.conn.fire("reconnect")

    async def _keep(self) -> None:
        failures = 0
        try:
            while True:
                lasted = await self._serve()
                failures = 1 if lasted >= self.conn.retry.stable_after else failures + 1
                await asyncio.sleep(self._policy.replacement.delay(failures, 0.0, self._rng))
        finally:
            await finish(asyncio.ensure_future(self.conn.disconnect()))

    async def _serve(self) -> float:
        """Connect, and be in service until the connection has given up; how long its last link was, in seconds."""
        clock, elsewhere = asyncio.get_running_loop().time, set(self.conn.lifecycle.states) - {CONNECTED}
        lasted = 0.0
        while True:
            try:
                await self.conn.connect()
                if self._on_open is not None:
                    await self._on_open(self.conn)
            except ConnectFailedError as error:
                self._give_up(error.reason or error)
                return lasted
            except Exception as error:
                _log.warning("%r: on_open failed, so its link is given up", self.conn, exc_info=True)
                self._give_up(error)
                await self.conn.disconnect()
                return lasted
            if self.conn.state == CONNECTED:
                since = clock()
                self._enter_service()
                await self.conn.wait_for_state(*elsewhere)
                lasted = clock() - since

    def _give_up(self, cause: BaseException) -> None:
        self.has_given_up = True
        self._fail(cause)

    def _fail(self, cause: BaseException) -> None:
        self.cause = cause
        self._troubled(self)

    def _moved(self, record: TransitionRecord) -> None:
        """The connection moved: out of service at once, whoever wins the race for the loop."""
        if record.dest == CONNECTED or record.internal:
            return
        self._leave_service()
        if record.trigger == "open_failed" and self.is_awake:
            self._fail(record.reason or RuntimeError("it could not be opened"))

    def _enter_service(self) -> None:
        now = asyncio.get_running_loop().time()
        lifetime = self._policy.lifetime(self._rng)
        self.expires_at = None if lifetime is None else now + lifetime
        self.idle_since = now
        self.cause = None
        self.in_service = True
        self.stale = self.has_given_up = False
        self.links += 1
        self._offer(self)

    def _leave_service(self) -> None:
        if self.in_service:
            self.in_service = False
            self._withdraw(self)


class CountedLink(Link):
    """The link of a slot, for calls that are made without a lease: while one is under way, the slot counts it.

    Attributes:
        slot: whose link it is.
        link: the link itself.
    """

    def __init__(self, slot: Slot, link: Link) -> None:
        self.slot = slot
        self.link = link

    async def open(self) -> None:
        """Refuse: it is open already."""
        raise TypeError("a link of a pool is opened by its slot")

    async def close(self) -> None:
        """Refuse: others use it."""
        raise TypeError("a link of a pool is closed by its slot")

    async def lost(self) -> Exception:
        """As the link."""
        return await self.link.lost()

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """As the link."""
        self.slot.calls += 1
        try:
            return await self.link.call(method, request, fields, options)
        finally:
            self.slot.calls -= 1

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As the link."""
        self.slot.calls += 1
        try:
            async for reply in self.link.stream(method, request, fields, options):
                yield reply
        finally:
            self.slot.calls -= 1
