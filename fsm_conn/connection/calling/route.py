"""Routes a call through one connection to its link, and reports losses of the link truthfully.

The rule that holds here: a caller learns of a refusal or a loss only after the state machine knows of it and the loop
has had a turn. Otherwise a caller that retries in a tight loop would keep the loop from noticing anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, closing, within
from fsm_conn.connection.demand import AT_REST, DISCONNECTED, DISCONNECTING, FAILED, RENEWING
from fsm_conn.connection.errors import NotConnectedError
from fsm_conn.connection.prober import LEAST_PAUSE, ask
from fsm_conn.connection.table import Trigger
from fsm_conn.links.errors import ConnectionLostError, GoingAwayError, ProbeTimeoutError
from fsm_conn.machine.errors import strip_tracebacks

if TYPE_CHECKING:
    from fsm_conn.connection.calling.traffic import Traffic
    from fsm_conn.connection.linked import LinkedMachine
    from fsm_conn.links.base import CallOptions, Link

__all__ = ["ConnectionRoute", "RoutedCall", "present_channel", "present_link", "refuse_from_activity"]

_log = logging.getLogger("fsm_conn")

_MOMENT = 0.001
"""The resolution of timers, in seconds: a deadline may seem to pass this much early."""
GRACE = 1.0
"""Seconds to wait for the connection to notice that its link is lost, after a call has noticed."""

_REMEDIES: dict[str, str] = {
    DISCONNECTED: "call 'await conn.connect()' first, or use 'async with'",
    DISCONNECTING: "it is being closed; 'await conn.connect()' waits for that and connects again",
    FAILED: "it has given up; 'await conn.connect()' tries again",
}
_WAIT, _OR_OPTION = "'await conn.ensure_connected()' first", ", or pass CallOptions(wait_for_ready=True)"


def present_link(conn: LinkedMachine, *, in_use: bool = True, takes_options: bool = True) -> Link:
    """The link to call through: in states that serve calls, and for an activity whenever there is a link.

    A call counts as use: from then on the connection does not end when the last caller of `connect()` is cancelled.

    Raises:
        NotConnectedError: there is no link to call through.
        RuntimeError: the connection lives in another event loop.
    """
    conn.check_loop()  # which notices when the link's loop was closed
    holder = conn._holder
    link = holder.link
    if holder.incoming is not None and conn.in_activity():
        return holder.incoming[0]
    if link is not None and (conn._state in conn.serving_states or conn._state == RENEWING):
        conn._demand.is_used = conn._demand.is_used or in_use
        return link
    if link is not None and conn.in_activity():
        return link
    raise _refusal(conn, _WAIT + _OR_OPTION * takes_options)


def refuse_from_activity(conn: LinkedMachine, method: str) -> None:
    """Raise RuntimeError where a method that waits for an activity is called from that activity."""
    if conn.in_activity():
        raise RuntimeError(
            f"{conn!r}: {method}() was called from an activity of the same connection, which it would wait for; "
            "return a trigger from the activity instead"
        )


def _refusal(conn: LinkedMachine, wait: str) -> NotConnectedError:
    state, reason = conn.state, conn.reason
    remedy = _REMEDIES.get(state, wait)
    if state == FAILED and conn.may_recover(None):
        remedy += f" now, or wait: it tries by itself after {conn.retry.recover_after:g} s"
    if state == DISCONNECTED and conn._demand.is_used and not conn._demand.endings:
        remedy = f"the event loop that it was connected in has ended, as each asyncio.run() does; {remedy}"
    why = f" ({said(reason)})" if state == FAILED and reason is not None else ""
    return NotConnectedError(f"{conn.name}: no calls in state {str(state)!r}{why}: {remedy}", state=state)


class RoutedCall:
    """A link of a connection that a call was routed to.

    Args:
        conn: the owner of the link.
        link: the link.

    Attributes:
        link: the same.
    """

    __slots__ = ("_clock", "_conn", "_traffic", "link")

    def __init__(self, conn: LinkedMachine, link: Link) -> None:
        self._conn = conn
        self.link = link
        self._traffic = conn._holder.traffic_of(link)
        self._clock = asyncio.get_running_loop().time

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """As `Link.call`."""
        traffic = self._traffic
        began = self._clock()
        number = traffic.begin(began)
        try:
            reply = await self.link.call(method, request, fields, options)
        except Exception as error:
            await self._learn_from(error, began, options)
            raise
        finally:
            traffic.end(number)
        traffic.heard_at = self._clock()
        return reply

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As `Link.stream`."""
        clock, traffic = self._clock, self._traffic
        began = clock()
        number = traffic.begin(began)
        try:
            async with closing(self.link.stream(method, request, fields, options)) as replies:
                async for reply in replies:
                    traffic.heard_at = clock()
                    yield reply
        except Exception as error:
            await self._learn_from(error, began, options)
            raise
        finally:
            traffic.end(number)
        traffic.heard_at = clock()

    async def find(self, method: str, options: CallOptions | None) -> None:
        """As `Link.find`."""
        began = self._clock()
        try:
            await self.link.find(method, options)
        except Exception as error:
            await self._learn_from(error, began, options)
            raise

    def is_unavailable(self, error: Exception) -> bool:
        """As `Link.is_unavailable`."""
        return self.link.is_unavailable(error)

    @property
    def is_gone(self) -> bool:
        """Whether the link no longer belongs to the connection."""
        return self.link is not self._conn._holder.link

    async def before_leaving(self, reply: Awaitable[Any]) -> Any:
        """Await, until the link is replaced in good order.

        Raises:
            GoingAwayError: it was replaced.
        """
        traffic = self._traffic
        if (leavers := traffic.leavers) is None:
            leavers = traffic.leavers = {}
        limit = asyncio.timeout(0 if traffic.is_left else None)
        try:
            async with limit:
                leavers[limit] = None
                try:
                    return await reply
                finally:
                    del leavers[limit]
        except TimeoutError:
            if limit.expired():
                raise GoingAwayError("the peer closes the link in good order, and the next one serves") from None
            raise
        finally:
            del limit  # it holds the task, which holds its exception, which holds this frame

    async def _learn_from(self, error: Exception, began: float, options: CallOptions | None) -> None:
        """Pass what the error of a call reveals to the connection before the caller gets the error."""
        end = None if options is None or options.timeout is None else began + options.timeout
        if isinstance(error, ConnectionLostError):
            await self._noticed(end)
        elif self.link.is_answer(error):
            self._traffic.heard_at = self._conn._now()
        else:
            _suspect(self._conn, self.link, self._traffic, began, end)

    async def _noticed(self, end: float | None) -> None:
        """Wait until the state machine knows that the link is lost, but not beyond `end`, the call's deadline."""
        conn = self._conn
        await asyncio.sleep(0)
        if self.link is not conn._holder.link or conn._state not in conn.linked_states or conn.in_activity():
            return  # it was replaced or is known to be lost; or the caller is the state's own activity
        if not await _left(conn, GRACE if end is None else min(GRACE, end - conn._now())):
            _log.debug("%r: a call broke, but the link is still there", conn)


