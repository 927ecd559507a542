"""How a call is made, and made again, along a route that a test leads: each decision alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fsm_conn import CallOptions, CallTimeoutError, ConnectionLostError, NotConnectedError, RequestError
from fsm_conn.connection.calling.calls import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MOST_REFUSALS,
    MOST_REPEATS,
    NO_OPTIONS,
    Calls,
    Patience,
    is_simple,
    refusal_pause,
    split_arguments,
)
from fsm_conn.connection.calling.observers import CallObservers

SAFE = CallOptions(idempotent=True)
WAITING = CallOptions(wait_for_ready=True)
AGAIN = CallOptions(idempotent=True, retry_unavailable=True)
PLAIN = CallOptions(metadata={"key": "value"})


def now() -> float:
    return asyncio.get_running_loop().time()


class Unavailable(Exception):
    """An answer of a peer that cannot serve at present."""


LOST = ConnectionLostError("lost", maybe_executed=True)
UNSENT = ConnectionLostError("not sent", maybe_executed=False)


class Way:
    """A route, and the link that it leads to. `outcomes` of calls: errors, or what is answered, after `takes` seconds."""

    owner = "the owner"
    reason: BaseException | None = None
    is_patient = False
    may_repeat = True
    endings = excused = 0

    def __init__(self, *outcomes: Any, **attributes: Any) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[Any] = []
        self.asked: list[Any] = []
        self.kept: Any = None
        self.waits = self.takes = 0.0
        self.refusal: Exception | None = None
        self.__dict__.update(attributes)

    def ready(self) -> Any:
        self.asked.append("ready")
        return self.kept

    async def now(self) -> Any:
        self.asked.append("now")
        return self

    async def next(self, end: float | None) -> Any:
        self.asked.append(end)
        await asyncio.sleep(self.waits)
        if self.refusal is not None:
            raise self.refusal
        return self

    def is_unavailable(self, error: Exception) -> bool:
        return isinstance(error, Unavailable)

    async def call(self, method: str, request: Any, fields: Any, options: Any) -> Any:
        self.sent.append((method, request, fields, options))
        await asyncio.sleep(self.takes)
        outcome = self.outcomes.pop(0) if self.outcomes else "reply"
        if callable(outcome):
            outcome = outcome()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def stream(self, method: str, request: Any, fields: Any, options: Any) -> AsyncIterator[Any]:
        self.sent.append((method, request, fields, options))
        try:
            for number in range(3):
                yield number
        finally:
            self.asked.append("closed")


async def called(way: Way, *args: Any, **fields: Any) -> Any:
    return await Calls(way).unary("a.B", args, fields)


# --- what is given by position --------------------------------------------------------------------------------------------


def test_a_request_and_options_may_be_given_in_either_order() -> None:
    """One of each at most."""
    request = object()
    assert split_arguments("a.B", ()) == (None, None)
    assert split_arguments("a.B", (request,)) == (request, None)
    assert split_arguments("a.B", (SAFE,)) == (None, SAFE)
    assert split_arguments("a.B", (request, SAFE)) == split_arguments("a.B", (SAFE, request)) == (request, SAFE)
    for wrong in ((request, request), (SAFE, SAFE), (SAFE, request, request), (SAFE, request, SAFE)):
        text = (
            "a.B: give at most one whole request and one CallOptions by position, and fields by keyword; "
            f"got {len(wrong)} positional arguments"
        )
        with pytest.raises(RequestError) as told:
            split_arguments("a.B", wrong)
        assert str(told.value) == text


def test_a_call_is_simple_that_has_but_options_by_which_it_neither_waits_nor_is_repeated() -> None:
    """Others go the long way."""
    assert is_simple(PLAIN)
    assert not any(
        is_simple(*args) for args in [(SAFE,), (WAITING,), (PLAIN, "request"), ("request",), ("request", PLAIN)]
    )


@pytest.mark.parametrize("seed", range(20))
def test_pauses_double_up_to_the_longest_and_end_after_some(seed: int) -> None:
    """Each shortened by up to a half."""
    for refusals, longest in enumerate([0.1, 0.2, 0.4, 0.8, 1.6, 1.6]):
        pause = refusal_pause(refusals)
        assert pause is not None
        assert longest / 2 <= pause <= longest
    assert (refusal_pause(MOST_REFUSALS), refusal_pause(MOST_REFUSALS + 1)) == (None, None)
    assert (FIRST_PAUSE, LONGEST_PAUSE, MOST_REFUSALS, MOST_REPEATS) == (0.1, 1.6, 6, 3)


def test_pauses_differ() -> None:
    """So that callers do not come back all at once."""
    pauses = [refusal_pause(4) or 0.0 for _ in range(200)]
    assert min(pauses) < 0.95
    assert max(pauses) > 1.45


# --- calls that do not wait -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), ("request",), (PLAIN,), ("request", PLAIN)])
async def test_a_call_is_sent_at_once_as_it_was_made(args: Any) -> None:
    """Once, with the options that it was given."""
    way = Way()
    assert await called(way, *args, x=1) == "reply"
    request = "request" if "request" in args else None
    assert (way.sent, way.asked) == ([("a.B", request, {"x": 1}, PLAIN if PLAIN in args else None)], ["now"])


async def test_a_call_that_was_made_wrongly_is_named() -> None:
    """By its method; nothing is sent."""
    way = Way()
    with pytest.raises(RequestError, match=r"^a\.B: give at most one"):
        await called(way, "request", "another")
    with pytest.raises(RequestError, match=r"^a\.B: give at most one"):
        await anext(Calls(way).stream("a.B", ("request", "another"), {}))
    assert (way.sent, way.asked) == ([], [])


@pytest.mark.parametrize("error", [LOST, UNSENT, Unavailable()])
async def test_a_call_that_does_not_wait_is_not_repeated(error: Exception) -> None:
    """Whatever went wrong."""
    way = Way(error)
    with pytest.raises(type(error)) as told:
        await called(way)
    assert (told.value, len(way.sent)) == (error, 1)


@pytest.mark.parametrize(
    ("options", "is_patient", "asked"),
    [
        (None, False, ["now"]),
        (PLAIN, False, ["now"]),
        (SAFE, False, ["ready", None]),
        (WAITING, False, ["ready", None]),
        (None, True, ["ready", None]),
        (PLAIN, True, ["ready", None]),
    ],
)
async def test_who_waits_for_a_link(options: CallOptions | None, is_patient: bool, asked: list[Any]) -> None:
    """Who may be repeated, who says so, and where all do."""
    way = Way(is_patient=is_patient)
    await called(way, *([] if options is None else [options]))
    expected = options if options is not None or not is_patient else NO_OPTIONS
    assert (way.asked, way.sent[0][3]) == (asked, expected)


async def test_observers_are_told_of_calls_and_streams() -> None:
    """If there are any."""
    observers, told = CallObservers(), []
    calls = Calls(Way(), observers)
    assert await calls.unary("a.B", (), {}) == "reply"
    assert [reply async for reply in calls.stream("a.C", (), {})] == [0, 1, 2]
    observers.add(lambda record: told.append(record.method))
    assert await calls.unary("a.B", ("request",), {"x": 1}) == "reply"
    assert [reply async for reply in calls.stream("a.C", (), {})] == [0, 1, 2]
    assert told == ["a.B", "a.C"]


@pytest.mark.parametrize("options", [None, PLAIN, SAFE, CallOptions(wait_for_ready=True, timeout=10)])
async def test_a_stream_is_sent_as_it_was_made(options: Any) -> None:
    """Once; it may wait for its link, within its timeout; and it is closed by who stops reading."""
    way = Way(waits=4.0)
    async for _ in Calls(way).stream("a.B", ("request", options) if options else ("request",), {"x": 1}):
        break
    await asyncio.sleep(0)
    (sent,) = way.sent
    assert sent[:3] == ("a.B", "request", {"x": 1})
    if options is not None and options.timeout:
        assert (sent[3], way.asked[0]) == (CallOptions(wait_for_ready=True, timeout=6), 10.0)
    else:
        assert (sent[3], way.asked[0]) == (options, None if options is SAFE else "now")


async def test_a_stream_that_waits_without_options_has_none() -> None:
    """Where all wait; and it is closed when it has ended."""
    way = Way(is_patient=True)
    assert [reply async for reply in Calls(way).stream("a.B", (), {})] == [0, 1, 2]
    assert (way.sent, way.asked) == ([("a.B", None, {}, NO_OPTIONS)], [None, "closed"])


async def test_a_stream_that_waits_has_a_limit() -> None:
    """The method is named."""
    way = Way(waits=40.0)
    with pytest.raises(CallTimeoutError, match=r"a\.B waited 5 s"):
        async for _ in Calls(way).stream("a.B", (CallOptions(wait_for_ready=True, timeout=5),), {}):
            pass


# --- calls that wait ------------------------------------------------------------------------------------------------------


async def test_a_call_that_waits_goes_by_the_present_link_if_there_is_one() -> None:
    """With all its time; the next link is asked for when that is lost."""
    options, kept = CallOptions(idempotent=True, timeout=10), Way(LOST, takes=1.0)
    way = Way(kept=kept, waits=2.0)
    assert await called(way, options, "request", x=1) == "reply"
    assert kept.sent == [("a.B", "request", {"x": 1}, options)]
    assert way.sent == [("a.B", "request", {"x": 1}, CallOptions(idempotent=True, timeout=7))]
    assert way.asked == ["ready", 10.0]


async def test_a_call_without_a_limit_waits_and_is_sent_as_it_was_made() -> None:
    """However long it takes."""
    way = Way(waits=1e6)
    assert await called(way, WAITING) == "reply"
    assert way.sent[0][3] is WAITING


@pytest.mark.parametrize(("reason", "why"), [(None, "none"), (ConnectionLostError("gone"), "gone")])
async def test_who_waits_in_vain_is_told_for_what_and_why(reason: Any, why: str) -> None:
    """When the deadline is there, not earlier."""
    way = Way(waits=40.0, reason=reason)
    with pytest.raises(CallTimeoutError) as told:
        await called(way, CallOptions(wait_for_ready=True, timeout=2.5))
    assert now() == 2.5
    assert str(told.value) == (
        f"'the owner': a.B waited 2.5 s for a connection, which is its timeout; the last error was: {why}"
    )
    assert told.value.__cause__ is None


async def test_a_deadline_that_has_passed_begins_no_other_wait() -> None:
    """Though nothing but a rounding error of it is left."""
    way = Way(UNSENT, takes=5.0)
    way.kept = way
    with pytest.raises(CallTimeoutError):
        await called(way, CallOptions(idempotent=True, timeout=5.0))
    assert (way.asked, len(way.sent)) == (["ready"], 1)
    way = Way(UNSENT, takes=4.0)
    way.kept = way
    assert await called(way, CallOptions(idempotent=True, timeout=5.0)) == "reply"
    assert len(way.sent) == 2


async def test_the_time_that_is_left_is_never_none_at_all() -> None:
    """A link refuses a timeout of zero, and would report that instead of the loss."""
    patience = Patience(Way(), "a.B", CallOptions(wait_for_ready=True, timeout=5))
    assert (patience.left, patience.what_is_left().timeout) == (5.0, 5.0)
    await asyncio.sleep(4)
    assert (patience.left, patience.what_is_left().timeout) == (1.0, 1.0)
    await asyncio.sleep(2)
    assert (patience.left, patience.what_is_left().timeout) == (-1.0, 0.001)
    endless = Patience(Way(), "a.B", WAITING)
    assert (endless.left, endless.what_is_left()) == (None, WAITING)


# --- what is repeated -----------------------------------------------------------------------------------------------------


async def chunks() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("options", "error", "request_made", "may_repeat", "sent"),
    [
        (SAFE, LOST, None, True, 2),
        (SAFE, UNSENT, None, True, 2),
        (WAITING, UNSENT, None, True, 2),
        (WAITING, LOST, None, True, 1),
        (SAFE, LOST, None, False, 1),
        (SAFE, UNSENT, None, False, 1),
        (SAFE, UNSENT, iter, True, 1),
        (SAFE, UNSENT, chunks, True, 1),
        (SAFE, UNSENT, list, True, 2),
        (SAFE, OSError("a mistake"), None, True, 1),
        (SAFE, Unavailable(), None, True, 1),
        (AGAIN, Unavailable(), None, True, 2),
        (AGAIN, Unavailable(), None, False, 1),
        (AGAIN, OSError("a mistake"), None, True, 1),
    ],
)
async def test_what_is_sent_again(
    options: Any, error: Exception, request_made: Any, may_repeat: bool, sent: int
) -> None:
    """What is idempotent, or was not sent, unless the request can be read but once or the route forbids it."""
    way = Way(error, may_repeat=may_repeat)
    request = None if request_made is None else request_made(()) if request_made is not chunks else chunks()
    if sent == 1:
        with pytest.raises(type(error)) as told:
            await called(way, request, options)
        assert told.value is error
    else:
        assert await called(way, request, options) == "reply"
    assert len(way.sent) == sent
    if request_made is chunks:
        await request.aclose()


async def test_a_call_is_sent_again_three_times_after_losses() -> None:
    """Those that were sent count; peers that went away by themselves do not."""
    way = Way(*[LOST] * 9)
    with pytest.raises(ConnectionLostError) as told:
        await called(way, SAFE)
    assert len(way.sent) == 1 + MOST_REPEATS
    assert str(told.value) == (
        "lost; it was repeated 3 times, and the link was lost each time: perhaps the call itself ends the peer"
    )
    assert (told.value.__cause__, told.value.maybe_executed) == (LOST, True)
    assert await called(Way(*[UNSENT] * 9), SAFE) == "reply"
    assert await called(Way(*[LOST] * 5, excused=2), SAFE) == "reply"
    with pytest.raises(ConnectionLostError, match="repeated 3 times"):
        await called(Way(*[LOST] * 6, excused=2), SAFE)


@pytest.mark.parametrize("outcomes", [[LOST], [UNSENT], [LOST, UNSENT], [UNSENT, LOST]])
async def test_a_call_is_not_sent_again_after_a_disconnect(outcomes: list[Any]) -> None:
    """Whoever made it is told whether it may have been executed."""
    way = Way(*outcomes)

    def ended() -> Exception:
        way.endings += 1
        last: Exception = outcomes[-1]
        return last

    way.outcomes[-1] = ended
    with pytest.raises(ConnectionLostError) as told:
        await called(way, SAFE)
    assert len(way.sent) == len(outcomes)
    assert str(told.value) == f"{outcomes[-1]}; and disconnect() was called, so it was not sent again"
    assert (told.value.maybe_executed, told.value.__cause__) == (LOST in outcomes, outcomes[-1])


@pytest.mark.parametrize("outcomes", [[], [UNSENT], [LOST], [LOST, UNSENT]])
async def test_when_there_is_no_connection_for_a_repeat_the_loss_is_what_counts(outcomes: list[Any]) -> None:
    """If the call may have been executed; or else why there is none."""
    way, refusal = Way(*outcomes, refusal=NotConnectedError("failed")), NotConnectedError("failed")
    way.refusal = refusal
    if outcomes:
        way.kept = way
    if len(outcomes) == 2:
        way.outcomes.insert(0, way.outcomes.pop(0))
        way.refusal = None

        def then() -> Exception:
            way.refusal = refusal
            return UNSENT

        way.outcomes[1] = then
    with pytest.raises((NotConnectedError, ConnectionLostError)) as told:
        await called(way, SAFE)
    if LOST in outcomes:
        assert str(told.value) == "lost; then there was no connection to repeat it on"
        assert (told.value.__cause__, type(told.value)) == (refusal, ConnectionLostError)
    else:
        assert told.value is refusal


async def test_a_peer_that_cannot_serve_is_asked_six_times_more() -> None:
    """With pauses; then its answer is raised."""
    last = Unavailable("the last one")
    way = Way(*[Unavailable()] * 6, last)
    with pytest.raises(Unavailable, match="the last one"):
        await called(way, AGAIN)
    assert len(way.sent) == 7
    assert 2.35 <= now() <= 4.7
    assert await called(Way(*[Unavailable()] * 6), AGAIN) == "reply"


async def test_a_pause_that_is_longer_than_what_is_left_is_not_made() -> None:
    """The caller has the answer at once."""
    way = Way(*[Unavailable()] * 9)
    with pytest.raises(Unavailable):
        await called(way, CallOptions(idempotent=True, retry_unavailable=True, timeout=0.04))
    assert (len(way.sent), now()) == (1, 0.0)
    way = Way(*[Unavailable()] * 9)
    with pytest.raises(Unavailable):
        await called(way, CallOptions(idempotent=True, retry_unavailable=True, timeout=0.5))
    assert 2 <= len(way.sent) <= 4
    assert now() < 0.5
