"""The owner of a link, alone: when it is opened, retired and closed, and who is told what went wrong."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fsm_conn import Link, LinkError
from fsm_conn._util.timing import GRACE
from fsm_conn.connection import link_holder
from fsm_conn.connection.calling.traffic import Traffic
from fsm_conn.connection.link_holder import LinkHolder, awaitable
from fsm_conn.links.errors import StartTimeoutError
from fsm_conn.links.target import LazyFactory

OWNER = "the owner"
LATE = "'the owner': closing the link did not end within 3 s; it was cancelled"
DRAIN, CLOSE = 20.0, 3.0


def now() -> float:
    return asyncio.get_running_loop().time()


class Bug(BaseException):
    """What is no error of a link."""


class Held(Link):
    """Takes as long as a test says, and notes when what began and ended."""

    def __init__(self, opens: float = 0.0, closes: float = 0.0, drains: float = 0.0, error: Any = None) -> None:
        self.times = {"open": opens, "close": closes, "drained": drains}
        self.error = error
        self.done: list[tuple[str, float]] = []
        self.deaf: set[str] = set()
        self.closes = 0

    async def _take(self, what: str) -> None:
        until = now() + self.times[what]
        while (left := until - now()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                if what not in self.deaf:
                    raise
        self.done.append((what, now()))

    async def open(self) -> None:
        await self._take("open")
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closes += 1
        await self._take("close")
        if self.error is not None:
            raise self.error

    async def drained(self) -> None:
        await self._take("drained")

    async def lost(self) -> Exception:
        return await asyncio.get_running_loop().create_future()

    def diagnostics(self) -> str:
        return "what it wrote last"


async def nothing(link: Link) -> None:
    """Prepare a link."""


async def opened(holder: LinkHolder, link: Any, **options: Any) -> None:
    given = {"limit": lambda: 10.0, "is_wanted": lambda: True, "prepare": nothing, **options}
    given.setdefault("make", lambda: link)
    await holder.open(owner=OWNER, drain_timeout=DRAIN, close_timeout=CLOSE, **given)


async def holding(link: Any) -> LinkHolder:
    holder = LinkHolder()
    await opened(holder, link)
    return holder


async def retired(*links: Any) -> LinkHolder:
    """Who has had these links, and the last of them still."""
    holder = LinkHolder()
    for link in links:
        await opened(holder, link)
    return holder


# --- opening --------------------------------------------------------------------------------------------------------------


async def test_it_begins_with_nothing() -> None:
    """Neither a link, nor any sign of one."""
    holder = LinkHolder()
    found = [holder.link, holder.incoming, holder.retired, holder.up_since, holder.noted, holder.route]
    assert found == [None] * 6
    assert holder.traffic.opened_at == 0.0
    holder.suspect(Held(), nothing)
    await holder.release(OWNER, CLOSE)
    await holder.release_all(OWNER, CLOSE)
    holder.retire(OWNER, DRAIN, CLOSE)
    assert holder.retired is None


async def test_a_link_is_prepared_before_others_use_it_and_the_earlier_one_serves_meanwhile() -> None:
    """And the calls of each are its own, from when it was open; callers choose their route anew each time."""
    first, second = Held(opens=1), Held(opens=2, drains=1)
    holder = await holding(first)
    earlier = holder.traffic
    assert (holder.link, earlier.opened_at) == (first, 1.0)
    holder.route = holder.noted = first
    seen: list[Any] = []

    async def prepare(link: Link) -> None:
        seen.append((link, holder.incoming, holder.route, holder.link, holder.noted))
        seen.append((holder.traffic_of(first), holder.traffic_of(second)))
        holder.route = first
        await asyncio.sleep(1)

    await opened(holder, second, prepare=prepare)
    incoming = seen[0][1]
    assert seen[0] == (second, incoming, None, first, first)
    assert seen[1] == (earlier, incoming[1])
    assert (incoming[0], incoming[1].opened_at) == (second, 3.0)
    assert (holder.link, holder.traffic, holder.incoming, holder.route, holder.noted) == (*incoming, None, None, None)
    assert holder.traffic_of(second) is holder.traffic
    assert (earlier.is_left, holder.traffic.is_left) == (True, False)
    assert list(holder.retired or ()) == [first]
    await asyncio.sleep(5)
    assert (first.done, holder.retired) == ([("open", 1.0), ("drained", 4.0), ("close", 4.0)], {})


async def test_what_fails_to_be_prepared_is_held_all_the_same() -> None:
    """So that it is closed as every other; callers of the earlier one are not told that another serves."""
    first, second = Held(), Held()
    holder = await holding(first)
    earlier = holder.traffic

    async def prepare(link: Link) -> None:
        raise LinkError("on_open")

    with pytest.raises(LinkError, match="on_open"):
        await opened(holder, second, prepare=prepare)
    assert (holder.link, holder.incoming, earlier.is_left) == (second, None, False)
    assert list(holder.retired or ()) == [first]
    await holder.release_all(OWNER, CLOSE)


async def test_a_link_is_not_held_whose_loop_ended_while_it_was_prepared() -> None:
    """It was let go, and so was the earlier one."""
    holder = await holding(Held())

    async def prepare(link: Link) -> None:
        holder.let_go()

    await opened(holder, Held(), prepare=prepare)
    assert (holder.link, holder.incoming, holder.retired) == (None, None, None)


async def test_a_link_that_nobody_wants_any_more_is_closed_and_never_held(caplog: pytest.LogCaptureFixture) -> None:
    """By an activity that was cancelled, and opened it all the same."""
    link, asked = Held(opens=2, closes=1), []

    def is_wanted() -> bool:
        asked.append(now())
        return False

    holder = LinkHolder()
    with pytest.raises(asyncio.CancelledError):
        await opened(holder, link, is_wanted=is_wanted)
    assert (asked, link.done) == ([2.0], [("open", 2.0), ("close", 3.0)])
    assert (holder.link, holder.incoming) == (None, None)
    link = Held(closes=50)
    with pytest.raises(asyncio.CancelledError):
        await opened(holder, link, is_wanted=is_wanted)
    assert (now(), caplog.messages) == (3.0 + CLOSE, [LATE])


async def test_the_time_for_opening_is_asked_when_a_link_has_its_turn_to_start() -> None:
    """Not before: the wait for it does not count."""
    asked: list[float] = []

    class Slot:
        async def __aenter__(self) -> None:
            await asyncio.sleep(4)

        async def __aexit__(self, *error: object) -> None:
            asked.append(now())

    class Queued(Held):
        def start_slot(self) -> Any:
            return Slot()

    def limit() -> float:
        asked.append(now())
        return 2.0

    link = Queued(opens=3)
    with pytest.raises(StartTimeoutError, match=r"did not open within 2 s: start_timeout= gives it longer") as told:
        await opened(LinkHolder(), link, limit=limit)
    assert (asked, link.done) == ([4.0, 6.0], [])
    assert "what it wrote last" in str(told.value.evidence)
    assert told.value.__cause__ is None


async def test_what_makes_no_link_is_told_so() -> None:
    """With what it made instead, cut short."""
    with pytest.raises(TypeError, match=r"the target made 'x{59}, which is not a Link"):
        await opened(LinkHolder(), None, make=lambda: "x" * 100)


async def test_a_link_s_module_is_imported_before_it_is_made() -> None:
    """On another thread, which is the factory's affair."""
    done: list[str] = []

    class Lazy(LazyFactory):
        async def load(self) -> None:
            done.append("loaded")

        def __call__(self) -> Link:
            done.append("made")
            return Held()

    await opened(LinkHolder(), None, make=Lazy("json", "none"))
    assert done == ["loaded", "made"]


