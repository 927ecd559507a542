"""Names to methods, and fields to messages: by declaration and by reflection."""

from __future__ import annotations

import asyncio
import contextlib
import string
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.links.errors import AmbiguousNameError, CallError, ConnectionLostError, RequestError, UnknownNameError
from fsm_conn.links.grpc.methods import Method, message_for, messages_for
from fsm_conn.links.grpc.names import match_service, split_method
from fsm_conn.links.grpc.reflection import Reflection
from fsm_conn.links.grpc.services import ServiceResolver
from fsm_conn.links.services import normalize_services

CALCULATOR = calculator_pb2.DESCRIPTOR.services_by_name["Calculator"]
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

Field = FieldDescriptorProto
SCALARS = {
    "b": Field.TYPE_BOOL,
    "by": Field.TYPE_BYTES,
    "d": Field.TYPE_DOUBLE,
    "f": Field.TYPE_FLOAT,
    "i": Field.TYPE_INT32,
    "l": Field.TYPE_INT64,
    "s": Field.TYPE_STRING,
    "u": Field.TYPE_UINT32,
    "ul": Field.TYPE_UINT64,
    "self": Field.TYPE_INT32,
    "method": Field.TYPE_STRING,
    "timeout": Field.TYPE_DOUBLE,
    "request": Field.TYPE_STRING,
}


