"""The harness itself: the simulated peer, virtual time, lives, exploration, and failures that people can read."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import Any

import attrs
import grpc
import pytest
from hypothesis import settings

from fsm_conn import (
    CallOptions,
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    ConnectionState,
    HealthPolicy,
    NotServingError,
    ProbeError,
    ProbeTimeoutError,
    RetryPolicy,
    insert_state,
)
from fsm_conn.testing import (
    INVARIANTS,
    DeadlockError,
    Life,
    Outcome,
    SimulatedLink,
    SimulatedPeer,
    Step,
    ViolationError,
    VirtualLoop,
    explore,
    invariant,
    lifecycle_test,
    replay,
    run_virtually,
    shortest,
)
from fsm_conn.testing.lives.connections.invariants import RULES_OF_STEPS
from fsm_conn.testing.lives.connections.offers import refusals

REACHED = set(ConnectionState)
"""States that lives reach: all of them."""
RETRY = RetryPolicy(max_attempts=3, initial_delay=1.0, jitter="none")


class Authenticated(Connection):
    states, transitions = insert_state(
        Connection, "authenticating", trigger="opened", before="connected", then="authenticated", like="connecting"
    )

    async def while_authenticating(self) -> str:
        async with asyncio.timeout(self.start_timeout):
            await self.call("auth.Login", token="t")
        return "authenticated"


TestConnection = lifecycle_test(Connection, max_examples=150)
TestAuthenticated = lifecycle_test(Authenticated, max_examples=100)


# --- the simulated peer -----------------------------------------------------------------------------------------


async def test_a_script_says_what_each_request_comes_to() -> None:
    """Opens, probes and calls, one after another, and all is counted."""
    peer = SimulatedLink.script(
        opens=["refuse", Outcome("ok", after=0.5)],
        probes=["bad"],
        calls=[Outcome("ok", value=8), "lost", "unsent", "garbage"],
    )
    begin = asyncio.get_running_loop().time()
    async with Connection(peer, retry=RETRY) as conn:
        assert asyncio.get_running_loop().time() - begin == 1.5
        with pytest.raises(ProbeError):
            await conn.probe()
        assert await conn.call("s.M") == 8
        with pytest.raises(ConnectionLostError) as lost:
            await conn.call("s.M")
        await conn.wait_for_state("reconnecting")
        await conn.ensure_connected()
        with pytest.raises(ConnectionLostError) as unsent:
            await conn.call("s.M", CallOptions(timeout=1))
        assert (lost.value.maybe_executed, unsent.value.maybe_executed) == (True, False)
        assert [type(reply) async for reply in conn.stream("s.M")] == [object]
    assert (peer.opened, peer.closed, peer.faults) == (2, 2, [])
    assert peer.asked["open"] == 3


async def test_a_call_whose_time_is_up_ends_as_on_a_real_link() -> None:
    """With grpc's own error, whether the peer is late, hangs, or was not told what to do; an answer in time is one."""
    peer = SimulatedLink.script(calls=["hang", Outcome("ok", after=3), Outcome("ok", after=1, value=8)])
    loop = asyncio.get_running_loop()
    async with Connection(peer) as conn:
        for _ in range(2):
            begun = loop.time()
            with pytest.raises(grpc.aio.AioRpcError, match="Deadline Exceeded") as late:
                await conn.call("s.M", CallOptions(timeout=2))
            assert (loop.time() - begun, late.value.code()) == (2, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert await conn.call("s.M", CallOptions(timeout=2)) == 8
        peer.neglect("call")
        with pytest.raises(grpc.aio.AioRpcError):
            await conn.call("s.M", CallOptions(timeout=2, idempotent=True))
        assert not peer.waits_for("call")


async def test_a_permanent_refusal_is_one() -> None:
    """It is not retried."""
    with pytest.raises(ConnectFailedError, match="at the first attempt: the simulated peer refused for good"):
        await Connection(SimulatedLink.script(opens=["refuse_for_good"]), retry=RETRY).connect()


async def test_without_a_script_the_peer_waits_to_be_told() -> None:
    """What it was asked is pending until it is answered."""
    peer = SimulatedPeer()
    conn = Connection(peer)
    task = asyncio.create_task(conn.connect())
    await asyncio.sleep(1)
    assert peer.waits_for("open")
    assert peer.answer("open")
    assert not peer.answer("open")
    await task
    assert peer.lose()
    assert not peer.lose()
    peer.heal()
    await conn.disconnect()
    assert peer.open_now == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Outcome("okay"), "Outcome\\('okay'\\): give one of bad, crash"),
        (lambda: SimulatedPeer().script("opens", []), "script\\('opens'\\): give one of open, close, probe, call"),
        (lambda: SimulatedLink.script(opens=["nope"]), "give one of"),
    ],
)
def test_wrong_scripts_say_what_to_give(wrong: Any, message: str) -> None:
    """A misspelt outcome is refused when the script is written."""
    with pytest.raises(ValueError, match=message):
        wrong()


