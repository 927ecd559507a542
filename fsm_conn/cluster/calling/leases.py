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
        self._closings: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lease(self, timeout: float) -> AsyncIterator[Lease]:
        """A lease on the member that has least to do; on another one, when that has none to give.

        Raises:
            NoMemberError: none was to be had in time.
        """
        tried: list[Member] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        async with AsyncExitStack() as stack:
            while True:
                try:
                    member = await within(end - loop.time(), self._roster.member(tried))
                    lease = await self._leased(stack, member, end - loop.time())
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

    async def _leased(self, stack: AsyncExitStack, member: Member, left: float) -> Lease:
        pool = self._pools.get(member)
        if pool is None:
            pool = self._pools[member] = self._make(member.info)
            member.on_transition(lambda record: self._forget(member) if record.dest == MemberState.LEFT else None)
        await pool.initialize(at_least=0)
        member.begin()
        try:
            lease = await stack.enter_async_context(pool.acquire(max(0.0, left)))
        except BaseException:
            member.end()
            raise
        stack.callback(member.end)
        return lease

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
