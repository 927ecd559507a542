"""Leases on members: each member that is asked for one gets a small `ConnectionPool` of its own, beside its calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.cluster.membership.table import MemberState
from fsm_conn.cluster.roster import Roster
from fsm_conn.pool.errors import PoolError
from fsm_conn.pool.pool import ConnectionPool

if TYPE_CHECKING:
    from fsm_conn.cluster.membership.info import MemberInfo
    from fsm_conn.cluster.membership.member import Member
    from fsm_conn.pool.leasing.lease import Lease

__all__ = ["MemberLeases"]

TURN = 1.0
"""Seconds for one member to give a lease, before another one is asked: it may take no more connections."""


class MemberLeases:
    """The pools for leases.

    Args:
        roster: the members.
        make: makes a pool to a member, of a given size.
    """

    def __init__(self, roster: Roster, make: Callable[[MemberInfo], ConnectionPool]) -> None:
        self._roster = roster
        self._make = make
        self._pools: dict[Member, ConnectionPool] = {}
        self._held: dict[Member, int] = {}
        self._closings: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lease(self, timeout: float) -> AsyncIterator[Lease]:
        """A lease on the least loaded member; on another one, when that has none to give.

        Raises:
            NoMemberError: none was available in time.
        """
        tried: list[Member] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        async with AsyncExitStack() as stack:
            while True:
                try:
                    member = await within(end - loop.time(), self._with_room(tried))
                    left = max(0.0, min(TURN, end - loop.time()))
                    lease = await stack.enter_async_context(self._leased(member, left))
                    break
                except ExpiredError:
                    raise self._roster.no_member(f"no lease was to be had within {timeout:g} s") from None
                except PoolError as error:
                    tried.append(member)
                    self._roster.reason = error
                    if end <= loop.time():
                        raise self._roster.no_member(f"no lease was to be had within {timeout:g} s") from error
                    await asyncio.sleep(0)
            yield lease

    async def _with_room(self, tried: list[Member]) -> Member:
        """A member with fewer leases than it may have; wait until there is one."""
        while True:
            full = [member for member, held in self._held.items() if held >= self._roster.policy.max_leases]
            member = await self._roster.member([*tried, *full])
            if member not in full:
                return member
            if not tried:
                await self._roster.change()
            tried.clear()

    @asynccontextmanager
    async def _leased(self, member: Member, limit: float) -> AsyncIterator[Lease]:
        pool = self._pools.get(member)
        if pool is None:
            pool = self._pools[member] = self._make(member.info)
            member.on_transition(lambda record: self._forget(member) if record.dest == MemberState.LEFT else None)
        member.begin()
        self._held[member] = self._held.get(member, 0) + 1
        try:
            await pool.initialize(at_least=0)
            async with pool.acquire(limit) as lease:
                yield lease
        finally:
            member.end()
            self._held[member] -= 1
            if not self._held[member]:
                del self._held[member]
            self._roster.wake()

    def _forget(self, member: Member) -> None:
        pool = self._pools.pop(member, None)
        if pool is not None:
            closing = asyncio.create_task(pool.close_all())
            self._closings.add(closing)
            closing.add_done_callback(self._closings.discard)

    async def close(self) -> None:
        """Close all pools, once their leases are given back."""
        for member in tuple(self._pools):
            self._forget(member)
        if self._closings:
            await asyncio.wait(tuple(self._closings))