async def test_a_link_that_opens_though_it_was_cancelled_is_closed() -> None:
    """Whoever wanted it has gone on."""
    link = Held(opens=30, closes=2)
    link.deaf = {"open"}
    with pytest.raises(StartTimeoutError):
        await opened(LinkHolder(), link, limit=lambda: 4.0)
    assert now() == 4.0 + GRACE
    await asyncio.sleep(100)
    assert link.done == [("open", 30.0), ("close", 32.0)]


async def test_a_link_that_opens_soon_though_it_was_cancelled_is_closed_before_anybody_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next attempt begins when this one has ended."""
    link = Held(opens=6, closes=2)
    link.deaf = {"open"}
    with pytest.raises(StartTimeoutError):
        await opened(LinkHolder(), link, limit=lambda: 4.0)
    assert link.done == [("open", 6.0), ("close", 8.0)]
    link = Held(opens=6, closes=50)
    link.deaf = {"open"}
    with pytest.raises(StartTimeoutError):
        await opened(LinkHolder(), link, limit=lambda: 4.0)
    assert (now(), caplog.messages) == (14.0 + CLOSE, [LATE])


@pytest.mark.parametrize("error", [None, LinkError("refused")])
async def test_a_link_that_did_not_open_is_not_closed(error: Exception | None) -> None:
    """Whether it failed or was cancelled."""
    link = Held(opens=6, error=error)
    if error is not None:
        link.deaf = {"open"}
    with pytest.raises(StartTimeoutError):
        await opened(LinkHolder(), link, limit=lambda: 4.0)
    await asyncio.sleep(10)
    assert link.closes == 0


async def test_an_error_of_a_link_is_raised_as_it_is() -> None:
    """And a cancellation."""
    link = Held(error=LinkError("refused"))
    with pytest.raises(LinkError, match="refused"):
        await opened(LinkHolder(), link)
    assert link.closes == 0
    task = asyncio.create_task(opened(LinkHolder(), Held(opens=5)))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_log_names_what_ignores_its_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    """By the owner and the class of the link."""
    link = Held(opens=30)
    link.deaf = {"open"}
    with pytest.raises(StartTimeoutError):
        await opened(LinkHolder(), link, limit=lambda: 1.0)
    assert "'the owner': Held.open() ignores its cancellation" in caplog.text
    await asyncio.sleep(60)


@pytest.mark.parametrize("method", ["open", "close"])
def test_a_method_of_a_link_that_is_no_coroutine_is_named(method: str) -> None:
    """With what it returned."""
    text = rf"Held.{method}\(\) returned '0{{59}}: make it an 'async def'"
    with pytest.raises(TypeError, match=text):
        awaitable("0" * 100, Held(), method)
    future: Any = asyncio.Future(loop=asyncio.new_event_loop())
    assert awaitable(future, Held(), method) is future
    future.get_loop().close()


async def test_a_link_s_open_that_is_no_coroutine_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """And its close, which is only logged."""

    class Plain(Held):
        def open(self) -> Any:
            return 7

    with pytest.raises(TypeError, match=r"Plain.open\(\) returned 7: make"):
        await opened(LinkHolder(), Plain())

    class Other(Held):
        def close(self) -> Any:
            return 7

    holder = await holding(Other())
    await holder.release(OWNER, CLOSE)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "Other.close() returned 7: make it an 'async def'"


# --- doubts ---------------------------------------------------------------------------------------------------------------


async def test_one_check_at_a_time_and_only_of_the_present_link() -> None:
    """Another one when the first has ended."""
    link, begun = Held(), []
    holder = await holding(link)

    async def verify(suspected: Link) -> None:
        begun.append((suspected, now()))
        await asyncio.sleep(2)

    holder.suspect(Held(), verify)
    for _ in range(4):
        holder.suspect(link, verify)
        await asyncio.sleep(0.75)
    assert begun == [(link, 0.0), (link, 2.25)]
    await asyncio.sleep(5)


@pytest.mark.parametrize("how", ["release", "retire"])
async def test_a_check_ends_with_its_link(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """However the link is left; and the next link can be checked at once."""
    link, ended, other = Held(), [], Held()
    holder = await holding(link)

    async def verify(suspected: Link) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append((suspected, now()))

    holder.suspect(link, verify)
    await asyncio.sleep(1)
    if how == "release":
        await holder.release(OWNER, CLOSE)
    else:
        holder.retire(OWNER, DRAIN, CLOSE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ended == [(link, 1.0)]
    await opened(holder, other)
    holder.suspect(other, verify)
    await asyncio.sleep(20)
    assert ended == [(link, 1.0), (other, 11.0)]
    assert not caplog.records


async def test_a_check_that_fails_is_logged_and_the_next_may_begin(caplog: pytest.LogCaptureFixture) -> None:
    """It can only be a mistake: what it finds is no error."""
    link, begun = Held(), []
    holder = await holding(link)

    async def verify(suspected: Link) -> None:
        begun.append(now())
        raise RuntimeError("a mistake")

    holder.suspect(link, verify)
    await asyncio.sleep(1)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "looking whether a peer is there failed")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a mistake"
    holder.suspect(link, verify)
    await asyncio.sleep(1)
    assert begun == [0.0, 1.0]


async def test_the_end_of_a_check_that_was_let_go_does_not_end_the_next_one() -> None:
    """Of a loop that was closed and of the one that came after it."""
    link, begun = Held(), []
    holder = await holding(link)

    async def verify(suspected: Link) -> None:
        begun.append(now())
        await asyncio.sleep(2)

    holder.suspect(link, verify)
    await asyncio.sleep(1)
    holder.let_go()
    await opened(holder, link)
    for _ in range(2):
        holder.suspect(link, verify)
        await asyncio.sleep(1.5)
    assert begun == [0.0, 1.0]
    await asyncio.sleep(5)


# --- closing --------------------------------------------------------------------------------------------------------------


async def test_a_link_is_closed_once_however_often_it_is_released() -> None:
    """All wait for the same end; callers and stubs know it no more, from the first moment."""
    link = Held(closes=2)
    holder = await holding(link)
    holder.noted = holder.route = link
    tasks = [asyncio.create_task(holder.release(OWNER, CLOSE)) for _ in range(2)]
    await asyncio.sleep(0)
    assert (holder.link, holder.noted, holder.route) == (None, None, None)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "'the owner'.close" in names
    await asyncio.gather(*tasks)
    assert (now(), link.done, link.closes) == (2.0, [("open", 0.0), ("close", 2.0)], 1)
    await holder.release(OWNER, CLOSE)
    assert link.closes == 1


async def test_who_waits_for_the_end_of_a_link_is_cancelled_when_it_has_come() -> None:
    """Not before: the next link may need what this one has."""
    link = Held(closes=2)
    holder = await holding(link)
    task = asyncio.create_task(holder.release(OWNER, CLOSE))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (now(), link.done[-1]) == (2.0, ("close", 2.0))


async def test_a_link_that_does_not_close_in_time_is_told_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    """At once, with the owner and the time in the log."""
    link = Held(closes=10)
    holder = await holding(link)
    await holder.release(OWNER, CLOSE)
    assert (now(), link.done) == (3.0, [("open", 0.0)])
    (record,) = caplog.records
    expected = "'the owner': closing the link did not end within 3 s; it was cancelled"
    assert (record.levelno, record.getMessage()) == (logging.WARNING, expected)


async def test_a_link_that_ignores_even_that_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """A while after it was told."""
    link = Held(closes=50)
    link.deaf = {"close"}
    holder = await holding(link)
    await holder.release(OWNER, CLOSE)
    assert now() == CLOSE + GRACE
    assert "'the owner': close() of its link ignores its cancellation and is left behind" in caplog.text
    await holder.release(OWNER, CLOSE)
    assert now() == CLOSE + GRACE
    await asyncio.sleep(100)


async def test_a_link_that_fails_to_close_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With its error; nobody can do anything about it."""
    link = Held()
    holder = await holding(link)
    link.error = OSError("the pipe")
    await holder.release(OWNER, CLOSE)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "'the owner': closing the link failed")
    assert record.exc_info is not None
    assert record.exc_info[1] is link.error