def zoo() -> FileDescriptorProto:
    """A file whose one message has a field of every kind, and whose one service takes it in each way."""
    file = FileDescriptorProto(name="zoo.proto", package="zoo", syntax="proto3")
    colour = file.enum_type.add(name="Colour")
    for number, name in enumerate(("NONE", "RED", "GREEN")):
        colour.value.add(name=name, number=number)
    animal = file.message_type.add(name="Animal")
    number = 0
    for number, (name, kind) in enumerate(SCALARS.items(), 1):
        animal.field.add(name=name, number=number, type=kind, label=Field.LABEL_OPTIONAL)
    many, one, message = Field.LABEL_REPEATED, Field.LABEL_OPTIONAL, Field.TYPE_MESSAGE
    animal.field.add(name="colour", number=30, type=Field.TYPE_ENUM, type_name=".zoo.Colour", label=one)
    animal.field.add(name="mate", number=31, type=message, type_name=".zoo.Animal", label=one)
    animal.field.add(name="legs", number=32, type=Field.TYPE_INT32, label=many)
    animal.field.add(name="cubs", number=33, type=message, type_name=".zoo.Animal", label=many)
    animal.field.add(name="ages", number=34, type=message, type_name=".zoo.Animal.AgesEntry", label=many)
    entry = animal.nested_type.add(name="AgesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=Field.TYPE_INT32, label=one)
    add_service(file, "Keeper", "Feed", "Animal")
    return file


def add_service(file: FileDescriptorProto, name: str, method: str, message: str) -> None:
    message = f".{file.package}.{message}" if file.package else f".{message}"
    service = file.service.add(name=name)
    service.method.add(name=method, input_type=message, output_type=message)


def pool_of(*files: FileDescriptorProto) -> DescriptorPool:
    pool = DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = pool_of(zoo())
Animal: Any = message_factory.GetMessageClass(POOL.FindMessageTypeByName("zoo.Animal"))
FEED = Method("zoo.Keeper.Feed", False, False, Animal, Animal, None)


def feed(request: Any = None, **fields: Any) -> Any:
    return message_for(FEED, request, fields)


def refusal(request: Any = None, **fields: Any) -> str:
    with pytest.raises(RequestError) as caught:
        feed(request, **fields)
    return str(caught.value)


# ---- peers -----------------------------------------------------------------------------------------------------------


class Calculator(calculator_pb2_grpc.CalculatorServicer):
    async def Add(self, request: Any, context: Any) -> Any:
        return calculator_pb2.Result(result=request.a + request.b)


class Reflector:
    """A server's reflection that answers as told, and counts who asks: `answer` maps a request to bytes or raises."""

    def __init__(self, answer: Callable[[ServerReflectionRequest, Any], Any]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def converse(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for raw in requests:
            request = ServerReflectionRequest.FromString(raw)
            self.asked.append(request.WhichOneof("message_request"))
            yield await self.answer(request, context)

    def on(self, server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(self.converse)
        service, method = REFLECTION.strip("/").split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))


def honest(request: ServerReflectionRequest) -> bytes:
    """What a server answers that has the calculator."""
    response = ServerReflectionResponse()
    if request.HasField("list_services"):
        response.list_services_response.service.add(name=CALCULATOR.full_name)
    else:
        response.file_descriptor_response.file_descriptor_proto.append(calculator_pb2.DESCRIPTOR.serialized_pb)
    return bytes(response.SerializeToString())


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start servers, and get a channel to each."""
    running: list[Any] = []

    async def start(*registrations: Callable[[grpc.aio.Server], Any]) -> grpc.aio.Channel:
        server = grpc.aio.server()
        generated: Any = calculator_pb2_grpc  # which has no types
        generated.add_CalculatorServicer_to_server(Calculator(), server)
        for register in registrations:
            register(server)
        address = f"unix:{tmp_path}/{len(running)}.sock"
        server.add_insecure_port(address)
        await server.start()
        channel = grpc.aio.insecure_channel(address)
        running.append((server, channel))
        return channel

    yield start
    for server, channel in running:
        await channel.close()
        await server.stop(0)


def reflecting(*names: str, pool: DescriptorPool | None = None) -> Callable[[grpc.aio.Server], None]:
    names = names or (CALCULATOR.full_name, reflection.SERVICE_NAME)
    return lambda server: reflection.enable_server_reflection(names, server, pool)


# ---- names -----------------------------------------------------------------------------------------------------------

SERVICES = (
    "a.Calculator",
    "b.v1.TimeService",
    "c.Greeter",
    "c.greeter",
    "d.Twin",
    "e.Twin",
    "f.one",
    "f.Two",
    "g.Only",
    "Bare",
    "grpc.health.v1.Health",
    "plugin.GRPCBroker",
)


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("a.Calculator", "a.Calculator"),
        ("Calculator", "a.Calculator"),
        ("calculator", "a.Calculator"),
        ("CALCULATOR", "a.Calculator"),
        ("Time", "b.v1.TimeService"),
        ("timeservice", "b.v1.TimeService"),
        ("b.v1", "b.v1.TimeService"),
        ("greeter", "c.greeter"),
        ("Greeter", "c.Greeter"),
        ("d.Twin", "d.Twin"),
        ("g", "g.Only"),
        ("bare", "Bare"),
        ("grpc.health.v1.Health", "grpc.health.v1.Health"),
        ("health", None),
        ("GRPCBroker", None),
        ("grpc.health.v1", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_the_first_rule_with_a_match_decides(wanted: str, meant: str | None) -> None:
    """Full name, short name, other case, without 'Service', package: in this order; infrastructure by full name only."""
    assert match_service(wanted, SERVICES) == meant


@pytest.mark.parametrize(("wanted", "both"), [("Twin", ("d.Twin", "e.Twin")), ("GREETER", ("c.Greeter", "c.greeter"))])
def test_two_matches_under_one_rule_are_ambiguous(wanted: str, both: tuple[str, str]) -> None:
    """A short name that means several services is refused, with all their full names."""
    with pytest.raises(AmbiguousNameError) as caught:
        match_service(wanted, SERVICES)
    assert all(name in str(caught.value) for name in both)


def test_a_package_of_several_services_is_ambiguous() -> None:
    """A package stands for its service only when it has one."""
    with pytest.raises(AmbiguousNameError, match=r"f\.Two or f\.one"):
        match_service("f", SERVICES)


@pytest.mark.once
@given(st.lists(st.from_regex(r"\A([a-z]{1,3}\.){0,2}[A-Za-z]{1,4}\Z"), min_size=1, unique=True), st.data())
def test_a_full_name_always_means_itself(services: list[str], data: st.DataObject) -> None:
    """Whatever else a peer offers, and however alike the names are."""
    name = data.draw(st.sampled_from(services))
    assert match_service(name, services) == name


@pytest.mark.parametrize("name", ["Add", "", ".", "calculator.", ".Add", None, 3])
def test_a_name_without_both_parts_is_refused(name: Any) -> None:
    """The error says what a name looks like."""
    with pytest.raises(UnknownNameError, match=r"service\.Method"):
        split_method(name)


@pytest.mark.parametrize("path", ["/calculator.Calculator/Add", "calculator.Calculator/Add"])
def test_a_path_is_answered_with_the_name_to_give(path: str) -> None:
    """Logs of gRPC write methods so, and they are copied from there."""
    with pytest.raises(UnknownNameError, match=r"is a path: give 'calculator\.Calculator\.Add'"):
        split_method(path)


# ---- declared services -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("services", [calculator_pb2, CALCULATOR, [calculator_pb2], (CALCULATOR, calculator_pb2)])
def test_services_are_declared_by_module_or_descriptor(services: Any) -> None:
    """One of them or several; what is declared twice counts once."""
    assert normalize_services(services) == (CALCULATOR,)


@pytest.mark.parametrize("services", [None, (), []])
def test_no_services_may_be_declared(services: Any) -> None:
    """None and an empty sequence mean that reflection finds them all."""
    assert normalize_services(services) == ()


@pytest.mark.parametrize(
    ("services", "told"),
    [
        (calculator_pb2_grpc, "without _grpc"),
        (ModuleType("mine"), "module mine, which is not a _pb2 module"),
        ("calculator", "'calculator'"),
        (b"x", "bytes"),
        (3, "int 3"),
        ([calculator_pb2, "x"], "str 'x'"),
        (calculator_pb2.Operands, "give a generated _pb2 module"),
        (sys.modules["google.protobuf.descriptor_pb2"], "defines no service"),
    ],
)
def test_what_declares_no_service_is_refused(services: Any, told: str) -> None:
    """At once, with a TypeError that names what was given and what to give."""
    with pytest.raises(TypeError) as caught:
        normalize_services(services)
    assert told in str(caught.value)


def test_declaring_nothing_imports_nothing() -> None:
    """The module, and a declaration of no services, load neither gRPC nor protobuf."""
    code = (
        "import sys; from fsm_conn.links.services import normalize_services; normalize_services(None); "
        "print([m for m in sys.modules if m.partition('.')[0] in ('grpc', 'google', 'pyvider')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


async def test_declared_services_are_never_asked_for(serve: Any) -> None:
    """A declared method is called on a peer without reflection, and with no question to one that has it."""
    reflector = Reflector(never)
    directory = ServiceResolver(await serve(reflector.on), calculator_pb2)
    method = await directory.method("calculator.Add")
    assert (await method.invoke(message_for(method, None, {"a": 5, "b": 3}))).result == 8
    assert method.request_class is calculator_pb2.Operands
    assert reflector.asked == []


# ---- reflection ------------------------------------------------------------------------------------------------------


async def never(request: ServerReflectionRequest, context: Any) -> bytes:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def test_reflection_finds_methods(serve: Any) -> None:
    """A method found by reflection is called with messages that nobody compiled."""
    directory = ServiceResolver(await serve(reflecting()))
    method = await directory.method("calculator.Add")
    reply = await method.invoke(message_for(method, None, {"a": 5, "b": 3}))
    assert (method.name, reply.result) == ("calculator.Calculator.Add", 8)
    assert type(reply).DESCRIPTOR is not calculator_pb2.Result.DESCRIPTOR


async def test_a_method_is_registered_once(serve: Any) -> None:
    """Every name of a method leads to the same object, and is then known without asking."""
    directory = ServiceResolver(await serve(reflecting()))
    names = ("calculator.Add", "Calculator.Add", "calculator.Calculator.Add")
    methods = [await directory.method(name) for name in (*names, *names)]
    assert all(method is methods[0] for method in methods)
    assert set(directory.known) == set(names)


async def test_compiled_messages_serve_reflected_methods(serve: Any) -> None:
    """A message of a compiled class is sent where the method's own class came by reflection."""
    directory = ServiceResolver(await serve(reflecting()))
    method = await directory.method("calculator.Add")
    assert (await method.invoke(message_for(method, calculator_pb2.Operands(a=1, b=2), {}))).result == 3


async def test_files_are_fetched_with_what_they_need(serve: Any) -> None:
    """A server that sends one file at a time is asked for those that the file depends on, to the last."""
    base = FileDescriptorProto(name="base.proto", package="x", syntax="proto3")
    base.message_type.add(name="M")
    middle = FileDescriptorProto(name="middle.proto", package="x", syntax="proto3", dependency=["base.proto"])
    middle.public_dependency.append(0)
    top = FileDescriptorProto(name="top.proto", package="x", syntax="proto3", dependency=["middle.proto"])
    add_service(top, "S", "Do", "M")
    files = {file.name: file for file in (base, middle, top)}

    async def one_by_one(request: ServerReflectionRequest, context: Any) -> bytes:
        response = ServerReflectionResponse()
        if request.HasField("list_services"):
            response.list_services_response.service.add(name="x.S")
        else:
            file = files[request.file_by_filename or "top.proto"]
            response.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
        return bytes(response.SerializeToString())

    reflector = Reflector(one_by_one)
    directory = ServiceResolver(await serve(reflector.on))
    assert (await directory.method("S.Do")).name == "x.S.Do"
    assert reflector.asked == ["list_services", "file_containing_symbol", "file_by_filename", "file_by_filename"]


async def test_first_calls_share_one_lookup(serve: Any) -> None:
    """Any number of concurrent first calls ask the peer once for its names and once for the service."""

    async def answer(request: ServerReflectionRequest, context: Any) -> bytes:
        return honest(request)

    reflector = Reflector(answer)
    directory = ServiceResolver(await serve(reflector.on))
    methods = await asyncio.gather(*(directory.method(f"calculator.{name}") for name in ("Add", "Sum", "Add") * 5))
    assert len({method.name for method in methods}) == 2
    assert reflector.asked == ["list_services", "file_containing_symbol"]


async def test_a_cancelled_caller_spoils_nothing_for_the_others(serve: Any) -> None:
    """The caller whose call began the lookup is cancelled; the others get their method, from the same lookup."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(request: ServerReflectionRequest, context: Any) -> bytes:
        asked.set()
        await go.wait()
        return honest(request)

    reflector = Reflector(slow)
    directory = ServiceResolver(await serve(reflector.on))
    first, second = (asyncio.create_task(directory.method("calculator.Add")) for _ in range(2))
    await asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()
    assert (await second).name == "calculator.Calculator.Add"
    assert reflector.asked == ["list_services", "file_containing_symbol"]


async def test_a_failed_lookup_is_not_kept(serve: Any) -> None:
    """What the peer could not answer is asked again by the next call."""
    failures = iter([True, False, False])

    async def flaky(request: ServerReflectionRequest, context: Any) -> bytes:
        if next(failures):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return honest(request)

    directory = ServiceResolver(await serve(Reflector(flaky).on))
    with pytest.raises(grpc.aio.AioRpcError, match="not yet"):
        await directory.method("calculator.Add")
    assert (await directory.method("calculator.Add")).name == "calculator.Calculator.Add"


async def test_closing_ends_lookups(serve: Any) -> None:
    """Who waits for a lookup is told that the link was closed, who comes later too, and no task is left."""
    asked = asyncio.Event()

    async def silent(request: ServerReflectionRequest, context: Any) -> bytes:
        asked.set()
        return await never(request, context)

    directory = ServiceResolver(await serve(Reflector(silent).on))
    waiting = asyncio.create_task(directory.method("calculator.Add"))
    await asked.wait()
    tasks = asyncio.all_tasks()
    await directory.close()
    for attempt in (waiting, directory.method("calculator.Add")):
        with pytest.raises(ConnectionLostError) as caught:
            await attempt
        assert not caught.value.maybe_executed
    assert all(task.done() for task in tasks if "_ask_for" in repr(task.get_coro()))


async def test_without_reflection_the_error_says_how_to_go_on(serve: Any) -> None:
    """It names services= and enable_server_reflection, and lists what was declared."""
    directory = ServiceResolver(await serve(), CALCULATOR)
    with pytest.raises(UnknownNameError) as caught:
        await directory.method("calcuator.Missing.Do")
    text = str(caught.value)
    assert "services=" in text
    assert "enable_server_reflection" in text
    assert "Declared services: calculator.Calculator" in text


async def test_version_one_of_the_protocol_is_spoken_too(serve: Any) -> None:
    """A server that offers reflection only under its final name is understood."""

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for raw in requests:
            yield honest(ServerReflectionRequest.FromString(raw))

    def register(server: grpc.aio.Server) -> None:
        handlers = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(handler)}
        name = "grpc.reflection.v1.ServerReflection"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))

    directory = ServiceResolver(await serve(register))
    assert (await directory.method("calculator.Add")).name == "calculator.Calculator.Add"


async def test_infrastructure_is_reachable_and_never_suggested(serve: Any) -> None:
    """The health service is called by its full name; errors list only what the plugin's author made."""

    def health(server: grpc.aio.Server) -> None:
        class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc,unused-ignore]
            async def Check(self, request: Any, context: Any) -> Any:
                return health_pb2.HealthCheckResponse(status=1)

        health_pb2_grpc.add_HealthServicer_to_server(Health(), server)

    names = (CALCULATOR.full_name, reflection.SERVICE_NAME, "grpc.health.v1.Health")
    directory = ServiceResolver(await serve(health, reflecting(*names)))
    check = await directory.method("grpc.health.v1.Health.Check")
    assert (await check.invoke(check.request_class())).status == 1
    with pytest.raises(UnknownNameError) as caught:
        await directory.method("Healthy.Check")
    assert "grpc" not in str(caught.value)
    assert "calculator.Calculator" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Add", "'Add' names no method: give 'calculator.Calculator.Add'"),
        ("Ad", "give 'service.Method', such as 'calculator.Add'"),
        ("calculater.Add", "Did you mean 'calculator.Calculator'?"),
        ("calculator.Ad", "Did you mean 'Add'?"),
        ("calculator.add", "Did you mean 'Add'?"),
        ("calculator.Nonsense", "Accumulate, Add, Count, Divide, Multiply, Subtract, Sum"),
    ],
)
async def test_unknown_names_list_what_exists(serve: Any, name: str, told: str) -> None:
    """With the nearest match, for services and for methods."""
    directory = ServiceResolver(await serve(reflecting()))
    with pytest.raises(UnknownNameError) as caught:
        await directory.method(name)
    assert told in str(caught.value)


