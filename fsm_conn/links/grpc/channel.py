"""What every gRPC channel here has in common: how it is made, and what it says when it cannot connect."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio

from fsm_conn.links.grpc.health_service import ask
from fsm_conn.links.target import Tls

__all__ = [
    "CHANNEL_OPTIONS",
    "READY",
    "bounds_of_our_own",
    "channel_credentials",
    "keep_grpc_running",
    "message_limits",
    "said_why_not",
    "without_retries",
]

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A channel without calls for half an hour would go idle, which looks like a loss and is none.
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    # Channels to one address would share a connection, and the backoff after one that failed.
    ("grpc.use_local_subchannel_pool", 1),
)
"""Options that every channel given to a `GrpcLink` should be made with."""


OUR_OWN = (
    *("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"),
    *("plugin.GRPCBroker", "plugin.GRPCController", "plugin.GRPCStdio"),
)
"""Services that are asked without anybody's asking for it."""
LARGEST_OF_OUR_OWN = 4 * 1024 * 1024
"""Bytes of one of their messages: gRPC's default."""

_kept: list[bool] = []


def keep_grpc_running() -> None:
    """Have gRPC's own thread go on when there is no channel any more.

    It ends with the last channel, and what it had yet to deliver then stays in memory for ever: half an object for each
    link that was closed.
    """
    if not _kept:
        _kept.append(True)
        grpc.aio.init_grpc_aio()


def message_limits(limit: int | None) -> dict[str, int]:
    """The options for messages of at most `limit` bytes, in both directions; None: gRPC's defaults."""
    if limit is None:
        return {}
    return {"grpc.max_receive_message_length": limit, "grpc.max_send_message_length": limit}


def channel_credentials(given: Any) -> grpc.ChannelCredentials | None:
    """What gRPC takes for credentials, made of `Tls`; others are passed on."""
    if not isinstance(given, Tls):
        found: grpc.ChannelCredentials | None = given
        return found
    return grpc.ssl_channel_credentials(given.roots, given.key, given.certificate)


def without_retries(given: Iterable[tuple[str, Any]]) -> dict[str, int]:
    """The option that turns gRPC's own retries off, unless the user's service config has a policy for them.

    By these a peer can keep the event loop, with one GOAWAY as soon as it is connected: a call is begun again and again
    on that connection, inside gRPC, until its deadline.
    """
    config = str(dict(given).get("grpc.service_config", ""))
    return {} if "retryPolicy" in config or "hedgingPolicy" in config else {"grpc.enable_retries": 0}


def bounds_of_our_own(given: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """The option that bounds the answers of services that this package asks for itself, whatever `max_message` says.

    That is for the replies that the application wants. What a peer says of its health and its services, and what a
    plugin prints, comes unasked, and would be held in memory as a whole before anybody could look at it.

    Args:
        given: the user's options; a service config among them is kept, and added to.
    """
    try:
        config = json.loads(dict(given).get("grpc.service_config", "{}"))
        methods = [*config.get("methodConfig", ())]
        taken = {name.get("service") for method in methods for name in method.get("name", ())}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}  # gRPC has its own words for it
    names = [{"service": service} for service in OUR_OWN if service not in taken]
    if names:
        methods.append({"name": names, "maxResponseMessageBytes": LARGEST_OF_OUR_OWN})
    return {"grpc.service_config": json.dumps({**config, "methodConfig": methods})}


READY = grpc.ChannelConnectivity.READY
# Seconds for a channel that cannot connect to say why. It does at once, unless this machine is overloaded.
_EXPLAINED = 1.0


async def said_why_not(channel: Any) -> str:
    """Why a channel cannot connect, in gRPC's own words, as they are. It does not tell, but a call does, at once."""
    try:
        await ask(channel, timeout=_EXPLAINED)
    except grpc.aio.AioRpcError as error:
        return error.details() or error.code().name
    return "it refused at first"
