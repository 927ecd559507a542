"""What is said of one member, and who says it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any, Protocol

import attrs

from fsm_conn.connection.options import checked_name
from fsm_conn.links.target import Target

__all__ = ["MemberInfo", "Members"]


def _name(instance: object, attribute: Any, value: str) -> None:
    checked_name(value)


@attrs.frozen
class MemberInfo:
    """One member, as a source of members tells of it."""

    name: str = attrs.field(validator=_name)
    """What it is called; no other member is. One that comes back after it has drained is another member, and may have
    the same name once the old one has left."""
    target: Target = attrs.field(kw_only=True)
    """Where it is: an address, to which the recipe of the pool adds certificates and token; or as for `Connection`."""
    connections: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))
    """How many connections each client makes to it: as many as it has plugins."""
    is_local: bool = attrs.field(default=False, kw_only=True)
    """Whether it is on this machine, and so preferred."""
    is_draining: bool = attrs.field(default=False, kw_only=True)
    """Whether it has said that it goes: no more calls are sent to it."""


class Members(Protocol):
    """Who is there, as a stream: `StaticMembers`, `DnsMembers`, or a class of your own."""

    def watch(self) -> AsyncIterator[Collection[MemberInfo]]:
        """Yield all members at once, and all of them again whenever that has changed.

        When it ends, the last answer stands. When it raises, the last answer stands, too, and it is asked anew after a
        pause: members serve on while nobody can tell who they are.
        """
