"""Calls to a cluster, in virtual time, on simulated members that keep a ledger of what they execute."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from fsm_conn import CallOptions, CallTimeoutError, ConnectionLostError, HealthPolicy
from fsm_conn.cluster import (
    ClusterClosedError,
    ClusterPolicy,
    ClusterPool,
    MemberInfo,
    MemberState,
    NoMemberError,
    Recipe,
    ServeError,
    StaticMembers,
    TlsFiles,
)
from fsm_conn.testing.members import SimulatedMembers

SAFE = CallOptions(idempotent=True, timeout=30.0)


def pool(members: Any, **options: Any) -> ClusterPool:
    policy = ClusterPolicy(**{"slow_start": 0.0, **options})
    return ClusterPool(members, policy=policy, rng=random.Random(7), client="me")


def states(cluster: ClusterPool) -> dict[str, str]:
    return {member.conn.name: str(member.state) for member in cluster.members}


async def settled(seconds: float = 0.5) -> None:
    await asyncio.sleep(seconds)


async def test_calls_go_to_all_members() -> None:
    """Each gets about its share, and every call is executed once."""
    members = SimulatedMembers(4)
    async with pool(members) as cluster:
        await settled()
        await asyncio.gather(*(cluster.call("work.Do", id=number) for number in range(400)))
    assert sorted(members.ledger.executed) == [*range(400)]
    assert members.ledger.twice() == []
    assert min(members.ledger.by_member.values()) > 50
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_busy_one_is_spared() -> None:
    """Of two, the one with fewer calls under way is taken: a slow member gets fewer of them."""
    members = SimulatedMembers(2)
    members["m0"].latency = 1.0
    async with pool(members) as cluster:
        await settled()

        async def caller(number: int) -> None:
            for turn in range(50):
                await cluster.call("work.Do", id=(number, turn))

        await asyncio.gather(*(caller(number) for number in range(8)))
    assert members.ledger.by_member["m1"] > 5 * members.ledger.by_member["m0"]


async def test_an_idempotent_call_goes_to_another_member() -> None:
    """Whatever is killed under it, it is answered as long as another one serves."""
    members = SimulatedMembers(3)
    async with pool(members) as cluster:
        await settled()
        calls = [asyncio.create_task(cluster.call("work.Do", SAFE, id=number)) for number in range(60)]
        await asyncio.sleep(0.004)
        members["m0"].kill()
        members["m1"].kill()
        replies = await asyncio.gather(*calls)
        assert [reply["id"] for reply in replies] == [*range(60)]
        assert states(cluster)["m0"] == states(cluster)["m1"] == MemberState.LOST


async def test_members_that_go_away_are_no_reason_to_give_up() -> None:
    """However many are lost under an idempotent call, one after another: it is answered by the last one that serves."""
    members = SimulatedMembers(8)
    for member in members:
        member.latency = 2.0
    async with pool(members) as cluster:
        await settled()
        call = asyncio.create_task(cluster.call("work.Do", SAFE, id=1))
        for _ in range(7):
            await asyncio.sleep(1.5)
            next(member for member in members if member.under_way).kill()
        assert (await call)["id"] == 1


async def test_a_call_that_ends_who_serves_it_is_given_up() -> None:
    """Members that are there again at once have not gone away: it may be the call, which is sent four times at most."""
    members = SimulatedMembers(8)
    async with pool(members) as cluster:
        await settled()
        call = asyncio.create_task(cluster.call("work.Do", SAFE, id=1))
        for _ in range(4):
            await asyncio.sleep(0.007)
            victim = next(member for member in members if member.under_way)
            victim.kill()
            victim.start()
        with pytest.raises(ConnectionLostError, match="perhaps the call itself ends the peer"):
            await call
        assert members.ledger.executed[1] == 4


async def test_what_is_not_idempotent_is_sent_once() -> None:
    """Who is told that it may have been executed is told the truth, and it is not sent again."""
    members = SimulatedMembers(1)
    async with pool(members) as cluster:
        await settled()
        call = asyncio.create_task(cluster.call("work.Do", id=1))
        await asyncio.sleep(0.007)
        members["m0"].kill()
        with pytest.raises(ConnectionLostError) as caught:
            await call
        assert caught.value.maybe_executed
        assert members.ledger.executed == {1: 1}


async def test_a_drained_member_loses_no_call() -> None:
    """Calls under way are answered; not one more is sent to it; the others take over."""
    members = SimulatedMembers(2)
    for member in members:
        member.latency = 1.0
    async with pool(members) as cluster:
        await settled()
        calls = [asyncio.create_task(cluster.call("work.Do", id=number)) for number in range(40)]
        await asyncio.sleep(0.1)
        members["m0"].drain()
        await asyncio.sleep(0.1)
        before = members["m0"].under_way
        assert before > 0
        assert states(cluster)["m0"] == MemberState.DRAINING
        await asyncio.gather(*(cluster.call("work.Do", id=number) for number in range(40, 60)))
        assert members["m0"].under_way == 0
        assert len(await asyncio.gather(*calls)) == 40
        await settled()
        assert states(cluster) == {"m1": MemberState.SERVING}
        assert members.ledger.twice() == []
        members["m0"].start()
        await settled()
        assert states(cluster) == {"m0": MemberState.SERVING, "m1": MemberState.SERVING}


async def test_who_is_not_on_the_list_drains() -> None:
    """And who comes onto it joins."""
    members = SimulatedMembers(2)
    async with pool(members) as cluster:
        await settled()
        members.remove("m0")
        members.add("m7")
        await settled()
        assert states(cluster) == {"m1": MemberState.SERVING, "m7": MemberState.SERVING}


async def test_what_is_said_of_a_member_may_change() -> None:
    """A server that has one plugin more gets one connection more, and no call is lost for it."""
    members = SimulatedMembers(1)
    news = asyncio.Event()

    class Growing:
        async def watch(self) -> AsyncIterator[list[MemberInfo]]:
            yield [MemberInfo("m0", target=members["m0"])]
            await news.wait()
            yield [MemberInfo("m0", target=members["m0"], connections=2, is_local=True)]

    async with pool(Growing()) as cluster:
        members["m0"].latency = 1.0
        call = asyncio.create_task(cluster.call("work.Do", id=1))
        await settled()
        news.set()
        assert (await call)["by"] == "m0"
        await settled()
        assert states(cluster) == {"m0#1": "serving", "m0#2": "serving"}
        assert len(members["m0"].links) == 2


async def test_a_peer_that_goes_away_in_good_order_is_left_out_and_back() -> None:
    """A GOAWAY without a word that it drains: its calls are answered, and it serves again over its next connection."""
    members = SimulatedMembers(2)
    async with pool(members) as cluster:
        await settled(2.0)
        calls = [asyncio.create_task(cluster.call("work.Do", id=number)) for number in range(20)]
        await asyncio.sleep(0.001)
        members["m0"].go_away()
        assert len(await asyncio.gather(*calls)) == 20
        await settled(2.0)
        assert states(cluster) == {"m0": MemberState.SERVING, "m1": MemberState.SERVING}


async def test_a_source_that_fails_changes_nothing() -> None:
    """Members serve on while nobody can tell who they are; when it is back, what has changed is known."""
    members = SimulatedMembers(2)
    async with pool(members) as cluster:
        await settled()
        members.fails = True
        members.announce()
        await settled(60.0)
        assert (await cluster.call("work.Do", id=1))["id"] == 1
        members.add("m5")
        members.fails = False
        await settled(60.0)
        assert states(cluster)["m5"] == MemberState.SERVING


async def test_a_source_that_ends_has_the_last_word() -> None:
    """`StaticMembers` says it once."""
    members = SimulatedMembers(2)
    static = StaticMembers([member.info for member in members])
    async with pool(static) as cluster:
        await settled(60.0)
        assert (await cluster.call("work.Do", id=1))["id"] == 1


async def test_a_sick_member_is_left_out_and_tried_again() -> None:
    """One that does not answer is left out after `sick_after` calls, for longer each time, and is back when it is well."""
    members = SimulatedMembers(2)
    members["m0"].hangs = True
    late = CallOptions(timeout=0.5)
    async with pool(members, sick_after=3, sick_pause=2.0) as cluster:
        await settled()
        for number in range(40):
            try:
                await cluster.call("work.Do", late, id=number)
            except grpc.aio.AioRpcError:
                if states(cluster)["m0"] == MemberState.LOST:
                    break
        assert states(cluster)["m0"] == MemberState.LOST
        await settled(0.01)
        await asyncio.gather(*(cluster.call("work.Do", late, id=100 + number) for number in range(50)))
        assert members.ledger.by_member["m1"] >= 50
        members["m0"].hangs = False
        await settled(60.0)
        assert states(cluster)["m0"] == MemberState.SERVING


async def test_calls_leave_a_silent_member_where_health_is_watched() -> None:
    """It keeps its connections and answers nothing: probes notice it, long before the calls' deadline."""
    members = SimulatedMembers(3)
    health = HealthPolicy(interval=1, timeout=0.5, failure_threshold=2, busy_limit=0)
    async with pool(members, health=health) as cluster:
        await settled()
        members["m0"].hangs = True
        calls = [cluster.call("work.Do", SAFE, id=number) for number in range(60)]
        assert {reply["by"] for reply in await asyncio.gather(*calls)} == {"m1", "m2"}


