"""`ConnectionPool`: what applications call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fsm_conn._util.validators import check_seconds, shown
from fsm_conn.connection.calling.calls import Calls, split_arguments
from fsm_conn.connection.calling.proxies import ServiceProxy, Services
from fsm_conn.connection.calling.subscribing import Subscription
from fsm_conn.connection.connection import Connection
from fsm_conn.pool.drain import DRAIN_TIMEOUT
from fsm_conn.pool.hooks import Hook, Hooks
from fsm_conn.pool.leasing.calls import PoolRoute
from fsm_conn.pool.leasing.lease import Lease, WatchedLease
from fsm_conn.pool.leasing.subscriptions import SubscriptionRoute
from fsm_conn.pool.life import PoolMachine
from fsm_conn.pool.options import checked_pool_name, merged, slot_maker, target_maker
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.reasons import closed_for
from fsm_conn.pool.stats import leased
from fsm_conn.pool.table import PoolState, PoolTrigger
from fsm_conn.pool.targets.given import PoolTargets, targets_of
from fsm_conn.pool.targets.targets import Targets
from fsm_conn.pool.users import responsible

if TYPE_CHECKING:
    import random

    from fsm_conn.links.target import Target

__all__ = ["ConnectionPool"]

_NO_LIMIT = ", or None for no limit"


class ConnectionPool(PoolMachine):
    """Connections to a target, or to several, leased to whoever needs one.

        async with ConnectionPool(["python", "calculator.py"], pool_size=3) as pool:
            async with pool.acquire(timeout=2.0) as client:
                reply = await client.calculator.Add(a=1, b=2)
            reply = await pool.call("calculator.Add", a=1, b=2)

    Args:
        target: as for `Connection`: a command, an address, or a callable that makes a `Link`. Or a list of several
            targets, such as `[Endpoint("a:1"), Endpoint("b:1")]`, on which the connections are spread.
        pool_size: connections to keep, to all targets together; 5, unless the policy says otherwise.
        max_overflow: connections beyond that, opened at once when all are leased; 2, unless the policy says otherwise.
        policy: everything else, see `PoolPolicy`.
        connection_class: what the connections are: `Connection`, or the application's own subclass of it.
        on_open: called with each connection after each of its links came up, before it is leased: to authenticate, for
            instance. It has `start_timeout` seconds. If it raises, the link is given up, and the connection is made
            anew after a pause; while the pool is being opened, that fails.
        on_acquire: called with the connection before it is leased: to check it. If it raises, the link is replaced, and
            the caller gets another connection; the error, after `pool_size + 1` of them. It has the time that
            `acquire` has.
        on_release: called with the connection after a lease: to clean up; others get the connection when that is done.
            If it raises, the link is replaced. Not called for a link that was lost, nor while the pool is closed.
        name: what to call this pool in messages; by default the program or the address.
        rng: where jitter is drawn from, for lives that can be repeated.
        options: what else `connection_class` takes, such as `retry`, `env`, `mtls`, `services`.

    Hooks may be plain or async functions. Making a pool starts nothing. What each method does in each state:

    =============== ======================== ==================== ======================== =========================
    method          closed                   opening              open                     draining
    =============== ======================== ==================== ======================== =========================
    `initialize`    opens                    joins                returns                  waits, then opens
    `close_all`     returns                  abandons             closes                   joins; may shorten it
    `acquire`       `PoolClosed`             waits                served, or waits         `PoolClosed`
    `call`,         `PoolClosed`             waits                served, or waits         `PoolClosed`
    `stream`,
    `subscribe`
    =============== ======================== ==================== ======================== =========================

    A lease that is held when the pool is closed, and not returned in time, raises `PoolClosed` when it is used. A pool
    that was open when its process was forked refuses everything in the child.
    """

    def __init__(
        self,
        target: PoolTargets,
        pool_size: int | None = None,
        max_overflow: int | None = None,
        *,
        policy: PoolPolicy | None = None,
        connection_class: type[Connection] = Connection,
        on_open: Hook | None = None,
        on_acquire: Hook | None = None,
        on_release: Hook | None = None,
        name: str | None = None,
        rng: random.Random | None = None,
        **options: Any,
    ) -> None:
        merged_policy = merged(policy, pool_size, max_overflow)
        targets = Targets(target_maker(type(self), connection_class, rng, options), targets_of(target))
        hooks = Hooks(on_open, on_acquire, on_release)
        make = slot_maker(name, targets, merged_policy, on_open, rng)
        super().__init__(checked_pool_name(name, targets), merged_policy, targets, make, hooks)
        watched = merged_policy.lease_limit is not None or merged_policy.track_leases
        self._lease_class: type[Lease] = WatchedLease if watched else Lease

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled; make another pool for the same target")

    # --- opening and closing ----------------------------------------------------------------------------------

    async def initialize(
        self, progress: Callable[[int, int], None] | None = None, *, at_least: int | None = None
    ) -> None:
        """Open all connections, at most one start per core at a time. All callers share one opening.

        When the last caller that waits is cancelled, the opening is abandoned, and nothing is left behind.

        Args:
            progress: called with how many connections are up, and how many there will be, whenever that changes. What
                it raises ends the opening.

            at_least: how many connections to wait for, standby included. The others come up afterwards, and it is no
                failure when they cannot at first. 0: none is waited for. None: all. The first caller decides.

        Raises:
            PoolUnavailableError: one could not be made; has all causes. Nothing is left behind.
            PoolClosed: `close_all()` was called meanwhile.
        """
        if self._was_forked:
            raise self.why_closed()
        self.check_loop()
        while self._state == PoolState.DRAINING:
            await self.reach((PoolState.CLOSED,))
        if self._state == PoolState.CLOSED:
            self._opening.at_least = at_least
            self.fire(PoolTrigger.OPEN)
        if progress is not None and self._state == PoolState.OPENING:
            self._opening.watch(progress)
        record = await self._outcome_of_opening()
        if record.dest != PoolState.OPEN:
            raise closed_for(self, record.reason)
        self._opening.is_claimed = True

    async def close_all(self, timeout: float | None = DRAIN_TIMEOUT) -> None:
        """Refuse everybody from now on, wait for the leases that are held, and close all connections.

        All who wait for a connection get `PoolClosed` at once. Calls under way are waited for as leases are. What the
        calling task holds itself is not waited for. Joins a closing that is under way; the shorter timeout counts.
        Cancelling the caller ends its wait; the closing goes on. The pool can be opened again.

        Args:
            timeout: seconds to wait for leases; then their connections are closed under them. None: without limit.
        """
        if timeout is not None:
            check_seconds(f"close_all(timeout={shown(timeout)})", timeout, zero=True, otherwise=_NO_LIMIT)
        if self._was_forked:
            raise self.why_closed()
        if self._state != PoolState.CLOSED:
            self.check_loop()
        if self._state != PoolState.CLOSED:
            closers, closer = self._closing.closers, responsible()
            closers.append(closer)
            try:
                self._begin_closing(timeout)
                await self.reach((PoolState.CLOSED,))
            finally:
                closers.remove(closer)
        await self.wait_for_observers()

    async def aclose(self) -> None:
        """The same as `close_all()`, for `contextlib.aclosing`."""
        await self.close_all()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_all()

    # --- use ----------------------------------------------------------------------------------------------------

    def acquire(self, timeout: float | None = None) -> Lease:
        """A lease: `async with pool.acquire() as client`, or `client = await pool.acquire()` and `client.release()`.

        First come, first served. When all connections are leased, one more is opened at once, up to `max_overflow`.

        Args:
            timeout: seconds to wait, starting a connection included; 0: what is free, or nothing; None: the policy's
                `acquire_timeout`.

        Raises: when it is entered or awaited,
            PoolClosed: the pool is not open.
            PoolTimeoutError: nothing became free in time.
            PoolFullError: as many wait already as the policy allows.
            PoolUnavailableError: no connection can be made at present, with the causes.
        """
        if timeout is not None:
            check_seconds(
                f"acquire(timeout={shown(timeout)})", timeout, zero=True, otherwise=", or None for the policy's"
            )
        lease = self._lease_class()  # which has no constructor, for it would cost as much as taking a slot does
        lease._leases = self._leases
        lease._timeout = timeout
        lease._slot = lease._holder = None
        return lease

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call through whichever connection has least to do; no lease is held. As `Connection.call` otherwise.

        When there is none, it waits for one, as `acquire()` does; but it is repeated, on whichever is there by then,
        only when the caller calls it idempotent.

        Raises: as `Connection.call`, and as `acquire` when there is no connection.
        """
        return await self._calls(method, args).unary(method, args, fields)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `call`, for a method that answers with a stream."""
        return self._calls(method, args).stream(method, args, fields)

    def subscribe(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `stream`, but opened again whenever its link is lost, goes away or is replaced, with a `Gap` in between.

        It goes through whichever connection has least to do, as a call does: nobody leases that one meanwhile. It waits
        through an outage, and ends when the pool is closed, which does not wait for it.

        Raises: as `Connection.subscribe`, and
            PoolClosed: the pool is not open, or is being closed.
        """
        return Subscription(SubscriptionRoute(self._leases, self._counts), method, args, fields).items()

    def expire(self) -> None:
        """Have all links replaced, as after credentials were changed: one after the other, when nobody uses them.

        A leased link is replaced when it is given back; the last link that serves, when there is another.

        Raises:
            PoolClosed: the pool is not open.
            RuntimeError: it lives in another event loop.
        """
        self.admit()
        self._supervisor.expire_all()

    def resize(self, pool_size: int | None = None, max_overflow: int | None = None) -> None:
        """Keep more or fewer connections from now on. Does not wait: new ones are started, and those that are too many
        are closed when nobody uses them.

        Args:
            pool_size: connections to keep; None: as many as now.
            max_overflow: connections beyond that; None: as many as now.

        Raises:
            ValueError: not a whole number, or less than the policy's `min_idle`.
            RuntimeError: it is being opened or closed, or lives in another event loop.
        """
        policy = merged(self._policy, pool_size, max_overflow)
        if self._state not in (PoolState.OPEN, PoolState.CLOSED):
            raise RuntimeError(f"{self!r}: resize() it when it is open, or closed")
        if self._state == PoolState.OPEN:
            self.admit()
        self._policy = self._leases.policy = policy
        self._supervisor.resize(policy)

    def add_target(self, target: Target) -> None:
        """Connect to one more target from now on: connections move there, one after the other, until it has its share.

        Does not wait. Nothing moves when there are fewer connections than targets; it is there for those that fail.

        Args:
            target: as for `Connection`, and not one that the pool has already.

        Raises:
            TypeError, ValueError: what is wrong with it.
            RuntimeError: the pool lives in another event loop.
        """
        self._check_for_change()
        self._supervisor.add_target(target)
        self._leases.hurry()

    async def remove_target(self, target: Target, timeout: float | None = DRAIN_TIMEOUT) -> None:
        """Connect to a target no more: nobody new is served by it, its leases and calls are waited for, and then its
        connections are closed. Others are opened in their places at once. Cancelling the caller ends its wait only.

        Args:
            target: as it was given, or its name.
            timeout: seconds to wait for leases; then they are lost, as `LeaseLostError` says. None: without limit.

        Raises:
            ValueError: it is none of the pool's, or the last one.
            RuntimeError: the pool lives in another event loop.
        """
        if timeout is not None:
            check_seconds(f"remove_target(timeout={shown(timeout)})", timeout, zero=True, otherwise=_NO_LIMIT)
        self._check_for_change()
        left = self._supervisor.remove_target(target)
        self._leases.hurry()
        await self._closing.removed(left, timeout)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What it connects to at present, as it was given."""
        return tuple(each.target for each in self._targets)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Its connections that are open at present, to look at: `pool.connections[0].link.pid` is a plugin's process.

        To use one, acquire it.
        """
        return tuple(slot.conn for slot in self._slots if slot.in_service)

    @property
    def services(self) -> Services:
        """As `Connection.services`; each call goes as `call` does."""
        return Services(self)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_") or hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ServiceProxy(self, name)

    @property
    def pool_size(self) -> int:
        """Connections that it keeps, as its policy says."""
        return self.policy.size

    @property
    def max_overflow(self) -> int:
        """Connections beyond that which it may open, as its policy says."""
        return self.policy.max_overflow

    def get_pool_stats(self) -> dict[str, Any]:
        """How the pool is doing, and what it has done since it was made.

        Returns:
            a dict with these keys; the first four and the first five of `stats` are the documented ones:

            - `pool_size`: as it was given.
            - `total_connections`, `overflow_connections`: in service now, and those of them beyond `pool_size`.
            - `available_in_pool`: leases that could be had now without waiting.
            - `standby`, `given_up`: in service to take the place of one that is lost; out of it, and tried again.
            - `leased`, `waiting`, `calls_waiting`: leases that are held, acquires and calls that wait, now.
            - `wait_ms`: percentiles `p50`, `p95`, `p99` of the last 1024 waits, in milliseconds.
            - `stats`: counts. `connections_created`: links that came into service. `pool_hits`, also called
              `connections_reused`: leases of a connection that was there. `pool_misses`: leases for which one had to be
              opened beyond `pool_size`. `overflow_used`: connections opened beyond `pool_size`. `waits`: how often
              one was handed to somebody who had waited, and `wait_seconds`: how long all of them did, together.
              `timeouts`, `refused`: acquires that were not served. `leaked`: leases that were dropped without having
              been released.
            - `targets`: for each target, by its name, `connections` in service, `leased`, `calls` under way,
              `is_left_out`, `failures` in a row, `last_error`, and the counts `connections_created` and `leases`.
        """
        free = {*self._slots.free, *self._slots.set_aside}
        told = self._counts.as_dict(self.policy, self._slots, free, (self._line.leases, self._line.calls))
        return {**told, "targets": self._targets.as_dict(self._slots)}

    def __repr__(self) -> str:
        serving = sum(slot.in_service for slot in self._slots)
        return (
            f"<{type(self).__name__} {self.name!r} {self._state} {serving} of {self.policy.size} in service, "
            f"{leased(self._slots)} leased, {len(self._line)} waiting>"
        )

    # --- how it is done -----------------------------------------------------------------------------------------

    def _check_for_change(self) -> None:
        if self._state != PoolState.CLOSED:
            if self._was_forked:
                raise self.why_closed()
            self.check_loop()

    def _calls(self, method: str, args: tuple[Any, ...]) -> Calls:
        options = split_arguments(method, args)[1]
        waits = options is not None and (options.idempotent or options.wait_for_ready or options.timeout is not None)
        return Calls(PoolRoute(self._leases, self._counts, waits_through_outage=waits))
