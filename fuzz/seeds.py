"""What fuzzing begins with: inputs that are nearly right, since nobody guesses a handshake or a descriptor."""

from __future__ import annotations

import json

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse

from fsm_conn.demo import calculator_pb2

__all__ = ["SEEDS"]

_LINE = {
    "v": 1,
    "trigger": "connect",
    "source": "disconnected",
    "dest": "connecting",
    "internal": False,
    "reason": {"type": "LinkError", "message": "no"},
    "attempt": 0,
    "dwell": 0.0,
    "at": 1.0,
}
_ROW = {
    "index": 0,
    "trigger": "connect",
    "source": "disconnected",
    "dest": None,
    "guards": ["ok"],
    "taken": 1,
    "refused": 0,
}
_REPORT = {"format": "fsm_conn transition coverage", "version": 1, "classes": {"a.B": [_ROW]}}


def _service() -> FileDescriptorProto:
    file = FileDescriptorProto(name="s.proto", package="s", syntax="proto3", dependency=["a.proto"])
    message = file.message_type.add(name="M")
    message.field.add(name="s", number=1, type=9, label=1)
    message.field.add(name="m", number=2, type=11, type_name=".s.M", label=3)
    file.service.add(name="Svc").method.add(name="Do", input_type=".s.M", output_type=".s.M")
    return file


def _answers() -> bytes:
    listed, described = ServerReflectionResponse(), ServerReflectionResponse()
    listed.list_services_response.service.add(name="s.Svc")
    described.file_descriptor_response.file_descriptor_proto.append(_service().SerializeToString())
    return b"\xff\xff\xff".join((listed.SerializeToString(), described.SerializeToString()))


_DEPENDENCY = FileDescriptorProto(name="a.proto").SerializeToString()

SEEDS: dict[str, tuple[bytes, ...]] = {
    "handshake": (
        b"1|1|unix|/tmp/x.sock|grpc|",
        b"1|5|tcp|127.0.0.1:1234|grpc|TUlJQg|true",
        b"1|1|tcp|[::1]:9|netrpc|",
    ),
    "output": (
        b"\x051|1|unix|/a|grpc|\nhello\r\n\x1b[2J\xff",
        b"\xff-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"\x20cookie mismatch. Expected: 's3cret-of-the-user'\n",
    ),
    "secrets": (
        b"s3cret/val%41ue\0ABCD EFGH\0GET /s3cret%2Fval%2541ue?x=QUJDRCBFRkdI",
        b"https://a.b/\0/v1?key=x\0https://a.b/v1?key=x\n\\u0041",
    ),
    "reply": (
        b"\x00\x0a\x04a/\x1b[\x12\x01x",
        b"\x01\x08\xff\xff\xff\xff\xff\xff\x7f",
        b"\x02\x0a\x02a\x1b",
        b"\x03\x11" + b"\0" * 6 + b"\xf0\x7f",
    ),
    "answers": (_answers(),),
    "files": (
        b"\xff\xff\xff".join((_service().SerializeToString(), _DEPENDENCY)),
        calculator_pb2.DESCRIPTOR.serialized_pb,
    ),
    "fields": (_service().message_type[0].SerializeToString() + b"\xff\xff\x02\x00\x06\x03abc\x01\x08\x01\x00\x01",),
    "request": (b"\x02\x00\x06\x03abc\x01\x08\x01\x00\x01", b"\x03\xff\x02ab\x09\x05\x01\x02"),
    "names": (b"calculator.Add\ncalculator.Calculator\ngrpc.health.v1.Health", b"s.Do\na.S\nb.S"),
    "trace": (json.dumps(_LINE).encode(), json.dumps(_LINE | {"internal": True}).encode()),
    "report": (json.dumps(_REPORT).encode(),),
}
