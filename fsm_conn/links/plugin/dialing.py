"""Connects to an address that a plugin has announced: of its server, or of a service that its broker offers.

Rules that hold here:

- gRPC speaks to the plugin itself, unless the plugin's certificate is of a kind that gRPC refuses. Then a relay does.
- A dial is one attempt. It may be cancelled at any await, and then leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import attrs
import grpc
import grpc.aio

from fsm_conn.links.grpc.channel import (
    CHANNEL_OPTIONS,
    READY,
    bounds_of_our_own,
    keep_grpc_running,
    message_limits,
    said_why_not,
    without_retries,
)
from fsm_conn.links.plugin.handshake import Address
from fsm_conn.links.plugin.tls_relay import Credentials, TlsRelay, is_beyond_grpc

__all__ = ["Dialled", "Dialler"]

UNREACHABLE_LIMIT = 0.5
"""Seconds for which a channel may retry a failed connection to the address that the plugin has just announced."""
RECONNECT_BACKOFF_MS = 50


@attrs.frozen(kw_only=True)
class Dialler:
    """How to speak to one plugin, wherever it listens."""

    tls: Credentials | None = attrs.field(default=None, repr=False)
    """The certificates that were made for the link; None: there are none."""
    given: grpc.ChannelCredentials | None = attrs.field(default=None, repr=False)
    """The user's own credentials, which take precedence."""
    max_message: int
    """Bytes of the largest message."""
    options: tuple[tuple[str, int | str | bytes], ...] = ()
    """The user's channel arguments, which take precedence."""

    def channel_options(self) -> list[tuple[str, Any]]:
        """The channel arguments. pyvider's own are not used: its pings every 30 s make servers drop the connection."""
        options: dict[str, Any] = {
            **dict(CHANNEL_OPTIONS),
            "grpc.enable_http_proxy": 0,
            "grpc.initial_reconnect_backoff_ms": RECONNECT_BACKOFF_MS,
            **message_limits(self.max_message),
            **without_retries(self.options),
        }
        if self.tls is not None:
            # go-plugin's certificates are made for this name, which is not in any address of a plugin.
            options["grpc.ssl_target_name_override"] = "localhost"
        else:
            # By default this would be the socket's path, which is no host name: servers in Rust refuse it.
            options["grpc.default_authority"] = "localhost"
        return [*(options | dict(self.options) | bounds_of_our_own(self.options)).items()]

    async def dial(self, address: Address) -> Dialled:
        """Connect.

        Raises:
            OSError: the address cannot be reached, in the system's words; or (`ssl.SSLError`) somebody else is there.
            UnreachableError: the same, in gRPC's words.
            LinkError: there is no room for a relay.
            ValueError: the plugin's certificate cannot be read.
        """
        relay = None
        if self.tls is not None and is_beyond_grpc(self.tls.server):
            relay = await TlsRelay.open(address.network, address.address, self.tls)
        dialled = Dialled(self._channel(relay.target if relay is not None else address.target, relay), relay)
        try:
            await dialled._join()
        except BaseException:
            await dialled.close()
            raise
        return dialled

    def _channel(self, target: str, relay: TlsRelay | None) -> grpc.aio.Channel:
        keep_grpc_running()
        options = self.channel_options()
        credentials = None if relay is not None else self.given or self._own_credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, credentials, options=options)

    def _own_credentials(self) -> grpc.ChannelCredentials | None:
        if self.tls is None:
            return None
        return grpc.ssl_channel_credentials(
            ssl.DER_cert_to_PEM_cert(self.tls.server).encode(),
            self.tls.client_key.encode() or None,
            self.tls.client.encode() or None,
        )


@attrs.define(eq=False)
class Dialled:
    """A connected channel, and the relay before it where gRPC cannot speak the plugin's TLS."""

    channel: grpc.aio.Channel
    relay: TlsRelay | None = None

    async def _join(self) -> None:
        channel = self.channel
        if self.relay is not None:
            channel.get_state(try_to_connect=True)
            await self.relay.join()
        while (state := channel.get_state(try_to_connect=True)) is not READY:
            limit = UNREACHABLE_LIMIT if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE else None
            try:
                async with asyncio.timeout(limit):
                    await channel.wait_for_state_change(state)
            except TimeoutError:
                fault = self.relay.fault if self.relay is not None else None
                raise UnreachableError(str(fault or await said_why_not(channel))) from None

    def abort(self) -> None:
        """End the connection to the plugin, as the loop ends."""
        if self.relay is not None:
            self.relay.abort()

    async def close(self) -> None:
        """Give back everything. May be called again."""
        self.abort()
        await self.channel.close(grace=None)
        if self.relay is not None:
            await self.relay.close()


class UnreachableError(OSError):
    """gRPC cannot connect; the message is its own."""
