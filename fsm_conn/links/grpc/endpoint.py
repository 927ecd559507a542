"""The link to a gRPC server that somebody else started."""

from __future__ import annotations

import os
import re
from typing import Any

import attrs
import grpc
import grpc.aio

from fsm_conn._util.text import brief, said
from fsm_conn.links.checking import is_here
from fsm_conn.links.errors import LinkError
from fsm_conn.links.grpc.calls import GrpcCalls
from fsm_conn.links.grpc.channel import (
    CHANNEL_OPTIONS,
    READY,
    bounds_of_our_own,
    channel_credentials,
    keep_grpc_running,
    message_limits,
    said_why_not,
    why_invalid,
    without_retries,
)
from fsm_conn.links.grpc.link import GrpcLink
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.grpc.metadata import carrying
from fsm_conn.links.services import normalize_services
from fsm_conn.links.target import Endpoint, Tls

__all__ = ["EndpointLink", "open_channel"]

ATTEMPT_MS = 5000
"""Milliseconds. An abandoned attempt goes on inside gRPC, with its socket, until it times out: by default after
20 seconds."""
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables in which gRPC looks for a proxy, in this order."""
_CLOSED = re.compile(r": (Socket closed|recvmsg:Connection reset by peer[ ()0-9]*)$|TSI_DATA_CORRUPTED")
"""A server has ended the connection; the last one, after the handshake, as TLS 1.3 does."""
_HINTS = {
    "WRONG_VERSION_NUMBER": "perhaps it does not speak TLS: leave credentials= away",
    "certificate has expired": "the peer needs a new one, unless the clock of this machine is wrong",
    "certificate is not yet valid": "perhaps the clock of this machine is wrong",
    "CERTIFICATE_VERIFY_FAILED": "no authority in Tls(roots=...) vouches for its certificate",
    "Hostname Verification Check failed": "its certificate is for another name: give that as authority=",
    "Expected SETTINGS frame": "another kind of server listens there",
}
"""Parts of gRPC's words, and what they mean."""
COMPRESSION = {None: None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


def channel_options(endpoint: Endpoint) -> list[tuple[str, Any]]:
    """The options of a channel to an endpoint."""
    options: dict[str, Any] = {
        **dict(CHANNEL_OPTIONS),
        "grpc.min_reconnect_backoff_ms": ATTEMPT_MS,
        **message_limits(endpoint.max_message),
        **without_retries(endpoint.options),
    }
    if is_here(endpoint.address):
        options["grpc.enable_http_proxy"] = 0
    if endpoint.authority is not None:
        options["grpc.default_authority"] = endpoint.authority
    elif endpoint.address.startswith(("unix:", "unix-abstract:")):
        # By default this would be the socket's path, which is no host name: servers in Rust refuse it.
        options["grpc.default_authority"] = "localhost"
    return [*(options | dict(endpoint.options) | bounds_of_our_own(endpoint.options)).items()]


def new_channel(endpoint: Endpoint) -> grpc.aio.Channel:
    """A channel to an endpoint. It does not connect yet."""
    keep_grpc_running()
    arguments: dict[str, Any] = {
        "options": channel_options(endpoint),
        "compression": COMPRESSION.get(endpoint.compression, endpoint.compression),
        "interceptors": [*endpoint.interceptors],
    }
    credentials = channel_credentials(endpoint.credentials)
    if credentials is None:
        return grpc.aio.insecure_channel(endpoint.address, **arguments)
    return grpc.aio.secure_channel(endpoint.address, credentials, **arguments)


async def open_channel(endpoint: Endpoint) -> Any:
    """Connect, once. If that fails or is cancelled, nothing is left open.

    Raises:
        LinkError: the endpoint cannot be reached, or its function for credentials has failed.
    """
    if callable(endpoint.credentials):
        endpoint = _with_credentials(endpoint)
    channel: Any = new_channel(endpoint)
    try:
        while (state := channel.get_state(try_to_connect=True)) is not READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                why = brief(await said_why_not(channel), 400)
                raise LinkError(f"cannot reach {endpoint.name}{_through_proxy(endpoint)}: {why}{_hint(why, endpoint)}")
            await channel.wait_for_state_change(state)
    except BaseException:
        await channel.close()
        raise
    return carrying(channel, endpoint.metadata)


def _with_credentials(endpoint: Endpoint) -> Endpoint:
    try:
        return attrs.evolve(endpoint, credentials=endpoint.credentials())
    except Exception as error:  # of the application's function, whatever it is
        raise LinkError(f"{endpoint.name}: its credentials could not be had: {said(error)}") from error


def _hint(why: str, endpoint: Endpoint) -> str:
    """What gRPC's words mean, and what to do, where they do not say it."""
    if _CLOSED.search(why):
        if endpoint.credentials is None:
            return "; perhaps it expects TLS: give credentials=Tls(...)"
        own = endpoint.credentials.certificate if isinstance(endpoint.credentials, Tls) else None
        fault = "" if own is None else why_invalid(own)
        return f"; our own certificate {fault}" if fault else "; perhaps it refused our certificate, or asks for one"
    return next((f"; {hint}" for words, hint in _HINTS.items() if words in why), "")


def _through_proxy(endpoint: Endpoint) -> str:
    """A remark if gRPC may have gone through a proxy, which its own words do not say."""
    named = next((name for name in PROXIES if os.environ.get(name)), None)
    if named is None or is_here(endpoint.address) or dict(endpoint.options).get("grpc.enable_http_proxy") == 0:
        return ""
    return f" (through the proxy that the variable {named} names, unless no_proxy excludes it)"


class EndpointLink(GrpcLink):
    """A link to a gRPC server that somebody else started.

    Args:
        target: an `Endpoint`, or its address.
        services: services that need no reflection, as for `normalize_services`.
        options: as for `Endpoint`, if `target` is an address.
    """

    def __init__(self, target: Endpoint | str, *, services: Any = (), **options: Any) -> None:
        super().__init__(Loss())
        self._services = normalize_services(services)
        self._endpoint = target if isinstance(target, Endpoint) else Endpoint(target, **options)

    async def open(self) -> None:
        """Connect, once.

        gRPC cannot be made to drop a half-open connection. If this is cancelled while the endpoint has accepted and
        says nothing, the socket is closed only when the attempt times out.

        Raises:
            LinkError: the endpoint cannot be reached.
        """
        channel = await open_channel(self._endpoint)
        self._calls = GrpcCalls(channel, self._services, self._loss, reconnects=True)

    async def close(self) -> None:
        """Close the channel. Calls in flight fail."""
        assert self._calls is not None
        await self._calls.close()
