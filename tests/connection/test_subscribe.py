"""Subscriptions: streams that are opened again on the next link, with a `Gap` in between. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import TRANSIENT, Peer, PeerLink

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    Connection,
    ConnectionLostError,
    ConnectionState,
    Gap,
    GoingAwayError,
    LinkLostError,
    NotConnectedError,
    RequestError,
    RetryPolicy,
)
from fsm_conn.connection.calling.records import CallRecord
from fsm_conn.testing import VirtualLoop

S = ConnectionState
RETRY = RetryPolicy(max_attempts=4, initial_delay=1, jitter="none")


def now() -> float:
    return asyncio.get_running_loop().time()


class Refused(Exception):
    """What the peer answers that cannot serve at present."""


class Feed(Peer):
    """Publishes numbers; a link that is lost breaks its streams."""

    def __init__(self, *opens: Any, **options: Any) -> None:
        super().__init__(*opens, **options)
        self.streams: list[asyncio.Queue[Any]] = []
        self.requests: list[Any] = []
        self.refusals = 0

    def __call__(self) -> PeerLink:
        link = FeedLink(self)
        self.made.append(link)
        return link

    def publish(self, item: Any) -> None:
        for stream in self.streams:
            stream.put_nowait(item)


class FeedLink(PeerLink):
    peer: Feed

    def __init__(self, peer: Feed) -> None:
        super().__init__(peer)
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        self.peer.requests.append(request if request is not None else dict(fields))
        if self.peer.refusals:
            self.peer.refusals -= 1
            raise Refused
        own: asyncio.Queue[Any] = asyncio.Queue()
        self.peer.streams.append(own)
        try:
            while (value := await self._next(own)) is not None:
                if isinstance(value, Exception):
                    raise value
                yield value
        finally:
            self.peer.streams.remove(own)

    async def _next(self, own: asyncio.Queue[Any]) -> Any:
        """The next item, unless the link is lost or closed before."""
        item, lost = asyncio.ensure_future(own.get()), asyncio.ensure_future(self._broken())
        try:
            await asyncio.wait((item, lost), return_when=asyncio.FIRST_COMPLETED)
            return item.result() if item.done() else lost.result()
        finally:
            item.cancel()
            lost.cancel()

    async def _broken(self) -> None:
        if isinstance(await self.lost(), GoingAwayError):
            await asyncio.wait((self.broken,))
        raise ConnectionLostError("broken")

    async def lost(self) -> Exception:
        await asyncio.wait((self.gone, self.broken), return_when=asyncio.FIRST_COMPLETED)
        return self.gone.result() if self.gone.done() else LinkLostError("closed")

    async def close(self) -> None:
        self.broken.set_result(None)
        await super().close()

    def is_unavailable(self, error: BaseException) -> bool:
        return isinstance(error, Refused)


class Reader:
    """Reads a subscription in a task of its own."""

    def __init__(self, items: AsyncIterator[Any]) -> None:
        self.got: list[Any] = []
        self.task = asyncio.create_task(self._read(items))

    async def _read(self, items: AsyncIterator[Any]) -> None:
        async for item in items:
            self.got.append(item)

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.got if isinstance(item, Gap)]


async def settled() -> None:
    await asyncio.sleep(0.01)


async def test_it_goes_on_after_a_loss_and_says_so() -> None:
    """The next stream is sent before the gap is told; what the peer says from then on is read."""
    feed = Feed()
    async with Connection(feed, retry=RETRY) as conn:
        reader = Reader(conn.subscribe("feed.Watch", topic="x"))
        await settled()
        feed.publish(1)
        await settled()
        feed.script = [TRANSIENT]
        feed.lose()
        await asyncio.sleep(5)
        feed.publish(2)
        await settled()
        first, gap, second = reader.got
        assert (first, second) == (1, 2)
        assert isinstance(gap, Gap)
        assert (gap.number, type(gap.reason), gap.seconds) == (1, ConnectionLostError, pytest.approx(2))
        assert feed.requests == [{"topic": "x"}] * 2
        feed.publish(None)  # the peer ends the stream: that is the end
        await reader.task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nothing_is_missed_by_who_asks_when_the_gap_is_told() -> None:
    """A number that is published while the present one is asked for arrives."""
    feed, seen = Feed(), []
    async with Connection(feed, retry=RETRY) as conn:

        async def follow() -> None:
            async for item in conn.subscribe("feed.Watch"):
                if isinstance(item, Gap):
                    assert len(feed.streams) == 1
                    feed.publish("published meanwhile")
                    await asyncio.sleep(20)  # as long as it likes: no limit of any observer applies
                    seen.append("asked")
                else:
                    seen.append(item)

        following = asyncio.create_task(follow())
        await settled()
        feed.lose()
        await asyncio.sleep(30)
        assert seen == ["asked", "published meanwhile"]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert feed.streams == []


async def test_it_waits_for_the_connection() -> None:
    """As long as somebody tries to connect, and within its own time; refused if nobody does."""
    conn = Connection(Feed(delay=3), retry=RETRY)
    with pytest.raises(NotConnectedError):
        await anext(conn.subscribe("feed.Watch"))
    connecting = asyncio.create_task(conn.connect())
    await asyncio.sleep(0)
    with pytest.raises(CallTimeoutError):
        await anext(conn.subscribe("feed.Watch", CallOptions(timeout=1)))
    reader = Reader(conn.subscribe("feed.Watch"))
    await asyncio.sleep(2.5)
    assert conn._make_link.streams  # type: ignore[attr-defined]
    await connecting
    await conn.disconnect()
    with pytest.raises(ConnectionLostError):
        await reader.task


async def test_on_an_orderly_close_it_moves_to_the_next_link() -> None:
    """At once, instead of holding up the old one."""
    feed = Feed()
    async with Connection(feed, retry=RETRY) as conn:
        reader = Reader(conn.subscribe("feed.Watch"))
        await asyncio.sleep(2)
        feed.lose(GoingAwayError("the peer is updated"))
        await asyncio.sleep(0.5)
        feed.publish(1)
        await settled()
        assert feed.open_now == 1
        gap, one = reader.got
        assert (type(gap.reason), one, conn.attempt) == (GoingAwayError, 1, 1)
        reader.task.cancel()


async def test_a_disconnect_ends_it() -> None:
    """With an error, so that nobody takes it for the peer's own end; also while it waits for the next link."""
    for is_waiting in (False, True):
        feed = Feed()
        conn = Connection(feed, retry=RETRY)
        await conn.connect()
        reader = Reader(conn.subscribe("feed.Watch"))
        await settled()
        if is_waiting:
            feed.script = [TRANSIENT] * 3
            feed.lose()
            await asyncio.sleep(0.5)
        await conn.disconnect()
        with pytest.raises((ConnectionLostError, NotConnectedError)):
            await reader.task


