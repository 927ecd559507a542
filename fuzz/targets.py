"""What is fuzzed: functions of bytes, each of which raises nothing, unless there is a bug.

Rules that hold here: whatever the bytes, what comes out is a valid result, or an error of this package whose text is
bounded and has no control characters. Nothing is caught that is not one of those.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import attrs
import click
from google.protobuf import (
    any_pb2,
    duration_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from fsm_conn import Connection
from fsm_conn._util.redact import HIDDEN, SHORTEST_SECRET, Redactor
from fsm_conn._util.text import RISKY
from fsm_conn.cli.calling import as_json
from fsm_conn.links.errors import CallError, HandshakeError
from fsm_conn.links.grpc.methods import Method, message_for
from fsm_conn.links.grpc.names import match_service, split_method, unknown_method
from fsm_conn.links.grpc.services import ServiceResolver
from fsm_conn.links.plugin.handshake import parse_handshake
from fsm_conn.links.process.output import FirstLine, LineLog, Tail, plugin_logger
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.testing.conformance import ConformanceError, conforms
from fsm_conn.testing.report import Report, ReportError

__all__ = ["TARGETS"]

LONGEST_MESSAGE = 4000
SECRET = "s3cret-of-the-user"  # noqa: S105 - it is looked for, and kept nowhere
redact = Redactor([SECRET])


def check(error: FsmConnError) -> None:
    """An error is bounded, and rewrites no terminal."""
    _check_text(str(error))


def _check_text(text: str, limit: int = LONGEST_MESSAGE) -> None:
    assert len(text) <= limit, f"{len(text)} characters"
    assert not RISKY.search(text), "control characters"
    assert SECRET not in text, "a secret"


def handshake(data: bytes) -> None:
    """The first line of a plugin."""
    try:
        found = parse_handshake(data, show=redact)
    except HandshakeError as error:
        check(error)
    else:
        assert found.target.split(":")[0] in ("unix", "ipv4", "ipv6", "dns")
        assert found.target.isprintable()


def output(data: bytes) -> None:
    """What a plugin prints, in chunks of sizes that the data itself say."""
    shown: list[str] = []
    log, tail, first = LineLog(redact, lambda: 0.0, {}), Tail(), FirstLine(_LOOP, redact)
    log._emit = shown.append  # type: ignore[assignment,method-assign]
    for chunk in _chunks(data):
        log.feed(chunk)
        tail.feed(chunk)
        first.feed(chunk)
    log.end()
    first.end()
    for text in (*shown, *tail.lines(redact)):
        _check_text(text, 5000)
    if (error := first.line.exception()) is not None:
        assert isinstance(error, HandshakeError)
        check(error)


def _chunks(data: bytes) -> list[bytes]:
    size = 1 + (data[0] if data else 0)
    return [data[start : start + size] for start in range(0, len(data), size)]


def answers(data: bytes) -> None:
    """The raw answers of a peer about its services: the first one about their names, the rest about their files."""
    _look_up(_parts(data))


def files(data: bytes) -> None:
    """The files of a peer that lists an honest name: each part of the data is one."""
    listed, described = ServerReflectionResponse(), ServerReflectionResponse()
    listed.list_services_response.service.add(name="s.Svc")
    described.file_descriptor_response.file_descriptor_proto.extend(_parts(data))
    _look_up([listed.SerializeToString(), described.SerializeToString()])


def fields(data: bytes) -> None:
    """A message of a peer's file, and a request made of the rest of the data."""
    raw, _, rest = data.partition(b"\xff\xff")
    try:
        message = FileDescriptorProto(name="s", package="s", syntax="proto3")
        message.message_type.add().MergeFromString(raw)
    except DecodeError:
        return
    message.message_type[0].name = "M"
    message.service.add(name="Svc").method.add(name="Do", input_type=".s.M", output_type=".s.M")
    listed, described = ServerReflectionResponse(), ServerReflectionResponse()
    listed.list_services_response.service.add(name="s.Svc")
    described.file_descriptor_response.file_descriptor_proto.append(message.SerializeToString())
    method = _look_up([listed.SerializeToString(), described.SerializeToString()])
    if method is not None:
        _request(method, rest)


def _parts(data: bytes) -> list[bytes]:
    return data.split(b"\xff\xff\xff")[:8]


def _look_up(scripted: list[bytes]) -> Method | None:
    try:
        return _LOOP.run_until_complete(ServiceResolver(_Channel(scripted)).method("s.Svc.Do"))  # type: ignore[arg-type]
    except CallError as error:
        check(error)
        return None


class _Channel:
    """Answers from a script, the last answer again and again."""

    def __init__(self, scripted: list[bytes]) -> None:
        self._scripted = scripted
        self._asked = 0

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return lambda **options: self

    def unary_unary(self, *args: Any, **kwargs: Any) -> None:
        """The method is looked up, and not called."""

    unary_stream = stream_unary = unary_unary

    async def write(self, request: ServerReflectionRequest) -> None:
        request.SerializeToString()

    async def read(self) -> bytes:
        self._asked += 1
        return self._scripted[min(self._asked, len(self._scripted)) - 1]

    def cancel(self) -> None: ...

    def add_done_callback(self, callback: Any) -> None: ...


