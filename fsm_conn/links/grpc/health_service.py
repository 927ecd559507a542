"""The standard health service of gRPC, asked over a channel, and what its answers mean.

Protocol: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from fsm_conn.links.errors import NotServingError, ProbeError

__all__ = ["ask", "has_no_answer", "is_serving", "news_of", "watching"]

_CHECK = "/grpc.health.v1.Health/Check"
_WATCH = "/grpc.health.v1.Health/Watch"
_SILENCE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
_NOT_ASKED = "Getting metadata from plugin failed"
"""GRPC's words (its `plugin_credentials.cc`) when the user's own call credentials fail: the peer was not asked."""
_STATUS = health_pb2.HealthCheckResponse


async def ask(channel: Any, service: str = "", timeout: float | None = None) -> Any:
    """Ask once, about `service` or the peer as a whole. Returns the answer, None if it cannot be read.

    Raises:
        grpc.aio.AioRpcError: as any call.
    """
    return await _method(channel.unary_unary, _CHECK)(health_pb2.HealthCheckRequest(service=service), timeout=timeout)


def watching(channel: Any, service: str) -> Any:
    """A call that is answered now and whenever the answer changes; its caller must cancel it."""
    return _method(channel.unary_stream, _WATCH)(health_pb2.HealthCheckRequest(service=service))


def is_serving(answer: Any) -> bool:
    """Whether a peer that was asked is well.

    Raises:
        NotServingError: the peer said that it is not well.
        ProbeError: what the peer said cannot be read.
    """
    if answer is None:
        raise ProbeError("the health check was answered with nothing readable")
    if answer.status != _STATUS.SERVING:
        raise NotServingError(f"the health check was answered with {_name(answer.status)}")
    return True


def news_of(answer: Any, service: str) -> bool | None:
    """Whether a watched peer says that it is well; None if that is no news."""
    if answer is None or (not service and answer.status == _STATUS.SERVICE_UNKNOWN):
        return None
    return bool(answer.status == _STATUS.SERVING)


def has_no_answer(error: grpc.aio.AioRpcError, service: str) -> bool:
    """Whether a peer that was asked cannot tell: it has no health service, or none that answers for the peer or to us.

    Whatever it answered, it is alive. Only silence, or an answer that it does not serve, means ill health; a refusal
    (UNAUTHENTICATED, RESOURCE_EXHAUSTED, INTERNAL, ...) tells nothing.

    Raises:
        NotServingError: it does not know the named `service`, which means the same by the protocol.
    """
    if error.code() is grpc.StatusCode.NOT_FOUND and service:
        raise NotServingError(
            f"the peer's health service knows no service {service!r}; HealthPolicy(service=...) takes its full name, "
            "or nothing for the peer as a whole"
        )
    return error.code() not in _SILENCE or (error.details() or "").startswith(_NOT_ASKED)


def _method(kind: Any, path: str) -> Any:
    return kind(
        path,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )


def _name(status: int) -> str:
    names: Mapping[int, Any] = _STATUS.ServingStatus.DESCRIPTOR.values_by_number
    return getattr(names.get(status), "name", str(status))
