"""What all gRPC channels here have in common: how they are made, and why they cannot connect."""

from __future__ import annotations

import datetime
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
    "why_invalid",
    "without_retries",
]

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A channel without calls for half an hour would go idle, which looks like a loss but is not.
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    # Otherwise channels to one address would share a connection, and the backoff after a failed one.
    ("grpc.use_local_subchannel_pool", 1),
)
"""Options that every channel given to a `GrpcLink` should be made with."""


OUR_OWN = (
    *("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"),
    *("plugin.GRPCBroker", "plugin.GRPCController", "plugin.GRPCStdio"),
)
"""Services that this package calls without the application's asking for it."""
LARGEST_OF_OUR_OWN = 4 * 1024 * 1024
"""The largest message of these services, in bytes: gRPC's default."""

_kept: list[bool] = []


def keep_grpc_running() -> None:
    """Keep gRPC's own thread running when there is no channel any more.

    Otherwise the thread ends with the last channel, and what it had yet to deliver stays in memory without end: half an
    object for each link that was closed.
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
    """Credentials for gRPC, made from `Tls`; others are passed on."""
    if not isinstance(given, Tls):
        found: grpc.ChannelCredentials | None = given
        return found
    return grpc.ssl_channel_credentials(given.roots, given.key, given.certificate)


def why_invalid(pem: bytes) -> str:
    """Why the first certificate in `pem` is not valid now: "expired on ..."; "" if it is, or if it cannot be read."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(pem)
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError:  # whoever uses it says what is wrong with it
        return ""
    now = datetime.datetime.now(datetime.UTC)
    if now > until:
        return f"expired on {until:%Y-%m-%d at %H:%M} UTC"
    return f"is not valid before {since:%Y-%m-%d at %H:%M} UTC" if now < since else ""


def without_retries(given: Iterable[tuple[str, Any]]) -> dict[str, int]:
    """The option that turns gRPC's own retries off, unless the user's service config has a policy for them.

    With these retries a peer can block the event loop with one GOAWAY as soon as it is connected: gRPC begins a call
    again and again on that connection, internally, until the call's deadline.
    """
    config = str(dict(given).get("grpc.service_config", ""))
    return {} if "retryPolicy" in config or "hedgingPolicy" in config else {"grpc.enable_retries": 0}


def bounds_of_our_own(given: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """The option that bounds the answers of services that this package calls itself, whatever `max_message` says.

    `max_message` is for the replies that the application wants. What a peer says about its health and its services, and
    what a plugin prints, comes unasked, and gRPC would hold all of it in memory before anybody could look at it.

    Args:
        given: the user's options; a service config among them is kept and extended.
    """
    try:
        config = json.loads(dict(given).get("grpc.service_config", "{}"))
        methods = [*config.get("methodConfig", ())]
        taken = {name.get("service") for method in methods for name in method.get("name", ())}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}  # gRPC reports this in its own words
    names = [{"service": service} for service in OUR_OWN if service not in taken]
    if names:
        methods.append({"name": names, "maxResponseMessageBytes": LARGEST_OF_OUR_OWN})
    return {"grpc.service_config": json.dumps({**config, "methodConfig": methods})}


READY = grpc.ChannelConnectivity.READY
# Seconds that a channel has to say why it cannot connect. It says so at once, unless this machine is overloaded.
_EXPLAINED = 1.0


async def said_why_not(channel: Any) -> str:
    """Why a channel cannot connect, in gRPC's own words, unchanged. Only a call learns this, and it does at once."""
    try:
        await ask(channel, timeout=_EXPLAINED)
    except grpc.aio.AioRpcError as error:
        return error.details() or error.code().name
    return "it refused at first"
