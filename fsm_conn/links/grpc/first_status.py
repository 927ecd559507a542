"""The status with which a peer ended a call, when gRPC forgets it.

A request that is written while the peer ends the call fails, and `grpc.aio` then replaces the status that had come in
with an INTERNAL of its own. A caller whom the peer refused would read "Internal error from Core"
(https://github.com/grpc/grpc/issues/36066). So this module keeps the first status of such a call.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio

__all__ = ["FirstStatus", "at_hand", "is_forgotten"]

_OWN_WORDS = "Internal error from Core"


def is_forgotten(error: grpc.aio.AioRpcError) -> bool:
    """Whether an error tells nothing about the peer, because gRPC replaced the peer's status with its own."""
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _OWN_WORDS


class FirstStatus:
    """Remembers the first status of one call that writes requests."""

    def __init__(self, call: Any) -> None:
        """Listen to a call that has just begun."""
        self._first: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._keep)

    def _keep(self, call: Any) -> None:
        code = at_hand(call.code())
        details = at_hand(call.details())
        trailing = at_hand(call.trailing_metadata())
        self._first = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=details)

    def of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return what a call that failed with `error` really failed with.

        Its `code()` is OK if the peer had ended the call without an error. The result is `error` itself if that is not
        one of gRPC's own, or nothing better is known.
        """
        if self._first is None or not is_forgotten(error) or is_forgotten(self._first):
            return error
        return self._first


def at_hand(question: Coroutine[Any, Any, Any]) -> Any:
    """Return what a finished call answers without waiting."""
    try:
        question.send(None)
    except StopIteration as answer:
        return answer.value
    finally:
        question.close()
    raise AssertionError("a call that is done had no status at hand")