# ---- peers that lie --------------------------------------------------------------------------------------------------


class FakeChannel:
    """A channel whose every exchange answers from a script, without a network."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return lambda **options: self

    async def write(self, request: Any) -> None: ...

    async def read(self) -> Any:
        return self.answers.pop(0) if self.answers else None  # as good as gRPC's end of stream: no bytes

    def cancel(self) -> None: ...

    def add_done_callback(self, callback: Any) -> None: ...  # it ends as it is read


def files_answer(*raw: bytes) -> bytes:
    response = ServerReflectionResponse()
    response.file_descriptor_response.file_descriptor_proto.extend(raw)
    return bytes(response.SerializeToString())


def lie(*answers: Any) -> None:
    asyncio.run(Reflection(FakeChannel(*answers)).service("zoo.Keeper"))  # type: ignore[arg-type]


CIRCLE = [FileDescriptorProto(name=name, dependency=[other]).SerializeToString() for name, other in ("ab", "ba")]
ENDLESS = [
    files_answer(FileDescriptorProto(name=f"{n}", dependency=[f"{n + 1}"]).SerializeToString()) for n in range(2000)
]
WRONG_TYPE = zoo()
WRONG_TYPE.service[0].method[0].input_type = ".zoo.Missing"


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [b"\xff\xff"],
        [b""],
        [honest(ServerReflectionRequest(list_services=""))],
        [ServerReflectionResponse(error_response={"error_code": 5, "error_message": "no"}).SerializeToString()],
        [files_answer()],
        [files_answer(b"\xff\xff")],
        [files_answer(b"")],
        [files_answer(calculator_pb2.DESCRIPTOR.serialized_pb)],
        [files_answer(*CIRCLE)],
        [files_answer(FileDescriptorProto(name="a", dependency=["a"]).SerializeToString())],
        [files_answer(FileDescriptorProto(name="a", dependency=["b"]).SerializeToString()), files_answer()],
        [files_answer(WRONG_TYPE.SerializeToString())],
    ],
    ids=lambda answers: f"{len(answers)}",
)
def test_malformed_reflection_is_a_call_error(answers: list[bytes]) -> None:
    """Whatever is wrong with what a peer tells of itself: nothing crashes, hangs, or grows without bound."""
    with pytest.raises(CallError):
        lie(*answers)


@pytest.mark.parametrize("answers", [[files_answer(b"\n\x01a" * 3_000_000)], ENDLESS], ids=["bytes", "files"])
def test_descriptions_are_bounded(answers: list[bytes]) -> None:
    """A peer that goes on describing itself is cut short."""
    with pytest.raises(CallError, match="by more than"):
        lie(*answers)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_any_bytes_for_files_are_a_call_error(files: list[bytes]) -> None:
    """No bytes that are not the service's description get past."""
    with pytest.raises(CallError):
        lie(files_answer(*files))


