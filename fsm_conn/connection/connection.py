"""`Connection`: what applications call.

Its methods fire triggers and wait for the outcome. They assign no state, and use no link but the one that `linked`
holds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fsm_conn._util.keywords import explained, limits
from fsm_conn._util.part import Part
from fsm_conn._util.validators import check_seconds, shown
from fsm_conn.connection import options as opts
from fsm_conn.connection.calling.calls import Calls, is_simple
from fsm_conn.connection.calling.catalog import Catalog, Offers, attributes
from fsm_conn.connection.calling.proxies import ServiceProxy, Services, public_first
from fsm_conn.connection.calling.route import ConnectionRoute, kept, present_channel, present_link, refuse_from_activity
from fsm_conn.connection.calling.subscribing import Subscription
from fsm_conn.connection.demand import DISCONNECTING, ENDED, FAILED
from fsm_conn.connection.errors import ConnectAbandonedError, ConnectFailedError, NotConnectedError, connect_failed
from fsm_conn.connection.hooks import OpenHook, checked_hook
from fsm_conn.connection.linked import LinkedMachine
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.links.broker import Broker
from fsm_conn.links.stubs import ReconnectingChannel
from fsm_conn.links.target import Target, resolve_target

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.budget import RetryBudget

__all__ = ["Connection"]

_StubT = TypeVar("_StubT")


class Connection(LinkedMachine):
    """A connection to a plugin, or to anything else that a `Link` can reach, that keeps itself alive.

    Args:
        target: a `Plugin`, an `Endpoint` or a `Reattach`; or, for short, a command (list of strings) of a plugin
            process or the address (`"127.0.0.1:50051"`, `"unix:/run/x.sock"`) of an endpoint that already runs; or a
            callable that makes a `Link`.
        retry: when and how often a link is opened again. By default an outage has five attempts, as in `RetryPolicy`;
            after that, a connection that was connected before makes one more attempt every 3 to 4.5 seconds, for ever.
        health: how the peer's health is watched. By default only the link is watched; `probe()` asks once.
        budget: a `RetryBudget` that many connections share.
        start_timeout: seconds for one attempt to open a link, 60 by default, without the wait in the queue of starts.
        env: for a command: environment variables on top of this process's own. Never shown.
        cwd: for a command: the directory it starts in.
        mtls: for a command: None (default) uses mutual TLS where the plugin supports it, True requires it, False
            disables it.
        services: pb2 modules or service descriptors, for services that the peer's reflection does not describe.
        name: the name of this connection in messages; by default the program or the address.
        history: how many `ConnectionRecord`s to keep; at most a quarter of them are internal ones, such as probes.
        rng: the source of jitter, for repeatable runs.
        on_open: a plain or async function that is called with the connection for each new link before it serves calls,
            as the method `on_open`. It may take `hook_timeout` (30 s). Its failure is a failed attempt.

    Creating a connection starts nothing. What each method does in each state:

    ==================== ============== ============== ============== ============== ============== ==============
    method               disconnected   connecting     connected      reconnecting   disconnecting  failed
    ==================== ============== ============== ============== ============== ============== ==============
    `connect`            connects       joins          returns        joins          waits, then    connects
                                                                                     connects
    `ensure_connected`   as `connect`   as `connect`   as `connect`   as `connect`   as `connect`   as `connect`
    `reconnect`          connects       joins          a fresh link   tries at once  waits, then    tries at once
                                                                                     connects
    `disconnect`         returns        abandons       closes         abandons       joins          ends there
    `aclose`             as             as             as             as             as             as
                         `disconnect`   `disconnect`   `disconnect`   `disconnect`   `disconnect`   `disconnect`
    `call`, `stream`     refused        refused        served         refused        refused        refused
    stub's methods       refused        refused        served         refused        refused        refused
    a call that is       refused        waits          served         waits          refused        refused
    `wait_for_ready` or
    `idempotent`
    `probe`              refused        refused        served         refused        refused        refused
    `wait_for_state`     waits          waits          waits          waits          waits          waits
    ==================== ============== ============== ============== ============== ============== ==============

    "joins" waits for the attempt or closing under way; "refused" raises `NotConnectedError`, which says what to do;
    "ends there" brings the state to `disconnected`. In `failed`, a call that waits does so as long as the policy plans
    another attempt (`recover_after`). In `renewing`, when the peer closes the link in good order, calls and `connect`
    wait for the next link, and everything else is as in `connected`. A state that a subclass adds behaves as
    `connecting`; one with `serves=True` as `connected`.
    """

    _catalog = Part(Catalog)
    _fsm_without_await = "; fsm_conn.blocking.Connection needs no await"

    @explained(opts.other_places)
    def __init__(
        self,
        target: Target,
        *,
        retry: RetryPolicy | None = None,
        health: HealthPolicy | None = None,
        budget: RetryBudget | None = None,
        start_timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        mtls: Any = None,
        services: Any = None,
        name: str | None = None,
        history: int = 64,
        rng: random.Random | None = None,
        on_open: OpenHook[Self] | None = None,
    ) -> None:
        name = None if name is None else opts.checked_name(name)
        self._make_link, self.name = resolve_target(target, env, cwd, mtls, services, name)
        if retry is not None:
            self.retry = opts.checked_retry(retry)
        if health is not None:
            self.health = opts.checked_health(health)
        if budget is not None:
            self.budget = opts.checked_budget(budget)
        if start_timeout is not None:
            self.start_timeout = opts.checked_start_timeout(start_timeout)
        if history != self.history_size:
            self.history_size = opts.checked_history(history)
        if rng is not None:
            self._rng = opts.checked_rng(rng)
        if on_open is not None:
            self._open_hook = checked_hook(on_open)
        self.keep_context()

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled; create another connection to the same target")

    # --- what applications call -----------------------------------------------------------------------------

    @explained(opts.wait_limits)
    async def connect(self) -> None:
        """Connect, or join the attempt under way, and return once connected. All callers share one attempt.

        Cancelling a caller ends its wait. When the last waiting caller is cancelled before any has returned, the
        attempt is abandoned: the state is `disconnected` when the cancellation is passed on.

        Raises:
            ConnectFailedError: the connection ended in `failed`; has the reason and the number of attempts. If the
                policy has `recover_after`, further attempts follow from time to time until `disconnect()` is called.
            ConnectAbandonedError: `disconnect()` was called meanwhile.
        """
        refuse_from_activity(self, "connect")
        await self._settle(Trigger.CONNECT)

    async def ensure_connected(self) -> None:
        """Return at once when connected; otherwise connect as `connect()`. For use before a call."""
        await self.connect()

    @explained(opts.wait_limits)
    async def reconnect(self) -> None:
        """Replace the link by a fresh one now, without any delay; attempts count from zero.

        It waits only for a token of a shared `RetryBudget`. Raises as `connect()`.
        """
        refuse_from_activity(self, "reconnect")
        await self._settle(Trigger.RECONNECT if self.handles(Trigger.RECONNECT) else Trigger.CONNECT)

    @explained(limits)
    async def disconnect(self) -> None:
        """Close the link, or abandon the attempt, and return once `disconnected`. Nothing reconnects afterwards.

        Cancelling the caller ends its wait; the closing goes on.
        """
        self._demand.endings += 1
        self.check_loop()
        if self.handles(Trigger.DISCONNECT):
            self.fire(Trigger.DISCONNECT)
        await self.reach(ENDED)
        await self.wait_for_observers()

    async def aclose(self) -> None:
        """The same as `disconnect()`, for `contextlib.aclosing`. The connection may be connected again."""
        await self.disconnect()

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except ConnectFailedError:
            await self.disconnect()  # nobody is left to do it, and a policy may have it try again
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call a method that answers with one message, and return the message.

        Args:
            method: `service.Method`, with the full name of the service or an unambiguous short one.
            args: at most one whole request (a message; or, where the method takes a stream, an iterable of
                messages or mappings), and at most one `CallOptions`.
            fields: the fields of the request.

        Raises:
            NotConnectedError: not connected; nothing was sent.
            ConnectionLostError: the link was lost under the call; says whether it may have been executed.
            CallTimeoutError: the timeout passed while waiting for a connection.
            UnknownNameError, AmbiguousNameError, RequestError: the call is wrong; the message lists what exists.
            grpc.aio.AioRpcError: the plugin answered with this error.
        """
        route = kept(self)
        if route is not None and (not args or is_simple(*args)):
            reply = route.call(method, None, fields, args[0] if args else None)
            return await (route.observers.call(method, reply) if route.observers.callbacks else reply)
        return await Calls(ConnectionRoute(self), self._calls).unary(method, args, fields)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """Call a method that answers with a stream of messages: `async for reply in conn.stream(...)`.

        Arguments and errors as for `call`; errors are raised when the stream is first read. With `wait_for_ready` or
        `idempotent` it waits for the connection before it is sent. A broken stream is never sent again.
        """
        return Calls(ConnectionRoute(self), self._calls).stream(method, args, fields)

    def subscribe(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `stream`, but opened again on each next link:

            async for event in conn.subscribe("events.Watch", topic="orders"):
                if isinstance(event, Gap):
                    ...  # it was cut off and is open again: ask for what was missed

        It waits for the connection, and ends with it or when the peer ends the stream. An orderly close is a gap, too.
        With `CallOptions.retry_unavailable`, so is an answer of UNAVAILABLE or CANCELLED, and an end without a status.

        Args:
            method: as for `call`.
            args: as for `call`; instead of a request, a function that returns the request each time the stream is
                opened, for example with the position to continue at. An iterator of requests needs such a function.
            fields: the fields of the request.

        Raises:
            NotConnectedError: the connection was never connected, has given up, or was disconnected meanwhile.
            ConnectionLostError: `disconnect()` was called.
            CallTimeoutError, UnknownNameError, AmbiguousNameError, RequestError, grpc.aio.AioRpcError: as for `call`.
        """
        items = Subscription(ConnectionRoute(self), method, args, fields).items()
        return self._calls.stream(method, items) if self._calls else items

    def stub(self, stub_class: Callable[[Any], _StubT]) -> _StubT:
        """A compiled stub that always uses the current link, so that it works after a reconnect, too.

        Its methods return grpc's own call objects and raise grpc's own errors. While there is no link, awaiting or
        reading a call object raises `NotConnectedError`.
        """
        return stub_class(ReconnectingChannel(partial(present_channel, self)))

    @property
    def broker(self) -> Broker:
        """The broker of the current link to a plugin; ends with it. Raises `NotConnectedError` without a link."""
        return present_link(self).broker

    @property
    def services(self) -> Services:
        """Every service by name: `conn.services["calculator"].Add(a=5, b=3)`."""
        return Services(self)

    if TYPE_CHECKING:

        @property
        def state(self) -> ConnectionState | str:
            """The current state: a `str`, and a `ConnectionState` unless a subclass added the state."""

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_") or hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ServiceProxy(self, name)

    def __dir__(self) -> list[str]:
        return public_first([*super().__dir__(), *attributes(self._offers())])

    def _offers(self) -> Offers:
        return self._catalog.look(self.link, self.loop)

    @property
    def connected(self) -> bool:
        """The same as `is_connected()`."""
        return self._state in self.serving_states

    @property
    def pid(self) -> int | None:
        """The process id of the plugin; None without a link, or where the peer is not a process of this host."""
        link = self.link
        return None if link is None else link.pid

    def is_connected(self) -> bool:
        """Whether the state serves calls, as `connected` does: a call would be sent at once.

        This is only a snapshot. With `CallOptions` a call waits for the connection, or is sent again after a loss.
        """
        return self._state in self.serving_states

    @explained()
    async def probe(self, timeout: float | None = None) -> float:
        """Probe the peer's health once, and return how long the answer took, in seconds.

        The outcome is fired as `probe_passed` or `probe_failed`, and the table decides what follows:
        `HealthPolicy.failure_threshold` failures in a row count as a lost link. A peer without a health service passes.

        Args:
            timeout: seconds for the answer; by default `HealthPolicy.timeout`.

        Raises:
            NotConnectedError: not connected; nothing was asked.
            NotServingError: the peer answered that it does not serve.
            ProbeTimeoutError: no answer came within `timeout` seconds.
            ProbeError: the peer could not be asked.
        """
        if timeout is None:
            timeout = self.health.timeout
        else:
            check_seconds(f"probe(timeout={shown(timeout)})", timeout)
        try:
            link, since = present_link(self, in_use=False), self._now()
        except NotConnectedError:
            await asyncio.sleep(0)
            raise
        failure = await self._probe(link, timeout)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure
        return self._now() - since

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._state} attempt={self.attempt}>"

    # --- how it is done -------------------------------------------------------------------------------------

    async def _settle(self, trigger: str) -> None:
        """Fire `trigger`, if given, and wait for the outcome."""
        self.check_loop()
        disconnects = self._demand.endings
        if self._state == DISCONNECTING:
            await self.reach(ENDED)
            self._demand.heed(disconnects, self)
        self._ask_for(trigger)
        self._demand.waiting += 1
        waits = True
        try:
            record = await self.reach(self._settled())
            if record.dest not in self.serving_states:
                # The caller has its answer: an attempt that others begin meanwhile is not its own.
                waits = False
                self._demand.waiting -= 1
            if record.dest == FAILED:
                await self.wait_for_rest()
            await self.wait_for_observers()
        except asyncio.CancelledError:
            if waits:
                await self._abandon_if_last()
            raise
        finally:
            self._demand.waiting -= waits
        self._demand.heed(disconnects, self)
        self._judge(record)

    def _ask_for(self, trigger: str) -> None:
        """Fire `trigger`, or else `connect`, if this state handles either."""
        trigger = trigger if self.handles(trigger) else Trigger.CONNECT
        if self.handles(trigger):
            # A connection that recovers from `failed` is wanted by its policy, also when the last caller leaves.
            recovers = self._state == FAILED and self.may_recover(None)
            self._demand.is_used = recovers or (self._demand.is_used and self._state not in ENDED)
            self.fire(trigger)

    async def _begin_connecting(self) -> None:
        """Begin to connect, without waiting for it."""
        self.check_loop()
        if self._state == DISCONNECTING:
            disconnects = self._demand.endings
            await self.reach(ENDED)
            self._demand.heed(disconnects, self)
        self._ask_for(Trigger.CONNECT)

    def _judge(self, record: ConnectionRecord) -> None:
        """Return to a caller that waited, or raise its error."""
        if record.dest in self.serving_states:
            self._demand.is_used = True
        elif record.dest == FAILED:
            raise connect_failed(self.name, record)
        else:
            raise ConnectAbandonedError(f"{self!r}: it was disconnected while connect() was waiting")
