"""Asks a peer which services it has, through gRPC's server reflection.

Why a client of our own: the packaged one is synchronous and would block the loop.

Rules that hold here: nothing that a peer sends is trusted. Its files are counted and measured. Each one is parsed and
added here, in the order of its dependencies, to a descriptor pool that nobody else uses. Whatever is wrong with
them ends in a `CallError` that says so, and quotes only what can be shown. Exchanges have a deadline.

Protocol: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

import asyncio
import copy
import functools
import graphlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from fsm_conn._util.text import brief
from fsm_conn.links.errors import CallError
from fsm_conn.links.grpc.first_status import FirstStatus
from fsm_conn.links.grpc.names import shown

__all__ = ["Reflection", "message_class"]

# Version 1 differs from its alpha in the name only; many servers offer only one of the two.
_VERSIONS = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")
Metadata = tuple[tuple[str, str | bytes], ...]

_TIMEOUT = 10.0
_MAX_SERVICES = 4096
_MAX_FILES = 1024
# The parsed descriptors take up to a hundred times their size on the wire, and a second for eight megabytes.
_MAX_BYTES = 2 * 1024 * 1024


class Reflection:
    """A client of one peer's reflection service. Callers must not use it concurrently."""

    def __init__(self, channel: grpc.aio.Channel, show: Callable[[str], str] = brief) -> None:
        """`show` makes the peer's words safe for an error."""
        self._channel = channel
        self._show = show
        self._version = _VERSIONS[0]
        self._pool = DescriptorPool()
        self._added: set[str] = set()

    async def names(self, metadata: Metadata = ()) -> tuple[str, ...] | None:
        """Return the full names of the peer's services; None if it offers no reflection.

        Raises:
            CallError: the answer makes no sense.
            grpc.aio.AioRpcError: the peer could not be asked.
        """
        for self._version in _VERSIONS:
            try:
                return await self._list(metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
        return None

    async def service(self, name: str, metadata: Metadata = ()) -> ServiceDescriptor:
        """Return the descriptor of a service that `names` listed. Raises as `names` does; the error says which one."""
        try:
            await self._add(await self._fetch(name, metadata))
            return self._pool.FindServiceByName(name)
        except CallError as error:
            raise CallError(f"the service {shown(name)!r} cannot be read: {error}") from None
        except KeyError:
            raise CallError(f"the peer described {shown(name)!r} by files that do not define it") from None

    async def _list(self, metadata: Metadata) -> tuple[str, ...]:
        async with self._exchange(metadata) as ask:
            answer = await ask(ServerReflectionRequest(list_services=""))
        names = [service.name for service in answer.list_services_response.service]
        if len(names) > _MAX_SERVICES:
            raise CallError(f"the peer lists {len(names)} services, more than the {_MAX_SERVICES} that are read")
        return tuple(names)

    async def _fetch(self, name: str, metadata: Metadata) -> dict[str, FileDescriptorProto]:
        # All in one exchange, because within it a server may omit files that it has sent before.
        async with self._exchange(metadata) as ask:
            answer = await ask(ServerReflectionRequest(file_containing_symbol=name))
            batch = _Batch(self._added)
            batch.take(answer)
            while (missing := batch.missing()) is not None:
                batch.take(await ask(ServerReflectionRequest(file_by_filename=missing)), missing)
        return batch.files

    async def _add(self, files: dict[str, FileDescriptorProto]) -> None:
        """Add the new files, one in each turn of the loop, because a thousand of them take a while."""
        for name in _ordered(files):
            if name in self._added or name not in files:
                continue
            try:
                self._pool.AddSerializedFile(files[name].SerializeToString())
            except Exception as error:  # the pool raises many undocumented errors for what a peer sent
                raise CallError(f"the peer's file {shown(name)!r} is not valid: {self._show(str(error))}") from None
            self._added.add(name)
            await asyncio.sleep(0)

    @asynccontextmanager
    async def _exchange(self, metadata: Metadata) -> AsyncIterator[Any]:
        # Replies are parsed here: the channel would log a reply that it cannot parse, and return None for it.
        open_stream: Any = self._channel.stream_stream(
            f"/{self._version}/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=None,
        )
        stream = open_stream(timeout=_TIMEOUT, metadata=metadata)
        first = FirstStatus(stream)

        async def ask(request: ServerReflectionRequest) -> ServerReflectionResponse:
            return self._checked(request, _parsed(await _round_trip(stream, request)))

        try:
            yield ask
        except grpc.aio.AioRpcError as error:
            if (cause := first.of(error)).code() is grpc.StatusCode.OK:
                raise _unanswered() from None
            try:
                raise cause from None
            finally:
                del cause
        finally:
            stream.cancel()

    def _checked(self, request: ServerReflectionRequest, answer: ServerReflectionResponse) -> ServerReflectionResponse:
        kind = answer.WhichOneof("message_response")
        expected = "list_services_response" if request.HasField("list_services") else "file_descriptor_response"
        if kind == "error_response":
            text = self._show(answer.error_response.error_message)
            raise CallError(f"the peer does not describe its services: {text!r} ({answer.error_response.error_code})")
        if kind != expected:
            raise CallError(f"the peer answered with {kind or 'nothing'} where {expected} was asked for")
        return answer


async def _round_trip(stream: Any, request: ServerReflectionRequest) -> object:
    with suppress(asyncio.InvalidStateError):  # the peer ended the exchange: the next read tells why
        await stream.write(request)
    return await stream.read()


def _parsed(raw: object) -> ServerReflectionResponse:
    if not isinstance(raw, bytes):
        raise _unanswered()
    try:
        return ServerReflectionResponse.FromString(raw)
    except DecodeError as error:
        raise CallError(f"the peer's answer about its services is not valid: {brief(str(error))}") from None


def _unanswered() -> CallError:
    return CallError("the peer ended the exchange without an answer when it was asked for its services")


class _Batch:
    """The files of one service, collected as they come in, within bounds."""

    def __init__(self, added: Iterable[str]) -> None:
        self.files: dict[str, FileDescriptorProto] = {}
        self._added = frozenset(added)
        self._needed: deque[str] = deque()
        self._size = 0

    def take(self, answer: ServerReflectionResponse, asked: str | None = None) -> None:
        for raw in answer.file_descriptor_response.file_descriptor_proto:
            self._take(raw)
        if asked is not None and asked not in self.files:
            raise CallError(f"the peer does not have its own file {shown(asked)!r}")

    def _take(self, raw: bytes) -> None:
        self._size += len(raw)
        if self._size > _MAX_BYTES or len(self.files) >= _MAX_FILES:
            raise CallError(f"the peer describes a service by more than {_MAX_FILES} files or {_MAX_BYTES} bytes")
        try:
            file = FileDescriptorProto.FromString(raw)
        except DecodeError as error:
            raise CallError(f"the peer sent a file descriptor that is not valid: {brief(str(error))}") from None
        names = (file.name, *file.dependency)
        # In such files protobuf does not check that strings are text: it returns any that are not as bytes.
        if not all(isinstance(name, str) for name in names):
            raise CallError("the peer sent a file descriptor that names files by what is no text")
        if file.name not in self.files:
            self.files[file.name] = file
            self._needed.extend(names[1:])

    def missing(self) -> str | None:
        """A file that another one needs and that has not come, or None. Each dependency is looked at once."""
        while self._needed:
            name = self._needed[0]
            if name not in self.files and name not in self._added:
                return name
            self._needed.popleft()
        return None


def _ordered(files: dict[str, FileDescriptorProto]) -> list[str]:
    graph = {name: set(file.dependency) for name, file in files.items()}
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError:
        raise CallError("the peer's files depend on each other in a circle") from None


# --- replies that travel: pickle finds a class by its module, and classes made by reflection are in none -----


def message_class(descriptor: Descriptor) -> type[Message]:
    """The class of a message. Its objects can be pickled even if no module contains the class."""
    found: Any = message_factory.GetMessageClass(descriptor)
    if descriptor.file.pool is not descriptor_pool.Default():
        found.__reduce__, found.__copy__ = _reduced, copy.deepcopy  # otherwise copy() would make another class
    return found  # type: ignore[no-any-return]


def _reduced(message: Message) -> tuple[Any, ...]:
    descriptor: Any = message.DESCRIPTOR
    return _unpacked, (descriptor.full_name, message.SerializeToString(), _described(descriptor.file))


def _unpacked(name: str, data: bytes, described: bytes) -> Message:
    """Restore a reply from its pickle."""
    return _class_of(name, described).FromString(data)


@functools.lru_cache(maxsize=100)
def _class_of(name: str, described: bytes) -> type[Message]:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(described).file:
        pool.Add(file)
    return message_class(pool.FindMessageTypeByName(name))


def _described(file: FileDescriptor) -> bytes:
    """A file and all that it imports, each after what it imports itself."""
    files: dict[str, FileDescriptorProto] = {}

    def add(each: FileDescriptor) -> None:
        if each.name not in files:
            for imported in each.dependencies:
                add(imported)
            proto = FileDescriptorProto()
            each.CopyToProto(proto)
            files[each.name] = proto

    add(file)
    return FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True)