async def test_what_is_no_error_of_a_link_is_raised_to_who_releases_it() -> None:
    """And it is over then."""
    link = Held()
    holder = await holding(link)
    link.error = Bug("an interrupt")
    with pytest.raises(Bug, match="an interrupt"):
        await holder.release(OWNER, CLOSE)
    await holder.release(OWNER, CLOSE)
    assert link.closes == 1


async def test_a_link_is_closed_whose_task_was_cancelled_before_it_had_begun(caplog: pytest.LogCaptureFixture) -> None:
    """By the end of the loop, which cancels all tasks."""
    link = Held(closes=50)
    holder = await holding(link)
    task = asyncio.create_task(holder.release(OWNER, CLOSE))
    await asyncio.sleep(0)
    (closing,) = (each for each in asyncio.all_tasks() if each.get_name() == "'the owner'.close")
    closing.cancel()
    await asyncio.wait({task})
    assert (link.closes, now(), caplog.messages) == (1, CLOSE, [LATE])


# --- retiring -------------------------------------------------------------------------------------------------------------


async def test_a_retired_link_is_closed_when_its_calls_end() -> None:
    """It is no link for others from the first moment."""
    link = Held(drains=5, closes=1)
    holder = await holding(link)
    holder.noted = holder.route = link
    holder.retire(OWNER, DRAIN, CLOSE)
    assert (holder.link, holder.noted, holder.route) == (None, None, None)
    assert [task.get_name() for task in (holder.retired or {}).values()] == ["'the owner'.drain"]
    await asyncio.sleep(5.5)
    assert holder.retired == {}
    await asyncio.sleep(5)
    assert link.done == [("open", 0.0), ("drained", 5.0), ("close", 6.0)]