async def test_a_new_member_begins_slowly() -> None:
    """In its first seconds it gets a fraction of what the others get, and its whole share afterwards."""
    members = SimulatedMembers(4)
    async with pool(members, slow_start=10.0) as cluster:
        await settled(20.0)
        members.add("new")
        await settled(0.1)

        async def share(first: int) -> float:
            before = members.ledger.by_member.copy()
            await asyncio.gather(*(cluster.call("work.Do", id=first + number) for number in range(500)))
            got = members.ledger.by_member - before
            return got["new"] / (sum(got.values()) / 5)

        assert await share(0) < 0.5
        await settled(20.0)
        assert await share(1000) > 0.7


async def test_a_member_on_this_machine_comes_first() -> None:
    """Unless it is busier than the others by more than the policy's slack."""
    members = SimulatedMembers(5)
    infos = [MemberInfo(member.name, target=member, is_local=member.name == "m0") for member in members]
    async with pool(StaticMembers(infos), local_slack=4) as cluster:
        await settled()
        for number in range(50):
            await cluster.call("work.Do", id=number)
        assert members.ledger.by_member == {"m0": 50}
        await asyncio.gather(*(cluster.call("work.Do", id=100 + number) for number in range(100)))
        assert len(members.ledger.by_member) == 5


async def test_a_subset_follows_what_serves() -> None:
    """A client connects to as many members as its policy says; one that is lost is replaced, and it goes when it is back."""
    members = SimulatedMembers(20)
    async with pool(members, subset=4) as cluster:
        await settled()
        first = states(cluster)
        assert len(first) == 4
        gone = next(iter(first))
        members[gone].kill()
        await settled(5.0)
        assert sum(state == MemberState.SERVING for state in states(cluster).values()) == 4
        members[gone].start()
        await settled(60.0)
        assert states(cluster) == first


