"""What FSM117 says of an activity is what happens when the link is lost: lived through in virtual time.

Activities are put together at random from what code may do with a link, by itself or through others, and what it may
wait for besides; each is lived once, and the check must say of it what the life has shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
from extent import far
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_conn import Connection, LinkState
from fsm_conn.checks import check
from fsm_conn.checks.reach import ever_waits, may_call_by_attribute
from fsm_conn.connection.derive import add_state
from fsm_conn.testing import Life

Activity = Callable[[Any], Awaitable[Any]]
LONG = 40.0
"""Seconds: far more than a life here takes to show whether a loss was noticed."""


async def sleeps(self: Any) -> str:
    await asyncio.sleep(LONG)
    return "resume"


async def awaits_an_event(self: Any) -> str:
    self._event = asyncio.Event()
    await self._event.wait()
    return "resume"


async def asks_about_itself(self: Any) -> str:
    await asyncio.sleep(self.start_timeout + LONG)
    return "resume"


async def watches_as_connected(self: Any) -> str:
    return str(await self.while_connected())


async def awaits_the_loss(self: Any) -> str:
    raise OSError(str(await self.link.lost()))


async def awaits_the_loss_of_the_inner_link(self: Any) -> str:
    raise OSError(str(await self.link.lost()))


async def calls(self: Any) -> str:
    await self.call("shop.Wait")
    return "resume"


async def calls_by_attribute(self: Any) -> str:
    await self.shop.Wait()
    return "resume"


async def calls_by_name(self: Any) -> str:
    await self.services["shop"].Wait()
    return "resume"


UNSEEING = (sleeps, awaits_an_event, asks_about_itself)
SEEING = (watches_as_connected, awaits_the_loss, awaits_the_loss_of_the_inner_link)
CALLING = (calls, calls_by_attribute, calls_by_name)


def within_a_limit(inner: Activity) -> Activity:
    async def activity(self: Any) -> Any:
        async with asyncio.timeout(LONG):
            return await inner(self)

    return activity


def by_a_method(inner: Activity) -> Activity:
    async def activity(self: Any) -> Any:
        return await self._helped(inner)

    return activity


def in_a_task(inner: Activity) -> Activity:
    async def activity(self: Any) -> Any:
        task = asyncio.ensure_future(inner(self))
        try:
            return await task
        finally:
            task.cancel()

    return activity


def beside_a_sleep(inner: Activity) -> Activity:
    async def activity(self: Any) -> Any:
        tasks = [asyncio.ensure_future(inner(self)), asyncio.ensure_future(asyncio.sleep(LONG, "resume"))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()

    return activity


WAYS = (within_a_limit, by_a_method, in_a_task, beside_a_sleep)


@attrs.frozen
class Way:
    """An activity, and how it was put together."""

    inner: Activity
    around: tuple[Callable[[Activity], Activity], ...]

    @property
    def activity(self) -> Activity:
        made = self.inner
        for each in self.around:
            made = each(made)
        return made


def owner_with(activity: Activity) -> type[Connection]:
    state = LinkState("paused", on_error="lost", final=True)
    states, rows = add_state(Connection, state, beside="connected", trigger="pause", back="resume")

    async def _helped(self: Any, inner: Activity) -> Any:
        return await inner(self)

    members = {"states": states, "transitions": rows, "while_paused": activity, "_helped": _helped}
    return type("Mine", (Connection,), members)


def notices(owner: type[Connection]) -> bool:
    """Whether a loss in the state is the end of it, in one life."""
    life = Life(owner, ignore={"losses_are_noticed": "it is asked below"})
    try:
        life.connect()
        life.answer("open")
        life.fire("pause")
        assert life.state == "paused"
        life.lose()
        life.answer("call", "lost")  # a call that is under way breaks with the link
        life.advance(1.0)
        return life.state != "paused"
    finally:
        life.close()


ways = st.builds(
    Way, st.sampled_from(UNSEEING + SEEING + CALLING), st.lists(st.sampled_from(WAYS), max_size=3).map(tuple)
)


@settings(deadline=None, max_examples=far(50))
@given(ways)
def test_what_is_found_goes_unnoticed_and_nothing_else_does(way: Way) -> None:
    """In both directions: no false alarm, and none left out."""
    owner = owner_with(way.activity)
    assert [each.key for each in check(owner)] == ([] if notices(owner) else ["FSM117 paused"])


@pytest.mark.parametrize("inner", UNSEEING + SEEING + CALLING, ids=lambda inner: inner.__name__)
def test_each_of_them_does_what_it_is_here_for(inner: Activity) -> None:
    """Or the test above would compare two silences."""
    assert notices(owner_with(inner)) == (inner not in UNSEEING)


async def at_once(self: Any) -> str:
    return "resume"


async def goes_through(self: Any) -> str:
    async for _ in self._all:
        pass
    return "resume"


async def goes_within(self: Any) -> str:
    async with self._lock:
        return "resume"


def test_only_what_may_wait_is_asked_for_a_view_of_the_link() -> None:
    """What has nothing to wait at ends as it begins."""
    assert not ever_waits(at_once)
    assert check(owner_with(at_once)) == ()
    for waiting in (goes_through, goes_within, sleeps):
        assert ever_waits(waiting)
        assert [each.key for each in check(owner_with(waiting))] == ["FSM117 paused"]
    assert ever_waits(len)  # nobody can look into it


class Attributes:
    known = 1

    async def reads(self, other: Any) -> Any:
        return self.known, self._hidden, other.unknown

    async def serves(self, other: Any) -> Any:
        return other, self.unknown

    async def serves_later(self, other: Any) -> Any:
        return [self.unknown for _ in other]


def test_what_a_class_does_not_know_may_be_a_service() -> None:
    """Of the instance alone, by names that `__getattr__` serves."""
    assert not may_call_by_attribute(Attributes, "reads")
    assert may_call_by_attribute(Attributes, "serves")
    assert may_call_by_attribute(Attributes, "serves_later")
