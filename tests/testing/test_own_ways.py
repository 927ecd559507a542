"""Classes that do things in their own way are not measured by another's rules: no false alarms, and still no free pass."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from extent import far

from fsm_conn import (
    Connection,
    ConnectionState,
    FsmConnError,
    RetryPolicy,
    StateMachine,
    Transition,
    Trigger,
    insert_state,
)
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import LinkState
from fsm_conn.links.errors import LinkError
from fsm_conn.machine.table import State
from fsm_conn.testing import Life, ViolationError, explore, random_lives
from fsm_conn.testing.lives.connections.life import START_TIMEOUT
from fsm_conn.testing.lives.connections.policy_oracle import REASONS_TO_GIVE_UP, Decision

from .mutants import hunt

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from authenticated import Authenticated

S, T = ConnectionState, Trigger
LIVES = far(20)
BEGIN = ("begin_outage", "count_attempt")


class GivesUpSooner(Connection):
    """A guard that refuses more than the policy does."""

    def may_retry(self, reason: BaseException | None) -> bool:
        """Two attempts are enough for anybody."""
        return self.attempt < 2 and super().may_retry(reason)


class HasItsOwnGuard(Connection):
    """The same by a row of its own, before those of the base table."""

    transitions = (
        Transition(T.LOST, S.CONNECTED, S.FAILED, guards="was_short", effects="reset_if_stable"),
        *Connection.transitions,
    )

    def was_short(self, reason: BaseException | None) -> bool:
        """A link that was lost within a second is not worth another."""
        return self._fsm_since is not None and self._now() - self._fsm_since < 1


class EndsWhenIdle(Connection):
    """An activity that asks for the end."""

    async def while_connected(self) -> str:
        """Watch the link for three seconds."""
        try:
            async with asyncio.timeout(3):
                return await super().while_connected()
        except TimeoutError:
            return T.DISCONNECT


class SleepsLonger(Connection):
    """Delays of its own, beside those of the policy."""

    async def while_reconnecting(self) -> str:
        """Wait for a second more."""
        await self._release()
        await asyncio.sleep(1)
        return await super().while_reconnecting()


class Looks(Connection):
    """A state before the first attempt, which may fail before any link is asked for."""

    states = (*Connection.states, State("looking", on_error=T.OPEN_FAILED))
    transitions = (
        *(
            attrs.evolve(row, dest="looking")
            if row.trigger == T.CONNECT
            else attrs.evolve(row, source=(S.CONNECTING, S.RECONNECTING, "looking"))
            if row.trigger == T.OPEN_FAILED
            else row
            for row in Connection.transitions
        ),
        Transition("found", "looking", S.CONNECTING),
    )

    async def while_looking(self) -> str:
        """Some of the time there is nothing to be found."""
        await asyncio.sleep(0.7)
        if self._now() % 5 < 2:
            raise LinkError("nothing found")
        return "found"


class CoolsDown(Connection):
    """A state before the first attempt, inserted in the usual way: what `connect` counted is counted after it."""

    states, transitions = insert_state(
        Connection, State("cooling"), trigger=T.CONNECT, before=S.CONNECTING, then="cooled", like=S.DISCONNECTED
    )

    async def while_cooling(self) -> str:
        """Wait until some time has passed."""
        await asyncio.sleep(0.7)
        return "cooled"


class HasTriggers(Connection):
    """Triggers of its own: a second state with a link, a renewal, an expiry, and a recovery from failed."""

    states = (*Connection.states, LinkState("slow", on_error=T.LOST, final=True))
    transitions = (
        *Connection.transitions,
        Transition("slowed", S.CONNECTED, "slow"),
        Transition("sped_up", "slow", S.CONNECTED),
        Transition("renewed", S.CONNECTED, S.CONNECTED),
        Transition("expired", S.CONNECTED, S.RECONNECTING, effects=BEGIN),
        Transition("recovered", S.FAILED, S.CONNECTING, effects=BEGIN),
        Transition(
            T.LOST,
            "slow",
            S.RECONNECTING,
            guards=("may_restart", "may_retry"),
            effects=("reset_if_stable", "note_loss", "count_attempt"),
        ),
        Transition(T.LOST, "slow", S.FAILED, effects=("reset_if_stable", "note_loss")),
    )
    while_slow = Connection.while_connected


class Linear(RetryPolicy):
    """Arithmetic of its own."""

    def delay(self, attempts: int, previous: float, rng: Any) -> float:
        """A little more each time."""
        return 0.3 * attempts


class HasItsOwnPolicy(Connection):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.retry = Linear(max_attempts=4)


OWN_WAYS = (
    GivesUpSooner,
    HasItsOwnGuard,
    EndsWhenIdle,
    SleepsLonger,
    Looks,
    CoolsDown,
    HasTriggers,
    HasItsOwnPolicy,
)


@pytest.mark.parametrize("own", OWN_WAYS)
def test_own_ways_raise_no_alarm(own: type[Connection]) -> None:
    """What differs from Connection's ways is not wrong for that."""
    violation = hunt(own, LIVES)
    assert violation is None, violation


