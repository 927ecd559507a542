"""`ConnectionPool`: what applications call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fsm_conn._util.keywords import explained, limits, remembered
from fsm_conn._util.validators import check_seconds, check_whole, shown
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
    """A pool of connections to one target or several, for leases and calls.

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
        connection_class: the class of the connections: `Connection`, or a subclass of the application's.
        on_open: called with the connection for each new link, before it is leased: to authenticate, for instance. It
            may take `start_timeout` seconds. If it raises, the link is closed and the connection tries again after a
            pause; while the pool is being opened, the opening fails.
        on_acquire: called with the connection before it is leased: to check it. If it raises, the link is replaced and
            the caller gets another connection, or the error after one more than the pool has, overflow and standby
            included. It counts towards the timeout of `acquire`.
        on_release: called with the connection after a lease: to clean up, before others get the connection. If it
            raises, the link is replaced. It is not called for a lost link, nor while the pool is being closed.
        name: the name of this pool in messages; by default the program or the address.
        rng: the source of jitter, for repeatable runs.
        options: further arguments for `connection_class`, such as `retry`, `env`, `mtls`, `services`.

    Hooks may be plain or async functions. Creating a pool starts nothing. What each method does in each state:

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

    A lease that is still held when closing times out raises `PoolClosed` when it is used. A pool that was open when its
    process was forked refuses everything in the child.
    """

    @remembered
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
        self._leases.lease_class = WatchedLease if watched else Lease

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled; make another pool for the same target")

    # --- opening and closing ----------------------------------------------------------------------------------

    @explained(limits)
    async def initialize(
        self, progress: Callable[[int, int], None] | None = None, *, at_least: int | None = None
    ) -> None:
        """Open all connections, at most one start per core at a time. All callers share one opening.

        When the last waiting caller is cancelled, the opening is abandoned, and nothing is left behind.

        Args:
            progress: called with the number of connections that are up and the number that will be, whenever it
                changes. An error that it raises ends the opening.

            at_least: how many connections to wait for, standby included. The others come up afterwards, and their first
                failures do not matter. 0: wait for none. None: wait for all. The first caller decides.

        Raises:
            PoolUnavailableError: a connection could not be opened; has all causes. Nothing is left behind.
            PoolClosed: `close_all()` was called meanwhile.
            TypeError, ValueError: an argument is wrong; nothing is opened.
        """
        if progress is not None and not callable(progress):
            raise TypeError(f"initialize(progress={progress!r}): give a function that takes two numbers")
        if at_least is not None:
            check_whole(f"initialize(at_least={shown(at_least)})", at_least, 0, otherwise=", or None for all")
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

    @explained()
    async def close_all(self, timeout: float | None = DRAIN_TIMEOUT) -> None:
        """Refuse new callers, wait for the leases that are held, and close all connections.

        Callers that wait for a connection get `PoolClosed` at once. Calls under way are waited for as leases are, but
        not the leases of the calling task itself. A second call joins the closing; the shorter timeout counts.
        Cancelling the caller ends its wait; the closing goes on. The pool can be opened again.

        Args:
            timeout: seconds to wait for leases; then their connections are closed. None: no limit.
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
        """Lease a connection: `async with pool.acquire() as client`; or await it, and call `client.release()`.

        First come, first served. When all connections are leased, one more is opened at once, up to `max_overflow`.

        Args:
            timeout: seconds to wait, starting a connection included. 0: only a free connection. None: the policy's
                `acquire_timeout`.

        Raises: when it is entered or awaited,
            PoolClosed: the pool is not open.
            PoolTimeoutError: no connection became free in time.
            PoolFullError: as many callers wait already as the policy allows.
            PoolUnavailableError: no connection can be opened at present; has the causes.
        """
        if timeout is not None:
            check_seconds(
                f"acquire(timeout={shown(timeout)})", timeout, zero=True, otherwise=", or None for the policy's"
            )
        leases = self._leases
        make = leases.lease_class  # it has no constructor: that would cost as much as taking a slot
        lease: Lease = make()
        lease._generation = leases.before
        lease._timeout = timeout
        return lease

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call through the least loaded connection, without a lease. Otherwise as `Connection.call`.

        When there is none, it waits for one, as `acquire()` does. After a loss it is repeated on another connection
        only when the caller marked it idempotent.

        Raises: as `Connection.call`, and as `acquire` when there is no connection.
        """
        return await self._calls(method, args).unary(method, args, fields)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `call`, for a method that answers with a stream."""
        return self._calls(method, args).stream(method, args, fields)

    def subscribe(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `stream`, but opened again whenever its link is lost, goes away or is replaced, with a `Gap` in between.

        It goes through the connection with the least to do, as a call does. Nobody can lease that connection
        meanwhile. It waits through an outage. It ends when the pool is closed; closing does not wait for it.

        Raises: as `Connection.subscribe`, and
            PoolClosed: the pool is not open, or is being closed.
        """
        return Subscription(SubscriptionRoute(self._leases), method, args, fields).items()

    def expire(self) -> None:
        """Replace all links, for example after new credentials: one after the other, when nobody uses them.

        A leased link is replaced when it is released; the last serving link, when there is another.

        Raises:
            PoolClosed: the pool is not open.
            RuntimeError: it lives in another event loop.
        """
        self.admit()
        self._supervisor.expire_all()

    @explained()
    def resize(self, pool_size: int | None = None, max_overflow: int | None = None) -> None:
        """Change the number of connections. Does not wait: new ones start, and surplus ones are closed when unused.

        Args:
            pool_size: connections to keep; None: as many as now.
            max_overflow: connections beyond that; None: as many as now.

        Raises:
            ValueError: not a whole number, or less than the policy's `min_idle`.
            RuntimeError: the pool is being opened or closed, or lives in another event loop.
        """
        policy = merged(self._policy, pool_size, max_overflow)
        if self._state not in (PoolState.OPEN, PoolState.CLOSED):
            raise RuntimeError(f"{self!r}: resize() it when it is open, or closed")
        if self._state == PoolState.OPEN:
            self.admit()
        self._policy = self._leases.policy = policy
        self._supervisor.resize(policy)

    def add_target(self, target: Target) -> None:
        """Add a target: connections move there, one after the other, until it has its share.

        Does not wait. With fewer connections than targets nothing moves; the new target is used when another fails.

        Args:
            target: as for `Connection`, and not one that the pool has already.

        Raises:
            TypeError, ValueError: the target is wrong; the message says why.
            RuntimeError: the pool lives in another event loop.
        """
        self._check_for_change()
        self._supervisor.add_target(target)
        self._leases.hurry()

    @explained()
    async def remove_target(self, target: Target, timeout: float | None = DRAIN_TIMEOUT) -> None:
        """Remove a target: it serves no new callers, and is disconnected when its leases and calls have ended.
        Others are opened in their places at once. Cancelling the caller ends its wait only.

        Args:
            target: the target as it was given, or its name.
            timeout: seconds to wait for leases; then they are lost and raise `LeaseLostError`. None: no limit.

        Raises:
            ValueError: it is not a target of this pool, or the last one.
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
        """The current targets, as they were given."""
        return tuple(each.target for each in self._targets)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The open connections, for reading only: `[conn.pid for conn in pool.connections]` are the plugins' processes.

        To call through one, acquire a lease.
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
        """How many connections the pool keeps."""
        return self.policy.size

    @property
    def max_overflow(self) -> int:
        """How many connections beyond `pool_size` it may open."""
        return self.policy.max_overflow

    def get_pool_stats(self) -> dict[str, Any]:
        """The current numbers of the pool, and its counts since it was created.

        Returns:
            a dict with these keys; the first four and the first five of `stats` are the documented ones:

            - `pool_size`: as it was given.
            - `total_connections`, `overflow_connections`: in service now, and those of them beyond `pool_size`.
            - `available_in_pool`: leases that are available now without waiting.
            - `standby`, `given_up`: spare connections in service; connections that have given up and are tried again.
            - `leased`, `waiting`, `calls_waiting`: leases held, acquires waiting and calls waiting, now.
            - `wait_ms`: percentiles `p50`, `p95`, `p99` of the last 1024 waits, in milliseconds.
            - `stats`: counts. `connections_created`: links that came into service. `pool_hits`, also called
              `connections_reused`: leases of an existing connection. `pool_misses`: leases for which one was opened
              beyond `pool_size`. `overflow_used`: connections opened beyond `pool_size`. `waits`: how often a waiting
              caller got a connection; `wait_seconds`: how long all of these waited altogether. `timeouts`, `refused`:
              acquires that were not served. `leaked`: leases that were dropped without being released.
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
        return Calls(PoolRoute(self._leases, waits_through_outage=waits))
