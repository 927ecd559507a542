"""Checks the health of one link's peer: by asking, and by watching what the peer reports by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio

from fsm_conn.links.errors import ProbeError
from fsm_conn.links.grpc import health_service
from fsm_conn.links.grpc.connectivity import Connectivity
from fsm_conn.links.grpc.feeding import is_being_cancelled
from fsm_conn.links.grpc.loss import Loss

__all__ = ["Health"]


class Health:
    """The health service of one link's peer.

    Args:
        channel: a channel that is ready.
        connectivity: its connection.
        loss: the end of the link.
        show: makes the peer's words safe for our errors.
    """

    def __init__(self, channel: Any, connectivity: Connectivity, loss: Loss, show: Callable[[str], str]) -> None:
        self._channel = channel
        self._connectivity = connectivity
        self._loss = loss
        self._show = show
        self._watches: set[Any] = set()

    async def probe(self, service: str = "") -> bool:
        """Ask the standard health service whether the peer is well.

        Returns:
            True if it is well, False if it cannot tell: no health service, or none that answers for the whole peer.

        Raises:
            NotServingError: the peer said that it is not well, or that it does not know the named `service`, which
                by the protocol means the same.
            ProbeError: the peer could not be asked, or its answer makes no sense.
        """
        if self._connectivity.refuses():
            raise ProbeError(f"cannot probe: {await self._loss.wait()}")
        try:
            answer = await health_service.ask(self._channel, service)
        except grpc.aio.AioRpcError as error:
            if health_service.has_no_answer(error, service):
                return False
            said = self._show(error.details() or "")
            raise ProbeError(f"the health check failed: {error.code().name}: {said}") from error
        except asyncio.CancelledError:
            if is_being_cancelled() or self._loss.reason is None:
                raise
            raise ProbeError(f"the health check was cut off: {self._loss.reason}") from None
        return health_service.is_serving(answer)

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        """Yield whether the peer is well, now and whenever its health service reports a change."""
        if self._connectivity.refuses():
            return
        call = health_service.watching(self._channel, service)
        self._watches.add(call)
        try:
            with self._connectivity.witness():
                async for answer in call:
                    if (well := health_service.news_of(answer, service)) is not None:
                        yield well
        except grpc.aio.AioRpcError as error:
            # The peer has no such stream, or it broke: what can be known comes from probes, or from the link.
            await self._connectivity.is_lost_after(error)
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
        finally:
            self._watches.discard(call)
            call.cancel()

    def cancel(self) -> None:
        """End the watches, because the link is being closed."""
        for watch in tuple(self._watches):
            watch.cancel()
