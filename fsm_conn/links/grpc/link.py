"""The interface of every link whose peer speaks gRPC. It only passes requests on to the parts that the link holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import grpc
import grpc.aio

from fsm_conn.links.base import CallOptions, Link, StubTraffic
from fsm_conn.links.errors import CallError, LinkLostError, ProbeError
from fsm_conn.links.grpc.calls import GrpcCalls, not_open, refused_call, refused_stream
from fsm_conn.links.grpc.connectivity import is_broken
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.grpc.names import is_infrastructure
from fsm_conn.links.grpc.services import ServiceResolver

__all__ = ["GrpcLink"]

MOST_OFFERED = 100
"""Services that are looked up for completion; a peer may list thousands."""
_MADE_HERE = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


class GrpcLink(Link):
    """A link that holds its `Loss` and, once `open` has made them, its `GrpcCalls`."""

    may_warm_up = True

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._calls: GrpcCalls | None = None

    async def lost(self) -> Exception:
        """Wait until the link is lost, and return why. Never raises that. May be called again, with the same answer."""
        return await self._loss.wait()

    async def drained(self) -> None:
        """Wait until no call is under way through this link."""
        if self._calls is not None:
            await self._calls.connectivity.drained()

    def mark_unresponsive(self) -> None:
        """Declare that the peer hangs. Calls in flight report the hang, not that somebody closed the link."""
        self._loss.declare(LinkLostError("the peer did not answer any more"), final=True)

    async def probe(self, service: str = "") -> bool:
        """Ask the standard health service, as `Health.probe`."""
        if self._calls is None:
            raise ProbeError("cannot probe: the link is not open")
        return await self._calls.health.probe(service)

    def watch(self, service: str = "") -> AsyncIterator[bool]:
        """Listen to the standard health service, as `Health.watch`."""
        return self._opened.health.watch(service)

    async def find(self, method: str, options: CallOptions | None) -> None:
        """As `GrpcCalls.find`."""
        if self._calls is None:
            raise not_open(method)
        await self._calls.find(method, options)

    def call(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> Coroutine[Any, Any, Any]:
        """As `GrpcCalls.call`."""
        if self._calls is None:
            return refused_call(method)
        return self._calls.call(method, request, fields, options)

    def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As `GrpcCalls.stream`."""
        if self._calls is None:
            return refused_stream(method)
        return self._calls.stream(method, request, fields, options)

    async def offers(self) -> Mapping[str, tuple[str, ...]]:
        """The services by reflection, and the declared ones; not gRPC's own, and only as many as a person may read."""
        names = [name for name in await self.resolver.names() if not is_infrastructure(name)]
        services = [await self.resolver.service(name) for name in names[:MOST_OFFERED]]
        return {service.full_name: tuple(service.methods_by_name) for service in services}

    def is_unavailable(self, error: BaseException) -> bool:
        """Whether a call was answered with UNAVAILABLE or CANCELLED, or ended without an answer, as behind a proxy.

        The same holds for the lookup of its method.
        """
        answer = error.__cause__ if type(error) is CallError else error
        return isinstance(answer, grpc.aio.AioRpcError) and is_broken(answer)

    def is_answer(self, error: BaseException) -> bool:
        """Whether a call's error is a status that the peer has sent, rather than one that gRPC made on this side."""
        return isinstance(error, grpc.aio.AioRpcError) and error.code() not in _MADE_HERE

    @property
    def channel(self) -> grpc.aio.Channel:
        """The open channel, for compiled stubs. Their calls raise a `CancelledError` only if somebody asked for it.

        Raises:
            LinkLostError: there is no channel, because the link is not open.
        """
        return self._opened.stub_channel

    def note_stubs(self, traffic: StubTraffic) -> None:
        """Note the calls that compiled stubs make in `traffic`. Raises as `channel`."""
        self._opened.stub_channel.note_in(traffic)

    @property
    def resolver(self) -> ServiceResolver:
        """Looks up the services that can be called. Raises as `channel`."""
        return self._opened.resolver

    @property
    def _opened(self) -> GrpcCalls:
        if self._calls is None:
            raise LinkLostError("the link is not open")
        return self._calls