class LogsIn(Authenticated):
    """The example, with a peer that tells it a session."""

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Simulated peers answer with nothing."""
        await super().call(method, *args, **fields)
        return SimpleNamespace(id="1")


def test_the_example_of_a_login_with_a_deadline_is_without_fault() -> None:
    """However late the peer is: a login that is never answered ends, and counts as a failed attempt."""
    assert hunt(LogsIn, LIVES, make=make_logs_in) is None
    assert explore(LogsIn, depth=4, make=make_logs_in).violation is None
    life = Life(LogsIn, make=make_logs_in)
    life.connect()
    life.answer("open")
    life.advance(START_TIMEOUT + 1)
    assert str(life.records[-1].reason) == "authenticating has lasted longer than 5 s"
    life.end()


def make_logs_in(link: Any, options: dict[str, Any]) -> LogsIn:
    return LogsIn(link, "token", **options)


class NeverGivesUp(Connection):
    """A guard that permits more than the policy does."""

    def may_retry(self, reason: BaseException | None) -> bool:
        """Once more, for ever, where there is no deadline."""
        patient = self.retry.deadline is None and self.retry.initial_delay > 0
        return (patient and not getattr(reason, "permanent", False)) or super().may_retry(reason)


def test_permitting_more_than_the_policy_is_told_with_the_way_to_switch_it_off() -> None:
    """It is either a slip or the intention, and the message has a word for each."""
    violation = hunt(NeverGivesUp, LIVES)
    assert violation is not None
    assert violation.invariant == "attempts_are_counted"
    assert "if may_retry() means that, say ignore={'attempts_are_counted': '<why>'}" in violation.message
    assert hunt(NeverGivesUp, LIVES, ignore={"attempts_are_counted": "it never gives up"}) is None


def decision(attempts: int = 1, elapsed: float = 0.0, reason: BaseException | None = None, **options: Any) -> Decision:
    record = ConnectionRecord(T.OPEN_FAILED, S.CONNECTING, S.FAILED, False, reason, 0.0, elapsed, attempt=attempts)
    retry = RetryPolicy(**options)
    return Decision(record, retry, attempts, elapsed, delay=(0.5, 1.0), losses=1, is_trial=False, is_free=False)


class HopelessError(LinkError):
    permanent = True


def test_the_reasons_to_give_up() -> None:
    """As long as there is none, the next attempt must be made."""
    assert not any(reason(decision()) for reason in REASONS_TO_GIVE_UP)
    for last in (
        decision(attempts=5),
        decision(reason=HopelessError("no")),
        decision(elapsed=9.5, deadline=10),
        decision(max_restarts=0),
        attrs.evolve(decision(), is_trial=True),
        attrs.evolve(decision(), is_free=True),
    ):
        assert sum(reason(last) for reason in REASONS_TO_GIVE_UP) == 1


def test_what_the_harness_checks_in_its_steps_can_be_switched_off_too() -> None:
    """By name, with a reason, as the invariants."""

    class Rests(Connection):
        states = (*Connection.states, "resting")
        transitions = (*Connection.transitions, Transition("rest", S.CONNECTED, "resting"))

    def lived(**options: Any) -> None:
        life = Life(Rests, **options)
        life.connect()
        life.answer("open")
        life.fire("rest")
        life.end()

    with pytest.raises(ViolationError, match="or it must be declared with final=True"):
        lived(ignore={"links_are_owned": "not of interest here"})
    lived(ignore={"links_are_owned": "not of interest here", "liveness": "it may rest there"})


class Configured(Connection):
    """Configures its peer on each link, and makes no haste with it."""

    hook_timeout = 12.0

    async def on_open(self) -> None:
        """Ask, and rest."""
        await self.call("simulated.Configure")
        await asyncio.sleep(1)


def test_a_link_that_is_lost_while_it_is_prepared_beside_another_is_closed_before_the_next() -> None:
    """It was the next one, and not the one that finishes its calls: closing it is waited for."""
    life = Life(Prepared)
    life.attend("open")
    life.connect()
    life.advance(6.0)
    life.go_away(rush=True)
    life.neglect("open")
    life.answer("open", "half")
    assert life.state == "reconnecting"
    assert life.peer.open_now == 0
    life.end()


class Prepared(Connection):
    """Has nothing to prepare, and says so."""

    async def on_open(self) -> None:
        """Nothing."""


def test_the_lives_of_a_class_that_prepares_its_links_are_lived() -> None:
    """What it asks its peer may go wrong as any call may, which is a failed attempt; and nothing is wrong with that."""
    life = Life(Configured)
    life.connect()
    life.answer("open")
    assert life.peer.waits_for("call")
    life.answer("call", "lost")
    assert [(str(record.trigger), str(record.dest)) for record in life.records][-1] == ("open_failed", "reconnecting")
    life.answer("close")
    life.advance(1)
    life.answer("open")
    life.advance(12)
    assert "on_open did not end within 12 s" in str(life.records[-1].reason)
    life.end()
    assert explore(Configured, depth=5).violation is None


class Rings(StateMachine):
    """Sets a timer as a state is entered, and cancels it as the state is left."""

    states = (State("off", initial=True), State("on", entry="set_timer", exit="cancel_timer"))
    transitions = (
        Transition("switch", "off", "on"),
        Transition("switch", "on", "off"),
        Transition("rang", "on", "off"),
        Transition("note", "on", None, effects="note"),
    )
    timer: asyncio.TimerHandle | None = None

    def set_timer(self) -> None:
        """It rings in 20 s."""
        self.timer = asyncio.get_running_loop().call_later(20, self.ring)

    def cancel_timer(self) -> None:
        """Not any more."""
        if self.timer is not None:
            self.timer.cancel()

    def note(self) -> None:
        """Nothing is noted."""

    def ring(self) -> None:
        """Time is up."""
        with contextlib.suppress(FsmConnError):
            self.fire("rang")


class RingsOnce(Rings):
    """Its deadline is that of its whole life, whatever it does meanwhile."""

    def set_timer(self) -> None:
        """It rings 20 s after it was entered first."""
        self.timer = self.timer or asyncio.get_running_loop().call_later(20, self.ring)

    def cancel_timer(self) -> None:
        """It stays."""


class RingsForEach(Rings):
    """Each time it is meant for something else."""

    count = 0

    def set_timer(self) -> None:
        """It rings for the next."""
        self.count += 1
        asyncio.get_running_loop().call_later(20, self.ring_for, self.count)

    def cancel_timer(self) -> None:
        """They stay."""

    def ring_for(self, number: int) -> None:
        """Time is up for one."""
        self.ring()


class RingsForNotes(RingsOnce):
    """Reminds of whatever is noted while it stays in its state."""

    def note(self) -> None:
        """Remind of it."""
        asyncio.get_running_loop().call_later(20, self.ring)


class RingsAgain(Rings):
    """Forgets the timer as the state is left."""

    def cancel_timer(self) -> None:
        """It stays."""


@pytest.mark.parametrize("own_way", [Rings, RingsOnce, RingsForEach, RingsForNotes])
def test_a_timer_of_an_effect_is_late_only_beside_one_of_the_present_visit(own_way: type[StateMachine]) -> None:
    """Not when it is cancelled, nor when it is meant for more than one visit, or for something else."""
    assert random_lives(own_way, lives=300).violation is None
    assert explore(own_way, depth=4).violation is None


def test_a_timer_that_goes_off_beside_that_of_the_present_visit_is_late() -> None:
    """And the line is named."""
    violation = random_lives(RingsAgain).violation
    assert violation is not None
    assert violation.invariant == "nobody_speaks_late", str(violation)
    assert "test_own_ways.py" in violation.message
