"""Descriptions of members, and their sources."""

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
    """The description of one member by a source of members."""

    name: str = attrs.field(validator=_name)
    """Its unique name. A member that comes back after it has drained is another one, and may have the same name once
    the old one has left."""
    target: Target = attrs.field(kw_only=True)
    """Its address, to which the pool's recipe adds certificates and token; or any target of a `Connection`."""
    connections: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))
    """How many connections each client opens to it: as many as it has plugins."""
    is_local: bool = attrs.field(default=False, kw_only=True)
    """Whether it is on this machine, and therefore preferred."""
    is_draining: bool = attrs.field(default=False, kw_only=True)
    """Whether it has announced that it leaves: no more calls are sent to it."""


class Members(Protocol):
    """A source of members, as a stream: `StaticMembers`, `DnsMembers`, or a class of your own."""

    def watch(self) -> AsyncIterator[Collection[MemberInfo]]:
        """Yield all members at once, and all of them again whenever they have changed.

        When it ends or raises, the last answer stands, so that members serve on while the source is away. After an
        error it is asked again after a pause.
        """
