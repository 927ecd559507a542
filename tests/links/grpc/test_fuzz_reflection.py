"""A plugin that lies about its services: whatever it answers, a method is found or the caller is told, soon."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from harmless import assert_harmless, unhurried
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn._util.redact import Redactor
from fsm_conn.links.errors import CallError, RequestError
from fsm_conn.links.grpc.calls import GrpcCalls
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.grpc.methods import Method, message_for
from fsm_conn.links.grpc.services import ServiceResolver
from fsm_conn.links.plugin.link import PluginLink

Answer = Callable[[ServerReflectionRequest], Any]
ONE = FieldDescriptorProto.LABEL_OPTIONAL
MESSAGE = FieldDescriptorProto.TYPE_MESSAGE


class LyingChannel:
    """Answers every question about services as it is told to, without a network."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked = 0

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return lambda **options: _Exchange(self)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return None

    unary_stream = stream_unary = unary_unary


class _Exchange:
    def __init__(self, channel: LyingChannel) -> None:
        self._channel = channel
        self._request = ServerReflectionRequest()

    async def write(self, request: ServerReflectionRequest) -> None:
        self._request = request
        self._channel.asked += 1

    async def read(self) -> Any:
        answer = self._channel.answer(self._request)
        return answer if isinstance(answer, bytes) else answer.SerializeToString()

    def cancel(self) -> None: ...

    def add_done_callback(self, callback: Any) -> None: ...


def look_up(answer: Answer, name: str = "s.Svc.Do") -> Method:
    return asyncio.run(ServiceResolver(LyingChannel(answer)).method(name))  # type: ignore[arg-type]


def refused(answer: Answer, name: str = "s.Svc.Do") -> str:
    """What the caller is told, in bounded words, and in bounded time."""
    began = time.process_time()
    with pytest.raises(CallError) as caught:
        look_up(answer, name)
    assert time.process_time() - began < 5, "the loop stood still"
    assert_harmless(caught.value)
    return str(caught.value)


def files(*raw: bytes | FileDescriptorProto) -> ServerReflectionResponse:
    response = ServerReflectionResponse()
    for each in raw:
        data = each if isinstance(each, bytes) else each.SerializeToString()
        response.file_descriptor_response.file_descriptor_proto.append(data)
    return response


def services(*names: str) -> ServerReflectionResponse:
    response = ServerReflectionResponse()
    for name in names:
        response.list_services_response.service.add(name=name)
    return response


def peer(described: Any, *names: str) -> Answer:
    """A peer that lists `names`, and answers every other question with `described`."""
    listed = services(*(names or ("s.Svc",)))
    return lambda request: listed if request.HasField("list_services") else described


def honest(name: str = "s.proto") -> FileDescriptorProto:
    file = FileDescriptorProto(name=name, package="s", syntax="proto3")
    file.message_type.add(name="M").field.add(name="s", number=1, type=FieldDescriptorProto.TYPE_STRING, label=ONE)
    file.service.add(name="Svc").method.add(name="Do", input_type=".s.M", output_type=".s.M")
    return file


def chain(length: int) -> FileDescriptorProto:
    """Messages each of which has the next one as a field."""
    file = honest()
    file.message_type[0].field.add(name="next", number=2, type=MESSAGE, type_name=".s.M0", label=ONE)
    for number in range(length):
        message = file.message_type.add(name=f"M{number}")
        onward = f".s.M{number + 1}" if number < length - 1 else ".s.M"
        message.field.add(name="next", number=1, type=MESSAGE, type_name=onward, label=ONE)
    return file


def test_the_honest_one_is_understood() -> None:
    """What follows would prove nothing if nobody were."""
    assert look_up(peer(files(honest()))).name == "s.Svc.Do"


# --- what was found by thinking, and by the tests further down -------------------------------------------------------


@pytest.mark.parametrize("length", [400, 3000, 20_000])
def test_messages_that_go_on_and_on(length: int) -> None:
    """A chain of messages is followed by recursion: too long a one is refused, and is no RecursionError."""
    with contextlib.suppress(CallError):
        assert look_up(peer(files(chain(length)))).name == "s.Svc.Do"


def test_a_chain_that_is_too_long_is_told() -> None:
    """The error says what is wrong with the method."""
    assert "refer to too many others" in refused(peer(files(chain(20_000))))


@pytest.mark.parametrize("name", [b"\xff", b"a\xc3", b"\x1b[31m"])
def test_names_of_files_that_are_no_text(name: bytes) -> None:
    """Such a file is a dependency, so it is asked for by that name, which cannot be sent."""
    depending = FileDescriptorProto(name="a", dependency=["BBBB"]).SerializeToString()
    depending = depending.replace(b"\x04BBBB", bytes([len(name)]) + name)
    refused(peer(files(depending)))


def test_needs_that_are_met_already() -> None:
    """Each is looked at once: else half a million of them would be gone through again for every file that comes."""
    needs = ["a"] * 500_000 + [f"{number}" for number in range(1000)]

    def answer(request: ServerReflectionRequest) -> ServerReflectionResponse:
        wanted = request.file_by_filename
        file = FileDescriptorProto(name=wanted) if wanted else FileDescriptorProto(name="a", dependency=needs)
        return services("s.Svc") if request.HasField("list_services") else files(file)

    assert "circle" in refused(answer)


