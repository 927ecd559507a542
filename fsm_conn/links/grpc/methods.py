"""One method of one service, ready to be called, and the messages that go into it.

Rules that hold here: a correct request costs no more than a dictionary lookup, the message's constructor and the
call itself; only a wrong one is examined closely. Protobuf says that something does not fit, but rarely where, so
this module finds the wrong field and writes the error about it. The error tells only the types of values, because
values may be secret. It shortens names, because they may come from a peer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping
from typing import Any

import attrs
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from fsm_conn._util.text import brief
from fsm_conn._util.timing import closing
from fsm_conn.links.base import CallOptions
from fsm_conn.links.errors import CallError, RequestError
from fsm_conn.links.grpc.names import listing, nearest, shown
from fsm_conn.links.grpc.reflection import message_class

__all__ = ["Method", "bind", "is_map", "message_for", "messages_for", "no_field", "one_of", "wrong_kind"]

logger = logging.getLogger("fsm_conn")

# Errors that constructors of messages raise when a value does not fit, and those of odd mappings and iterables.
_MISFITS = (TypeError, ValueError, KeyError, AttributeError, OverflowError)
BLOCKED = 0.1
"""Seconds for which an iterable of requests may block the loop before the log says so. Wall-clock time, because the
loop's own time stands still meanwhile."""
_LONGEST_NAME = 500
"""Characters. Every error about a call contains a full name."""
_CONTAINERS = (Mapping, list, tuple)
_FLAT = frozenset({str, int, float, bool, bytes, type(None)})
"""The types of most fields, which contain no other values."""
_DEEPEST = 200
"""Levels of nested dicts and lists: twice what protobuf's parsers take. Much deeper ones would end the process."""


@attrs.frozen
class Method:
    """A method that was looked up. It can be called any number of times without another lookup."""

    name: str
    """Its full name, `package.Service.Method`."""
    client_streaming: bool
    server_streaming: bool
    request_class: type[Message]
    response_class: type[Message]
    invoke: Any
    """The channel's multi-callable: `invoke(message, timeout=, metadata=)` returns a gRPC call object."""
    streaming: bool = attrs.field(init=False)
    """Whether requests or replies are a stream."""

    @streaming.default
    def _streams(self) -> bool:
        return self.client_streaming or self.server_streaming


def bind(channel: Any, descriptor: MethodDescriptor) -> Method:
    """Register a method with a channel.

    Raises:
        CallError: its messages cannot be made, or its names are longer than anybody would write.
    """
    names = (each.full_name for each in (descriptor, descriptor.input_type, descriptor.output_type))
    if max(map(len, names)) > _LONGEST_NAME:
        raise CallError(f"{shown(descriptor.full_name)} or one of its messages has more than {_LONGEST_NAME} letters")
    try:
        request_class = message_factory.GetMessageClass(descriptor.input_type)
        response_class = message_class(descriptor.output_type)
    except RecursionError:  # protobuf descends into fields that are messages, and into their fields
        raise CallError(f"the messages of {shown(descriptor.full_name)} refer to too many others in a row") from None
    kind = f"{_arity(descriptor.client_streaming)}_{_arity(descriptor.server_streaming)}"
    invoke = getattr(channel, kind)(
        f"/{descriptor.containing_service.full_name}/{descriptor.name}",
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
        _registered_method=True,
    )
    return Method(
        name=descriptor.full_name,
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
        request_class=request_class,
        response_class=response_class,
        invoke=invoke,
    )


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def wrong_kind(method: Method) -> RequestError:
    """The error for a call that expects a stream where the method answers with one message, or the other way round."""
    if method.server_streaming:
        right = "a stream: use stream(), or in async code 'async for' by attribute"
    else:
        right = "one message: use call(), or in async code 'await' by attribute"
    return RequestError(f"{method.name} answers with {right}")


def message_for(method: Method, request: Any, fields: Mapping[str, Any]) -> Message:
    """Make the request of a method that takes one message.

    Raises:
        RequestError: the request does not fit; the error names the field, what it takes and what was given.
    """
    if request is None:
        if not _FLAT.issuperset(map(type, fields.values())):
            _check_depth(method, fields)
        try:
            return method.request_class(**fields)
        except _MISFITS:
            raise _misfit(method, fields, _in_options(method, fields)) from None
    if fields:
        raise RequestError(f"{method.name} was given both a request and fields ({listing(fields)}): give one of them")
    return _whole(method, request)


