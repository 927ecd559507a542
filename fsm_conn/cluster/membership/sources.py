"""Sources of members without an engine: a list, and DNS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable

from fsm_conn._util.keywords import explained
from fsm_conn._util.validators import check_seconds, shown
from fsm_conn.cluster.membership.info import MemberInfo
from fsm_conn.links.checking import checked_address

__all__ = ["DnsMembers", "StaticMembers"]

Resolve = Callable[[str, int], Awaitable[Iterable[str]]]


class StaticMembers:
    """A fixed list of members: `StaticMembers(["10.0.0.5:7000", "10.0.0.6:7000"])`.

    Args:
        members: addresses, or `MemberInfo` values.
        connections: how many connections to each address: as many as it has plugins.

    Raises:
        ValueError: an address is wrong, or two members have the same name.
    """

    def __init__(self, members: Iterable[str | MemberInfo], *, connections: int = 1) -> None:
        self._members = tuple(
            MemberInfo(checked_address(each), target=each, connections=connections) if isinstance(each, str) else each
            for each in members
        )
        names = [each.name for each in self._members]
        if len({*names}) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"StaticMembers: {twice!r} is listed twice; a server with several plugins is one member")

    async def watch(self) -> AsyncIterator[Collection[MemberInfo]]:
        """Yield all members, once."""
        yield self._members


class DnsMembers:
    """All addresses of a DNS name, looked up again and again; for example of a headless service.

    Args:
        name: `host:port`.
        interval: seconds between two look-ups.
        connections: how many connections to each address: as many as a server has plugins.
        resolve: looks a name up: an async function of host and port that returns addresses. By default the system's.

    When a look-up fails, the members stay as they were, so an outage of DNS does not stop calls. With TLS the servers'
    certificates must contain their addresses, or the recipe's `client_tls` must have a `server_name`.
    """

    @explained()
    def __init__(
        self, name: str, *, interval: float = 5.0, connections: int = 1, resolve: Resolve | None = None
    ) -> None:
        checked_address(name)
        host, _, port = name.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._interval = check_seconds(f"DnsMembers(interval={shown(interval)})", interval)
        self._connections = connections
        self._resolve = resolve or _look_up

    async def watch(self) -> AsyncIterator[Collection[MemberInfo]]:
        """Yield the members when they are known, and whenever they have changed.

        Raises:
            OSError: the name cannot be looked up.
        """
        last: tuple[MemberInfo, ...] | None = None
        while True:
            found = sorted({*await self._resolve(self._host, self._port)})
            members = tuple(self._member(address) for address in found)
            if members and members != last:
                yield members
                last = members
            await asyncio.sleep(self._interval)

    def _member(self, address: str) -> MemberInfo:
        where = f"[{address}]:{self._port}" if ":" in address else f"{address}:{self._port}"
        return MemberInfo(where, target=where, connections=self._connections)


async def _look_up(host: str, port: int) -> Iterable[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(where[0]) for *_, where in found]