@given(st.data())
def test_damaged_descriptors_are_refused_or_harmless(data: st.DataObject) -> None:
    """A real description with some bytes changed either still describes the service or is a CallError."""
    raw = bytearray(zoo().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CallError):
        lie(files_answer(bytes(raw)))


def test_a_broken_service_leaves_the_others_usable() -> None:
    """One service that cannot be described does not keep the next from being."""

    async def scenario() -> str:
        channel = FakeChannel(files_answer(b"\xff"), files_answer(zoo().SerializeToString()))
        client = Reflection(channel)  # type: ignore[arg-type]
        with pytest.raises(CallError):
            await client.service("zoo.Keeper")
        return (await client.service("zoo.Keeper")).full_name

    assert asyncio.run(scenario()) == "zoo.Keeper"


def test_too_many_services_are_refused() -> None:
    """A list of names is bounded as well."""
    response = ServerReflectionResponse()
    for number in range(5000):
        response.list_services_response.service.add(name=f"s{number}")
    with pytest.raises(CallError, match="5000 services"):
        asyncio.run(Reflection(FakeChannel(response.SerializeToString())).names())  # type: ignore[arg-type]


# ---- requests --------------------------------------------------------------------------------------------------------


def test_every_kind_of_field_is_given_by_keyword() -> None:
    """Scalars, enums by name, messages and lists of them as dicts, maps; and no field name is taken."""
    fields = {
        "by": b"\x00",
        "colour": "RED",
        "mate": {"s": "x", "mate": {"i": 1}},
        "legs": [1, 2],
        "cubs": [{"i": 1}, Animal(i=2)],
        "ages": {"a": 1},
        "self": 1,
        "method": "m",
        "timeout": 0.5,
        "request": "r",
        "s": None,
    }
    made: Any = message_for(FEED, None, fields)
    assert (made.colour, made.mate.mate.i, list(made.legs), made.cubs[1].i, dict(made.ages)) == (
        1,
        1,
        [1, 2],
        2,
        {"a": 1},
    )
    assert (made.self, made.method, made.timeout, made.request, made.s) == (1, "m", 0.5, "r", "")