async def messages_for(method: Method, request: Any, fields: Mapping[str, Any]) -> AsyncGenerator[Message, None]:
    """Make the requests of a method that takes a stream of messages, each one only when it is asked for.

    Raises:
        RequestError: a request does not fit; or there is nothing to iterate over.
    """
    if fields or not _is_stream(request):
        given = f"fields ({listing(fields)})" if fields else "nothing" if request is None else _kind(request)
        raise RequestError(
            f"{method.name} takes a stream: pass an iterable, or async iterable, of {method.request_class.__name__} "
            f"messages or dicts of their fields, not {given}"
        )
    if isinstance(request, AsyncIterable):
        async with closing(aiter(request)) as items:
            async for item in items:
                yield _whole(method, item)
    else:
        for item in _punctual(method, request):
            yield _whole(method, item)


def _punctual(method: Method, request: Iterable[Any]) -> Iterator[Any]:
    """The items of an iterable. If it blocks the event loop for too long while it makes one, the log says so, once."""
    clock = time.perf_counter
    told, began = False, clock()
    for item in request:
        took = clock() - began
        if took > BLOCKED and not told:
            told = True
            logger.warning(
                "%s: its iterable of requests blocked the event loop for %.1f s; give an async iterable instead",
                method.name,
                took,
            )
        yield item
        began = clock()


def _is_stream(request: Any) -> bool:
    single = isinstance(request, (str, bytes, Mapping, Message))
    return isinstance(request, (Iterable, AsyncIterable)) and not single


def _whole(method: Method, request: Any) -> Message:
    if isinstance(request, method.request_class):
        return request
    if isinstance(request, Mapping):
        return message_for(method, None, _named(method, request))
    expected = method.request_class.DESCRIPTOR.full_name
    if isinstance(request, Message) and request.DESCRIPTOR.full_name == expected:
        return _translated(method, request)
    raise RequestError(f"{method.name} takes a message {expected}, or a dict of its fields, not {_kind(request)}")


def _named(method: Method, request: Mapping[Any, Any]) -> Mapping[str, Any]:
    for name in request:
        if not isinstance(name, str):
            raise RequestError(f"{method.name}: fields are named by str, not {_kind(name)}")
    return request


def _check_depth(method: Method, fields: Mapping[str, Any]) -> None:
    """Refuse fields that are nested so deeply that protobuf's recursion would overflow the stack."""
    level: list[Any] = [value for value in fields.values() if isinstance(value, _CONTAINERS)]
    for _ in range(_DEEPEST):
        if not level:
            return
        distinct = {id(each): each for each in level}.values()
        level = [value for each in distinct for value in _values(each) if isinstance(value, _CONTAINERS)]
    raise RequestError(f"{method.name}: more than {_DEEPEST} dicts and lists of the request are inside each other")


def _values(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, Mapping) else container


def _translated(method: Method, request: Message) -> Message:
    # The same message from another descriptor pool, such as a compiled class, while ours came by reflection.
    try:
        return method.request_class.FromString(request.SerializePartialToString())
    except Exception as error:
        raise RequestError(
            f"{method.name}: this {type(request).__name__} cannot be sent: {brief(str(error))}"
        ) from error


def _in_options(method: Method, fields: Mapping[str, Any]) -> str:
    """A remark about options of a call that were given as if they were fields."""
    taken = attrs.fields_dict(CallOptions)
    found = [name for name in fields if name in taken and name not in method.request_class.DESCRIPTOR.fields_by_name]
    options = ", ".join(f"{name}=..." for name in found)
    return f". Options of a call are given by position: call(method, CallOptions({options}), ...)" if found else ""


def _misfit(method: Method, fields: Mapping[str, Any], remark: str = "") -> RequestError:
    fault = _fault(method.request_class, fields, "") or "the fields do not fit together"
    return RequestError(f"{method.name}: {fault}{remark}")


def _fault(message_class: type[Message], fields: Mapping[Any, Any], path: str) -> str | None:
    """What is wrong with the first wrong field, or None if no field is wrong by itself."""
    descriptor: Any = message_class.DESCRIPTOR
    for name, value in fields.items():
        # A lookup by name would fail for invalid text, such as half a surrogate pair.
        field = next((each for each in descriptor.fields if each.name == name), None)
        if field is None:
            return no_field(descriptor, name, path)
        try:
            message_class(**{name: value})
        except _MISFITS as error:
            return _fault_inside(field, value, path + name) or _wrong_value(field, value, path + name, error)
    return None


