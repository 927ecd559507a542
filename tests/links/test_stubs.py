"""Compiled stubs over a channel that changes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from fsm_conn.connection.errors import NotConnectedError
from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.links.base import CallOptions
from fsm_conn.links.stubs import ReconnectingChannel

CalculatorStub: Any = calculator_pb2_grpc.CalculatorStub  # which has no types


class FakeChannel:
    """A channel that remembers what was bound to it, and whose calls return what they were given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bound: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = []

    def _bind(self, kind: str, method: str, *args: Any, **kwargs: Any) -> Any:
        self.bound.append((kind, method, args, kwargs))
        return lambda *args, **kwargs: (self.name, args, kwargs)

    def __getattr__(self, kind: str) -> Any:
        return lambda method, *args, **kwargs: self._bind(kind, method, *args, **kwargs)


class Current:
    """Which channel is open, if any."""

    def __init__(self, channel: Any = None) -> None:
        self.channel = channel

    def __call__(self) -> Any:
        if self.channel is None:
            raise NotConnectedError("connect first")
        return self.channel


def test_a_stub_follows_the_channel() -> None:
    """The same stub calls over whichever channel is open, and binds a method once for each."""
    first, second = FakeChannel("first"), FakeChannel("second")
    current = Current(first)
    stub = CalculatorStub(ReconnectingChannel(current))
    assert [stub.Add("r", timeout=1), stub.Add("r")] == [("first", ("r",), {"timeout": 1}), ("first", ("r",), {})]
    current.channel = second
    assert stub.Add("r")[0] == "second"
    assert (len(first.bound), len(second.bound)) == (1, 1)


async def test_a_stub_may_be_made_before_there_is_a_channel() -> None:
    """Its calls raise what the connection raises, until there is one."""
    current = Current()
    stub = CalculatorStub(ReconnectingChannel(current))
    with pytest.raises(NotConnectedError, match="connect first"):
        await stub.Add("r")
    current.channel = FakeChannel("at last")
    assert stub.Add("r")[0] == "at last"
    current.channel = None
    with pytest.raises(NotConnectedError):
        await stub.Add("r")


@pytest.mark.parametrize("question", ["read", "done_writing", "wait_for_connection", "code", "details"])
async def test_a_refusal_is_told_to_whoever_waits_after_a_turn_of_the_loop(question: str) -> None:
    """However the call is used; it counts as one that has ended, and there is nothing to cancel."""
    call = CalculatorStub(ReconnectingChannel(Current())).Accumulate()
    turns: list[Any] = []
    asyncio.get_running_loop().call_soon(turns.append, "a turn")
    with pytest.raises(NotConnectedError, match="connect first"):
        await getattr(call, question)()
    assert turns
    with pytest.raises(NotConnectedError):
        await call.write("r")
    with pytest.raises(NotConnectedError):
        async for _ in call:
            pass
    call.add_done_callback(turns.append)
    await asyncio.sleep(0)
    assert turns == ["a turn", call]
    assert (call.done(), call.cancelled(), call.cancel(), call.time_remaining()) == (True, False, False, None)


async def test_wrong_use_is_told_at_once() -> None:
    """What is no state of the connection, such as a call from another loop, is raised where it was done."""

    def current() -> Any:
        raise RuntimeError("another loop")

    with pytest.raises(RuntimeError, match="another loop"):
        CalculatorStub(ReconnectingChannel(current)).Add("r")


def test_what_generated_code_passes_reaches_the_channel() -> None:
    """All four kinds, with the path, the serializers and `_registered_method` as the stub gave them."""
    channel = FakeChannel("only")
    stub = CalculatorStub(ReconnectingChannel(Current(channel)))
    for method in (stub.Add, stub.Count, stub.Sum, stub.Accumulate):
        method("r")
    kinds = [(kind, path) for kind, path, _, _ in channel.bound]
    assert kinds == [
        ("unary_unary", "/calculator.Calculator/Add"),
        ("unary_stream", "/calculator.Calculator/Count"),
        ("stream_unary", "/calculator.Calculator/Sum"),
        ("stream_stream", "/calculator.Calculator/Accumulate"),
    ]
    assert channel.bound[0][3] == {
        "request_serializer": calculator_pb2.Operands.SerializeToString,
        "response_deserializer": calculator_pb2.Result.FromString,
        "_registered_method": True,
    }


def test_older_generated_code_is_served_too() -> None:
    """Code that passes its serializers and nothing else, by position even, is passed on as it is."""
    channel = FakeChannel("only")
    method = ReconnectingChannel(Current(channel)).unary_unary("/s/M", str, bytes)
    method("r")
    assert channel.bound == [("unary_unary", "/s/M", (str, bytes), {})]
    assert repr(method) == "<unary_unary /s/M>"


async def test_call_options_are_not_for_stubs() -> None:
    """Their methods are gRPC's own, and so are the keywords: what to write is told."""
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    stub = CalculatorStub(ReconnectingChannel(Current(channel)))
    request, options = calculator_pb2.Operands(a=1, b=2), CallOptions(timeout=1)
    for wrong in (lambda: stub.Add(request, options), lambda: stub.Add(request, options=options)):
        with pytest.raises(TypeError, match="gRPC's own keywords: timeout="):
            wrong()
    with pytest.raises(TypeError, match="unexpected keyword"):
        stub.Add(request, patience=1)
    await channel.close()