def test_a_whole_message_or_mapping_may_be_given() -> None:
    """Our class as it is; a twin from another pool translated; a mapping as fields; nothing as an empty message."""
    mine = Animal(i=3)
    other = message_factory.GetMessageClass(pool_of(zoo()).FindMessageTypeByName("zoo.Animal"))
    assert feed(mine) is mine
    assert feed(other(i=3)) == mine
    assert feed({"i": 3}) == mine
    assert feed() == Animal()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"legz": 1}, "no field 'legz'. Did you mean 'legs'?"),
        ({"x": 1}, "Its fields: ages, b, by"),
        ({"i": "five"}, "field 'i' takes an int (int32), not str"),
        ({"i": 1.5}, "field 'i' takes an int (int32), not float"),
        ({"i": 2**31}, "it must be from -2147483648 to 2147483647"),
        ({"u": -1}, "it must be from 0 to 4294967295"),
        ({"s": 3}, "field 's' takes a str, not int"),
        ({"by": "x"}, "field 'by' takes bytes, not str"),
        ({"d": "x"}, "field 'd' takes a float, not str"),
        ({"b": "x"}, "field 'b' takes a bool, not str"),
        ({"colour": "BLUE"}, "one of GREEN, NONE, RED, or a number, not this str (there is no such name)"),
        ({"mate": 3}, "a message zoo.Animal or a dict of its fields, not int"),
        ({"mate": {"i": "x"}}, "field 'mate.i' takes an int (int32), not str"),
        ({"mate": {"z": 1}}, "no field 'z' (in 'mate')"),
        ({"cubs": [{"i": 1}, {"i": "x"}]}, "field 'cubs[1].i' takes"),
        ({"cubs": 3}, "a list, each item a message zoo.Animal"),
        ({"legs": 3}, "field 'legs' takes a list, each item an int (int32), not int"),
        ({"legs": [1, "x"]}, "field 'legs' takes a list, each item an int (int32)"),
        ({"ages": {"a": "x"}}, "field 'ages' takes a dict of a str to an int (int32), not dict"),
        ({"ages": 3}, "a dict of a str to an int (int32), not int"),
        ({"mate": calculator_pb2.Limit()}, "not a message calculator.Limit"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], told: str) -> None:
    """The error names the field, what it takes, and what was given."""
    assert told in refusal(**fields)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (3, "takes a message zoo.Animal, or a dict of its fields, not int"),
        (calculator_pb2.Limit(limit=1), "a message calculator.Limit"),
        ({1: 2}, "fields are named by str, not int"),
        ({"i": "x"}, "field 'i' takes"),
    ],
)
def test_a_wrong_request_is_named(request_: Any, told: str) -> None:
    """A whole request of the wrong type is refused before anything is sent."""
    assert told in refusal(request_)


