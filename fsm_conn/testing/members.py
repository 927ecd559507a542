"""A cluster that exists only in memory: the test lets members come, go, hang and die, and a ledger records everything
that they executed.

    members = SimulatedMembers(3)
    async with ClusterPool(members) as cluster:
        await cluster.call("work.Do", id=1)
        members["m1"].kill()

The ledger knows what no client can: how often each request was executed, by which member, and when. So a test can
compare it with what clients were told.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

import attrs

from fsm_conn._util.keywords import explained
from fsm_conn.cluster.membership.info import MemberInfo
from fsm_conn.links.base import CallOptions, Link
from fsm_conn.links.errors import ConnectionLostError, GoingAwayError, LinkError, LinkLostError
from fsm_conn.testing.simulated import _deadline_exceeded

__all__ = ["Ledger", "SimulatedMember", "SimulatedMembers"]


@attrs.define
class Ledger:
    """The requests that the members of a cluster have executed."""

    executed: Counter[Any] = attrs.field(factory=Counter)
    """How often each request was executed, by its field `id`."""
    by_member: Counter[str] = attrs.field(factory=Counter)
    """How many requests each member has executed."""

    def note(self, member: str, fields: Mapping[str, Any]) -> None:
        """Count an executed request."""
        self.executed[fields.get("id")] += 1
        self.by_member[member] += 1

    def twice(self) -> list[Any]:
        """The requests that were executed more than once."""
        return [request for request, times in self.executed.items() if times > 1]


class SimulatedMember:
    """A simulated machine of a cluster.

    Attributes:
        name: its name.
        latency: seconds that a call takes: half before it is executed, half after.
        opening: seconds that connecting to it takes.
        is_up: whether clients can connect to it.
        hangs: whether it answers nothing.
        links: the connections to it.
        under_way: calls that it works on.
    """

    def __init__(self, name: str, ledger: Ledger, changed: Callable[[], None]) -> None:
        self.name = name
        self.latency = 0.01
        self.opening = 0.001
        self.is_up = True
        self.hangs = False
        self.is_draining = False
        self.links: set[_MemberLink] = set()
        self.under_way = 0
        self.ledger = ledger
        self._changed = changed

    def __repr__(self) -> str:
        return f"<SimulatedMember {self.name} {'up' if self.is_up else 'down'}, {len(self.links)} links>"

    __name__ = "simulated member"

    def __call__(self) -> Link:
        """Make a link to it."""
        return _MemberLink(self)

    @property
    def info(self) -> MemberInfo:
        """Its description for clients."""
        return MemberInfo(self.name, target=self, is_draining=self.is_draining)

    def kill(self) -> None:
        """Die: calls under way are lost at whatever stage, and nobody can connect."""
        self.is_up = False
        for link in tuple(self.links):
            link.lose(LinkLostError(f"{self.name} was killed"))

    def start(self) -> None:
        """Come back."""
        self.is_up, self.is_draining = True, False
        self._changed()

    def drain(self) -> None:
        """Announce the end, and close all connections in good order."""
        self.is_draining = True
        self._changed()
        self.go_away()

    def go_away(self) -> None:
        """Close all connections in good order: calls under way are answered."""
        for link in tuple(self.links):
            link.lose(GoingAwayError(f"{self.name} goes away"))


class _MemberLink(Link):
    """A connection to a simulated member."""

    def __init__(self, member: SimulatedMember) -> None:
        self._member = member
        self._gone: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way = 0
        self._idle = asyncio.Event()

    async def open(self) -> None:
        """Connect, if it is up."""
        await asyncio.sleep(self._member.opening)
        if not self._member.is_up or self._member.is_draining:
            raise LinkError(f"{self._member.name} refuses")
        self._member.links.add(self)

    def lose(self, reason: Exception) -> None:
        """It is lost, or goes away."""
        if not self._gone.done():
            self._gone.set_result(reason)
        if not isinstance(reason, GoingAwayError) and not self._broken.done():
            self._broken.set_result(None)

    async def lost(self) -> Exception:
        """Wait until it is lost, or goes away."""
        return await asyncio.shield(self._gone)

    async def drained(self) -> None:
        """Wait until no call is under way."""
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """Break what is still under way."""
        self.lose(LinkLostError("the link was closed"))
        self._member.links.discard(self)

    async def probe(self, service: str = "") -> bool:
        """Answer, unless it hangs."""
        if self._member.hangs:
            await asyncio.sleep(1e6)
        return True

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Execute it in the middle of its latency; whoever loses the link before, or after, cannot tell."""
        if self._broken.done():
            raise ConnectionLostError(f"{method} was not sent", maybe_executed=False)
        self._under_way += 1
        self._member.under_way += 1
        try:
            async with asyncio.timeout(None if options is None else options.timeout):
                return await self._executed(method, request if isinstance(request, Mapping) else fields)
        except TimeoutError:
            raise _deadline_exceeded() from None
        finally:
            self._member.under_way -= 1
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _executed(self, method: str, fields: Mapping[str, Any]) -> Any:
        member = self._member
        await self._pass(method, 1e6 if member.hangs else member.latency / 2)
        member.ledger.note(member.name, fields)
        await self._pass(method, member.latency / 2)
        return {"id": fields.get("id"), "by": member.name}

    async def _pass(self, method: str, seconds: float) -> None:
        await asyncio.wait((self._broken,), timeout=seconds)
        if self._broken.done():
            raise ConnectionLostError(f"the link was lost during {method}", maybe_executed=True)


class SimulatedMembers:
    """A source of simulated members, for `ClusterPool(SimulatedMembers(3))`.

    Args:
        size: how many members there are at first, named `m0`, `m1`, and so on.

    Attributes:
        ledger: what all of them have executed.
    """

    def __init__(self, size: int) -> None:
        self.ledger = Ledger()
        self._all: dict[str, SimulatedMember] = {}
        self._listening: set[asyncio.Event] = set()
        self.fails = False
        for _ in range(size):
            self.add()

    def __getitem__(self, name: str) -> SimulatedMember:
        return self._all[name]

    def __iter__(self) -> Any:
        return iter(tuple(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    @explained()
    def add(self, name: str | None = None) -> SimulatedMember:
        """Add a member."""
        member = SimulatedMember(name or f"m{len(self._all)}", self.ledger, self.announce)
        self._all[member.name] = member
        self.announce()
        return member

    def remove(self, name: str) -> SimulatedMember:
        """Remove a member from the list; it still serves its clients."""
        member = self._all.pop(name)
        self.announce()
        return member

    def announce(self) -> None:
        """Notify all clients."""
        for news in self._listening:
            news.set()

    async def watch(self) -> AsyncIterator[Collection[MemberInfo]]:
        """Yield all members, and again whenever something has changed. Raises while `fails` is set."""
        news = asyncio.Event()
        self._listening.add(news)
        try:
            while True:
                if self.fails:
                    raise OSError("the source of members is down")
                yield [member.info for member in self._all.values()]
                await news.wait()
                news.clear()
        finally:
            self._listening.discard(news)