async def test_only_the_one_that_is_meant_is_retired() -> None:
    """If it is not the present one any more, nothing is."""
    link = Held()
    holder = await holding(link)
    holder.route = link
    holder.retire(OWNER, DRAIN, CLOSE, Held())
    assert (holder.link, holder.retired, holder.route) == (link, None, link)
    holder.retire(OWNER, DRAIN, CLOSE, link)
    assert holder.link is None
    await asyncio.sleep(1)
    assert link.closes == 1


async def test_the_calls_of_a_retired_link_have_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    """Then they are broken off; the closing has its own."""
    link = Held(drains=50, closes=10)
    holder = await holding(link)
    holder.retire(OWNER, DRAIN, CLOSE)
    await asyncio.sleep(DRAIN + CLOSE + 0.1)
    assert [record.getMessage() for record in caplog.records] == [
        "'the owner': calls on a retired link took more than 20 s and are broken off",
        "'the owner': closing the link did not end within 3 s; it was cancelled",
    ]
    assert (link.done, link.closes, holder.retired) == ([("open", 0.0)], 1, {})


async def test_the_log_names_calls_that_do_not_end(caplog: pytest.LogCaptureFixture) -> None:
    """By the class of the link."""
    link = Held(drains=50)
    link.deaf = {"drained"}
    holder = await holding(link)
    holder.retire(OWNER, DRAIN, CLOSE)
    await asyncio.sleep(100)
    assert "'the owner': Held.drained() ignores its cancellation" in caplog.text