async def test_it_ends_when_the_connection_gives_up() -> None:
    """With the refusal, whose cause is what it was cut off by."""
    feed = Feed()
    conn = Connection(feed, retry=RETRY)
    await conn.connect()
    reader = Reader(conn.subscribe("feed.Watch"))
    await settled()
    feed.then = TRANSIENT
    feed.lose()
    with pytest.raises(NotConnectedError, match="failed") as caught:
        await reader.task
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert reader.got == []


async def test_it_goes_on_after_the_connection_has_recovered() -> None:
    """`failed` is no end while the policy still tries."""
    feed = Feed()
    async with Connection(feed) as conn:
        reader = Reader(conn.subscribe("feed.Watch"))
        await settled()
        feed.script = [TRANSIENT] * 8
        feed.lose()
        await conn.wait_for_state(S.FAILED)
        await conn.wait_for_state(S.CONNECTED)
        await settled()
        assert [gap.seconds > 10 for gap in reader.gaps] == [True]
        reader.task.cancel()


async def test_what_the_peer_answers_ends_it() -> None:
    """An error of the peer's is no gap; UNAVAILABLE is one if that was asked for, a few times in a row."""
    feed = Feed()
    async with Connection(feed, retry=RETRY) as conn:
        reader = Reader(conn.subscribe("feed.Watch"))
        await settled()
        feed.publish(ValueError("no such topic"))
        with pytest.raises(ValueError, match="no such topic"):
            await reader.task

        feed.refusals = 1
        with pytest.raises(Refused):
            await anext(conn.subscribe("feed.Watch"))

        patient = CallOptions(idempotent=True, retry_unavailable=True)
        feed.refusals = 5
        reader = Reader(conn.subscribe("feed.Watch", patient))
        await asyncio.sleep(10)
        feed.publish(1)
        await settled()
        assert [type(item) for item in reader.got] == [*[Gap] * 5, int]
        reader.task.cancel()

        feed.refusals = 7
        with pytest.raises(Refused):
            await Reader(conn.subscribe("feed.Watch", patient)).task


async def test_a_function_is_asked_for_the_request_each_time() -> None:
    """So that it can go on where it was; what can be read only once is refused."""
    feed, seen = Feed(), [0]
    async with Connection(feed, retry=RETRY) as conn:

        async def follow() -> None:
            async for item in conn.subscribe("feed.Watch", lambda: {"after": seen[-1]}):
                seen.extend([] if isinstance(item, Gap) else [item])

        following = asyncio.create_task(follow())
        await settled()
        feed.publish(7)
        await settled()
        feed.lose()
        await settled()
        assert feed.requests == [{"after": 0}, {"after": 7}]
        following.cancel()
        with pytest.raises(RequestError, match="give a function that makes one"):
            conn.subscribe("feed.Watch", iter([]))