def test_many_dependencies_that_come_one_by_one() -> None:
    """As many files, and needs, as may be: quick, and then told that it was too much."""
    needs = [f"{number}" for number in range(60)]

    def answer(request: ServerReflectionRequest) -> ServerReflectionResponse:
        wanted = request.file_by_filename
        file = FileDescriptorProto(name=wanted or "a", dependency=[wanted + each for each in needs])
        return services("s.Svc") if request.HasField("list_services") else files(file)

    assert "by more than" in refused(answer)


def test_descriptions_that_take_little_to_send_and_much_to_keep() -> None:
    """What is made of a description is a hundred times as large as it is: so that must be small."""
    file = honest()
    for number in range(300_000):
        file.message_type.add(name=f"m{number:x}")
    assert "by more than" in refused(peer(files(file)))


async def test_each_file_of_a_description_has_a_turn_of_its_own() -> None:
    """A peer that describes a service by a thousand files does not keep the loop from all else meanwhile."""
    many = [FileDescriptorProto(name=f"f{number}.proto", package="s", syntax="proto3") for number in range(500)]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    resolver = ServiceResolver(LyingChannel(peer(files(honest(), *many))), ())  # type: ignore[arg-type]
    counting = asyncio.ensure_future(count_turns())
    both = await asyncio.gather(resolver.method("s.Svc.Do"), resolver.method("Svc.Do"))
    counting.cancel()
    assert [found.name for found in both] == ["s.Svc.Do"] * 2
    assert turns > 500


def test_long_names_do_not_make_long_errors() -> None:
    """Names are the peer's own words, of any length; an error quotes their beginnings."""
    long = [letter * 100_000 for letter in "abcdefgh"]
    refused(peer(files(), *long), "s.Other.Do")
    refused(peer(files(), *(f"{each}.Svc" for each in long)), "Svc.Do")
    file = honest()
    file.service[0].method[0].name = "D" * 100_000
    refused(peer(files(file)))
    file = honest()
    file.service[0].name = "S" * 100_000
    refused(peer(files(file), "s." + "S" * 100_000), "s." + "S" * 100_000 + ".Nothing")


def test_names_with_escape_sequences_do_not_reach_a_terminal() -> None:
    """They are made visible in an error."""
    assert "Its services: \\u202ehello." in refused(peer(files(), "\x1b[2J\u202ehello"), "s.Other.Do")
    refused(lambda request: ServerReflectionResponse(error_response={"error_message": "\x1b[2J" * 9999}))


def test_names_that_all_resemble_the_wanted_one() -> None:
    """Looking for the nearest of four thousand anagrams takes less than it takes to notice."""
    letters = "abcdefghijklmnopqrstuvwxyz" * 40
    names = [f"p.{letters[number % 26 :]}{number}" for number in range(4000)]
    refused(peer(files(), *names), f"p.{letters[::-1]}.Do")


def test_fields_of_a_reflected_message_do_not_make_long_errors() -> None:
    """Neither by their number nor by their names."""
    file = honest()
    for number in range(2, 300):
        file.message_type[0].field.add(
            name="f" * 2000 + f"{number}", number=number, type=FieldDescriptorProto.TYPE_INT32, label=ONE
        )
    method = look_up(peer(files(file)))
    for fields in ({"s": 3}, {"z": 3}, {"f" * 2000 + "2": "x"}):
        with pytest.raises(RequestError) as caught:
            message_for(method, None, fields)
        assert_harmless(caught.value)


# --- what was found by chance ------------------------------------------------------------------------------------------

