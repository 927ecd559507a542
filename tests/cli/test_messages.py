"""`field=value` becomes what the field is, or an error that names the field and its type."""

from __future__ import annotations

import base64
import math
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn.cli.messages import described, listed, message_of, message_of_json
from fsm_conn.links.errors import RequestError

F = descriptor_pb2.FieldDescriptorProto
SCALARS = ("int32", "int64", "uint32", "uint64", "sint32", "fixed64", "double", "float", "bool", "string", "bytes")


def _pool() -> DescriptorPool:
    """A message with a field of every kind, one that has it inside, and a service."""
    file = descriptor_pb2.FileDescriptorProto(name="all.proto", package="all", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    color = file.enum_type.add(name="Color")
    color.value.add(name="RED", number=0)
    color.value.add(name="GREEN", number=1)
    kinds = file.message_type.add(name="Kinds")
    for number, kind in enumerate(SCALARS, 1):
        kinds.field.add(name=f"a_{kind}", number=number, type=getattr(F, f"TYPE_{kind.upper()}"), label=1)
    kinds.field.add(name="color", number=20, type=F.TYPE_ENUM, type_name=".all.Color", label=1)
    kinds.field.add(name="inner", number=21, type=F.TYPE_MESSAGE, type_name=".all.Kinds", label=1)
    kinds.field.add(name="many", number=22, type=F.TYPE_INT32, label=3)
    kinds.field.add(name="inners", number=23, type=F.TYPE_MESSAGE, type_name=".all.Kinds", label=3)
    kinds.field.add(name="when", number=24, type=F.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=1)
    kinds.field.add(name="colors", number=25, type=F.TYPE_ENUM, type_name=".all.Color", label=3)
    kinds.oneof_decl.add(name="choice")
    kinds.field.add(name="left", number=30, type=F.TYPE_STRING, label=1, oneof_index=0)
    kinds.field.add(name="right", number=31, type=F.TYPE_STRING, label=1, oneof_index=0)
    for number, (name, kind) in enumerate((("counts", "TYPE_INT32"), ("parts", "TYPE_MESSAGE")), 40):
        entry = kinds.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=F.TYPE_STRING, label=1)
        value = entry.field.add(name="value", number=2, type=getattr(F, kind), label=1)
        if kind == "TYPE_MESSAGE":
            value.type_name = ".all.Kinds"
        kinds.field.add(
            name=name, number=number, type=F.TYPE_MESSAGE, type_name=f".all.Kinds.{name.title()}Entry", label=3
        )
    service = file.service.add(name="Kinder")
    service.method.add(name="Ask", input_type=".all.Kinds", output_type=".all.Kinds")
    service.method.add(name="Watch", input_type=".all.Kinds", output_type=".all.Kinds", server_streaming=True)
    service.method.add(name="Feed", input_type=".all.Kinds", output_type=".all.Kinds", client_streaming=True)
    pool = DescriptorPool()
    for each in (timestamp_pb2.DESCRIPTOR.serialized_pb, file.SerializeToString()):
        pool.AddSerializedFile(each)
    return pool


POOL = _pool()
KINDS: Any = message_factory.GetMessageClass(POOL.FindMessageTypeByName("all.Kinds"))


def read(*fields: str) -> Any:
    return message_of(KINDS, fields)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**64 - 1), st.booleans(), st.binary(), st.floats())
def test_what_python_writes_is_read_as_it_was(small: int, large: int, flag: bool, data: bytes, number: float) -> None:
    """Every whole number in range, every float, both flags, any bytes."""
    fields = (f"a_int32={small}", f"a_uint64={large}", f"a_bool={flag}", f"a_double={number!r}")
    message = read(*fields, f"a_bytes={base64.b64encode(data).decode()}")
    assert (message.a_int32, message.a_uint64, message.a_bool, message.a_bytes) == (small, large, flag, data)
    assert message.a_double == number or math.isnan(number)


@given(st.text())
def test_a_string_is_taken_as_it_stands(text: str) -> None:
    """With equals signs, quotes and spaces; nothing is unescaped."""
    assert read(f"a_string={text}").a_string == text


@given(st.lists(st.integers(0, 9)))
def test_a_repeated_field_is_given_once_for_each_item(items: list[int]) -> None:
    """In order."""
    assert list(read(*(f"many={item}" for item in items)).many) == items


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("a_int32=0x10", "a_int64=007", "a_uint32=1_000"), {"a_int32": 16, "a_int64": 7, "a_uint32": 1000}),
        (("a_bool=true", "a_string="), {"a_bool": True}),
        (("a_double=inf", "a_float=-1.5"), {"a_double": math.inf, "a_float": -1.5}),
        (("color=GREEN", "colors=RED", "colors=1"), {"color": 1, "colors": [0, 1]}),
        (("color=1",), {"color": 1}),
        (("a_bytes=_-8=",), {"a_bytes": b"\xff\xef"}),
        (("inner.a_int32=1", "inner.inner.a_string=x"), {"inner": {"a_int32": 1, "inner": {"a_string": "x"}}}),
        (('inner={"a_int32": 1}',), {"inner": {"a_int32": 1}}),
        (("inner={}",), {"inner": {}}),
        (('inners={"a_int32": 1}', 'inners={"aInt32": 2}'), {"inners": [{"a_int32": 1}, {"a_int32": 2}]}),
        (("counts.a=1", "counts.b.c=2"), {"counts": {"a": 1, "b.c": 2}}),
        (("when=1970-01-01T00:00:05Z",), {"when": {"seconds": 5}}),
        (("left=x",), {"left": "x"}),
    ],
)
def test_every_kind_of_field(fields: tuple[str, ...], expected: dict[str, Any]) -> None:
    """Each equals the message that is made with Python's values."""
    assert read(*fields) == KINDS(**expected)


