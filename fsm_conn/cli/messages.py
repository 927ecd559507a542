"""Converts `field=value` words of a command line to messages, and services to text.

Each value is parsed according to the type of its field: numbers, `true` and `false`, names of enum values, bytes in
base64, and messages in JSON. A repeated field is given once for each item. `a.b=1` sets the field `b` of the message
`a`, or the key `b` of the map `a`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from fsm_conn.links.errors import RequestError
from fsm_conn.links.grpc.methods import is_map, no_field, one_of

__all__ = ["described", "listed", "message_of", "message_of_json"]

_LONGEST = 60
"""Characters of a value that are shown."""


def message_of(message_class: type[Message], fields: Iterable[str]) -> Message:
    """Make a message of `field=value` words.

    Raises:
        RequestError: a word does not fit; the message names the field, its type and the given value.
    """
    message = message_class()
    given: set[str] = set()
    for word in fields:
        path, equals, text = word.partition("=")
        if not equals or not path:
            raise RequestError(f"{_shown(word)}: give fields as field=value")
        _set(message, path, "", text, given)
    if not message.IsInitialized():
        needed: Any = message
        raise RequestError(f"{message.DESCRIPTOR.full_name} needs: {', '.join(needed.FindInitializationErrors())}")
    return message


def message_of_json(message_class: type[Message], data: Any) -> Message:
    """Make a message of its JSON form (https://protobuf.dev/programming-guides/json), names in either spelling.

    Raises:
        RequestError: the data does not fit the message.
    """
    message = message_class()
    if not isinstance(data, dict) and not message.DESCRIPTOR.full_name.startswith("google.protobuf."):
        raise RequestError(f"{message.DESCRIPTOR.full_name}: an object is needed, not {_shown(json.dumps(data))}")
    pool: Any = message.DESCRIPTOR.file.pool
    try:
        json_format.ParseDict(data, message, descriptor_pool=pool)
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise RequestError(f"{message.DESCRIPTOR.full_name}: {_first_line(error)}") from None
    return message


def _set(message: Any, path: str, above: str, text: str, given: set[str]) -> None:
    name, _, below = path.partition(".")
    field: Any = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise RequestError(no_field(message.DESCRIPTOR, name, above))
    whole = above + name
    if is_map(field):
        _set_in_map(message, field, whole, below, text, given)
    elif below:
        _descend(message, field, whole, below, text, given)
    elif field.is_repeated:
        _append(getattr(message, name), field, whole, text)
    else:
        _refuse_second(message, field, whole, given)
        _assign(message, field, whole, text)


def _descend(message: Any, field: Any, whole: str, below: str, text: str, given: set[str]) -> None:
    if field.message_type is None:
        raise RequestError(f"field {whole!r} takes {one_of(field)}, which has no fields: {below!r} is none of it")
    if field.is_repeated:
        raise RequestError(f"field {whole!r} is repeated: give each item as JSON, such as {whole}='{{...}}'")
    inner = getattr(message, field.name)
    inner.SetInParent()
    _set(inner, below, f"{whole}.", text, given)


def _set_in_map(message: Any, field: Any, whole: str, key: str, text: str, given: set[str]) -> None:
    key_field, value_field = (field.message_type.fields_by_name[part] for part in ("key", "value"))
    if not key:
        raise RequestError(
            f"field {whole!r} is a map of {one_of(key_field)} to {one_of(value_field)}: give {whole}.KEY=value"
        )
    _note(f"{whole}.{key}", given)
    entries, found = getattr(message, field.name), _scalar(key_field, f"the key of {whole}", key)
    if value_field.message_type is not None:
        entries[found].CopyFrom(_message(value_field, f"{whole}.{key}", text, entries[found]))
    else:
        with _fitting(value_field, f"{whole}.{key}", text):
            entries[found] = _scalar(value_field, f"{whole}.{key}", text)


def _append(items: Any, field: Any, whole: str, text: str) -> None:
    if field.message_type is not None:
        item = items.add()
        item.CopyFrom(_message(field, whole, text, item))
    else:
        with _fitting(field, whole, text):
            items.append(_scalar(field, whole, text))


def _assign(message: Any, field: Any, whole: str, text: str) -> None:
    if field.message_type is not None:
        inner = getattr(message, field.name)
        inner.CopyFrom(_message(field, whole, text, inner))
        inner.SetInParent()
    else:
        with _fitting(field, whole, text):
            setattr(message, field.name, _scalar(field, whole, text))


def _refuse_second(message: Any, field: Any, whole: str, given: set[str]) -> None:
    """Refuse a second value for a field: protobuf would silently use the last one."""
    _note(whole, given)
    group = field.containing_oneof
    taken = message.WhichOneof(group.name) if group is not None else None
    if taken not in (None, field.name):
        raise RequestError(f"fields {taken!r} and {field.name!r} are alternatives of {group.name!r}: give one of them")


def _note(path: str, given: set[str]) -> None:
    if path in given:
        raise RequestError(f"field {path!r} is given twice, and takes one value")
    given.add(path)


def _message(field: Any, whole: str, text: str, like: Message) -> Message:
    """A whole message: JSON, or a word that its JSON form accepts, such as a time."""
    try:
        data = json.loads(text)
    except ValueError:
        data = text
    try:
        return message_of_json(type(like), data)
    except RequestError as error:
        raise RequestError(f"field {whole!r} takes {one_of(field)}, as JSON, not {_shown(text)} ({error})") from None


def _scalar(field: Any, whole: str, text: str) -> Any:
    with _fitting(field, whole, text):
        if field.enum_type is not None:
            return _enum(field, text)
        return _READERS[field.cpp_type](text) if field.type != FieldDescriptor.TYPE_BYTES else _bytes(text)


@contextmanager
def _fitting(field: Any, whole: str, text: str) -> Iterator[None]:
    """Report an error raised in the block as a value that does not fit its field."""
    try:
        yield
    except RequestError:
        raise
    except (ValueError, TypeError, OverflowError):
        how = " in base64" if field.type == FieldDescriptor.TYPE_BYTES else ""
        raise RequestError(f"field {whole!r} takes {one_of(field)}{how}, not {_shown(text)}") from None


def _enum(field: Any, text: str) -> int:
    value = field.enum_type.values_by_name.get(text)
    return int(value.number) if value is not None else int(text)


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return int(text)  # it may have leading zeros


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, altchars=b"-_" if {"-", "_"} & set(text) else None, validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


_READERS: dict[int, Callable[[str], Any]] = {
    FieldDescriptor.CPPTYPE_INT32: _integer,
    FieldDescriptor.CPPTYPE_INT64: _integer,
    FieldDescriptor.CPPTYPE_UINT32: _integer,
    FieldDescriptor.CPPTYPE_UINT64: _integer,
    FieldDescriptor.CPPTYPE_DOUBLE: float,
    FieldDescriptor.CPPTYPE_FLOAT: float,
    FieldDescriptor.CPPTYPE_BOOL: _boolean,
    FieldDescriptor.CPPTYPE_STRING: str,
}


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


# --- services as text -----------------------------------------------------------------------------------------

_TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def listed(services: Iterable[ServiceDescriptor]) -> Iterator[str]:
    """Each service, with its methods and their types."""
    for service in services:
        yield str(service.full_name)
        for method in service.methods:
            yield f"  {method.name}({_request(method)}) -> {_reply(method)}"


def described(service: ServiceDescriptor) -> Iterator[str]:
    """The service as in a `.proto` file, then every message and enum that its methods use."""
    yield f"service {service.full_name} {{"
    for method in service.methods:
        yield f"  rpc {method.name}({_request(method)}) returns ({_reply(method)});"
    yield "}"
    for each in _used(service):
        yield ""
        yield from _enum_text(each) if isinstance(each, EnumDescriptor) else _message_text(each)


def _request(method: MethodDescriptor) -> str:
    return ("stream " if method.client_streaming else "") + str(method.input_type.full_name)


def _reply(method: MethodDescriptor) -> str:
    return ("stream " if method.server_streaming else "") + str(method.output_type.full_name)


def _used(service: ServiceDescriptor) -> list[Any]:
    """Messages and enums in the order in which a reader meets them."""
    found: dict[str, Any] = {}
    waiting: list[Any] = [each for method in service.methods for each in (method.input_type, method.output_type)]
    while waiting:
        each = waiting.pop(0)
        if each.full_name in found:
            continue
        if not (isinstance(each, Descriptor) and each.GetOptions().map_entry):
            found[each.full_name] = each
        if isinstance(each, Descriptor):
            waiting += [part for field in each.fields if (part := field.message_type or field.enum_type) is not None]
    return list(found.values())


def _message_text(message: Descriptor) -> Iterator[str]:
    yield f"message {message.full_name} {{"
    for field in message.fields:
        yield f"  {_typed(field)} {field.name} = {field.number};{_alternative(field)}"
    yield "}"


def _enum_text(enum: EnumDescriptor) -> Iterator[str]:
    yield f"enum {enum.full_name} {{"
    for value in enum.values:
        yield f"  {value.name} = {value.number};"
    yield "}"


def _typed(field: Any) -> str:
    if is_map(field):
        key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        return f"map<{_name(key)}, {_name(value)}>"
    return ("repeated " if field.is_repeated else "") + _name(field)


def _name(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    return str(named.full_name) if named is not None else _TYPES[field.type]


def _alternative(field: FieldDescriptor) -> str:
    group = field.containing_oneof
    return f"  // one of {group.name}" if group is not None and len(group.fields) > 1 else ""