async def test_breaking_the_contract_of_a_link_is_noted() -> None:
    """Closing twice, closing what is not open, and calling it."""
    peer = SimulatedLink.script()
    link = peer()
    await link.close()
    await link.open()
    await link.close()
    await link.close()
    await link.open()
    assert peer.faults == [
        "a link was closed that was not open",
        "a link was closed twice",
        "a link was opened twice",
    ]


async def test_cutting_a_closing_off_is_noted_where_somebody_minds() -> None:
    """Who cuts it off before its time leaves a process behind."""
    peer = SimulatedLink.script(closes=["hang", "hang"])
    for closing_time in (None, 5.0):
        peer.closing_time = closing_time
        link = peer()
        await link.open()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.close(), 1)
        assert peer.closed_at == asyncio.get_running_loop().time()
    assert peer.faults == ["the closing of a link was cut off"]


async def test_a_peer_may_attend_to_a_kind_of_request_and_neglect_it_again() -> None:
    """What is pending is done, and all that comes; then only what it is told to do."""
    peer = SimulatedPeer()
    conn = Connection(peer)
    task = asyncio.create_task(conn.connect())
    await asyncio.sleep(1)
    peer.attend("open")
    await task
    assert peer.attends_to("open")
    peer.neglect("open")
    assert not peer.attends_to("open")
    peer.attend("close")
    peer.lose()
    await asyncio.sleep(1)
    assert (peer.closed, peer.waits_for("open"), conn.state) == (1, True, "reconnecting")
    await conn.disconnect()


async def test_a_peer_that_attends_may_do_badly_at_first() -> None:
    """What is pending comes to the first of the outcomes, what is asked next to the following, and then all is well."""
    peer = SimulatedPeer()
    peer.attend("open")
    peer.attend("close")
    async with Connection(peer, health=HealthPolicy(interval=None, timeout=1, failure_threshold=9)) as conn:
        pending = asyncio.create_task(conn.probe())
        await asyncio.sleep(0.5)
        peer.attend("probe", "bad", "hang")
        with pytest.raises(NotServingError):
            await pending
        with pytest.raises(ProbeTimeoutError):
            await conn.probe()
        await conn.probe()
    with pytest.raises(ValueError, match="give one of"):
        peer.attend("probe", "nope")


@pytest.mark.parametrize("outcome", [Outcome("hang"), Outcome("ok", after=1000)])
async def test_closing_a_link_cuts_off_what_the_script_has_it_do_late(outcome: Outcome) -> None:
    """As the contract of a link says, of calls and of probes."""
    peer = SimulatedLink.script(calls=[outcome], probes=[outcome])
    async with Connection(peer, health=HealthPolicy(interval=None, timeout=5000)) as conn:
        call, probe = asyncio.create_task(conn.call("s.M")), asyncio.create_task(conn.probe())
        await asyncio.sleep(1)
    with pytest.raises(ConnectionLostError):
        await asyncio.wait_for(call, 1)
    with pytest.raises(ProbeError):
        await asyncio.wait_for(probe, 1)


