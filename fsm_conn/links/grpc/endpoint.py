"""The link to a gRPC server that somebody else started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from fsm_conn._util.text import brief
from fsm_conn.links.errors import LinkError
from fsm_conn.links.grpc.calls import GrpcCalls
from fsm_conn.links.grpc.channel import CHANNEL_OPTIONS, READY, said_why_not
from fsm_conn.links.grpc.link import GrpcLink
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.services import normalize_services

__all__ = ["EndpointLink"]

# An attempt that is given up goes on inside gRPC, with its socket, until it times out: by itself after 20 seconds.
_ENDPOINT_OPTIONS = (*CHANNEL_OPTIONS, ("grpc.min_reconnect_backoff_ms", 5000))


class EndpointLink(GrpcLink):
    """A link to a gRPC server that somebody else started."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        services: Any = (),
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        """Make a link that is not open yet.

        Args:
            target: a gRPC address, such as `127.0.0.1:50051` or `unix:/run/x.sock`.
            credentials: for TLS; None: plain text.
            services: services that need no reflection, as for `normalize_services`.
            options: gRPC channel arguments. They win over those that a link sets by itself: `CHANNEL_OPTIONS`,
                and 5000 for `grpc.min_reconnect_backoff_ms`, which limits an attempt to 5 seconds.
        """
        super().__init__(Loss())
        self._services = normalize_services(services)
        self._target = target
        self._credentials = credentials
        self._options = tuple({**dict(_ENDPOINT_OPTIONS), **dict(options)}.items())

    async def open(self) -> None:
        """Connect, once.

        gRPC cannot be made to let go of a half-open connection: when this is cancelled while the endpoint has
        accepted and says nothing, the socket is closed when the attempt would have timed out.

        Raises:
            LinkError: the endpoint cannot be reached.
        """
        channel: Any = self._new_channel()
        try:
            await self._until_ready(channel)
        except BaseException:
            await channel.close()
            raise
        self._calls = GrpcCalls(channel, self._services, self._loss, reconnects=True)

    async def close(self) -> None:
        """Close the channel. Calls in flight fail."""
        assert self._calls is not None
        await self._calls.close()

    def _new_channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=self._options)
        return grpc.aio.secure_channel(self._target, self._credentials, options=self._options)

    async def _until_ready(self, channel: Any) -> None:
        while (state := channel.get_state(try_to_connect=True)) is not READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise LinkError(f"cannot reach {self._target}: {brief(await said_why_not(channel), 400)}")
            await channel.wait_for_state_change(state)