def request(data: bytes) -> None:
    """The fields of a request to a method that takes a field of every kind."""
    _request(_METHOD, data)


def _request(method: Method, data: bytes) -> None:
    known = [field.name for field in method.request_class.DESCRIPTOR.fields]
    given = _Reader(data, known).mapping(4)
    try:
        made = message_for(method, None, given)
    except CallError as error:
        check(error)
    else:
        made.SerializePartialToString()


@attrs.define
class _Reader:
    """Makes values of bytes."""

    data: bytes
    names: list[str]

    def byte(self) -> int:
        head, self.data = self.data[:1], self.data[1:]
        return head[0] if head else 0

    def text(self) -> str:
        size = self.byte() % 16
        head, self.data = self.data[:size], self.data[size:]
        return head.decode("utf-8", "surrogateescape")

    def mapping(self, depth: int) -> dict[str, Any]:
        return {self.name(): self.value(depth - 1) for _ in range(self.byte() % 4)}

    def name(self) -> str:
        number = self.byte()
        return self.names[number % len(self.names)] if self.names and number < 200 else self.text()

    def value(self, depth: int) -> Any:
        scalars: tuple[Callable[[], Any], ...] = (
            lambda: None,
            self.byte,
            lambda: -(2 ** self.byte()),
            lambda: 2 ** (self.byte() % 70),
            lambda: self.byte() / 7,
            lambda: self.byte() > 99,
            self.text,
            lambda: self.text().encode("utf-8", "surrogateescape"),
        )
        kind = self.byte() % (len(scalars) + 3)
        if kind < len(scalars) or depth <= 0:
            return scalars[kind % len(scalars)]()
        if kind == len(scalars):
            return self.mapping(depth)
        if kind == len(scalars) + 1:
            return [self.value(depth - 1) for _ in range(self.byte() % 4)]
        return {self.value(0): self.value(depth - 1)}


def names(data: bytes) -> None:
    """A name that a user asks for, and those that a peer has."""
    name, *known = data.decode("utf-8", "surrogateescape").split("\n")
    try:
        service, method = split_method(name)
        if match_service(service, known) is None:
            raise unknown_method(service, method, known)
    except CallError as error:
        check(error)


def trace(data: bytes) -> None:
    """A file of transitions."""
    try:
        conforms(Connection, data.decode("utf-8", "replace").splitlines())
    except ConformanceError as error:
        check(error)


def report(data: bytes) -> None:
    """A file of what was counted."""
    try:
        found = Report.from_json(data.decode("utf-8", "replace"))
    except ReportError as error:
        check(error)
    else:
        assert found.text()
        assert Report.from_json(found.to_json()) == found


def secrets(data: bytes) -> None:
    """Values that are secret, and what a plugin prints: parted by NUL, the last part is printed."""
    *values, text = [part.decode("utf-8", "replace") for part in data.split(b"\0")]
    shown = Redactor(values)(text, front=len(data) % 2 == 0, back=len(data) % 3 == 0)
    assert not RISKY.search(shown)
    left = shown.replace(HIDDEN, "\0")
    assert not [
        value for value in values if len(value) >= SHORTEST_SECRET and value in left and not RISKY.search(value)
    ]


def reply(data: bytes) -> None:
    """A reply of a well-known type, by the first byte, as `fsm-conn call` shows it."""
    kind = _WELL_KNOWN[data[0] % len(_WELL_KNOWN)] if data else _WELL_KNOWN[0]
    try:
        shown = as_json("a.B", kind.FromString(data[1:]))
    except DecodeError:
        return
    except click.ClickException as error:
        shown = error.message
        assert len(shown) < LONGEST_MESSAGE
    assert not RISKY.search(shown)


_WELL_KNOWN: tuple[Any, ...] = (
    any_pb2.Any,
    duration_pb2.Duration,
    field_mask_pb2.FieldMask,
    struct_pb2.Value,
    timestamp_pb2.Timestamp,
    wrappers_pb2.StringValue,
    wrappers_pb2.BytesValue,
    wrappers_pb2.DoubleValue,
)


def _method_with_everything() -> Method:
    file = FileDescriptorProto(name="all.proto", package="all", syntax="proto3")
    file.enum_type.add(name="E").value.add(name="ZERO", number=0)
    message = file.message_type.add(name="M")
    others = (FieldDescriptorProto.TYPE_GROUP, FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM)
    kinds = [(kind, None) for kind in range(1, 19) if kind not in others]
    kinds += [(FieldDescriptorProto.TYPE_ENUM, ".all.E"), (FieldDescriptorProto.TYPE_MESSAGE, ".all.M")]  # type: ignore[list-item]
    for kind, type_name in kinds:
        message.field.add(name=f"a{kind}", number=kind, type=kind, type_name=type_name, label=1)
        message.field.add(name=f"b{kind}", number=kind + 20, type=kind, type_name=type_name, label=3)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("all.M"))
    return Method("all.S.Do", False, False, made, made, None)


_LOOP = asyncio.new_event_loop()
_METHOD = _method_with_everything()
plugin_logger.setLevel(logging.INFO)

TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (handshake, output, answers, files, fields, request, names, trace, report, secrets, reply)
}
"""By name."""