def no_field(descriptor: Descriptor, name: Any, path: str) -> str:
    """The sentence about a field that a message does not have; `path` leads to the message and ends in a dot."""
    suggestion = nearest(str(name), descriptor.fields_by_name)
    where = f" (in {shown(path[:-1])!r})" if path else ""
    wrong = repr(shown(name)) if isinstance(name, str) else f"named by {_kind(name)}"
    return (
        f"{shown(descriptor.full_name)} has no field {wrong}{where}. "
        f"{suggestion}Its fields: {listing(descriptor.fields_by_name)}"
    )


def _fault_inside(field: FieldDescriptor, value: Any, path: str) -> str | None:
    """The fault of a nested message's field, if that is where it is."""
    if field.message_type is None or is_map(field):
        return None
    inner = message_factory.GetMessageClass(field.message_type)
    if isinstance(value, Mapping) and not field.is_repeated:
        return _fault(inner, value, f"{path}.")
    if isinstance(value, (list, tuple)) and field.is_repeated:
        found = (_fault(inner, item, f"{path}[{i}].") for i, item in enumerate(value) if isinstance(item, Mapping))
        return next(filter(None, found), None)
    return None


def _wrong_value(field: FieldDescriptor, value: Any, path: str, error: Exception) -> str:
    if field.is_repeated and not is_map(field) and isinstance(value, (list, tuple)):
        return f"field {shown(path)!r} takes {_many(field)}: it does not take what is in this {_kind(value)}"
    remark = _remark(field, value, error)
    return f"field {shown(path)!r} takes {_expected(field)}, not {'this ' if remark else ''}{_kind(value)}{remark}"


def _remark(field: FieldDescriptor, value: Any, error: Exception) -> str:
    """What is wrong with a value whose type is right; empty if the type is wrong."""
    if isinstance(error, (ValueError, OverflowError)) and field.type in _INTEGERS:
        return f" (it must be from {_INTEGERS[field.type][1]} to {_INTEGERS[field.type][2]})"
    if isinstance(error, UnicodeError):
        return " (it has characters that are none, such as half a surrogate pair)"
    return " (there is no such name)" if field.enum_type is not None and isinstance(value, str) else ""


def _expected(field: FieldDescriptor) -> str:
    if field.message_type is not None and is_map(field):
        key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        return f"a dict of {one_of(key)} to {one_of(value)}"
    return _many(field) if field.is_repeated else one_of(field)


def _many(field: FieldDescriptor) -> str:
    return f"a list, each item {one_of(field)}"


def one_of(field: FieldDescriptor) -> str:
    """What a field takes, or what each item of it must be: `an int (int32)`."""
    if field.message_type is not None:
        return f"a message {shown(field.message_type.full_name)} or a dict of its fields"
    if field.enum_type is not None:
        return f"one of {listing(field.enum_type.values_by_name)}, or a number"
    return _INTEGERS[field.type][0] if field.type in _INTEGERS else _SCALARS[field.type]


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map, which a descriptor shows as a list of pairs."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _integer(name: str, bits: int, signed: bool) -> tuple[str, int, int]:
    low = -(2 ** (bits - 1)) if signed else 0
    return f"an int ({name})", low, low + 2**bits - 1


_INTEGERS: dict[int, tuple[str, int, int]] = {
    FieldDescriptor.TYPE_INT32: _integer("int32", 32, True),
    FieldDescriptor.TYPE_SINT32: _integer("sint32", 32, True),
    FieldDescriptor.TYPE_SFIXED32: _integer("sfixed32", 32, True),
    FieldDescriptor.TYPE_INT64: _integer("int64", 64, True),
    FieldDescriptor.TYPE_SINT64: _integer("sint64", 64, True),
    FieldDescriptor.TYPE_SFIXED64: _integer("sfixed64", 64, True),
    FieldDescriptor.TYPE_UINT32: _integer("uint32", 32, False),
    FieldDescriptor.TYPE_FIXED32: _integer("fixed32", 32, False),
    FieldDescriptor.TYPE_UINT64: _integer("uint64", 64, False),
    FieldDescriptor.TYPE_FIXED64: _integer("fixed64", 64, False),
}
_SCALARS: dict[int, str] = {
    FieldDescriptor.TYPE_BOOL: "a bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "a float",
    FieldDescriptor.TYPE_FLOAT: "a float",
    FieldDescriptor.TYPE_STRING: "a str",
}


def _kind(value: Any) -> str:
    """The type of a given value, and nothing of its contents, which can be long and secret."""
    if isinstance(value, Message):
        return f"a message {shown(value.DESCRIPTOR.full_name)}"
    return shown(type(value).__name__)
