"""More than one machine: plugins served to other machines, and calls balanced over many.

    async with serve(Recipe(plugin=["python", "plugin.py"], tls=...), "10.0.0.5:7000") as server: ...

Importing this package imports neither grpc nor an engine: each name is imported at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn._util.lazy import lazily

if TYPE_CHECKING:
    from fsm_conn.cluster.errors import ClusterClosedError as ClusterClosedError
    from fsm_conn.cluster.errors import ClusterError as ClusterError
    from fsm_conn.cluster.errors import NoMemberError as NoMemberError
    from fsm_conn.cluster.errors import ServeError as ServeError
    from fsm_conn.cluster.membership.info import MemberInfo as MemberInfo
    from fsm_conn.cluster.membership.info import Members as Members
    from fsm_conn.cluster.membership.member import Member as Member
    from fsm_conn.cluster.membership.sources import DnsMembers as DnsMembers
    from fsm_conn.cluster.membership.sources import StaticMembers as StaticMembers
    from fsm_conn.cluster.membership.table import MemberState as MemberState
    from fsm_conn.cluster.membership.table import MemberTrigger as MemberTrigger
    from fsm_conn.cluster.policy import ClusterPolicy as ClusterPolicy
    from fsm_conn.cluster.pool import ClusterPool as ClusterPool
    from fsm_conn.cluster.recipe import Recipe as Recipe
    from fsm_conn.cluster.recipe import ServeLimits as ServeLimits
    from fsm_conn.cluster.recipe import TlsFiles as TlsFiles
    from fsm_conn.cluster.recipe import Token as Token
    from fsm_conn.cluster.roster import MemberEvent as MemberEvent
    from fsm_conn.cluster.serving.server import Server as Server
    from fsm_conn.cluster.serving.server import serve as serve
    from fsm_conn.cluster.serving.table import ServerState as ServerState
    from fsm_conn.cluster.serving.table import ServerTrigger as ServerTrigger
    from fsm_conn.cluster.table import ClusterState as ClusterState
    from fsm_conn.cluster.table import ClusterTrigger as ClusterTrigger

_HOMES = {
    "fsm_conn.cluster.errors": "ClusterClosedError ClusterError NoMemberError ServeError",
    "fsm_conn.cluster.membership.info": "MemberInfo Members",
    "fsm_conn.cluster.membership.sources": "DnsMembers StaticMembers",
    "fsm_conn.cluster.membership.member": "Member",
    "fsm_conn.cluster.membership.table": "MemberState MemberTrigger",
    "fsm_conn.cluster.policy": "ClusterPolicy",
    "fsm_conn.cluster.pool": "ClusterPool",
    "fsm_conn.cluster.recipe": "Recipe ServeLimits TlsFiles Token",
    "fsm_conn.cluster.roster": "MemberEvent",
    "fsm_conn.cluster.serving.server": "Server serve",
    "fsm_conn.cluster.serving.table": "ServerState ServerTrigger",
    "fsm_conn.cluster.table": "ClusterState ClusterTrigger",
}
"""The public names, by the module that each is imported from at its first use."""

__getattr__, __dir__, __all__ = lazily(__name__, _HOMES)
