"""The services that a link can call: found by the peer's reflection, or declared, and each looked up once.

Why: `conn.call("calculator.Add", a=5, b=3)` should cost what a compiled stub costs. So everything about a method is
found out at its first use, and kept for as long as the link lives.

Rules that hold here: declared services are trusted, and the peer is not asked about them. Any other is asked for
once, for all who wait for it. A waiter that is cancelled does not spoil the lookup for the others. A failure is not
kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fsm_conn._util.text import brief
from fsm_conn.links.errors import CallError, ConnectionLostError, UnknownNameError
from fsm_conn.links.grpc.names import (
    is_infrastructure,
    listing,
    match_service,
    nearest,
    shown,
    split_method,
    unknown_method,
)
from fsm_conn.links.services import normalize_services
from fsm_conn.machine.errors import FsmConnError

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.descriptor import ServiceDescriptor

    from fsm_conn.links.grpc.methods import Method
    from fsm_conn.links.grpc.reflection import Reflection

__all__ = ["ServiceResolver"]

Metadata = tuple[tuple[str, str | bytes], ...]

_NO_REFLECTION = (
    "The peer does not offer server reflection: declare its services with services=, or let it call "
    "grpc_reflection.v1alpha.reflection.enable_server_reflection."
)


_ASKED = 5
"""How many services are searched for a method that was given without its service."""


class ServiceResolver:
    """The methods that can be called over one channel, by name."""

    def __init__(self, channel: grpc.aio.Channel, declared: Any = (), show: Callable[[str], str] = brief) -> None:
        """Make a directory that has looked up nothing yet.

        Args:
            channel: an open channel. It stays the caller's to close.
            declared: services that need no reflection, as for `normalize_services`.
            show: makes the peer's words safe for an error.
        """
        self.known: dict[str, Method] = {}
        """The methods that were looked up, under the names that were used: for callers that cannot wait."""
        self._channel = channel
        self._show = show
        self._declared = {service.full_name: service for service in normalize_services(declared)}
        self._reflected: dict[str, ServiceDescriptor] = {}
        self._names: tuple[str, ...] | None = None
        self._methods: dict[str, Method] = {}
        self._lookups: dict[tuple[str, Metadata], asyncio.Task[Any]] = {}
        self._client: Reflection | None = None
        self._closed = False

    async def names(self) -> tuple[str, ...]:
        """Return the full names of all services, gRPC's own among them, sorted. Raises as `method` does."""
        if self._names is None:
            await self._shared("", (), self._ask_for_names)
        if self._names is not None:
            return self._names
        if not self._declared:
            raise UnknownNameError(_NO_REFLECTION)
        return tuple(sorted(self._declared))

    async def method(self, name: str, metadata: Metadata = ()) -> Method:
        """Return the method that `service.Method` names.

        The service may be a full name (`calculator.v1.CalculatorService`), a short name, a short name in
        other letter case, that without its suffix `Service`, or a package that has exactly one service.
        The first of these rules that finds something among the declared services decides; if none does, the
        first that finds something among all services.

        Args:
            name: the method.
            metadata: of the call that needs the method: it is sent with the question, if the peer is to be asked.

        Raises:
            UnknownNameError: there is no such method; the error lists those that exist.
            AmbiguousNameError: a short name means several services.
            ConnectionLostError: the directory was closed.
            CallError: what the peer said about its services makes no sense.
            grpc.aio.AioRpcError: the peer could not be asked.
        """
        found = self.known.get(name)
        if found is None:
            wanted, method = split_method(name, await self._with_method(name, metadata))
            found = self.known[name] = self._bound(await self.service(wanted, metadata), method)
        return found

    def cancel(self) -> None:
        """Close without waiting: lookups under way end, and their waiters get an error that says so."""
        self._closed = True
        for task in self._lookups.values():
            task.cancel()

    async def close(self) -> None:
        """Close, and return when no lookup runs any more. The channel stays open."""
        self.cancel()
        if self._lookups:
            await asyncio.wait(list(self._lookups.values()))

    async def service(self, wanted: str, metadata: Metadata = ()) -> ServiceDescriptor:
        """Return the service that a name means, by the rules of `method`. Raises as `method` does."""
        if (declared := match_service(wanted, self._declared)) is not None:
            return self._declared[declared]
        names = await self._all_names(wanted, metadata)
        full_name = match_service(wanted, names)
        if full_name is None:
            raise _unknown("Its services", wanted, names)
        if full_name not in self._reflected:
            await self._shared(full_name, metadata, lambda: self._ask_for_service(full_name, metadata))
        return self._reflected[full_name]

    async def _with_method(self, name: str, metadata: Metadata) -> list[str]:
        """The services that have a method of that name, if it has no dot: for the error that names them."""
        if not isinstance(name, str) or not name or not name.isidentifier():
            return []
        with suppress(FsmConnError):
            names = [each for each in await self._all_names(name, metadata) if not is_infrastructure(each)]
            return [each for each in names[:_ASKED] if name in (await self.service(each, metadata)).methods_by_name]
        return []

    async def _all_names(self, wanted: str, metadata: Metadata) -> tuple[str, ...]:
        if self._names is None:
            await self._shared("", metadata, lambda: self._ask_for_names(metadata))
        if self._names is None:
            raise _unknown("Declared services", wanted, self._declared, _NO_REFLECTION)
        return self._names

    async def _ask_for_names(self, metadata: Metadata = ()) -> None:
        reflected = await self._reflection().names(metadata)
        if reflected is not None:
            self._names = tuple(sorted({*reflected, *self._declared}))

    async def _ask_for_service(self, full_name: str, metadata: Metadata) -> None:
        self._reflected[full_name] = await self._reflection().service(full_name, metadata)

    def _reflection(self) -> Reflection:
        if self._client is None:
            from fsm_conn.links.grpc.reflection import Reflection

            self._client = Reflection(self._channel, self._show)
        return self._client

    async def _shared(self, what: str, metadata: Metadata, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take part in a lookup: a running one with the same metadata, or a new one. It goes on without its starter."""
        if self._closed:
            raise _closed_error()
        key = (what, metadata)
        task = self._lookups.get(key)
        if task is None:
            task = self._lookups[key] = asyncio.create_task(ask())
            task.add_done_callback(lambda done: self._finished(key, done))
        await asyncio.wait((task,))
        if task.cancelled():
            raise _closed_error()
        task.result()

    def _finished(self, key: tuple[str, Metadata], task: asyncio.Task[Any]) -> None:
        del self._lookups[key]
        if not task.cancelled():
            task.exception()  # if every waiter has gone, asyncio must not report the error as never retrieved

    def _bound(self, service: ServiceDescriptor, name: str) -> Method:
        from fsm_conn.links.grpc.methods import bind

        full_name = f"{service.full_name}.{name}"
        if full_name not in self._methods:
            if name not in service.methods_by_name:
                raise unknown_method(service.full_name, name, service.methods_by_name)
            self._methods[full_name] = bind(self._channel, service.methods_by_name[name])
        return self._methods[full_name]


def _unknown(heading: str, wanted: str, names: Collection[str], remark: str = "") -> UnknownNameError:
    known = f"{nearest(wanted, names)}{heading}: {listing(names)}."
    return UnknownNameError(f"no service {shown(wanted)!r} is known. {known} {remark}".rstrip())


def _closed_error() -> CallError:
    return ConnectionLostError("the link was closed while its services were looked up", maybe_executed=False)