async def test_a_subset_grows_no_faster_than_that_when_nobody_serves() -> None:
    """Else every client would try the whole cluster in one moment, and all of them when it comes back."""
    members = SimulatedMembers(60)
    async with pool(members, subset=4) as cluster:
        await settled()
        for member in members:
            member.kill()
        await asyncio.sleep(0.5)
        assert len(cluster.members) <= 8
        await asyncio.sleep(5.0)
        assert 16 <= len(cluster.members) <= 32
        members["m7"].start()
        assert (await cluster.call("work.Do", SAFE, id=1))["by"] == "m7"  # in the end they are all tried


async def test_nobody_serves() -> None:
    """A call waits for its deadline, or for the policy's, and is told what the members last failed with."""
    members = SimulatedMembers(2)
    async with pool(members, wait_timeout=3.0) as cluster:
        await settled()
        for member in members:
            member.kill()
        await settled()
        with pytest.raises(NoMemberError, match=r"within 3 s: m\d is lost"):
            await cluster.call("work.Do", id=1)
        with pytest.raises(CallTimeoutError, match="1 s"):
            await cluster.call("work.Do", CallOptions(timeout=1.0, idempotent=True), id=2)
        waiting = asyncio.create_task(cluster.call("work.Do", SAFE, id=3))
        await asyncio.sleep(1.0)
        members["m0"].start()
        assert (await waiting)["by"] == "m0"
        assert members.ledger.executed == {3: 1}


