"""The broker: through it a host serves its plugin, and reaches further services of the plugin, by number.

go-plugin calls it `GRPCBroker`. The numbers travel in messages of the application, such as "here is your logger: 3".
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import grpc.aio

__all__ = ["Broker", "BrokeredService"]


class BrokeredService(abc.ABC):
    """A service of this host for its plugin, under one number, until it or the link is closed.

    Attributes:
        id: the number by which the plugin dials it.
    """

    id: int

    @abc.abstractmethod
    async def close(self, grace: float | None = None) -> None:
        """Stop serving. Calling it again is harmless.

        Args:
            grace: seconds for calls under way; None: they are cancelled at once.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Broker(abc.ABC):
    """The broker of one link to a plugin. It ends with the link, as does everything served or dialled through it."""

    @abc.abstractmethod
    def next_id(self) -> int:
        """A number that this host has not used on this link, for a service that the plugin is asked to serve."""

    @abc.abstractmethod
    async def serve(
        self,
        register: Callable[[grpc.aio.Server], object],
        *,
        service_id: int | None = None,
        interceptors: Sequence[Any] = (),
        options: Sequence[tuple[str, Any]] = (),
    ) -> BrokeredService:
        """Serve the plugin, and nobody else, until the returned service or the link is closed.

            helper = await conn.broker.serve(lambda server: add_HelperServicer_to_server(Helper(), server))
            await conn.call("kv.KV.Put", key="a", helper=helper.id)

        Args:
            register: called with the server before it starts, to register servicers.
            service_id: the number that the plugin will dial; None: `next_id()`.
            interceptors: of the server, `grpc.aio.ServerInterceptor`s.
            options: gRPC's channel arguments for the server. They win over ours, by which a request has 4 MiB at most
                (`grpc.max_receive_message_length`), and a connection 1000 calls at a time.

        Raises:
            BrokerError: the plugin has no broker, or the link has no certificate to serve with.
            LinkLostError: the link is lost or closed.
        """

    @abc.abstractmethod
    async def dial(self, service_id: int, *, timeout: float = 5.0) -> grpc.aio.Channel:
        """Connect to the service that the plugin offers under a number; each number can be dialled once.

            channel = await conn.broker.dial(reply.cursor)
            rows = CursorStub(channel).Rows(Request())

        Args:
            service_id: the number.
            timeout: seconds for the plugin to offer it, and to be reached; 5 by default, as in go-plugin.

        Returns:
            a channel for compiled stubs, which is closed by `await channel.close()`, or with the link.

        Raises:
            BrokerError: the service was not offered in time, or its address cannot be reached or is not one of the
                plugin's.
            LinkLostError: the link is lost or closed.
        """