class KeptRoute(RoutedCall):
    """The way to the present link for whoever calls, kept until something happens to the connection.

    Attributes:
        loop: the event loop in which the connection lives.
        channel: the channel of the link, for compiled stubs, when one has asked for it.
        observers: those who are told of calls.
    """

    __slots__ = ("channel", "loop", "observers")

    def __init__(self, conn: LinkedMachine, link: Link) -> None:
        super().__init__(conn, link)
        self.loop = asyncio.get_running_loop()
        self.channel: Any = None
        self.observers = conn._calls


def kept(conn: LinkedMachine) -> KeptRoute | None:
    """The way that the last call went, if whoever asks may go it, too, without looking at anything again."""
    route: KeptRoute | None = conn._holder.route
    return route if route is not None and route.loop is asyncio._get_running_loop() else None


def present_route(conn: LinkedMachine, *, takes_options: bool = True) -> RoutedCall:
    """The way to the present link. Raises as `present_link`."""
    link, holder = present_link(conn, takes_options=takes_options), conn._holder
    if holder.incoming is not None or conn._state not in conn.serving_states:
        return RoutedCall(conn, link)
    holder.route = route = KeptRoute(conn, link)
    return route


def _suspect(conn: LinkedMachine, link: Link, traffic: Traffic, began: float, end: float | None) -> None:
    """Check on the peer when a call's deadline passed and the peer sent nothing meanwhile."""
    if end is not None and conn._now() >= end - _MOMENT and traffic.heard_at <= began:
        conn._holder.suspect(link, partial(_verify, conn))