# --- virtual time -----------------------------------------------------------------------------------------------


def test_a_simulated_hour_of_flapping_takes_no_hour() -> None:
    """A loss every ten seconds: 360 of them, each recovered from."""

    async def hour() -> int:
        peer = SimulatedLink.script()
        async with Connection(peer, retry=RetryPolicy(stable_after=5)) as conn:
            for _ in range(360):
                await asyncio.sleep(10)
                peer.lose()
                await conn.wait_for_state("reconnecting")
                await conn.ensure_connected()
            assert asyncio.get_running_loop().time() >= 3600
        return peer.opened

    assert run_virtually(hour()) == 361


def test_a_deadlock_shows_who_waits_for_what() -> None:
    """The name of the task, and the line at which it waits."""

    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError, match=r"(?s)everybody waits.*stuck.*test_harness\.py:\d+: await asyncio"):
        run_virtually(stuck())


def test_a_loop_can_be_driven_by_hand() -> None:
    """Run until blocked, one tick, some time; the clock moves only with time."""
    loop = VirtualLoop()
    seen: list[str] = []

    async def two() -> None:
        seen.append("begin")
        await asyncio.sleep(0)
        seen.append("tick")
        await asyncio.sleep(5)
        seen.append("five")

    loop.create_task(two())
    loop.tick()
    assert seen == ["begin"]
    loop.run_until_blocked()
    assert (seen, loop.time()) == (["begin", "tick"], 0)
    assert loop.next_timer() == 5
    loop.advance(4)
    assert (len(seen), loop.time()) == (2, 4)
    loop.advance(1)
    assert (seen[-1], loop.next_timer()) == ("five", None)
    assert loop.inside(asyncio.get_running_loop) is loop
    loop.close()


def test_what_is_relied_on_of_asyncio_is_there() -> None:
    """The inside of the loop that driving it by hand needs."""
    loop = VirtualLoop()
    handle, timer = loop.call_soon(print), loop.call_later(1, print)
    assert list(loop._ready) == [handle]
    assert list(loop._scheduled) == [timer]
    loop.close()


def test_a_loop_can_be_used_again() -> None:
    """From time zero, and nothing that was set before comes to pass."""
    loop = VirtualLoop()
    seen: list[str] = []
    loop.call_later(1, seen.append, "before")
    loop.advance(0.5)
    loop.begin_again()
    loop.call_later(2, seen.append, "after")
    assert loop.time() == 0
    loop.advance(3)
    assert (seen, loop.time(), loop.next_timer()) == (["after"], 3, None)
    loop.close()


def test_seconds_that_do_not_add_up_do_not_trouble_the_clock() -> None:
    """A thousand times a tenth is a hundred, give or take what floats take; nothing warns, and every timer fires."""

    async def naps() -> float:
        for _ in range(1000):
            await asyncio.sleep(0.1)
        return asyncio.get_running_loop().time()

    assert run_virtually(naps()) == pytest.approx(100)


# --- lives ------------------------------------------------------------------------------------------------------


def program(life: Life) -> Life:
    """A life with a refusal, a loss and a recovery."""
    life.connect()
    life.answer("open", "refuse")
    life.advance(1.0)
    life.answer("open")
    life.lose()
    life.answer("close")
    life.answer("open")
    life.call(rush=True)
    life.tick()
    life.answer("call")
    life.end()
    return life


def test_the_same_steps_give_the_same_life() -> None:
    """Twice, to the last digit of every record; and once more by replaying its trace."""
    first, second = program(Life(seed=1)), program(Life(seed=1))
    third = replay(first.script)
    shown = [[str(record) + repr(record[4:]) for record in life.conn.history] for life in (first, second, third)]
    assert shown[0] == shown[1] == shown[2]
    assert len(shown[0]) == 7


