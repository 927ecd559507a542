"""The members that a client has to do with: made, drained and forgotten as the source of members says.

The rules that hold here:

- Who is not on the list any more drains, as does who says that it does: no call is cut off for it.
- Of a name there is at most one generation that serves; an older one may still drain beside it.
- What is decided on a change of many members is decided once, in a turn of the loop of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterator
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

import attrs

from fsm_conn._util.text import said
from fsm_conn.cluster.calling.balancer import Balancer
from fsm_conn.cluster.errors import ClusterClosedError, ClusterError, NoMemberError
from fsm_conn.cluster.membership.info import MemberInfo
from fsm_conn.cluster.membership.member import Member
from fsm_conn.cluster.membership.subset import chosen
from fsm_conn.cluster.membership.table import MemberState, MemberTrigger
from fsm_conn.cluster.policy import ClusterPolicy

if TYPE_CHECKING:
    from fsm_conn.connection.connection import Connection
    from fsm_conn.machine.records import TransitionRecord

__all__ = ["MemberEvent", "Roster"]

_log = logging.getLogger("fsm_conn.cluster")
MakeConnection = Callable[[MemberInfo, str], "Connection"]
_OUT = frozenset({MemberState.LOST, MemberState.DRAINING, MemberState.LEFT})


@attrs.frozen
class MemberEvent:
    """A member has changed its state, as this client sees it."""

    member: str
    """Its name."""
    source: str
    """The state that it has left."""
    dest: str
    """The state that it has entered; the same for a further attempt."""
    reason: BaseException | None
    """The error behind it."""


class Roster:
    """All members of one client.

    Args:
        owner: the pool, for messages.
        policy: that of the pool.
        make: makes the connection to a member, by what is said of it and a name.
        client: what this client is called, for its subset.
        rng: where choices are drawn from.
        changed: told of each change of a member's state.
    """

    def __init__(
        self,
        owner: object,
        policy: ClusterPolicy,
        make: MakeConnection,
        client: str,
        rng: random.Random,
        changed: Callable[[MemberEvent], None],
    ) -> None:
        self.owner = owner
        self.policy = policy
        self.reason: BaseException | None = None
        self._make = make
        self._client = client
        self._changed = changed
        self._balancer: Balancer[Member] = Balancer(policy.local_slack, rng)
        self._infos: dict[str, MemberInfo] = {}
        self._present: dict[str, list[Member]] = {}
        self._leaving: set[Member] = set()
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._is_closed = False
        self._is_due = False
        self._paced_until, self._left = 0.0, 0
        self._context = copy_context()

    def __iter__(self) -> Iterator[Member]:
        for members in tuple(self._present.values()):
            yield from members
        yield from tuple(self._leaving)

    @property
    def serving(self) -> int:
        """How many connections calls can go to."""
        return len(self._balancer)

    def update(self, infos: Collection[MemberInfo]) -> None:
        """These are the members from now on."""
        self._infos = {info.name: info for info in infos}
        self._reconcile()

    def present(self, tried: Collection[Member]) -> Member | None:
        """The member for a call; None: there is none at present."""
        return None if self._is_closed else self._balancer.choose(asyncio.get_running_loop().time(), tried)

    async def member(self, tried: Collection[Member]) -> Member:
        """The member for a call; wait until there is one.

        Raises:
            ClusterClosedError: the pool is closed.
        """
        while True:
            if self._is_closed:
                raise ClusterClosedError(f"{self.owner!r} is closed; use it inside 'async with'")
            found = self.present(tried)
            if found is not None:
                return found
            await self.change()

    async def change(self) -> None:
        """Wait until one more connection serves, or the pool is closed."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            del self._waiters[waiter]

    def no_member(self, why: str) -> ClusterError:
        """The error for who waited in vain, with what members last failed with."""
        states = [f"{member.conn.name} is {member.state}{_because(member.cause)}" for member in self]
        some = "; ".join(states[:5]) + (f"; and {len(states) - 5} more" if len(states) > 5 else "")
        none = "there are no members" + ("" if self.reason is None else f"; the last error was: {said(self.reason)}")
        error = NoMemberError(f"{self.owner!r}: {why}: {some or none}")
        error.__cause__ = self.reason
        return error

    async def close(self) -> None:
        """No more calls; have all members drain, and wait until they have left."""
        self._is_closed = True
        self._infos = {}
        self.wake()
        self._reconcile()
        left = [member.wait_for_state(MemberState.LEFT) for member in tuple(self._leaving)]
        await asyncio.gather(*left)

    # --- how it is done -------------------------------------------------------------------------------------------

    def _reconcile(self) -> None:
        self._is_due = False
        wanted = {
            name: self._infos[name]
            for name in chosen(
                self._client,
                [each.name for each in self._infos.values() if not each.is_draining],
                self._size,
                self._is_out,
            )
        }
        wanted |= {info.name: info for info in self._infos.values() if info.is_local and not info.is_draining}
        for name, members in tuple(self._present.items()):
            if wanted.get(name) != members[0].info:
                self._drain(name)
        for name, info in wanted.items():
            if name not in self._present and (info.is_local or self._may_add()):
                self._context.run(self._add, info)

    def _may_add(self) -> bool:
        """Whether one more is added now: at most a subset in a second, so that nobody tries a whole cluster at once."""
        if self._size is None:
            return True
        loop = asyncio.get_running_loop()
        if loop.time() >= self._paced_until:
            self._paced_until, self._left = loop.time() + 1.0, self._size
        self._left -= 1
        if self._left == -1:
            loop.call_at(self._paced_until, self._reconcile)
        return self._left >= 0

    @property
    def _size(self) -> int | None:
        return self.policy.subset

    def _is_out(self, name: str) -> bool:
        members = self._present.get(name)
        return members is not None and all(member.state in _OUT or member.is_gone for member in members)

    def _add(self, info: MemberInfo) -> None:
        made: list[Member] = []
        try:
            for number in range(info.connections):
                name = info.name if info.connections == 1 else f"{info.name}#{number + 1}"
                made.append(Member(info, self._make(info, name), self.policy, self._moved))
        except Exception as error:  # of a target or a file that is wrong: the others serve nevertheless
            self.reason = error
            _log.exception("the member %r could not be made", info.name)
            return
        self._present[info.name] = made
        for member in made:
            member.on_transition(partial(self._tell, info.name))
            member.start()

    def _drain(self, name: str) -> None:
        for member in self._present.pop(name):
            self._leaving.add(member)
            member.fire(MemberTrigger.DRAIN)

    def _moved(self, member: Member) -> None:
        if member.is_serving:
            self._balancer.add(member, is_local=member.info.is_local)
            self.wake()
        else:
            self._balancer.remove(member)
            self.reason = member.cause or self.reason
        if member.state == MemberState.LEFT:
            self._leaving.discard(member)
        if self._size is not None and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._reconcile)

    def _tell(self, name: str, record: TransitionRecord) -> None:
        if not record.internal:
            self._changed(MemberEvent(name, record.source, record.dest, record.reason))

    def wake(self) -> None:
        """Have all who wait look again, in the order in which they came."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


def _because(cause: BaseException | None) -> str:
    return "" if cause is None else f" ({said(cause)})"
