"""Who is there: lists, names that are looked up again and again, and subsets."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn.cluster import DnsMembers, MemberInfo, StaticMembers
from fsm_conn.cluster.membership.subset import chosen, ranked


async def test_a_list() -> None:
    """Addresses and values, said once."""
    own = MemberInfo("own", target="unix:/run/x.sock", connections=2, is_local=True)
    (found,) = [infos async for infos in StaticMembers(["10.0.0.5:7000", own], connections=3).watch()]
    assert tuple(found) == (MemberInfo("10.0.0.5:7000", target="10.0.0.5:7000", connections=3), own)


def test_a_list_is_checked() -> None:
    """What is no address, and what stands there twice."""
    with pytest.raises(ValueError, match="is not an address"):
        StaticMembers(["10.0.0.5"])
    with pytest.raises(ValueError, match="is listed twice"):
        StaticMembers(["10.0.0.5:7000", "10.0.0.5:7000"])
    with pytest.raises(TypeError, match="name"):
        MemberInfo("", target="10.0.0.5:7000")
    with pytest.raises(ValueError, match=">= 1"):
        MemberInfo("a", target="10.0.0.5:7000", connections=0)
    with pytest.raises(ValueError, match="is not an address"):
        DnsMembers("name-without-port")
    with pytest.raises(ValueError, match="interval"):
        DnsMembers("pool.internal:7000", interval=0)


async def test_a_name_is_looked_up_again_and_again() -> None:
    """Members are told when they have changed, and only then; a name without addresses changes nothing."""
    answers = [["10.0.0.2", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"], [], ["10.0.0.1", "fd00::1"]]
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return answers[min(len(asked), len(answers)) - 1]

    watching = DnsMembers("pool.internal:7000", interval=5.0, resolve=resolve).watch()
    assert [info.name for info in await anext(watching)] == ["10.0.0.1:7000", "10.0.0.2:7000"]
    assert [info.name for info in await anext(watching)] == ["10.0.0.1:7000", "[fd00::1]:7000"]
    assert asked == [("pool.internal", 7000)] * 4
    assert asyncio.get_running_loop().time() == pytest.approx(15.0, abs=0.1)


async def test_a_name_that_cannot_be_looked_up_is_told() -> None:
    """To the pool, which has the last answer stand."""

    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    with pytest.raises(OSError, match="no such name"):
        await anext(DnsMembers("pool.internal:7000", resolve=resolve).watch())


NAMES = st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=30)


@given(names=NAMES, size=st.integers(1, 10), client=st.text(max_size=5), data=st.data())
def test_a_subset_has_as_many_that_serve_as_can_be(
    names: set[str], size: int, client: str, data: st.DataObject
) -> None:
    """And besides only those that are out and come before them; in the order of this client."""
    out = data.draw(st.sets(st.sampled_from(sorted(names))))
    found = chosen(client, names, size, out.__contains__)
    assert found == ranked(client, names)[: len(found)]
    serving = [name for name in found if name not in out]
    assert len(serving) == min(size, len(names - out))
    assert chosen(client, names, None, out.__contains__) == ranked(client, names)


@given(names=NAMES, client=st.text(max_size=5), newcomer=st.text("xyz", min_size=1, max_size=3))
def test_one_that_comes_moves_one_at_most(names: set[str], client: str, newcomer: str) -> None:
    """A client that takes it in lets one other go, and no more."""
    before = chosen(client, names, 5, lambda name: False)
    after = chosen(client, {*names, newcomer}, 5, lambda name: False)
    assert len({*before} - {*after}) <= 1
    assert {*after} - {*before} <= {newcomer}


def test_members_have_about_as_many_clients_each() -> None:
    """Of 2,000 clients with 20 of 100 members each, no member has less than half or more than twice its share."""
    names = [f"m{number}" for number in range(100)]
    clients = Counter(name for number in range(2000) for name in chosen(f"c{number}", names, 20, lambda name: False))
    assert len(clients) == 100
    assert min(clients.values()) > 200
    assert max(clients.values()) < 800