async def test_a_pool_without_members_does_not_open() -> None:
    """It says why, and is closed again."""
    members = SimulatedMembers(1)
    members["m0"].kill()
    cluster = pool(members, wait_timeout=2.0)
    with pytest.raises(NoMemberError, match=r"m0 is joining \(LinkError: m0 refuses\)|m0 refuses"):
        await cluster.open()
    assert cluster.state == "closed"
    with pytest.raises(NoMemberError, match="there are no members"):
        await pool(SimulatedMembers(0), wait_timeout=2.0).open()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("at_least", [-1, True, "2"])
async def test_it_does_not_open_with_a_wrong_number(at_least: Any) -> None:
    """It is named at once."""
    with pytest.raises((TypeError, ValueError), match=r"^open\(at_least="):
        await pool(SimulatedMembers(0)).open(at_least=at_least)


async def test_certificates_that_cannot_be_read_are_told_at_once() -> None:
    """It would be in vain to wait for members: no connection to any of them can be made."""
    files = TlsFiles(certificate="/nowhere/mine.pem", key="/nowhere/mine.key")
    cluster = ClusterPool(StaticMembers(["10.0.0.5:7000"]), Recipe(plugin=["p"], client_tls=files))
    began = asyncio.get_running_loop().time()
    with pytest.raises(ServeError, match="cannot read the certificate"):
        await cluster.open()
    assert asyncio.get_running_loop().time() == began
    assert cluster.state == "closed"


async def test_why_there_are_no_members_is_told() -> None:
    """By the words of the source, or of what could not be made."""
    members = SimulatedMembers(1)
    members.fails = True
    with pytest.raises(NoMemberError, match="there are no members; the last error was: the source of members is down"):
        await pool(members, wait_timeout=1.0).open()


async def test_a_closed_pool_serves_nobody() -> None:
    """Neither before it is opened nor after it is closed; who waits is told at once; it can be opened again."""
    members = SimulatedMembers(1)
    cluster = pool(members)
    with pytest.raises(ClusterClosedError, match="async with"):
        await cluster.call("work.Do", id=1)
    async with cluster:
        members["m0"].kill()
        await settled()
        waiting = asyncio.create_task(cluster.call("work.Do", SAFE, id=2))
        await settled()
    with pytest.raises(ClusterClosedError):
        await waiting
    members["m0"].start()
    async with cluster:
        assert (await cluster.call("work.Do", id=3))["id"] == 3


