"""Services that a user declares, for peers without reflection.

Importing this module, and declaring no services, imports neither gRPC nor protobuf.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

__all__ = ["normalize_services"]


def normalize_services(services: Any) -> tuple[ServiceDescriptor, ...]:
    """Return the service descriptors that a user declared.

    Args:
        services: None; or a generated `_pb2` module or a protobuf `ServiceDescriptor`; or several of them.

    Raises:
        TypeError: something else was given; the message says what, and what to give instead.
    """
    if services is None:
        return ()
    several = isinstance(services, Iterable) and not isinstance(services, (str, bytes))
    items = services if several else (services,)
    by_name = {service.full_name: service for item in items for service in _declared(item)}
    return tuple(by_name.values())


def _declared(item: Any) -> Iterable[ServiceDescriptor]:
    from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

    if isinstance(item, ServiceDescriptor):
        return (item,)
    file = getattr(item, "DESCRIPTOR", None) if isinstance(item, ModuleType) else None
    if isinstance(file, FileDescriptor) and file.services_by_name:
        return file.services_by_name.values()
    raise TypeError(f"services={_described(item, file)}: give a generated _pb2 module or a ServiceDescriptor")


def _described(item: Any, file: Any) -> str:
    if not isinstance(item, ModuleType):
        return f"{type(item).__name__} {item!r:.60}"
    if file is not None:
        return f"module {item.__name__}, which defines no service"
    hint = " (the module beside it, without _grpc, is the one)" if item.__name__.endswith("_pb2_grpc") else ""
    return f"module {item.__name__}, which is not a _pb2 module{hint}"
