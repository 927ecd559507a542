"""`Connection`: what applications call.

Its methods fire triggers and wait for what the table makes of them; they assign no state, and touch no link but the one
that `keeper` keeps.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn._util.validators import check_seconds, shown
from fsm_conn.connection.calls import ServiceProxy, Services, call_patiently, split_arguments, stream_when_ready
from fsm_conn.connection.errors import ConnectAbandonedError, ConnectFailedError, NotConnectedError
from fsm_conn.connection.link_holder import LinkHolder
from fsm_conn.connection.options import (
    checked_budget,
    checked_health,
    checked_history,
    checked_name,
    checked_retry,
    checked_rng,
    checked_start_timeout,
)
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.links.base import Link
from fsm_conn.links.stubs import ReconnectingChannel
from fsm_conn.links.target import Target, resolve_target
from fsm_conn.machine.machine import finish

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.budget import RetryBudget

__all__ = ["Connection"]

_StubT = TypeVar("_StubT")
_log = logging.getLogger("fsm_conn")

DISCONNECTED, DISCONNECTING, FAILED = (
    ConnectionState.DISCONNECTED,
    ConnectionState.DISCONNECTING,
    ConnectionState.FAILED,
)
_ENDED = frozenset({DISCONNECTED, FAILED})
_AT_REST = frozenset({*_ENDED, DISCONNECTING})
"""Where nothing is on its way to be connected."""

_REMEDIES = {
    DISCONNECTED: "call 'await conn.connect()' first, or use 'async with'",
    DISCONNECTING: "it is being closed; 'await conn.connect()' waits for that and connects again",
    FAILED: "it has given up; 'await conn.connect()' tries again",
}
_WAIT = "'await conn.ensure_connected()' first, or pass CallOptions(wait_for_ready=True)"


class Connection(LinkHolder):
    """A connection to a plugin, or to anything else a `Link` can reach, that keeps itself alive.

    Args:
        target: a command (list of strings) for a plugin process; an address (`"127.0.0.1:50051"`,
            `"unix:/run/x.sock"`) of an endpoint that already runs; or a callable that makes a `Link`.
        retry: when and how often a link is opened again. See `RetryPolicy` for the defaults.
        health: how the peer's health is watched. By default it is not: the link is, and `probe()` asks by hand.
        budget: a `RetryBudget` that many connections share.
        start_timeout: seconds for one attempt to open a link; waiting in the queue of starts is not counted.
        env: for a command: environment variables on top of this process's own. Never shown.
        cwd: for a command: the directory it starts in.
        mtls: for a command: None (default) uses mutual TLS where the plugin can, True insists on it, False
            does without. For an address: `grpc.ChannelCredentials`, or None for plain text.
        services: pb2 modules or service descriptors of services that the peer does not tell by reflection.
        name: what to call this connection in messages; by default the program or the address.
        history: how many `ConnectionRecord`s to keep; at most a quarter of them are internal ones, such as probes.
        rng: where jitter is drawn from, for lives that can be repeated.

    Making a connection starts nothing. What each method does in each state:

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

    "joins" waits for what is under way; "refused" raises `NotConnectedError` which says what to do; "ends there"
    means that whoever waits finds the state `disconnected`. A state that a subclass adds behaves as `connecting`; one
    with `serves=True` as `connected`.
    """

    _callers: int = 0
    _wanted: bool = False
    _disconnects: int = 0

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
    ) -> None:
        name = None if name is None else checked_name(name)
        self._make_link, self.name = resolve_target(target, env, cwd, mtls, services, name)
        if retry is not None:
            self.retry = checked_retry(retry)
        if health is not None:
            self.health = checked_health(health)
        if budget is not None:
            self.budget = checked_budget(budget)
        if start_timeout is not None:
            self.start_timeout = checked_start_timeout(start_timeout)
        if history != self.history_size:
            self.history_size = checked_history(history)
        if rng is not None:
            self._rng = checked_rng(rng)
        self.keep_context()

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled; make another connection to the same target")

    # --- what applications call -----------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect, or join what is under way, and return once connected. All callers share one attempt.

        Cancelling a caller ends its wait. When the last one that waits is cancelled before any has been told of
        success, the attempt is abandoned: the state is `disconnected` by the time the cancellation goes on.

        Raises:
            ConnectFailedError: it ended in `failed`; has the reason and the number of attempts. With a policy that has
                `recover_after` it goes on trying from time to time, until `disconnect()` is called.
            ConnectAbandonedError: `disconnect()` was called meanwhile.
        """
        self._refuse_from_activity("connect")
        await self._settle(Trigger.CONNECT)

    async def ensure_connected(self) -> None:
        """Return at once when connected, and otherwise do as `connect()`. For use before a call."""
        await self.connect()

    async def reconnect(self) -> None:
        """Replace the link by a fresh one, now, without waiting out any delay; attempts count from zero.

        Only for a token of a shared `RetryBudget` does it wait.

        Raises: as `connect()`.
        """
        self._refuse_from_activity("reconnect")
        await self._settle(Trigger.RECONNECT if self.handles(Trigger.RECONNECT) else Trigger.CONNECT)

    async def disconnect(self) -> None:
        """Close the link, or abandon what is under way, and return once `disconnected`. Nothing reconnects after it.

        Cancelling the caller ends its wait; the closing goes on.
        """
        self._disconnects += 1
        self.check_loop()
        if self.handles(Trigger.DISCONNECT):
            self.fire(Trigger.DISCONNECT)
        await self.reach(_ENDED)
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
        """Call a method that answers with one message, and return that.

        Args:
            method: `service.Method`; the service by its full name, or a short one that is not ambiguous.
            args: at most one whole request (a message; or, where the method takes a stream, an iterable of
                messages or mappings), and at most one `CallOptions`.
            fields: the fields of the request.

        Raises:
            NotConnectedError: not connected; nothing was sent.
            ConnectionLostError: the link was lost under the call; says whether it may have been executed.
            CallTimeoutError: the timeout passed while waiting for a connection.
            UnknownNameError, AmbiguousNameError, RequestError: the call is wrong; the message lists what exists.
            grpc.aio.AioRpcError: what the plugin answered, as it is.
        """
        if self._calls:
            return await self._calls.call(method, self._call(method, args, fields))
        if not args:
            return await self._ready_link().call(method, None, fields, None)
        return await self._call(method, args, fields)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """Call a method that answers with a stream of messages: `async for reply in conn.stream(...)`.

        Arguments and errors as for `call`. With `wait_for_ready` or `idempotent` it waits for the connection before it
        is sent; a stream that breaks is never sent again.
        """
        if not self._calls:
            return self._stream(method, args, fields)
        try:
            replies = self._stream(method, args, fields)
        except Exception as error:
            self._calls.refused(method, error)
            raise
        return self._calls.stream(method, replies)

    def stub(self, stub_class: Callable[[Any], _StubT]) -> _StubT:
        """A compiled stub that always uses the present link, so it goes on working after a reconnect.

        Its methods return grpc's own call objects and raise grpc's own errors; while there is no link,
        they raise `NotConnectedError`.
        """
        return stub_class(ReconnectingChannel(self._present_channel))

    @property
    def services(self) -> Services:
        """Every service by name: `conn.services["calculator"].Add(a=5, b=3)`."""
        return Services(self)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_") or hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ServiceProxy(self, name)

    def is_connected(self) -> bool:
        """Whether the state is `connected`, or another that serves calls, so that a call would be sent at once.

        No more than a look: the link may be lost before the next line. To have a call wait for the connection, or be
        sent again, give it `CallOptions`.
        """
        return self._state in self.serving_states

    async def probe(self, timeout: float | None = None) -> float:
        """Ask the peer once whether it is well, and return how long the answer took, in seconds.

        What comes out is fired as `probe_passed` or `probe_failed`, and the table decides what follows: as many
        failures in a row as the `HealthPolicy` says count as a lost link. A peer without a health service passes.

        Args:
            timeout: seconds for the answer; by default those of the `HealthPolicy`.

        Raises:
            NotConnectedError: not connected; nothing was asked.
            NotServingError: the answer was bad.
            ProbeTimeoutError: it did not come within `timeout` seconds.
            ProbeError: the peer could not be asked.
        """
        if timeout is None:
            timeout = self.health.timeout
        else:
            check_seconds(f"probe(timeout={shown(timeout)})", timeout)
        link, since = self._ready_link(in_use=False), self._now()
        failure = await self._probe(link, timeout)
        if failure is not None:
            raise failure
        return self._now() - since

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._state} attempt={self.attempt}>"

    # --- how it is done -------------------------------------------------------------------------------------

    def begin_half_open(self, reason: BaseException | None) -> None:
        """As the keeper does; and from here on the connection lives for its policy's sake, whoever joins or leaves."""
        super().begin_half_open(reason)
        self._wanted = True

    async def _settle(self, trigger: str) -> None:
        """Fire `trigger` if that is to be done, and wait for what comes of it."""
        self.check_loop()
        disconnects = self._disconnects
        if self._state == DISCONNECTING:
            await self.reach(_ENDED)
            self._heed_disconnect(disconnects)
        self._ask_for(trigger)
        self._callers += 1
        waits = True
        try:
            record = await self.reach(self._settled())
            if record.dest not in self.serving_states:
                # Answered: an attempt that others may begin meanwhile is not ours.
                waits = False
                self._callers -= 1
            if record.dest == FAILED:
                await self.wait_for_rest()
            await self.wait_for_observers()
        except asyncio.CancelledError:
            if waits:
                await self._abandon_if_last()
            raise
        finally:
            self._callers -= waits
        self._heed_disconnect(disconnects)
        self._judge(record)

    def _settled(self) -> frozenset[str]:
        """The states that end the wait of `connect()`."""
        return self.serving_states | _AT_REST

    def _ask_for(self, trigger: str) -> None:
        """Fire `trigger`, or else `connect`, if either is to be done in this state."""
        trigger = trigger if self.handles(trigger) else Trigger.CONNECT
        if self.handles(trigger):
            # What comes back from `failed` by itself is wanted by its policy, whoever asks for it sooner and leaves.
            recovers = self._state == FAILED and self.may_recover(None)
            self._wanted = recovers or (self._wanted and self._state not in _ENDED)
            self.fire(trigger)

    async def _begin_connecting(self) -> None:
        """Have somebody connect, and do not wait for it."""
        self.check_loop()
        if self._state == DISCONNECTING:
            disconnects = self._disconnects
            await self.reach(_ENDED)
            self._heed_disconnect(disconnects)
        self._ask_for(Trigger.CONNECT)

    def _judge(self, record: ConnectionRecord) -> None:
        """What a caller that waited is told."""
        if record.dest in self.serving_states:
            self._wanted = True
        elif record.dest == FAILED:
            raise self._connect_failed(record)
        else:
            raise ConnectAbandonedError(f"{self!r}: it was disconnected while connect() was waiting")

    def _heed_disconnect(self, disconnects: int) -> None:
        if disconnects != self._disconnects:
            raise ConnectAbandonedError(f"{self!r}: disconnect() was called while connect() was waiting")

    async def _abandon_if_last(self) -> None:
        """The caller was cancelled. Nobody else waits, and nobody was told of success: then nobody wants it."""
        if self._callers == 1 and not self._wanted and self.handles(Trigger.DISCONNECT):
            self.fire(Trigger.DISCONNECT)
            await finish(asyncio.ensure_future(self.reach(_ENDED)))

    def _connect_failed(self, record: ConnectionRecord) -> ConnectFailedError:
        many = f"after {record.attempt} attempts" if record.attempt != 1 else "at the first attempt"
        why = "for no known reason" if record.reason is None else said(record.reason)
        error = ConnectFailedError(
            f"{self.name}: could not connect, given up {many}: {why}",
            reason=record.reason,
            attempts=record.attempt,
        )
        error.__cause__ = record.reason
        return error

    async def _call(self, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
        request, options = split_arguments(method, args)
        if options is not None and (options.idempotent or options.wait_for_ready):
            return await call_patiently(self, method, request, fields, options, self._link_when_ready)
        return await self._ready_link().call(method, request, fields, options)

    def _stream(self, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> AsyncIterator[Any]:
        request, options = split_arguments(method, args)
        if options is not None and (options.idempotent or options.wait_for_ready):
            return stream_when_ready(self, method, request, fields, options)
        return self._ready_link().stream(method, request, fields, options)

    def _refuse_from_activity(self, method: str) -> None:
        if self.in_activity():
            raise RuntimeError(
                f"{self!r}: {method}() was called from an activity of the same connection, which it would wait for; "
                "return a trigger from the activity instead"
            )

    def _ready_link(self, *, in_use: bool = True) -> Link:
        """The link to call through: for everybody when connected, for an activity whenever there is one.

        Whoever calls uses the connection: from then on it does not end with the last caller of `connect()` that leaves.
        """
        if self._loop is not None and self._loop.is_closed():
            self.check_loop()  # which finds that the link is gone with it
        link = self._link
        if link is not None and self._state in self.serving_states:
            self._wanted = self._wanted or in_use
            return link
        if link is not None and self.in_activity():
            return link
        raise self._not_connected()

    def _not_connected(self) -> NotConnectedError:
        state = self.state
        remedy = _REMEDIES.get(state, _WAIT)
        if state == FAILED and self.may_recover(None):
            remedy += f" now, or wait: it tries by itself after {self.retry.recover_after:g} s"
        why = f" ({said(self.reason)})" if state == FAILED and self.reason is not None else ""
        return NotConnectedError(f"{self.name}: no calls in state {str(state)!r}{why}: {remedy}", state=state)

    async def _link_when_ready(self, end: float | None = None) -> Link:
        """As `_ready_link`, but wait while a connection is on its way; until `end`, when whoever waits is cancelled."""
        while self._state not in self.serving_states and not self.in_activity():
            if self._state in _AT_REST:
                raise self._not_connected()
            self._callers += 1
            try:
                await self.reach(self._settled())
            except asyncio.CancelledError:
                if self._is_left_to_the_policy(end):
                    self._wanted = True
                await self._abandon_if_last()
                raise
            finally:
                self._callers -= 1
        return self._ready_link()

    def _is_left_to_the_policy(self, end: float | None) -> bool:
        """Whether the attempt goes on when the last call that waits for it is cancelled now."""
        return False

    def _endings(self) -> int:
        """How many times `disconnect()` was called: a call that is sent again heeds that."""
        return self._disconnects

    async def _left_link(self, link: Link, limit: float) -> None:
        """A call broke on `link`: wait until it is replaced, or its loss was noticed, `limit` seconds at most."""
        if link is not self._link:
            return
        try:
            await within(limit, self.reach(self.lifecycle.states.keys() - self.serving_states))
        except ExpiredError:
            _log.debug("%r: a call broke, but the link is still there", self)

    def _present_channel(self) -> Any:
        link = self._link
        if link is not None and self._state in self.serving_states:  # what _ready_link() would find, a call cheaper
            self._wanted = True
            return link.channel
        return self._ready_link().channel
