"""`ClusterPool`: calls to the least loaded of many machines.

The promises that hold here:

- A call that is not idempotent is executed at most once, and no error says that it was not executed when it was.
- An idempotent call is answered as long as any member serves, within its deadline. It is repeated three times at most
  when plugins end during it; members that have left do not count.
- There is no order between calls. Cancellations and deadlines reach the plugin.
- Every client balances by its own view: news of members may be late; how they answer calls decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn, Self

import attrs

from fsm_conn._util.keywords import explained
from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, closing, within
from fsm_conn._util.validators import check_seconds, check_whole, shown
from fsm_conn.cluster.calling.leases import MemberLeases
from fsm_conn.cluster.calling.mapping import mapped
from fsm_conn.cluster.calling.route import ClusterRoute
from fsm_conn.cluster.errors import ClusterClosedError
from fsm_conn.cluster.membership.info import MemberInfo, Members
from fsm_conn.cluster.membership.member import Member
from fsm_conn.cluster.policy import ClusterPolicy
from fsm_conn.cluster.recipe import Recipe
from fsm_conn.cluster.roster import MemberEvent, Roster
from fsm_conn.cluster.table import CLUSTER_STATES, CLUSTER_TRANSITIONS, ClusterState, ClusterTrigger
from fsm_conn.connection.calling.calls import Calls
from fsm_conn.connection.calling.proxies import ServiceProxy, Services
from fsm_conn.connection.connection import Connection
from fsm_conn.links.base import CallOptions
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Fires, State
from fsm_conn.pool.pool import ConnectionPool

if TYPE_CHECKING:
    from fsm_conn.links.target import Target
    from fsm_conn.pool.leasing.lease import Lease

__all__ = ["ClusterPool"]

_log = logging.getLogger("fsm_conn.cluster")
_S, _T = ClusterState, ClusterTrigger
FIRST_ANEW, LAST_ANEW = 0.25, 10.0
"""Seconds before a failed source of members is asked again: the first pause, doubled each time up to the second."""


class ClusterPool(StateMachine):
    """Balances calls over the members of a cluster.

        async with ClusterPool(StaticMembers(["10.0.0.5:7000", "10.0.0.6:7000"]), recipe) as cluster:
            reply = await cluster.call("calculator.Add", a=1, b=2)

    Args:
        members: the source of members: `StaticMembers`, `DnsMembers`, `DaskMembers`, or a class of your own, see
            `Members`.
        recipe: the recipe that the members serve by, for its certificates and token. None: plain text.
        policy: balancing, waits and limits, see `ClusterPolicy`.
        client: the name of this client, by which it chooses its subset of members; None: a unique name.
        services: pb2 modules or service descriptors, for services that the plugins' reflection does not describe.
        name: the name of this pool in messages.
        rng: the source of choices and jitter, for repeatable runs.
    """

    states: ClassVar[Sequence[State | str]] = CLUSTER_STATES
    transitions: ClassVar[Sequence[Any]] = CLUSTER_TRANSITIONS
    required_triggers = tuple(ClusterTrigger)
    begins_at_rest = True

    _roster: Roster
    _leases: MemberLeases
    _following: asyncio.Task[None] | None = None

    @explained()
    def __init__(
        self,
        members: Members,
        recipe: Recipe | None = None,
        *,
        policy: ClusterPolicy | None = None,
        client: str | None = None,
        services: Any = None,
        name: str = "cluster",
        rng: random.Random | None = None,
    ) -> None:
        if not callable(getattr(members, "watch", None)):
            raise TypeError(
                f"members={type(members).__name__}: give StaticMembers([...]), DnsMembers(...), or an object whose "
                "watch() yields MemberInfo values"
            )
        self.name = name
        self.policy = policy or ClusterPolicy()
        self._members = members
        self._recipe = recipe
        self._client = client or uuid.uuid4().hex
        self._services = services
        self._rng = rng or random.Random()  # noqa: S311 - choices of members are no secret
        self._callbacks: list[Callable[[MemberEvent], None]] = []
        self.keep_context()
        self.make_parts(None)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be copied or pickled: send its recipe and the addresses of its members, and make another"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._state}, {self._roster.serving} connections serve>"

    # --- opening and closing --------------------------------------------------------------------------------------

    @explained()
    async def open(self, *, at_least: int = 1) -> None:
        """Follow the members, and return when `at_least` connections to them serve.

        Raises:
            NoMemberError: too few served within the policy's `wait_timeout`; has the reasons. The pool is closed again.
            ServeError: the certificates or the token of the recipe cannot be read here.
            TypeError, ValueError: `at_least` is no whole number of connections.
        """
        check_whole(f"open(at_least={shown(at_least)})", at_least, 0)
        self.check_loop()
        if self._recipe is not None:
            self._recipe.endpoint("127.0.0.1:1")  # what is wrong with it is so for all members
        self.fire(_T.OPEN)
        try:
            await within(self.policy.wait_timeout, self._until_serving(at_least))
        except BaseException as error:
            failure = self._roster.no_member(f"fewer than {at_least} served within {self.policy.wait_timeout:g} s")
            await self.close()
            if isinstance(error, ExpiredError):
                try:
                    raise failure from None
                finally:
                    del failure
            raise

    async def close(self) -> None:
        """Refuse new calls, wait for those under way, and close all connections."""
        self.fire(_T.CLOSE)
        await self.reach((_S.CLOSED,))

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- use ------------------------------------------------------------------------------------------------------

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call a method on the least loaded member. Arguments as for `Connection.call`.

        It waits for a member within its timeout, or else the policy's `wait_timeout`. It is sent again, to another
        member, when it provably was not executed, or after a loss when the caller marked it idempotent.

        Raises: as `Connection.call`, and
            NoMemberError: no member came in time; nothing was sent.
            ClusterClosedError: the pool is not open; nothing was sent.
        """
        return await self._calls().unary(method, args, fields)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `call`, for a method that answers with a stream. A broken stream is never sent again."""
        return self._calls().stream(method, args, fields)

    @explained()
    async def map(
        self,
        method: str,
        requests: Iterable[Any] | AsyncIterable[Any],
        options: CallOptions | None = None,
        *,
        limit: int = 100,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Call a method with each of many requests, and yield the replies in their order.

        At most `limit` calls are under way or wait to be read, and the next request is drawn only when there is room,
        so memory is bounded however many requests there are and however slowly replies are read. An error of the
        requests is raised after the replies to those before it. When it ends early, by an error of a call or because
        its reader stops, the calls under way are cancelled: put `contextlib.aclosing` around it.

        Args:
            method: `service.Method`.
            requests: an iterable, or async iterable, of messages or mappings of fields.
            options: the options of each call.
            limit: how many calls may be under way at one time.
            return_exceptions: yield an error in its place, and go on, instead of raising it.
        """
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f"map(limit={limit!r}): give a whole number, 1 or more")
        given = () if options is None else (options,)

        async def call(request: Any) -> Any:
            return await self.call(method, request, *given)

        async with closing(mapped(call, requests, limit, return_exceptions=return_exceptions)) as replies:
            async for reply in replies:
                yield reply

    def acquire(self, timeout: float | None = None) -> AbstractAsyncContextManager[Lease]:
        """Lease a connection to a member, for exclusive use: `async with cluster.acquire() as client`.

        Args:
            timeout: seconds to wait for it; None: the policy's `wait_timeout`.

        Raises: when it is entered,
            NoMemberError: none was available in time.
            ClusterClosedError: the pool is not open.
        """
        if timeout is not None:
            check_seconds(f"acquire(timeout={shown(timeout)})", timeout, zero=True, otherwise=", or None")
        self._check_open()
        return self._leases.lease(self.policy.wait_timeout if timeout is None else timeout)

    @property
    def services(self) -> Services:
        """As `Connection.services`; each call goes as `call` does."""
        return Services(self)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_") or hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ServiceProxy(self, name)

    # --- watching -------------------------------------------------------------------------------------------------

    @property
    def members(self) -> tuple[Member, ...]:
        """The members that this client uses, draining ones included; for reading only."""
        return tuple(self._roster)

    def stats(self) -> dict[str, Any]:
        """Counts, as this client sees them.

        Returns:
            a dict of `members` (a list of dicts of `name`, `state`, `outstanding`, `calls`, `failures`, `cause`),
            `serving` (connections that calls can go to), and `outstanding` (calls under way on all of them).
        """
        rows = [
            {
                "name": member.conn.name,
                "state": str(member.state),
                "outstanding": member.outstanding,
                "calls": member.calls,
                "failures": member.failures,
                "cause": None if member.cause is None else said(member.cause),
            }
            for member in self._roster
        ]
        outstanding = sum(member.outstanding for member in self._roster)
        return {"members": rows, "serving": self._roster.serving, "outstanding": outstanding}

    def on_event(self, callback: Callable[[MemberEvent], None]) -> Callable[[], None]:
        """Call `callback(event)` whenever a member changes its state. What it raises is logged.

        Returns:
            a function that unregisters it.
        """
        if not callable(callback):
            raise TypeError(f"an observer must be callable, not {callback!r}")
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    # --- effects and activities -----------------------------------------------------------------------------------

    def make_parts(self, reason: BaseException | None) -> None:
        """Begin without members."""
        self._roster = Roster(self, self.policy, self._connection, self._client, self._rng, self._tell)
        self._leases = MemberLeases(self._roster, self._lease_pool)

    async def while_open(self) -> NoReturn:
        """Follow the members, in a task that goes on until their connections are closed: it may end their servers."""
        self._following = asyncio.create_task(self._follow())
        await asyncio.shield(self._following)
        raise AssertionError("members are followed for ever")

    async def while_closing(self) -> Annotated[str, Fires(_T.CLOSED)]:
        """Have calls under way answered, close all connections, and let the members be."""
        await self._leases.close()
        await self._roster.close()
        await self._stop_following()
        return _T.CLOSED

    async def on_loop_end(self) -> None:
        """Close all connections."""
        await self._roster.close()
        await self._stop_following()

    async def _stop_following(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.wait((following,))

    async def _follow(self) -> NoReturn:
        """A source that fails is asked anew; the last members stand."""
        pause = FIRST_ANEW
        while True:
            try:
                async with closing(self._members.watch()) as answers:
                    async for infos in answers:
                        pause = FIRST_ANEW
                        self._roster.update(tuple(infos))
                await asyncio.Event().wait()  # its last answer stands, for ever
            except Exception as error:  # of the source's, whatever it is
                self._roster.reason = error
                _log.warning("%r: its members could not be asked for; anew in %.3g s: %s", self, pause, said(error))
            await asyncio.sleep(pause * (0.5 + self._rng.random() / 2))
            pause = min(2 * pause, LAST_ANEW)

    def come_to_rest(self) -> None:
        """Close, without the activities."""
        for trigger in (_T.CLOSE, _T.CLOSED):
            if self.handles(trigger):
                self.fire(trigger)

    # --- how it is done -------------------------------------------------------------------------------------------

    def _calls(self) -> Calls:
        self._check_open()
        return Calls(ClusterRoute(self._roster))

    def _check_open(self) -> None:
        if self._state != _S.OPEN:
            raise ClusterClosedError(f"{self!r} is not open: use it inside 'async with', or await its open()")
        self.check_loop()

    async def _until_serving(self, at_least: int) -> None:
        while self._roster.serving < at_least:
            await self._roster.member(())
            if self._roster.serving < at_least:
                await self._roster.change()

    def _target(self, info: MemberInfo) -> Target:
        if self._recipe is not None and isinstance(info.target, str):
            endpoint, tls = self._recipe.endpoint(info.target), self._recipe.client_tls or self._recipe.tls
            # Whoever connects again does so with the files of then.
            return endpoint if tls is None else attrs.evolve(endpoint, credentials=tls.client_tls)
        return info.target

    def _connection(self, info: MemberInfo, name: str) -> Connection:
        policy = self.policy
        return Connection(
            self._target(info),
            name=name,
            retry=policy.retry,
            health=policy.health,
            services=self._services,
            rng=self._rng,
        )

    def _lease_pool(self, info: MemberInfo) -> ConnectionPool:
        return ConnectionPool(
            self._target(info),
            1,
            self.policy.max_leases - 1,
            name=info.name,
            services=self._services,
            rng=self._rng,
        )

    def _tell(self, event: MemberEvent) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(event)
            except Exception:  # of the application's, whatever it is
                _log.exception("%r: an observer of its members has failed", self)
