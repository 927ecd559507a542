"""What a cluster promises, whatever its members do: random lives in virtual time, judged by the members' own ledger."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import grpc.aio
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_conn import CallOptions, ConnectionLostError
from fsm_conn.cluster import ClusterError, ClusterPolicy, ClusterPool, MemberState
from fsm_conn.testing import run_virtually
from fsm_conn.testing.members import SimulatedMembers

SIZE = 4
TIMES = st.integers(0, 2000).map(lambda milliseconds: milliseconds / 1000)
NAMES = st.sampled_from([f"m{number}" for number in range(SIZE)])
ACTIONS = st.sampled_from(
    ["kill", "start", "drain", "go_away", "hang", "wake", "slow", "forget", "add", "strike", "strike", "blackout"]
)
EVENTS = st.lists(st.tuples(TIMES, ACTIONS, NAMES), max_size=14)
CALLS = st.lists(st.tuples(TIMES, st.booleans(), st.sampled_from([0.05, 1.0, 20.0])), min_size=1, max_size=25)
SEEDS = st.integers(0, 2**16)


def act(members: SimulatedMembers, action: str, name: str) -> None:
    """Do it, where there is such a member."""
    if action == "blackout":
        for each in members:
            each.kill()
        return
    if action == "add":
        members.add(f"{name}+{len(members)}")
        return
    if action == "strike":  # at whoever is at work, so that calls are lost
        name, action = next((each.name for each in members if each.under_way), name), "kill"
    member = next((each for each in members if each.name == name), None)
    if member is not None:
        act_on = ACTS.get(action)
        members.remove(name) if action == "forget" else act_on(member) if act_on else getattr(member, action)()


ACTS: dict[str, Callable[[Any], object]] = {
    "hang": lambda member: setattr(member, "hangs", True),
    "wake": lambda member: setattr(member, "hangs", False),
    "slow": lambda member: setattr(member, "latency", 0.5),
}


async def lived(
    events: list[tuple[float, str, str]],
    calls: list[tuple[float, bool, float]],
    seed: int,
    *,
    subset: int | None = None,
    latency: float = 0.01,
) -> tuple[SimulatedMembers, list[Any]]:
    """Live, and return the members, and what each caller was told."""
    members = SimulatedMembers(SIZE)
    for member in members:
        member.latency = latency
    policy = ClusterPolicy(wait_timeout=5.0, sick_after=2, subset=subset, slow_start=1.0)
    cluster = ClusterPool(members, policy=policy, rng=random.Random(seed), client="me")
    loop = asyncio.get_running_loop()

    async def call(number: int, at: float, idempotent: bool, timeout: float) -> Any:
        await asyncio.sleep(at)
        began = loop.time()
        options = CallOptions(timeout=timeout, idempotent=idempotent)
        try:
            return await cluster.call("work.Do", options, id=number)
        except Exception as error:
            return error
        finally:
            assert loop.time() <= began + timeout + 1.1  # the second in which a connection notices its loss

    async with cluster:
        await asyncio.sleep(0.1)
        for at, action, name in events:
            loop.call_later(at, act, members, action, name)
        told = await asyncio.gather(*(call(number, *each) for number, each in enumerate(calls)))
        assert cluster.stats()["outstanding"] == 0
    assert all(member.state == MemberState.LEFT for member in cluster.members)
    assert not any(member.links for member in members)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return members, list(told)


def live(*arguments: Any, **options: Any) -> tuple[SimulatedMembers, list[Any]]:
    return run_virtually(lived(*arguments, **options))


@settings(max_examples=150)
@given(
    events=EVENTS,
    calls=CALLS,
    seed=SEEDS,
    subset=st.sampled_from([None, 2]),
    latency=st.sampled_from([0.01, 0.6]),  # when it is long, most of what happens happens under a call
)
def test_nothing_is_executed_twice_and_nobody_is_lied_to(
    events: list[tuple[float, str, str]],
    calls: list[tuple[float, bool, float]],
    seed: int,
    subset: int | None,
    latency: float,
) -> None:
    """Not idempotent: executed at most once; who is told that it was not executed is told the truth, and so is who is
    answered. Every deadline holds, no call is left counted, and no connection and no task is left.
    """
    members, told = live(events, calls, seed, subset=subset, latency=latency)
    executed = members.ledger.executed
    for number, (_, idempotent, _) in enumerate(calls):
        answer = told[number]
        if not idempotent:
            assert executed[number] <= 1, f"call {number} was executed {executed[number]} times"
        if isinstance(answer, ConnectionLostError) and not answer.maybe_executed:
            assert executed[number] == 0, f"call {number} was said not to be executed: {answer}"
        elif isinstance(answer, ClusterError):
            assert executed[number] == 0, f"call {number} was said not to be sent: {answer}"
        elif isinstance(answer, dict):
            assert executed[number] >= 1
            assert answer["id"] == number
        else:
            assert isinstance(answer, (ConnectionLostError, TimeoutError, grpc.aio.AioRpcError)), answer


@settings(max_examples=100)
@given(
    losses=st.lists(st.tuples(TIMES, st.sampled_from(["kill", "strike", "drain", "go_away"]), NAMES), max_size=3),
    calls=CALLS,
    seed=SEEDS,
)
def test_what_is_idempotent_is_answered_as_long_as_anybody_serves(
    losses: list[tuple[float, str, str]], calls: list[tuple[float, bool, float]], seed: int
) -> None:
    """Three of four members may go at any moment, in any way: each call has its answer, within its deadline."""
    _, told = live(losses, [(at, True, 20.0) for at, _, _ in calls], seed, latency=0.2)
    assert [type(answer) for answer in told] == [dict] * len(calls), told


@settings(max_examples=60)
@given(
    ends=st.lists(st.tuples(TIMES, st.sampled_from(["drain", "go_away", "forget", "slow"]), NAMES), max_size=6),
    calls=CALLS,
    seed=SEEDS,
)
def test_an_orderly_end_loses_no_call(
    ends: list[tuple[float, str, str]], calls: list[tuple[float, bool, float]], seed: int
) -> None:
    """Members that announce their end, or leave the list, answer what they have: each call has its answer, also those
    that must not be repeated. The first member stays.
    """
    ends = [(at, action, name) for at, action, name in ends if name != "m0"]
    members, told = live(ends, [(at, idempotent, 20.0) for at, idempotent, _ in calls], seed, latency=0.2)
    assert [type(answer) for answer in told] == [dict] * len(calls), told
    assert members.ledger.twice() == []


@settings(max_examples=30)
@given(seed=SEEDS, victim=NAMES)
def test_who_answers_nothing_is_left_out(seed: int, victim: str) -> None:
    """Of forty calls, one after another, few run into their deadline: the first two, and one for each further try."""
    calls = [(0.06 * number, False, 0.05) for number in range(40)]
    _, told = live([(0.0, "hang", victim)], calls, seed)
    assert sum(isinstance(answer, Exception) for answer in told) <= 5, told