odd_names = st.one_of(
    st.sampled_from(["", "s", "s.proto", "M", "Svc", "Do", "s.Svc", ".s.M", "a", "b", "google/protobuf/any.proto"]),
    st.text(max_size=8),
)
kinds = st.integers(0, 20)
fields_ = st.fixed_dictionaries(
    {},
    optional={
        "name": odd_names,
        "number": st.one_of(st.integers(-1, 30), st.integers(-(2**31), 2**31 - 1)),
        "label": st.integers(1, 3),
        "type": st.integers(1, 18),
        "type_name": odd_names,
        "extendee": odd_names,
        "default_value": odd_names,
        "oneof_index": st.integers(-1, 3),
        "json_name": odd_names,
        "proto3_optional": st.booleans(),
    },
)
ranges = st.fixed_dictionaries({"start": st.integers(-2, 99), "end": st.integers(-2, 99)})
enums = st.fixed_dictionaries(
    {"name": odd_names},
    optional={
        "value": st.lists(st.fixed_dictionaries({"name": odd_names, "number": st.integers(-2, 9)}), max_size=3),
    },
)
messages = st.recursive(
    st.fixed_dictionaries({"name": odd_names}, optional={"field": st.lists(fields_, max_size=3)}),
    lambda inner: st.fixed_dictionaries(
        {"name": odd_names},
        optional={
            "field": st.lists(fields_, max_size=3),
            "nested_type": st.lists(inner, max_size=2),
            "enum_type": st.lists(enums, max_size=1),
            "extension": st.lists(fields_, max_size=1),
            "extension_range": st.lists(ranges, max_size=1),
            "oneof_decl": st.lists(st.fixed_dictionaries({"name": odd_names}), max_size=2),
            "options": st.fixed_dictionaries({"map_entry": st.booleans(), "message_set_wire_format": st.booleans()}),
            "reserved_range": st.lists(ranges, max_size=1),
        },
    ),
    max_leaves=4,
)
methods = st.fixed_dictionaries(
    {"name": odd_names, "input_type": odd_names, "output_type": odd_names},
    optional={"client_streaming": st.booleans(), "server_streaming": st.booleans()},
)
any_file = st.fixed_dictionaries(
    {"name": odd_names},
    optional={
        "package": odd_names,
        "syntax": st.sampled_from(["", "proto2", "proto3", "editions", "x"]),
        "dependency": st.lists(odd_names, max_size=3),
        "public_dependency": st.lists(st.integers(-1, 3), max_size=2),
        "weak_dependency": st.lists(st.integers(-1, 3), max_size=2),
        "message_type": st.lists(messages, max_size=3),
        "enum_type": st.lists(enums, max_size=1),
        "extension": st.lists(fields_, max_size=2),
        "service": st.lists(
            st.fixed_dictionaries({"name": odd_names, "method": st.lists(methods, max_size=2)}), max_size=2
        ),
        "edition": st.sampled_from([0, 998, 999, 1000, 1001, 99997]),
    },
).map(lambda fields: FileDescriptorProto(**fields).SerializeToString())


def _nearly_honest(change: dict[str, Any]) -> bytes:
    file = honest()
    file.MergeFrom(FileDescriptorProto(**change))
    return bytes(file.SerializeToString())


nearly_honest = st.fixed_dictionaries(
    {},
    optional={
        "dependency": st.lists(st.sampled_from(["s.proto", "a", "b"]), max_size=2),
        "message_type": st.lists(messages, max_size=3),
        "extension": st.lists(fields_, max_size=2),
        "enum_type": st.lists(enums, max_size=2),
    },
).map(_nearly_honest)
some_files = st.lists(st.one_of(any_file, nearly_honest, st.binary(max_size=60)), min_size=1, max_size=4)


@unhurried
@given(st.lists(some_files, min_size=1, max_size=4), st.lists(odd_names, max_size=3), st.data())
def test_any_description(answers: list[list[bytes]], names: list[str], data: st.DataObject) -> None:
    """Cyclic, conflicting, missing, doubled, oddly named: found or a CallError; and then a request fits or it does not."""
    rest = list(answers)

    def answer(request: ServerReflectionRequest) -> Any:
        if request.HasField("list_services"):
            return services("s.Svc", *names)
        return files(*(rest.pop(0) if len(rest) > 1 else rest[0]))

    try:
        method = look_up(answer)
    except CallError as error:
        assert_harmless(error)
        return
    names_ = [each.name for each in method.request_class.DESCRIPTOR.fields]
    value = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.just({}), max_size=2))
    given_ = data.draw(st.dictionaries(st.sampled_from([*names_, "other"]), value, max_size=3))
    try:
        message_for(method, None, given_)
    except RequestError as error:
        assert_harmless(error)


@unhurried
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_any_bytes_for_answers(answers: list[bytes]) -> None:
    """Bytes that are no answer at all."""
    rest = list(answers)
    with pytest.raises(CallError) as caught:
        look_up(lambda request: rest.pop(0) if len(rest) > 1 else rest[0])
    assert_harmless(caught.value)


class _OpenChannel(LyingChannel):
    async def wait_for_state_change(self, state: Any) -> None:
        await asyncio.Event().wait()


async def told_by_link(answer: Answer, secret: str) -> str:
    """What the caller of a plugin that was given `secret` is told."""
    link: Any = PluginLink(["plugin"], env={"TOKEN": secret})
    link._client = SimpleNamespace(process=SimpleNamespace(redact=Redactor([secret])))
    calls = GrpcCalls(cast("Any", _OpenChannel(answer)), (), Loss(), link._show)
    with pytest.raises(CallError) as caught:
        await calls.resolver.method("s.Svc.Do")
    calls.connectivity.stop()
    return str(caught.value)


@pytest.mark.parametrize(
    "described",
    [
        ServerReflectionResponse(error_response={"error_message": "no access with hunter2"}),
        files(FileDescriptorProto(name="s.proto", message_type=[{"name": "hunter2"}, {"name": "hunter2"}])),
    ],
    ids=["its own error", "a file that protobuf refuses"],
)
async def test_secrets(described: ServerReflectionResponse) -> None:
    """What a plugin says about its services is shown without the secrets that it was given."""
    told = await told_by_link(peer(described), "hunter2")
    assert "[redacted]" in told
    assert "hunter2" not in told
