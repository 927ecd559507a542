"""The way of one call to a member and back.

The rules that hold here:

- A member counts a call from the moment in which it was chosen until the call has ended, however it ends.
- What is sent again goes to another member, as long as there is one.
- A member that refuses our token has not seen the call, which goes to another one; when there is no other, the refusal
  is what the caller is told.
- Whether it is sent again is decided by `Calls`, as for a connection and a pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, closing, within
from fsm_conn.cluster.errors import ClusterError
from fsm_conn.cluster.recipe import REFUSED
from fsm_conn.connection.calling.route import RoutedCall
from fsm_conn.links.errors import CallError, ConnectionLostError

if TYPE_CHECKING:
    from fsm_conn.cluster.membership.member import Member
    from fsm_conn.cluster.roster import Roster
    from fsm_conn.links.base import CallOptions

__all__ = ["ClusterRoute", "MemberCall"]

_MOMENT = 0.001


class ClusterRoute:
    """The route of one call. It remembers which members were tried."""

    __slots__ = ("_lost", "_roster", "_tried")

    is_patient = True
    """Every call waits for a member; its timeout covers that."""
    may_repeat = True
    endings = 0
    """None that a call need heed: a pool that is closed serves nobody."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._tried: list[Member] = []
        self._lost: list[Member] = []

    @property
    def owner(self) -> object:
        """The pool, for messages."""
        return self._roster.owner

    @property
    def reason(self) -> BaseException | None:
        """The last error that a member has met."""
        return self._roster.reason

    @property
    def excused(self) -> int:
        """How many members were lost under the call that are gone since: it was not the call that ended a plugin."""
        return sum(member.is_gone for member in self._lost)

    def ready(self) -> None:
        """None: it has to look each time."""

    async def now(self) -> MemberCall:
        """As `next`."""
        return await self.next(None)

    async def next(self, end: float | None) -> MemberCall:
        """A member to call; until `end`, by the loop's clock, when whoever waits is cancelled.

        Raises:
            NoMemberError: no time was named, and that of the policy has passed.
            ClusterClosedError: the pool is closed.
        """
        roster = self._roster
        found = roster.present(self._tried)  # without a timer, which costs more than all the rest
        if found is not None:
            return self._chosen(found)
        limit = roster.policy.wait_timeout if end is None else None
        try:
            member = await within(limit, roster.member(self._tried))
        except ExpiredError:
            raise roster.no_member(f"no member served within {limit:g} s") from None
        except ClusterError:
            await asyncio.sleep(0)  # who calls again at once, for ever, must not keep the loop from all else
            raise
        return self._chosen(member)

    def has_another(self) -> bool:
        """Whether a member serves that was not tried."""
        found = self._roster.present(self._tried)
        return found is not None and found not in self._tried

    def note_loss(self, member: Member) -> None:
        """A member was lost under the call."""
        self._lost.append(member)

    def _chosen(self, member: Member) -> MemberCall:
        self._tried.append(member)
        return MemberCall(member, self)


class MemberCall:
    """One call to a member, which counts it from here on."""

    __slots__ = ("_member", "_route")

    def __init__(self, member: Member, route: ClusterRoute) -> None:
        self._member = member
        self._route = route
        member.begin()

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """As `Link.call`."""
        end = _end_of(options)
        try:
            reply = await self._routed().call(method, request, fields, options)
        except Exception as error:
            self._learn_from(error, end)
            if _has_refused(error) and self._route.has_another():
                raise ConnectionLostError(f"{self._member.conn.name}: {said(error)}", maybe_executed=False) from error
            raise
        finally:
            self._member.end()
        self._member.went_well()
        return reply

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As `Link.stream`."""
        end = _end_of(options)
        try:
            async with closing(self._routed().stream(method, request, fields, options)) as replies:
                async for reply in replies:
                    yield reply
        except Exception as error:
            self._learn_from(error, end)
            raise
        finally:
            self._member.end()
        self._member.went_well()

    def is_unavailable(self, error: Exception) -> bool:
        """As `Link.is_unavailable`."""
        link = self._member.conn.link
        return link is not None and link.is_unavailable(error)

    def _routed(self) -> RoutedCall:
        conn = self._member.conn
        if conn.link is None or not conn.is_connected():
            raise ConnectionLostError(f"{conn.name}: the link was lost before the call was sent", maybe_executed=False)
        return RoutedCall(conn, conn.link)

    def _learn_from(self, error: Exception, end: float | None) -> None:
        """Have the member know whether it was its fault."""
        if isinstance(error, ConnectionLostError) and error.maybe_executed:
            self._route.note_loss(self._member)
        is_late = end is not None and asyncio.get_running_loop().time() >= end - _MOMENT
        link = self._member.conn.link
        if isinstance(error, ConnectionLostError) or is_late or self.is_unavailable(error) or _has_refused(error):
            self._member.went_wrong(error)
        elif link is not None and link.is_answer(error):
            self._member.went_well()


def _has_refused(error: BaseException) -> bool:
    """Whether the server before the plugin refused the token, of the call or of the lookup of its method."""
    answer = error.__cause__ if type(error) is CallError else error
    trailing = getattr(answer, "trailing_metadata", None)
    return trailing is not None and any(name == REFUSED for name, _ in trailing() or ())


def _end_of(options: CallOptions | None) -> float | None:
    if options is None or options.timeout is None:
        return None
    return asyncio.get_running_loop().time() + options.timeout