def test_request_and_fields_exclude_each_other() -> None:
    """Given both, it is not guessed which one was meant."""
    assert "both a request and fields (i)" in refusal(Animal(), i=1)


def test_long_values_are_not_repeated() -> None:
    """An error is one line, and not a copy of what was sent; not even when a value cannot be shown."""

    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    for value in ("x" * 10_000, ["y"] * 10_000, 10**5000, {"k" * 10_000: 1}, Rude()):
        assert len(refusal(i=value)) < 160


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(object)
    | st.just(Animal),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted(field.name for field in Animal.DESCRIPTOR.fields)) | st.text(max_size=5)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_fields_make_a_message_or_a_request_error(fields: dict[str, Any]) -> None:
    """Nothing that a user can pass for a field raises anything else, or a message that fills the screen."""
    try:
        made, text = message_for(FEED, None, fields), ""
    except RequestError as error:
        made, text = Animal(), str(error)
    assert isinstance(made, Animal)
    assert len(text) < 600


@given(st.data())
def test_any_message_round_trips_through_reflection(data: st.DataObject) -> None:
    """Whatever names, numbers and types a peer's author chose, fields by keyword arrive as they were given."""
    values: dict[int, st.SearchStrategy[Any]] = {
        Field.TYPE_BOOL: st.booleans(),
        Field.TYPE_BYTES: st.binary(),
        Field.TYPE_DOUBLE: st.floats(allow_nan=False),
        Field.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        Field.TYPE_SINT64: st.integers(-(2**63), 2**63 - 1),
        Field.TYPE_FIXED32: st.integers(0, 2**32 - 1),
        Field.TYPE_UINT64: st.integers(0, 2**64 - 1),
        Field.TYPE_STRING: st.text(st.characters(exclude_categories=["Cs"])),
    }
    letters = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8).filter(lambda name: name.strip("_"))
    names = data.draw(st.lists(letters, min_size=1, max_size=5, unique_by=lambda name: name.replace("_", "")))
    legal = st.integers(1, 2**29 - 1).filter(lambda number: not 19000 <= number <= 19999)
    numbers = data.draw(st.lists(legal, min_size=len(names), max_size=len(names), unique=True))
    file = FileDescriptorProto(name="any.proto", syntax="proto3")
    message, fields = file.message_type.add(name="Any"), {}
    for name, number in zip(names, numbers, strict=True):
        kind = data.draw(st.sampled_from(sorted(values)))
        repeated = data.draw(st.booleans())
        message.field.add(name=name, number=number, type=kind, label=3 if repeated else 1)
        fields[name] = data.draw(st.lists(values[kind], max_size=3) if repeated else values[kind])
    add_service(file, "Service", "Do", "Any")
    channel: Any = FakeChannel(files_answer(file.SerializeToString()))
    service = asyncio.run(Reflection(channel).service("Service"))
    request_class = message_factory.GetMessageClass(service.methods_by_name["Do"].input_type)
    method = Method("Service.Do", False, False, request_class, request_class, None)
    received = request_class.FromString(message_for(method, None, fields).SerializeToString())
    for name, value in fields.items():
        got = getattr(received, name)
        assert (list(got) if isinstance(value, list) else got) == value