def test_a_trace_reads_as_a_program_that_lives_it_again() -> None:
    """Pasted into a test, it does the same."""
    life = program(Life(retry=RetryPolicy(max_attempts=4, initial_delay=1.0, jitter="none"), seed=3))
    text = str(life.script)
    names: dict[str, Any] = {"Life": Life, "Connection": Connection, "RetryPolicy": RetryPolicy}
    exec(text, names)
    assert [str(record) for record in names["life"].conn.history] == [str(record) for record in life.conn.history]
    assert text.splitlines()[1:4] == ["life.connect()", "life.answer('open', 'refuse')", "life.advance(1.0)"]
    assert "life.call(rush=True)" in text


def test_the_loop_of_a_life_may_end() -> None:
    """At any moment; everything is given back, and what clings to life is named."""

    class Clings(Connection):
        async def while_connecting(self) -> str:
            for _ in range(3):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1000)
            return await super().while_connecting()

    life = Life()
    life.connect()
    life.answer("open")
    life.loop_ends()
    assert (life.state, life.peer.opened, life.peer.closed) == ("disconnected", 1, 1)
    life = Life(Clings)
    life.connect()
    with pytest.raises(ViolationError, match=r"nothing_outlives_the_loop: .*goes on when it is cancelled"):
        life.loop_ends()


def test_what_cannot_happen_is_refused_and_what_can_is_left_alone() -> None:
    """A misfire is never more than that, so that any part of a trace is a trace."""
    life = Life()
    life.misfire("connect")
    assert list(life.records) == []
    assert "connect" not in refusals(life)
    for trigger in refusals(life):
        life.misfire(trigger)
    life.end()
    assert [str(record) for record in life.records] == []


class Leaky(Connection):
    """Forgets to give back the lost link before it opens the next one."""

    async def while_reconnecting(self) -> str:
        await asyncio.sleep(self._outage.pause)
        await self._open_link()
        return "opened"


def violation(connection_class: type[Connection], **options: Any) -> ViolationError:
    found = explore(connection_class, depth=6, seconds=30, **options).violation
    assert found is not None
    return found


def test_a_violation_is_a_program_a_table_and_a_remedy() -> None:
    """What a user reads first: the invariant, what is wrong and what to do, then the shortest life."""
    error = violation(Leaky)
    text = str(error)
    assert text.startswith(
        "links_are_owned: 'reconnecting' owns no link, and one is open: its activity must release it\n"
    )
    assert "\n    life = Life(Leaky)\n    life.connect()\n    life.answer('open', 'half')\n" in text
    assert "\n  0.000 s  connect  disconnected  -> connecting\n" in text
    assert text.endswith(
        "  0.000 s  lost     connected     -> reconnecting  LinkLostError: the simulated link went away\n"
    )


def test_a_violation_can_be_replayed_and_is_as_short_as_can_be() -> None:
    """The regression test that comes of it, and the same with steps in it that do not matter."""
    error = violation(Leaky)
    assert error.script is not None
    with pytest.raises(ViolationError, match="links_are_owned"):
        replay(error.script)
    padded = attrs.evolve(error.script, steps=[error.script.steps[0], *error.script.steps])
    with pytest.raises(ViolationError) as caught:
        replay(padded)
    short = shortest(caught.value)
    assert short.script is not None
    assert len(short.script.steps) == len(error.script.steps)


def test_lifecycle_test_finds_the_same() -> None:
    """By chance instead of by walking everything."""
    import unittest

    case = lifecycle_test(Leaky, max_examples=200)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert len(result.failures) == 1
    assert "life = Life(Leaky" in result.failures[0][1]


def test_an_invariant_can_be_ignored_for_a_reason_and_only_for_one() -> None:
    """By its name, which must exist."""
    found = violation(Leaky, ignore={"links_are_owned": "known", "at_most_one_link": "known"})
    assert found.invariant == "closing_is_waited_for"
    with pytest.raises(ValueError, match="there is no invariant 'links'; there are"):
        Life(ignore={"links": "known"})
    with pytest.raises(ValueError, match="say why 'links_are_owned' need not hold"):
        Life(ignore={"links_are_owned": ""})


