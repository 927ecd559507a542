"""What a connection remembers of its life: enough to explain it, and no more."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import HANG, Peer

from fsm_conn import Connection, ConnectionState, HealthPolicy, NotServingError, ProbeTimeoutError
from fsm_conn.machine.records import History, TransitionRecord


def write(history: History, number: int, internal: bool) -> TransitionRecord:
    """As dispatch does; returns the record."""
    made = TransitionRecord("t", "a", "a" if internal else "b", internal, None, 0.0, float(number))
    (history.note if internal else history.append)((made[:4], *made[4:]))
    assert history.last == made
    return made


async def test_probes_that_pass_do_not_push_out_how_the_connection_came_about() -> None:
    """A day later it can still be seen when it connected, what was lost, and what became of the last probes."""
    peer = Peer()
    conn = Connection(peer, health=HealthPolicy(interval=10))
    await conn.connect()
    await asyncio.sleep(3600)
    peer.lose()
    await conn.wait_for_state("reconnecting")
    await conn.ensure_connected()
    await asyncio.sleep(20 * 3600)
    moves = [(str(each.trigger), str(each.dest)) for each in conn.history if not each.internal]
    assert moves == [
        ("connect", "connecting"),
        ("opened", "connected"),
        ("lost", "reconnecting"),
        ("opened", "connected"),
    ]
    probes = [each.at for each in conn.history if each.internal]
    assert probes == [each for each, _ in peer.probes[-16:]]
    assert conn.state is ConnectionState.CONNECTED
    await conn.disconnect()


@pytest.mark.parametrize(("size", "kept"), [(0, []), (3, []), (4, [9]), (8, [8, 9])])
def test_internal_ones_have_a_quarter(size: int, kept: list[int]) -> None:
    """Rounded down, however few there are of the others."""
    history = History(size)
    for number in range(10):
        write(history, number, internal=True)
    assert [each.at for each in history] == kept


@settings(deadline=None)
@given(st.integers(0, 20), st.lists(st.booleans(), max_size=200))
def test_what_is_kept(size: int, kinds: list[bool]) -> None:
    """In order, the last internal ones of a quarter, and of the others the last that there is room for."""
    history = History(size)
    given_ = [write(history, number, internal) for number, internal in enumerate(kinds)]
    kept = list(history)
    assert kept == sorted(kept, key=lambda each: each.at)
    assert len(kept) <= size
    internal = [each for each in kept if each.internal]
    changes = [each for each in kept if not each.internal]
    assert len(internal) <= size // 4
    assert internal == _last([each for each in given_ if each.internal], len(internal))
    assert changes == _last([each for each in given_ if not each.internal], len(changes))
    assert len(changes) >= min(sum(not each for each in kinds), size - size // 4)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 20), st.integers(-45, 45), st.integers(-3, 3))
def test_it_is_read_as_a_list_is(kinds: list[bool], size: int, place: int, step: int) -> None:
    """By place, in part, from either end, and as text."""
    history = History(size)
    for number, internal in enumerate(kinds):
        write(history, number, internal)
    kept = list(history)
    assert list(reversed(history)) == kept[::-1]
    assert (repr(history), bool(history)) == (repr(kept), bool(kept))
    assert history[place : place + 5] == kept[place : place + 5]
    assert history[:: step or 1] == kept[:: step or 1]
    if -len(kept) <= place < len(kept):
        assert history[place] == kept[place]
    else:
        with pytest.raises(IndexError):
            history[place]


async def test_records_of_many_losses_cost_little() -> None:
    """Kept as objects of their own, they would be what a connection that flaps is made of, and what slows it down."""
    peer = Peer()
    conn = Connection(peer)
    await conn.connect()
    before = _records()
    for _ in range(10):
        peer.lose()
        await conn.wait_for_state("reconnecting")
        await conn.ensure_connected()
    assert len(conn.history) == len(conn.records) >= 22
    assert [each for each in _records() if not any(each is one for one in before)] == []
    await conn.disconnect()


def _records() -> list[TransitionRecord]:
    """All that there are. `isinstance` would ask whatever else this process holds, which may be a proxy, or hostile."""
    return [each for each in gc.get_objects() if type(each) is TransitionRecord]


def _last(records: list[Any], count: int) -> list[Any]:
    return records[len(records) - count :]


async def test_a_probe_that_failed_keeps_nothing_alive() -> None:
    """A record of it holds no traceback, for that holds frames, and these the link and the connection."""
    peer = Peer()
    peer.probe_outcomes = ["bad", None, HANG]
    conn = Connection(peer, health=HealthPolicy(interval=10, timeout=1, failure_threshold=2))
    await conn.connect()
    await asyncio.sleep(45)
    reasons = [each.reason for each in conn.history if each.trigger == "probe_failed"]
    assert [type(each) for each in reasons] == [NotServingError, ProbeTimeoutError]
    assert [each.__traceback__ for each in reasons if each is not None] == [None, None]
    await conn.disconnect()
    gc.collect()
    gc.disable()
    try:
        last = weakref.ref(conn)
        del conn
        await asyncio.sleep(1)
        assert last() is None
    finally:
        gc.enable()