@pytest.mark.parametrize("at", ["reply", "gap", "waiting", "moving"])
async def test_cancelling_is_prompt_and_leaves_nothing(at: str) -> None:
    """Wherever its reader is: no stream, no task, and the cancellation is the reader's own."""
    feed = Feed()
    async with Connection(feed, retry=RETRY) as conn:
        reader = Reader(conn.subscribe("feed.Watch"))
        await asyncio.sleep(2)
        if at == "gap":
            feed.lose()
            await conn.wait_for_state(S.RECONNECTING)
            await conn.wait_for_state(S.CONNECTED)
            await settled()
        elif at == "waiting":
            feed.script = [TRANSIENT]
            feed.lose()
            await settled()
        elif at == "moving":
            feed.lose(GoingAwayError("updated"))
            await conn.wait_for_state(S.RENEWING)
            await conn.wait_for_state(S.CONNECTED)
        reader.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader.task
        assert feed.streams == []
        await conn.ensure_connected()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_leaves_at_a_gap_leaves_nothing() -> None:
    """The stream that was just opened is closed with the subscription."""
    feed = Feed()
    async with Connection(feed, retry=RETRY) as conn:
        items = conn.subscribe("feed.Watch")
        async with aclosing(items) as reading:  # type: ignore[type-var]
            first = asyncio.ensure_future(anext(reading))
            await settled()
            feed.lose()
            assert isinstance(await first, Gap)
            assert len(feed.streams) == 1
        assert feed.streams == []


async def test_an_observer_of_calls_is_told_of_it_once() -> None:
    """When it has ended, however many gaps it had."""
    feed = Feed()
    records: list[CallRecord] = []
    async with Connection(feed, retry=RETRY) as conn:
        conn.on_call(records.append)
        reader = Reader(conn.subscribe("feed.Watch"))
        await settled()
        feed.lose()
        await settled()
        feed.publish(None)
        await reader.task
    assert [(record.method, str(record.outcome)) for record in records] == [("feed.Watch", "succeeded")]


async def test_a_subscription_of_an_activity_belongs_to_its_link() -> None:
    """It is not opened again: on the next link the activity is another."""
    feed, seen = Feed(), []

    async def follow_a_while(conn: Connection) -> None:
        if not seen:
            seen.append("begun")
            async for item in conn.subscribe("feed.Watch"):
                seen.append(item)

    conn = Connection(feed, retry=RETRY, on_open=follow_a_while)
    connecting = asyncio.create_task(conn.connect())
    await settled()
    feed.lose()
    await connecting
    assert seen == ["begun"]
    await conn.disconnect()


def assert_whole(got: list[Any], last: int) -> None:
    """Numbers from 1 to the last one; where some are missing stands a gap."""
    numbers = [0]
    for before, item in zip([0, *got], got, strict=False):
        if not isinstance(item, Gap):
            assert item > numbers[-1] if isinstance(before, Gap) else item == numbers[-1] + 1
            numbers.append(item)
    assert numbers[-1] == last


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["publish", "publish", "lose", "away", "refuse"]), st.sampled_from([0.0, 0.3, 2.5])),
        max_size=14,
    )
)
def test_replies_are_in_order_and_never_missed_without_a_gap(steps: list[tuple[str, float]]) -> None:
    """Whatever happens: no number twice, none out of order, and where one is missing a gap has been told in between."""
    feed = Feed()
    published = 0

    async def life() -> None:
        nonlocal published
        async with Connection(
            feed, retry=RetryPolicy(initial_delay=0.5, max_delay=2, max_attempts=None, jitter="none")
        ) as conn:
            reader = Reader(conn.subscribe("feed.Watch"))
            await settled()
            for what, pause in steps:
                if what == "publish":
                    published += 1
                    feed.publish(published)
                elif what == "refuse":
                    feed.script.append(TRANSIENT)
                elif conn.is_connected() and not feed.link.gone.done():
                    feed.lose(GoingAwayError("updated") if what == "away" else LinkLostError("killed"))
                await asyncio.sleep(pause)
            await asyncio.sleep(60)
            feed.publish(published + 1)
            await settled()
            assert not reader.task.done()
            assert_whole(reader.got, published + 1)
            assert [gap.number for gap in reader.gaps] == list(range(1, len(reader.gaps) + 1))
            reader.task.cancel()
        assert asyncio.all_tasks() - {reader.task} == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(life())