def _stub_ran_out(connection: ref[LinkedMachine], began: float) -> None:
    """A call of a stub was ended by its deadline."""
    conn = connection()
    if conn is not None and (link := conn._holder.link) is not None:
        _suspect(conn, link, conn._holder.traffic, began, began)


async def _verify(conn: LinkedMachine, link: Link) -> None:
    """Probe the peer after a call's deadline passed. No answer counts as a loss of the link."""
    holder, probes, policy = conn._holder, conn._probes, conn.health
    await asyncio.sleep(max(0.0, probes.verified_at + LEAST_PAUSE - conn._now()))
    probes.verified_at = conn._now()
    while holder.link is link:
        asked_at = conn._now()
        _, failure = await ask(link, policy.service, policy.timeout, conn.name)
        if not isinstance(failure, ProbeTimeoutError) or holder.traffic.heard_at > asked_at:
            holder.traffic.heard_at = conn._now()
            return
        if not holder.traffic.excuses(asked_at, conn._now(), policy.busy_limit):
            strip_tracebacks(failure)
            failure.conclusive = True
            if conn.handles(Trigger.PROBE_FAILED):
                conn.fire(Trigger.PROBE_FAILED, failure)
            return


async def _left(conn: LinkedMachine, limit: float) -> bool:
    """Wait until the state is left for one that does not serve calls through the same link; return whether it was."""
    here = conn.serving_states if conn._state in conn.serving_states else {conn._state}
    try:
        await within(limit, conn.reach(conn.lifecycle.states.keys() - here))
    except ExpiredError:
        return False
    return True


def present_channel(conn: LinkedMachine) -> Any:
    """The channel of the current link, for compiled stubs, whose calls then count in its traffic."""
    last = conn._holder.route
    if last is not None and last.channel is not None and last.loop is asyncio._get_running_loop():
        return last.channel
    route, holder = present_route(conn, takes_options=False), conn._holder
    link = route.link
    if holder.noted is not link:
        holder.noted, traffic = link, holder.traffic_of(link)
        traffic.ran_out = partial(_stub_ran_out, ref(conn))
        link.note_stubs(traffic)
    channel = link.channel
    if isinstance(route, KeptRoute):
        route.channel = channel
    return channel


class ConnectionRoute:
    """The route of the calls on a connection.

    Args:
        conn: the connection.
    """

    __slots__ = ("_conn",)

    is_patient = False
    excused = 0

    def __init__(self, conn: LinkedMachine) -> None:
        self._conn = conn

    @property
    def owner(self) -> LinkedMachine:
        """The connection."""
        return self._conn

    @property
    def reason(self) -> BaseException | None:
        """The connection's last error."""
        return self._conn.reason

    @property
    def may_repeat(self) -> bool:
        """Whether a call may be sent again; an activity's call may not, because it is about its link."""
        return not self._conn.in_activity()

    @property
    def endings(self) -> int:
        """How often `disconnect()` was called."""
        return self._conn._demand.endings

    def ready(self) -> RoutedCall | None:
        """The link that the last call went by, if nothing has happened to the connection since."""
        return kept(self._conn)

    async def now(self) -> RoutedCall:
        """The current link, or a refusal after a turn of the loop."""
        conn = self._conn
        if conn._state == RENEWING and not conn.in_activity():
            await _left(conn, GRACE)  # sent on the next link, not on the one that is closing
        try:
            return kept(conn) or present_route(conn)
        except NotConnectedError:
            await asyncio.sleep(0)
            raise

    async def next(self, end: float | None) -> RoutedCall:
        """The current link, or the next one as long as a caller or the policy tries to connect."""
        conn = self._conn
        conn.check_loop()
        while conn._state not in conn.serving_states and not conn.in_activity():
            if conn._state not in AT_REST:
                await self._change(end)
            elif conn._state == FAILED and conn.may_recover(None) and conn.snapshot().activity is not None:
                await conn.reach(conn.lifecycle.states.keys() - {FAILED})  # its policy still tries
            else:
                break
        return await self.now()

    def _outlives(self, end: float | None) -> bool:
        """Whether the attempt continues when the last call that waits for it, until `end`, is cancelled now."""
        return False

    async def _change(self, end: float | None) -> None:
        conn = self._conn
        conn._demand.waiting += 1
        try:
            await conn.reach(conn._settled())
        except asyncio.CancelledError:
            conn._demand.is_used = conn._demand.is_used or self._outlives(end)
            await conn._abandon_if_last()
            raise
        finally:
            conn._demand.waiting -= 1
