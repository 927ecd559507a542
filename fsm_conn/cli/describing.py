"""Services as text: one line for each method, or in the words of a `.proto` file with the messages they use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from fsm_conn.links.grpc.methods import is_map

__all__ = ["described", "listed"]

_TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def listed(services: Iterable[ServiceDescriptor]) -> Iterator[str]:
    """Each service, and its methods with their types."""
    for service in services:
        yield str(service.full_name)
        for method in service.methods:
            yield f"  {method.name}({_request(method)}) -> {_reply(method)}"


def described(service: ServiceDescriptor) -> Iterator[str]:
    """The service as a `.proto` file would have it, then every message and enum that its methods lead to."""
    yield f"service {service.full_name} {{"
    for method in service.methods:
        yield f"  rpc {method.name}({_request(method)}) returns ({_reply(method)});"
    yield "}"
    for each in _used(service):
        yield ""
        yield from _enum(each) if isinstance(each, EnumDescriptor) else _message(each)


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


def _message(message: Descriptor) -> Iterator[str]:
    yield f"message {message.full_name} {{"
    for field in message.fields:
        yield f"  {_typed(field)} {field.name} = {field.number};{_alternative(field)}"
    yield "}"


def _enum(enum: EnumDescriptor) -> Iterator[str]:
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