async def test_a_lease_is_of_one_member() -> None:
    """It has a connection of its own, and counts as a call of its member."""
    members = SimulatedMembers(2)
    async with pool(members, max_leases=2) as cluster:
        await settled()
        async with cluster.acquire() as one, cluster.acquire() as two:
            assert cluster.stats()["outstanding"] == 2
            by = {(await lease.call("work.Do", id=number))["by"] for number, lease in enumerate((one, two))}
            assert by == {"m0", "m1"}
        assert cluster.stats()["outstanding"] == 0
        members["m0"].kill()
        await settled()
        async with cluster.acquire(timeout=5.0) as lease:
            assert (await lease.call("work.Do", id=5))["by"] == "m1"
        members["m1"].kill()
        await settled()
        with pytest.raises(NoMemberError, match="no lease"):
            async with cluster.acquire(timeout=1.0):
                pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_lease_is_had_where_one_is_free() -> None:
    """A member that has given all its leases is left out, however little it has to do; when all have, who came first is
    served first.
    """
    members = SimulatedMembers(2)
    members["m1"].latency = 60.0
    loop = asyncio.get_running_loop()
    served: list[int] = []

    async def lease(number: int) -> None:
        async with cluster.acquire(timeout=60.0):
            served.append(number)
            await asyncio.sleep(2.5)

    async with pool(members, max_leases=1) as cluster:
        await settled()
        calls = [asyncio.create_task(cluster.call("work.Do", id=number)) for number in range(12)]
        await settled()
        began = loop.time()
        await asyncio.gather(*(lease(number) for number in range(6)))
        assert loop.time() - began < 8.0
        await asyncio.gather(*calls)
    assert served == [*range(6)]


async def test_a_lease_is_had_elsewhere_when_a_member_connects_nobody() -> None:
    """It may have as many connections as it takes: another member is asked soon."""
    members = SimulatedMembers(2)
    async with pool(members) as cluster:
        await settled()
        members["m0"].is_up = False
        for _ in range(4):
            async with cluster.acquire(timeout=10.0) as lease:
                assert (await lease.call("work.Do", id=1))["by"] == "m1"


async def test_events_tell_of_members() -> None:
    """What an observer raises hurts nobody."""
    members = SimulatedMembers(1)
    cluster = pool(members)
    seen: list[tuple[str, str, str]] = []
    cluster.on_event(lambda event: 1 / 0)
    stop = cluster.on_event(lambda event: seen.append((event.member, event.source, event.dest)))
    async with cluster:
        members["m0"].kill()
        await settled()
        stop()
    assert seen == [("m0", "joining", "serving"), ("m0", "serving", "lost")]


async def test_stats_tell_what_is_wrong() -> None:
    """Of each member its state, its calls, and what it last failed with."""
    members = SimulatedMembers(1)
    async with pool(members) as cluster:
        await cluster.call("work.Do", id=1)
        members["m0"].kill()
        await settled()
        (row,) = cluster.stats()["members"]
        assert (row["name"], row["state"], row["calls"], row["failures"]) == ("m0", "lost", 1, 0)
        assert "m0" in row["cause"]


async def test_a_cancelled_call_is_not_counted_any_more() -> None:
    """Whether it was cancelled while it waited, or while it was under way."""
    members = SimulatedMembers(1)
    members["m0"].hangs = True
    async with pool(members) as cluster:
        await settled()
        call = asyncio.create_task(cluster.call("work.Do", id=1))
        await settled()
        assert cluster.stats()["outstanding"] == 1
        call.cancel()
        await asyncio.wait((call,))
        assert cluster.stats()["outstanding"] == 0
        assert members["m0"].under_way == 0


async def test_services_by_attribute() -> None:
    """As on a connection."""
    members = SimulatedMembers(1)
    async with pool(members) as cluster:
        assert (await cluster.work.Do(id=4))["id"] == 4
        assert (await cluster.services["work"].Do(id=5))["id"] == 5
        with pytest.raises(TypeError, match="send its recipe"):
            cluster.__reduce__()
    with pytest.raises(TypeError, match="StaticMembers"):
        ClusterPool(["10.0.0.5:7000"])  # type: ignore[arg-type]