def test_a_map_of_messages() -> None:
    """The value is JSON."""
    message = read('parts.one={"a_int32": 1}', "parts.two={}")
    assert {key: part.a_int32 for key, part in message.parts.items()} == {"one": 1, "two": 0}


def test_an_empty_message_that_was_given_is_there() -> None:
    """Which is something else than one that was not."""
    assert read("inner={}").HasField("inner")
    assert not read().HasField("inner")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("a_int32=x",), "field 'a_int32' takes an int (int32), not 'x'"),
        (("a_int32=1.5",), "field 'a_int32' takes an int (int32), not '1.5'"),
        (("a_int32=2147483648",), "field 'a_int32' takes an int (int32), not '2147483648'"),
        (("a_uint64=-1",), "field 'a_uint64' takes an int (uint64), not '-1'"),
        (("a_double=much",), "field 'a_double' takes a float, not 'much'"),
        (("a_bool=maybe",), "field 'a_bool' takes a bool, not 'maybe'"),
        (("a_bytes=*",), "field 'a_bytes' takes bytes in base64, not '*'"),
        (("a_string=\udcff",), "field 'a_string' takes a str, not '\\udcff'"),
        (("color=BLUE",), "field 'color' takes one of GREEN, RED, or a number, not 'BLUE'"),
        (("many=x",), "field 'many' takes an int (int32), not 'x'"),
        (("inner.a_int32=x",), "field 'inner.a_int32' takes an int (int32), not 'x'"),
        (("inner.nothing=x",), "all.Kinds has no field 'nothing' (in 'inner')"),
        (("a_strin=x",), "Did you mean 'a_string'?"),
        (("inner=5",), "field 'inner' takes a message all.Kinds or a dict of its fields, as JSON, not '5'"),
        (("when=yesterday",), "field 'when' takes a message google.protobuf.Timestamp"),
        (("inners.a_int32=1",), "field 'inners' is repeated: give each item as JSON, such as inners='{...}'"),
        (("a_int32.x=1",), "field 'a_int32' takes an int (int32), which has no fields: 'x' is none of it"),
        (("counts=1",), "field 'counts' is a map of a str to an int (int32): give counts.KEY=value"),
        (("counts.a=x",), "field 'counts.a' takes an int (int32), not 'x'"),
        (("a_int32=1", "a_int32=2"), "field 'a_int32' is given twice, and takes one value"),
        (("counts.a=1", "counts.a=2"), "field 'counts.a' is given twice"),
        (("left=1", "right=2"), "fields 'left' and 'right' are alternatives of 'choice': give one of them"),
        (("a_int32",), "'a_int32': give fields as field=value"),
        (("=1",), "'=1': give fields as field=value"),
        (("a_int32=" + "9" * 500,), "9..."),
        (("a_int32=" + "9" * 5000,), "takes an int (int32)"),
    ],
)
def test_what_does_not_fit_is_named(fields: tuple[str, ...], said: str) -> None:
    """The field, its type, and what was given, shortened."""
    with pytest.raises(RequestError) as caught:
        read(*fields)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


@given(st.text(), st.text())
def test_any_word_is_read_or_refused(name: str, text: str) -> None:
    """By an error that is meant for people, and by no other."""
    for word in (name, f"{name}={text}", f"a_int32={text}", f"inner={text}", f"counts.{name}={text}", f"when={text}"):
        with suppress(RequestError):
            read(word)


def test_a_whole_request_as_json() -> None:
    """Names in either spelling; what does not fit is told in a line."""
    assert message_of_json(KINDS, {"aInt32": 1, "color": "GREEN"}) == KINDS(a_int32=1, color=1)
    for wrong in ({"nothing": 1}, [1], "x", {"a_int32": "x"}, {"a_int32": 1.5}):
        with pytest.raises(RequestError, match=r"^all\.Kinds: [^\n]+$"):
            message_of_json(KINDS, wrong)


def test_services_are_listed_with_the_types_of_their_methods() -> None:
    """Streams too."""
    assert list(listed([POOL.FindServiceByName("all.Kinder")])) == [
        "all.Kinder",
        "  Ask(all.Kinds) -> all.Kinds",
        "  Watch(all.Kinds) -> stream all.Kinds",
        "  Feed(stream all.Kinds) -> all.Kinds",
    ]


def test_a_service_is_described_with_all_that_it_leads_to() -> None:
    """Every message and enum once, however often it is used, also when it is in itself."""
    lines = list(described(POOL.FindServiceByName("all.Kinder")))
    assert "  rpc Feed(stream all.Kinds) returns (all.Kinds);" in lines
    assert "  repeated all.Kinds inners = 23;" in lines
    assert "  map<string, int32> counts = 40;" in lines
    assert "  map<string, all.Kinds> parts = 41;" in lines
    assert "  string left = 30;  // one of choice" in lines
    assert "  GREEN = 1;" in lines
    assert [line for line in lines if line.startswith(("message", "enum"))] == [
        "message all.Kinds {",
        "enum all.Color {",
        "message google.protobuf.Timestamp {",
    ]