def test_users_add_invariants_and_steps() -> None:
    """An invariant is a function; a step is a method of a life that is derived."""

    @invariant()
    def never_failed(life: Life) -> str | None:
        """Nothing ever fails."""
        return "it failed" if life.state == "failed" else None

    assert never_failed.doc == "Nothing ever fails."
    assert violation(Connection, invariants=[never_failed]).invariant == "never_failed"

    touched: list[str] = []

    class Looking(Life):
        """A life with a step of its own."""

        def look(self) -> None:
            """Somebody looks at the state."""
            self._step("look")
            touched.append(self.state)

        def offers(self) -> list[Any]:
            """What is offered, and the look."""
            return [*super().offers(), (Step("look"), 1)]

    import unittest

    result = unittest.TestResult()
    case = lifecycle_test(Connection, max_examples=5, life=Looking)
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.wasSuccessful()
    assert touched


def test_invariants_have_names_and_say_what_they_mean() -> None:
    """For the documentation, and for who ignores one."""
    names = [each.name for each in INVARIANTS]
    assert len(set(names)) == len(names)
    assert all(each.doc.endswith(".") for each in INVARIANTS)
    assert set(RULES_OF_STEPS).isdisjoint(names)
    assert all(doc.endswith(".") for doc in RULES_OF_STEPS.values())
    with pytest.raises(ValueError, match="give 'always', 'at rest' or 'at the end'"):
        invariant("sometimes")


def test_every_state_is_reached_often() -> None:
    """No state of the base table gets less than one step in a hundred."""
    import unittest

    case = lifecycle_test(Connection, max_examples=100)
    case.settings = settings(case.settings, derandomize=True, database=None)  # chance may pass a state by
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(unittest.TestResult())
    assert case.lived is not None
    shares = case.lived.shares
    total = sum(shares.values())
    assert {state: count for state, count in shares.items() if count < total / 100} == {}
    assert set(shares) == {str(state) for state in REACHED}


def test_exploring_walks_everything_up_to_its_depth() -> None:
    """Without a violation, in every state, and the same each time."""
    first, second = explore(Connection, depth=4), explore(Connection, depth=4)
    assert first.violation is None
    assert first.complete
    assert (first.moments, first.edges, first.states) == (second.moments, second.edges, second.states)
    assert set(first.states) == {str(state) for state in REACHED}
    assert str(first).startswith(f"{first.moments} moments and {first.edges} edges up to depth 4, all of them, in ")
    assert explore(Authenticated, depth=5).violation is None


def test_exploring_stops_at_its_limit_and_reports_progress() -> None:
    """Whoever has only so many seconds is told that it was not all."""
    seen: list[tuple[int, int]] = []
    found = explore(Connection, depth=30, seconds=0.2, progress=lambda depth, moments: seen.append((depth, moments)))
    assert not found.complete
    assert seen
    with pytest.raises(ValueError, match="give 1 or more"):
        explore(Connection, depth=0)


def test_a_class_with_more_arguments_is_made_by_the_user() -> None:
    """`make` is called with what makes links, and with the keywords that Connection takes."""

    class WithToken(Connection):
        def __init__(self, target: Any, token: str, **options: Any) -> None:
            super().__init__(target, **options)
            self.token = token

    life = Life(WithToken, make=lambda link, options: WithToken(link, "secret", **options))
    assert life.conn.token == "secret"
    life.end()


def test_only_connections_can_be_tested() -> None:
    """Anything else is refused at once."""
    with pytest.raises(
        TypeError, match="give a subclass of Connection, and what makes one, if that takes more, as make="
    ):
        lifecycle_test(int)  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["hypothesis"])
def test_a_missing_extra_is_named(missing: str) -> None:
    """The error says what to install."""
    code = f"import sys; sys.modules[{missing!r}] = None\ntry:\n    from fsm_conn.testing import lifecycle_test\nexcept ImportError as e:\n    print(e)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert (
        result.stdout
        == f"fsm_conn.testing needs {missing!r}, which is not installed: pip install 'fsm_conn[testing]'\n"
    )