async def test_all_links_are_closed_at_once_when_everything_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Also those that would have had more time for their calls."""
    links = [Held(drains=15), Held(drains=15), Held(closes=1)]
    holder = await retired(*links)
    await holder.release_all(OWNER, CLOSE)
    assert [(link.closes, link.done[-1][0]) for link in links] == [(1, "close")] * 3
    assert (now(), holder.retired) == (1.0, {})
    await opened(holder, Held(closes=50))
    await holder.release_all(OWNER, CLOSE)
    assert caplog.messages == [LATE]


async def test_a_link_that_is_replaced_has_its_time_for_closing(caplog: pytest.LogCaptureFixture) -> None:
    """The one that the connection gives it."""
    await retired(Held(closes=50), Held())
    await asyncio.sleep(CLOSE + 0.1)
    assert caplog.messages == [LATE]
    await retired(Held(drains=50), Held())
    await asyncio.sleep(DRAIN + 0.1)
    assert caplog.messages[1:] == ["'the owner': calls on a retired link took more than 20 s and are broken off"]


async def test_retired_links_are_closed_though_the_present_one_fails_to() -> None:
    """Whatever it raises."""
    links = [Held(drains=15), Held()]
    holder = await retired(*links)
    await asyncio.sleep(1)
    links[1].error = Bug("an interrupt")
    with pytest.raises(Bug):
        await holder.release_all(OWNER, CLOSE)
    assert [link.closes for link in links] == [1, 1]


async def test_a_retired_link_is_closed_whose_task_had_not_begun(caplog: pytest.LogCaptureFixture) -> None:
    """Once, within the same limit."""
    link = Held(drains=15, closes=10)
    holder = await holding(link)
    holder.retire(OWNER, DRAIN, 100.0)
    await holder.release_all(OWNER, CLOSE)
    assert (link.closes, now(), holder.retired, caplog.messages) == (1, CLOSE, {}, [LATE])


async def test_the_closing_of_a_retired_link_is_waited_for() -> None:
    """It goes on in good order, and nothing is left when everything has ended."""
    links = [Held(drains=1, closes=2), Held(drains=1, closes=2.5), Held(drains=1, closes=0.5)]
    holder = await retired(*links)
    holder.retire(OWNER, DRAIN, CLOSE)
    await asyncio.sleep(2)
    assert (holder.retired, [link.closes for link in links]) == ({}, [1, 1, 1])
    await holder.release_all(OWNER, CLOSE)
    assert [link.done[-1] for link in links] == [("close", 3.0), ("close", 3.5), ("close", 1.5)]
    assert (now(), [link.closes for link in links]) == (3.5, [1, 1, 1])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_retired_link_that_does_not_end_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """It has had the time for its closing, and for what ignores its cancellation; and it is closed no second time."""
    link, other = Held(closes=500), Held(drains=500, closes=500)
    link.deaf = other.deaf = {"close", "drained"}
    for each, times, what in ((link, 1, "'the owner': close()"), (other, 2, "'the owner': drained() or close()")):
        began = now()
        holder = await holding(each)
        holder.retire(OWNER, 200.0, 100.0)
        await asyncio.sleep(1)
        await holder.release_all(OWNER, CLOSE)
        assert now() == pytest.approx(began + 1 + times * (CLOSE + 2 * GRACE))
        assert f"{what} of a retired link ignores its cancellation" in caplog.text
        await asyncio.sleep(1500)
        assert (holder.retired, each.closes) == ({}, 1)


# --- how long it is up ----------------------------------------------------------------------------------------------------


def test_a_link_is_up_from_the_first_state_that_serves_to_the_last_that_has_it() -> None:
    """Those who ask are told since when it was, before this state."""
    holder, told = LinkHolder(), []
    for at, linked, serves in [(1, True, False), (2, True, True), (3, True, True), (4, True, False), (5, False, True)]:
        holder.route = "a route"
        told.append((holder.entered(linked, serves, lambda at=at: float(at)), holder.up_since))  # type: ignore[misc]
        assert holder.route is None
    assert told == [(None, None), (None, 2.0), (2.0, 2.0), (2.0, 2.0), (2.0, None)]


def test_a_link_has_been_up_for_as_long_as_it_is_known() -> None:
    """That long is enough; none has been up at all."""
    holder = LinkHolder()
    assert not holder.has_been_up(0.0, 5.0)
    holder.up_since = 2.0
    assert [holder.has_been_up(3.0, at) for at in (4.9, 5.0, 5.1)] == [False, True, True]


async def test_who_is_let_go_holds_nothing() -> None:
    """Neither links nor what runs for them."""
    link = Held(drains=1)
    holder = await retired(link, Held())
    holder.suspect(holder.link, nothing)  # type: ignore[arg-type]
    holder.incoming, holder.noted, holder.route = (link, Traffic(0.0)), link, link
    tasks = list((holder.retired or {}).values())
    holder.let_go()
    assert [getattr(holder, name) for name in ("link", "incoming", "noted", "route", "retired")] == [None] * 5
    assert [holder._closing, holder._suspicion] == [None, None]
    await asyncio.wait(tasks)


def test_nothing_else_is_public() -> None:
    """What connections and the prober use."""
    assert link_holder.__all__ == ["LinkHolder", "awaitable"]