# ---- streams of requests ---------------------------------------------------------------------------------------------


async def collected(request: Any, **fields: Any) -> list[Any]:
    return [message async for message in messages_for(FEED, request, fields)]


async def test_a_stream_is_any_iterable_of_messages_or_mappings() -> None:
    """Synchronous or not; each item is made into a message when its turn comes."""

    async def numbers() -> AsyncIterator[Any]:
        yield {"i": 1}
        yield Animal(i=2)

    def plain() -> Iterator[Any]:
        yield from ({"i": 1}, Animal(i=2))

    expected = [Animal(i=1), Animal(i=2)]
    for request in (numbers(), plain(), [{"i": 1}, Animal(i=2)]):
        assert await collected(request) == expected


@pytest.mark.parametrize(
    ("request_", "fields", "told"),
    [
        (
            None,
            {"i": 1},
            "pass an iterable, or async iterable, of Animal messages or dicts of their fields, not fields (i)",
        ),
        (None, {}, "not nothing"),
        (Animal(), {}, "not a message zoo.Animal"),
        ({"i": 1}, {}, "not dict"),
        ("text", {}, "not str"),
        (3, {}, "not int"),
        ([{"i": "x"}], {}, "field 'i' takes"),
        ([3], {}, "takes a message zoo.Animal"),
    ],
)
async def test_what_is_no_stream_of_requests_is_refused(request_: Any, fields: dict[str, Any], told: str) -> None:
    """Fields, one message, or nothing, where a stream is taken; and an item in it that does not fit."""
    with pytest.raises(RequestError) as caught:
        await collected(request_, **fields)
    assert told in str(caught.value)
