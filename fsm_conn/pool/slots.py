"""The connection that fills a place of a pool, and the task that keeps it.

The rules that hold here:

- A slot is kept by one task at a time. It connects, and connects again after a pause when the connection has given up,
  for ever, whatever is raised; so a slot that is awake comes back as soon as its peer does.
- While a link is open, and `on_open` has agreed with it, the slot is *in service*. It is taken out of service in the
  same moment in which the link is lost, told by the connection's own transitions.
- What the pool makes of that is its own business; nothing here knows of waiters or leases.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from fsm_conn._util.text import traced
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.connection.errors import ConnectAbandonedError, ConnectFailedError
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.links.errors import StartTimeoutError
from fsm_conn.machine.machine import finish
from fsm_conn.pool.place import Kind, Place, current_holder

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.connection import Connection
    from fsm_conn.links.base import Link
    from fsm_conn.machine.records import TransitionRecord
    from fsm_conn.pool.policy import PoolPolicy

__all__ = ["Slot"]

Greet = Callable[["Connection"], Awaitable[None]]

_log = logging.getLogger("fsm_conn.pool")

SHORTEST_PAUSE = 0.01
"""Seconds between two tries of a connection that gives up at once, whatever the policy says."""


class Owner(Protocol):
    """Whom a slot tells."""

    def _offered(self, slot: Slot, *, is_new: bool) -> None:
        """It came into service; with a new link, or with the one that it had."""

    def _withdrawn(self, slot: Slot) -> None:
        """It went out of service."""

    def _troubled(self, slot: Slot) -> None:
        """An attempt to make its connection has failed; `cause` tells why."""

    def _vacated(self, slot: Slot) -> None:
        """A call that went through it has ended."""

    def _stopped(self, slot: Slot) -> None:
        """Its task was cancelled by somebody else, so nobody keeps it."""


class Slot(Place):
    """A place, with the connection that fills it.

    Args:
        conn: the connection.
        kind: what it is there for.
        owner: whom it tells what becomes of it.
        policy: the pool's.
        rng: where jitter is drawn from.
        greet: awaited with the connection for each of its links, before the slot comes into service.

    Attributes:
        cause: what the connection last failed with, since it was in service; None when it did not.
        has_given_up: whether its connection has given up, since it was in service.
    """

    __slots__ = (
        "_agreed",
        "_ending",
        "_greet",
        "_lasted",
        "_owner",
        "_renewed",
        "_rng",
        "_served",
        "_task",
        "_unsubscribe",
        "cause",
        "conn",
        "has_given_up",
    )

    def __init__(
        self, conn: Connection, kind: Kind, owner: Owner, *, policy: PoolPolicy, rng: random.Random, greet: Greet | None
    ) -> None:
        super().__init__(kind, policy)
        self.conn = conn
        self.cause: BaseException | None = None
        self.has_given_up = False
        self._owner = owner
        self._rng = rng
        self._greet = greet
        self._agreed: Link | None = None
        self._renewed = False
        """Whether somebody had its link replaced since `on_open` was last called."""
        self._served: Link | None = None
        self._lasted = 0.0
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._unsubscribe = conn.on_transition(self._moved)

    def __repr__(self) -> str:
        service = "in service" if self.in_service else "out of service"
        return f"<{self.kind} slot of {self.conn!r}, {service}, leases={len(self.holders)}>"

    # --- what the pool may ask of it -----------------------------------------------------------------------------

    @property
    def is_awake(self) -> bool:
        """Whether it is kept at all, rather than closed because nobody needs it."""
        return self._task is not None

    @property
    def is_hopeful(self) -> bool:
        """Whether it is in service, or on its way and nothing has failed yet."""
        return self.in_service or (self.is_awake and self.cause is None)

    def wake(self) -> None:
        """Begin to keep it."""
        if self._task is None and not self.is_closed:
            self.cause, self.has_given_up = None, False
            before, self._ending = self._ending, None
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._keep(before), name=f"{self.conn!r}.slot")
            self._task.add_done_callback(self._ended)

    def sleep(self) -> asyncio.Task[None] | None:
        """Stop keeping it: its connection is closed by the task that is returned; None when there is nothing to do."""
        task, self._task = self._task, None
        self._leave_service()
        if task is not None:
            self._ending = task
            task.cancel()
        return task

    def dismiss(self) -> asyncio.Task[None] | None:
        """As `sleep`, for good: it is not heard of any more."""
        self.is_closed = True
        task = self.sleep()
        self._unsubscribe()
        return task

    @contextmanager
    def called(self) -> Iterator[None]:
        """Count a call that goes through it without a lease."""
        caller = current_holder()
        self.callers.append(caller)
        try:
            yield
        finally:
            self.callers.remove(caller)
            self._owner._vacated(self)

    def renew(self) -> None:
        """Replace its link by a fresh one."""
        if self.in_service:
            self._leave_service()
            self.conn.fire(Trigger.RECONNECT)

    # --- how it is kept -----------------------------------------------------------------------------------------

    async def _keep(self, before: asyncio.Task[None] | None) -> None:
        """Be in service whenever that is possible, and end disconnected."""
        failures, pause = 0, 0.0
        try:
            if before is not None:
                await asyncio.wait({before})
            while True:
                has_failed = await self._try_to_serve()
                failures = 1 if self._lasted >= self.conn.retry.stable_after else failures + 1
                pause = self._policy.replacement.delay(failures, pause, self._rng)
                if has_failed:  # whatever it says of its state
                    await asyncio.sleep(max(pause, SHORTEST_PAUSE))
                    continue
                with suppress(ExpiredError):  # it may recover by itself before that
                    await within(max(pause, SHORTEST_PAUSE), self.conn.wait_for_state(*self.conn.serving_states))
        except GeneratorExit:  # the loop was closed under us, and nothing can be awaited any more
            raise
        except BaseException:
            await finish(asyncio.ensure_future(self.conn.disconnect()))
            raise

    async def _try_to_serve(self) -> bool:
        """As `_serve`; whether something was raised that a connection does not raise."""
        try:
            await self._serve()
            return False
        except Exception as error:
            _log.exception("%r: what keeps it has failed", self)
            self._leave_service()
            self._give_up(error)
            return True

    async def _serve(self) -> None:
        """Be in service whenever the connection is; until it has given up, or something else went wrong with it."""
        clock = asyncio.get_running_loop().time
        elsewhere = self.conn.lifecycle.states.keys() - self.conn.serving_states
        self._lasted = 0.0
        while await self._come_up():
            if self.conn.state in self.conn.serving_states and self.conn.link is self._agreed:
                since = clock()
                self._enter_service()
                await self.conn.wait_for_state(*elsewhere)
                self._lasted = clock() - since

    async def _come_up(self) -> bool:
        """Connect, and have `on_open` agree with the link; whether to go on."""
        try:
            await self.conn.connect()
        except ConnectAbandonedError:
            return True  # somebody has disconnected it under us; once more, then
        except ConnectFailedError as error:
            return self._give_up(error if error.reason is None else error.reason)
        link = self.conn.link
        if self._greet is not None and link is not None and link is not self._agreed:
            self._renewed = False
            try:
                await self._greeted_in_time(self._greet)
                if meddling := self._meddling():
                    raise ConnectAbandonedError(f"{self.conn.name}: {meddling} while on_open ran")
            except Exception as error:
                if self.conn.link is not link and not self._meddling():
                    return True  # lost meanwhile: that is why
                _log.warning("%r: on_open failed, so its link is given up", self.conn, exc_info=True)
                self._give_up(error)
                await self.conn.disconnect()
                return False
        self._agreed = link
        return True

    def _meddling(self) -> str:
        """What somebody has done to it, so that it is not its own policy that lets it connect again, nor when."""
        if self.conn.state in (ConnectionState.DISCONNECTING, ConnectionState.DISCONNECTED):
            return "it was disconnected"
        return "its link was replaced by reconnect()" if self._renewed else ""

    async def _greeted_in_time(self, greet: Greet) -> None:
        try:
            await within(self.conn.start_timeout, greet(self.conn))
        except ExpiredError:
            raise StartTimeoutError(
                f"{self.conn.name}: on_open did not end within {self.conn.start_timeout:g} s"
            ) from None

    def _give_up(self, cause: BaseException) -> bool:
        self.has_given_up = True
        self._fail(cause)
        return False

    def _fail(self, cause: BaseException) -> None:
        self.cause = cause
        self._owner._troubled(self)

    def _moved(self, record: TransitionRecord) -> None:
        """The connection moved: out of service at once, whoever wins the race for the loop."""
        if record.internal or record.dest in self.conn.serving_states:
            return
        self._renewed = self._renewed or record.trigger == Trigger.RECONNECT
        self._leave_service()
        if record.trigger == Trigger.OPEN_FAILED and self.is_awake:
            unknown = RuntimeError("it could not be opened")
            self._fail(unknown if record.reason is None else record.reason)

    def _enter_service(self) -> None:
        now = asyncio.get_running_loop().time()
        is_new = self._served is not self._agreed
        if is_new:
            self._served = self._agreed
            lifetime = self._policy.lifetime(self._rng)
            self.expires_at = None if lifetime is None else now + lifetime
            self.is_stale = self.is_old = False
        self.idle_since = now
        self.cause, self.has_given_up = None, False
        self.in_service = True
        self._judge()
        self._owner._offered(self, is_new=is_new)

    def _leave_service(self) -> None:
        if self.in_service:
            self.in_service = False
            self._judge()
            self._owner._withdrawn(self)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("%r: the task that kept it has failed", self, exc_info=traced(error))
        if task is self._task:
            self._task = None
            self._leave_service()
            self._owner._stopped(self)
