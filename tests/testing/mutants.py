"""Faults of our own, sown on purpose: in the driver, the table, the handling of links, the observers and the policy.

Each mutant is one small fault of a kind that a programmer makes. Its function puts the fault in by `patch`, which takes it
out again, or returns a broken class. The harness must find every one of them; see `test_mutants`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from fsm_conn import Connection, ConnectionState, Trigger, insert_state
from fsm_conn._util.part import Part
from fsm_conn._util.timing import within
from fsm_conn.connection import link_holder, prober
from fsm_conn.connection.calling.route import ConnectionRoute, RoutedCall
from fsm_conn.connection.demand import ENDED, Demand
from fsm_conn.connection.link_holder import LinkHolder, open_in_time
from fsm_conn.connection.outage import Losses, Outage
from fsm_conn.connection.policy import HealthPolicy, Jitter, RetryPolicy
from fsm_conn.connection.prober import Prober
from fsm_conn.machine import errors
from fsm_conn.machine import machine as machines
from fsm_conn.machine.activity import Run
from fsm_conn.machine.dispatch import Steps
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.observers import Observers
from fsm_conn.machine.table import Transition, others
from fsm_conn.machine.waiters import Waiters
from fsm_conn.testing import Life, Step, ViolationError

__all__ = ["MUTANTS", "SUBJECTS", "Mutant", "hunt", "lived"]

S, T = ConnectionState, Trigger
Apply = Callable[[pytest.MonkeyPatch], type[Connection] | None]


@attrs.frozen
class Mutant:
    """One fault."""

    name: str
    about: str
    """What is wrong, in a sentence."""
    apply: Apply
    """Puts the fault in; returns the class to be tried, or None for the subject."""
    subject: type[Connection]
    """The class without the fault."""
    seed: int
    """Of the life that found it last, where the first ones do not. It is lived first, before all others are."""


MUTANTS: list[Mutant] = []


class Greeting(Connection):
    """A subject that fires a trigger from inside a dispatch, and has a state without an activity."""

    states, transitions = insert_state(
        Connection, "greeting", trigger=T.OPENED, before=S.CONNECTED, then="greeted", like=S.CONNECTING
    )
    transitions = tuple(attrs.evolve(row, effects="greet") if row.dest == "greeting" else row for row in transitions)

    def greet(self, reason: BaseException | None) -> None:
        """What is fired here happens right after the transition that is under way."""
        self.fire("greeted")


class Stubborn(Connection):
    """A subject with an activity that answers its cancellation as if nothing had been said."""

    async def while_connecting(self) -> str:
        try:
            return await super().while_connecting()
        except asyncio.CancelledError:
            return T.OPENED


SUBJECTS: tuple[type[Connection], ...] = (Connection, Greeting, Stubborn)
"""The classes that the mutants are mutants of; they have no fault."""


def mutant(about: str, subject: type[Connection] = Connection, seed: int = 0) -> Callable[[Apply], Apply]:
    """Put a function on the list."""

    def decorate(apply: Apply) -> Apply:
        MUTANTS.append(Mutant(getattr(apply, "__name__", ""), about, apply, subject, seed))
        return apply

    return decorate


def rows_changed(change: Callable[[Transition], list[Transition]]) -> type[Connection]:
    """A `Connection` with another table: every row becomes what `change` makes of it."""
    rows = [each for row in Connection.transitions for each in change(row)]
    return type("Connection", (Connection,), {"transitions": tuple(rows)})


def without_effect(name: str, trigger: str) -> type[Connection]:
    """A `Connection` whose rows for `trigger` lack an effect."""
    return rows_changed(
        lambda row: [
            attrs.evolve(row, effects=tuple(each for each in row.effects if each != name))
            if row.trigger == trigger
            else row
        ]
    )


def policy(rng: random.Random) -> RetryPolicy:
    """A policy that is quick to exhaust."""
    return RetryPolicy(
        max_attempts=rng.choice([1, 2, 3, 4]),
        initial_delay=rng.choice([0.0, 1.0]),
        multiplier=rng.choice([1.0, 2.0]),
        max_delay=4.0,
        jitter=rng.choice(list(Jitter)),
        deadline=rng.choice([None, None, 3.0, 12.0]),
        stable_after=rng.choice([0.0, 5.0, 30.0]),
        max_restarts=rng.choice([None, None, 1]),
        restart_window=rng.choice([3.0, 60.0]),
        recover_after=rng.choice([None, None, 2.0]),
    )


def health(rng: random.Random) -> HealthPolicy | None:
    """A policy that is quick to lose patience; or none."""
    quick = HealthPolicy(
        interval=rng.choice([2.0, 6.0]),
        timeout=1.0,
        failure_threshold=rng.choice([1, 2]),
        jitter=rng.choice([0.0, 0.5]),
        skip_when_busy=rng.choice([True, False]),
    )
    return rng.choice([None, quick])


async def close_in_time(conn: Connection, link: Any) -> None:
    """Close a link as a connection does."""
    await within(conn.close_timeout, link.close())


def chosen(life: Life, rng: random.Random) -> Step:
    """A step that is offered, as often as it is offered."""
    steps, weights = zip(*life.offers(), strict=True)
    return rng.choices(steps, weights)[0]


def live(connection_class: type[Connection], seed: int, steps: int = 50, **options: Any) -> Life:
    """One random life to its end, always the same for a seed.

    Raises:
        ViolationError: an invariant does not hold.
    """
    rng = random.Random(seed)
    life = Life(connection_class, **{"seed": seed, "retry": policy(rng), "health": health(rng), **options})
    try:
        for _ in range(steps):
            chosen(life, rng).take(life)
        getattr(life, rng.choice(life.endings))()
    finally:
        life.close()
    return life


def lived(connection_class: type[Connection], seed: int) -> str:
    """All that can be told of a random life: its program, every record to the last digit, and what callers were told."""
    life = live(connection_class, seed)
    lines = [repr(tuple(map(str, record[:5])) + tuple(record[5:])) for record in life.records]
    return "\n".join([str(life.script), *lines, repr(sorted(life.answered.items()))])


def hunt(connection_class: type[Connection], lives: int, first: int = 0, **options: Any) -> ViolationError | None:
    """A violation in that many random lives, of which one is lived first, or None."""
    for seed in dict.fromkeys((first, *range(lives))):
        try:
            live(connection_class, seed, **options)
        except ViolationError as error:
            return error
    return None


# --- the table -----------------------------------------------------------------------------------------------


@mutant("a lost link leads to disconnected, and nobody closes it")
def lost_goes_to_disconnected(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(lambda row: [attrs.evolve(row, dest=S.DISCONNECTED) if row.trigger == T.LOST else row])


@mutant("what could not be opened counts as connected")
def open_failed_goes_to_connected(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(
        lambda row: [attrs.evolve(row, dest=S.CONNECTED) if row.trigger == T.OPEN_FAILED and row.guards else row]
    )


@mutant("the retry row has lost its guard")
def open_failed_is_always_retried(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(
        lambda row: (
            []
            if row.trigger == T.OPEN_FAILED and row.dest == S.FAILED
            else [attrs.evolve(row, guards=())]
            if row.trigger == T.OPEN_FAILED
            else [row]
        )
    )


@mutant("the row by which a disconnecting connection becomes disconnected leads to failed")
def closed_goes_to_failed(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(lambda row: [attrs.evolve(row, dest=S.FAILED) if row.trigger == T.CLOSED else row])


@mutant("the row by which a disconnecting connection becomes disconnected leads back to connecting")
def closed_goes_to_connecting(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(lambda row: [attrs.evolve(row, dest=S.CONNECTING) if row.trigger == T.CLOSED else row])


@mutant("no row lets reconnecting be ended")
def no_disconnect_while_reconnecting(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(
        lambda row: [
            attrs.evolve(row, source=others(S.DISCONNECTED, S.DISCONNECTING, S.RECONNECTING))
            if row.trigger == T.DISCONNECT
            else row
        ]
    )


@mutant("disconnect goes to disconnected at once, with the link open")
def disconnect_skips_disconnecting(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(lambda row: [attrs.evolve(row, dest=S.DISCONNECTED) if row.trigger == T.DISCONNECT else row])


@mutant("an opened link leads from reconnecting back to reconnecting")
def opened_goes_back_to_reconnecting(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(
        lambda row: (
            [attrs.evolve(row, source=S.CONNECTING), attrs.evolve(row, source=S.RECONNECTING, dest=None)]
            if row.trigger == T.OPENED
            else [row]
        )
    )


@mutant("attempts are counted before the outage begins, which forgets the first one")
def effects_in_the_wrong_order(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(lambda row: [attrs.evolve(row, effects=tuple(reversed(row.effects)))])


@mutant("connect does not begin a new outage, so attempts go on counting from the last one")
def connect_begins_no_outage(patch: pytest.MonkeyPatch) -> type[Connection]:
    return without_effect("begin_outage", T.CONNECT)


@mutant("reconnect does not begin a new outage")
def reconnect_begins_no_outage(patch: pytest.MonkeyPatch) -> type[Connection]:
    return without_effect("begin_outage", T.RECONNECT)


@mutant("an attempt after a failed one is not counted")
def failed_attempts_are_not_counted(patch: pytest.MonkeyPatch) -> type[Connection]:
    return without_effect("count_attempt", T.OPEN_FAILED)


@mutant("an attempt after a lost link is not counted")
def lost_links_are_not_counted(patch: pytest.MonkeyPatch) -> type[Connection]:
    return without_effect("count_attempt", T.LOST)


@mutant("a passed probe does not make the failed ones before it forgotten")
def passed_probes_do_not_count(patch: pytest.MonkeyPatch) -> type[Connection]:
    return without_effect("forget_probes", T.PROBE_PASSED)


@mutant("failed probes of the last link count against the new one")
def probes_survive_the_link(patch: pytest.MonkeyPatch) -> type[Connection]:
    return without_effect("forget_probes", T.OPENED)


@mutant("failed probes are never noted")
def failed_probes_are_not_noted(patch: pytest.MonkeyPatch) -> type[Connection]:
    return without_effect("note_failed_probe", T.PROBE_FAILED)


# --- guards and effects --------------------------------------------------------------------------------------


@mutant("may_retry is inverted")
def may_retry_inverted(patch: pytest.MonkeyPatch) -> None:
    right = Connection.may_retry
    patch.setattr(Connection, "may_retry", lambda self, reason: not right(self, reason))


@mutant("an error that cannot get better is retried")
def permanent_errors_are_retried(patch: pytest.MonkeyPatch) -> None:
    right = Connection.may_retry
    patch.setattr(Connection, "may_retry", lambda self, reason: right(self, None))


@mutant("is_unhealthy is inverted")
def is_unhealthy_inverted(patch: pytest.MonkeyPatch) -> None:
    right = Connection.is_unhealthy
    patch.setattr(Connection, "is_unhealthy", lambda self, reason: not right(self, reason))


@mutant("a guard counts, so that asking it changes the answer")
def guard_counts(patch: pytest.MonkeyPatch) -> None:
    def is_unhealthy(self: Any, reason: BaseException | None) -> bool:
        self._probes.failed += 1
        return bool(self._probes.failed >= self.health.failure_threshold)

    patch.setattr(Connection, "is_unhealthy", is_unhealthy)


@mutant("a guard draws the jitter, so that asking it twice gives two answers")
def guard_draws(patch: pytest.MonkeyPatch) -> None:
    def may_retry(self: Any, reason: BaseException | None) -> bool:
        outage = self._outage
        outage.next_pause = self.retry.delay(self.attempt + 1, outage.pause, self._rng)
        return bool(outage.permits(self.retry, self._now()))

    patch.setattr(Connection, "may_retry", may_retry)


@mutant("a new outage does not reset the attempts")
def attempts_are_not_reset(patch: pytest.MonkeyPatch) -> None:
    def begin_outage(self: Any, reason: BaseException | None) -> None:
        attempts, self._outage = self._outage.attempts, Outage(self._now())
        self._outage.attempts = attempts

    patch.setattr(Connection, "begin_outage", begin_outage)


@mutant("a new outage begins with the delay of the last one, so reconnect() does not try at once")
def backoff_is_not_reset(patch: pytest.MonkeyPatch) -> None:
    def begin_outage(self: Any, reason: BaseException | None) -> None:
        pause, self._outage, self.attempt = self._outage.next_pause, Outage(self._now()), 0
        self._outage.next_pause = pause

    patch.setattr(Connection, "begin_outage", begin_outage)


@mutant("a link that came up ends the outage at once, however soon it is lost")
def every_link_is_stable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "_has_been_stable", lambda self: self._state == S.CONNECTED)


@mutant("stable links are never forgiven")
def nothing_is_forgiven(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "reset_if_stable", lambda self, reason: None)


@mutant("every link that comes up is replaced without a delay when it is lost", seed=38)
def every_opened_link_clears_the_delay(patch: pytest.MonkeyPatch) -> None:
    def note_opened(self: Any, reason: BaseException | None) -> None:
        self._outage.opened += 1
        self._outage.next_pause = 0.0

    patch.setattr(Connection, "note_opened", note_opened)


# --- the policy ----------------------------------------------------------------------------------------------


@mutant("one attempt too many is permitted")
def one_attempt_too_many(patch: pytest.MonkeyPatch) -> None:
    def permits(self: Any, attempts: int, elapsed: float, delay: float) -> bool:
        if self.max_attempts is not None and attempts > self.max_attempts:
            return False
        return self.deadline is None or elapsed + delay < self.deadline

    patch.setattr(RetryPolicy, "permits", permits)


@mutant("one attempt too few is permitted")
def one_attempt_too_few(patch: pytest.MonkeyPatch) -> None:
    right = RetryPolicy.permits
    patch.setattr(
        RetryPolicy, "permits", lambda self, attempts, elapsed, delay: right(self, attempts + 1, elapsed, delay)
    )


@mutant("the deadline of an outage is ignored when a further attempt is decided on")
def deadline_is_ignored(patch: pytest.MonkeyPatch) -> None:
    right = RetryPolicy.permits
    patch.setattr(RetryPolicy, "permits", lambda self, attempts, elapsed, delay: right(self, attempts, -1e9, delay))


@mutant("an attempt runs past the deadline of its outage")
def attempts_run_past_the_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "_time_to_open", lambda self: self.start_timeout)


@mutant("delays do not grow", seed=27)
def delays_do_not_grow(patch: pytest.MonkeyPatch) -> None:
    right = RetryPolicy.delay
    patch.setattr(
        RetryPolicy, "delay", lambda self, attempts, previous, rng: right(self, min(attempts, 1), previous, rng)
    )


@mutant("the delay is that of the attempt before")
def delays_lag_behind(patch: pytest.MonkeyPatch) -> None:
    right = RetryPolicy.delay
    patch.setattr(RetryPolicy, "delay", lambda self, attempts, previous, rng: right(self, attempts - 1, previous, rng))


# --- links ---------------------------------------------------------------------------------------------------


@mutant("the delay before a further attempt is not waited out")
def backoff_is_not_waited(patch: pytest.MonkeyPatch) -> None:
    async def while_reconnecting(self: Any) -> str:
        await self._release()
        await self._open_link()
        return T.OPENED

    patch.setattr(Connection, "while_reconnecting", while_reconnecting)


@mutant("the delay before a further attempt is waited out twice")
def backoff_is_waited_twice(patch: pytest.MonkeyPatch) -> None:
    async def while_reconnecting(self: Any) -> str:
        await self._release()
        await asyncio.sleep(2 * self._outage.pause)
        await self._open_link()
        return T.OPENED

    patch.setattr(Connection, "while_reconnecting", while_reconnecting)


@mutant("reconnecting does not give back the old link")
def release_skipped_on_reconnect(patch: pytest.MonkeyPatch) -> None:
    async def while_reconnecting(self: Any) -> str:
        await asyncio.sleep(self._outage.pause)
        await self._open_link()
        return T.OPENED

    patch.setattr(Connection, "while_reconnecting", while_reconnecting)


@mutant("reconnecting keeps the old link until the delay is over")
def release_after_the_delay(patch: pytest.MonkeyPatch) -> None:
    async def while_reconnecting(self: Any) -> str:
        await asyncio.sleep(self._outage.pause)
        await self._release()
        await self._open_link()
        return T.OPENED

    patch.setattr(Connection, "while_reconnecting", while_reconnecting)


@mutant("failed keeps the lost link")
def release_skipped_when_failed(patch: pytest.MonkeyPatch) -> None:
    async def while_failed(self: Any) -> None:
        return None

    patch.setattr(Connection, "while_failed", while_failed)


@mutant("disconnecting does not close the link")
def release_skipped_on_disconnect(patch: pytest.MonkeyPatch) -> None:
    async def while_disconnecting(self: Any) -> str:
        return T.CLOSED

    patch.setattr(Connection, "while_disconnecting", while_disconnecting)


@mutant("connecting opens two links and keeps one")
def two_links_are_opened(patch: pytest.MonkeyPatch) -> None:
    async def while_connecting(self: Any) -> str:
        await self._open_link()
        await self._open_link()
        return T.OPENED

    patch.setattr(Connection, "while_connecting", while_connecting)


@mutant("the link is dropped and not closed")
def close_skipped(patch: pytest.MonkeyPatch) -> None:
    async def _release(self: Any) -> None:
        self._holder.link = None

    patch.setattr(Connection, "_release", _release)


@mutant("the link is closed and not forgotten, so it is closed again")
def closed_twice(patch: pytest.MonkeyPatch) -> None:
    async def _release(self: Any) -> None:
        if self.link is not None:
            await close_in_time(self, self.link)

    patch.setattr(Connection, "_release", _release)


@mutant("closing is cut off when the state is left")
def closing_is_not_shielded(patch: pytest.MonkeyPatch) -> None:
    async def _release(self: Any) -> None:
        if self.link is not None:
            await asyncio.sleep(0)
            link, self._holder.link = self.link, None
            await close_in_time(self, link)

    patch.setattr(Connection, "_release", _release)


@mutant("closing is begun, and not waited for")
def closing_is_not_awaited(patch: pytest.MonkeyPatch) -> None:
    async def _release(self: Any) -> None:
        link, self._holder.link = self.link, None
        if link is not None:
            asyncio.get_running_loop().create_task(close_in_time(self, link))

    patch.setattr(Connection, "_release", _release)


@mutant("closing may take for ever")
def closing_has_no_limit(patch: pytest.MonkeyPatch) -> None:
    async def _close(self: Any, link: Any, owner: Any, limit: float) -> None:
        try:
            await link.close()
        except Exception:
            return

    patch.setattr(LinkHolder, "_close", _close)


@mutant("a link that does not close well is taken for a bug")
def closing_badly_is_a_bug(patch: pytest.MonkeyPatch) -> None:
    async def _close(self: Any, link: Any, owner: Any, limit: float) -> None:
        try:
            await link.close()
        except OSError as error:
            raise ValueError("could not close") from error

    patch.setattr(LinkHolder, "_close", _close)


@mutant("opening may take for ever")
def opening_has_no_limit(patch: pytest.MonkeyPatch) -> None:
    async def open_in_time(link: Any, *limits: Any) -> None:
        await link.open()

    patch.setattr(link_holder, "open_in_time", open_in_time)


@mutant("the link is kept before it is open, so one that failed to open is closed")
def link_is_kept_too_early(patch: pytest.MonkeyPatch) -> None:
    async def _open_link(self: Any) -> None:
        self._holder.link = self._make_link()
        await open_in_time(self.link, self._time_to_open(), self, self.link.close)

    patch.setattr(Connection, "_open_link", _open_link)


@mutant("the link is kept one turn of the loop after it is open, in which it may be forgotten")
def link_is_kept_too_late(patch: pytest.MonkeyPatch) -> None:
    async def _open_link(self: Any) -> None:
        link = self._make_link()
        await open_in_time(link, self._time_to_open(), self, link.close)
        await asyncio.sleep(0)
        self._holder.link = link

    patch.setattr(Connection, "_open_link", _open_link)


@mutant("the same link is opened again when the first attempt fails")
def link_is_opened_again(patch: pytest.MonkeyPatch) -> None:
    async def _open_link(self: Any) -> None:
        link = self._make_link()
        try:
            await open_in_time(link, self._time_to_open(), self, link.close)
        except OSError:
            await open_in_time(link, self._time_to_open(), self, link.close)
        self._holder.link = link

    patch.setattr(Connection, "_open_link", _open_link)


@mutant("nobody notices that the link is lost")
def losses_go_unnoticed(patch: pytest.MonkeyPatch) -> None:
    async def while_connected(self: Any) -> None:
        return None

    patch.setattr(Connection, "while_connected", while_connected)


@mutant("calls are served in every state in which there is a link")
def calls_are_served_everywhere(patch: pytest.MonkeyPatch) -> None:
    async def next(self: Any, end: float | None) -> Any:
        conn = self._conn
        while conn.link is None:
            await conn.reach({S.CONNECTED})
        return RoutedCall(conn, conn.link)

    patch.setattr(ConnectionRoute, "next", next)


# --- callers -------------------------------------------------------------------------------------------------


@mutant("an attempt whose last caller was cancelled goes on", seed=19)
def attempts_are_not_abandoned(patch: pytest.MonkeyPatch) -> None:
    async def _abandon_if_last(self: Any) -> None:
        return None

    patch.setattr(Connection, "_abandon_if_last", _abandon_if_last)


@mutant("an attempt is abandoned when any of its callers is cancelled")
def attempts_are_abandoned_by_anyone(patch: pytest.MonkeyPatch) -> None:
    async def _abandon_if_last(self: Any) -> None:
        if self.handles(T.DISCONNECT):
            self.fire(T.DISCONNECT)
            await self.reach(ENDED)

    patch.setattr(Connection, "_abandon_if_last", _abandon_if_last)


@mutant("cancelling somebody who joins an established connection ends it for everybody")
def claims_are_ignored(patch: pytest.MonkeyPatch) -> None:
    async def _abandon_if_last(self: Any) -> None:
        if self._demand.waiting == 1 and self.handles(T.DISCONNECT):
            self.fire(T.DISCONNECT)
            await self.reach(ENDED)

    patch.setattr(Connection, "_abandon_if_last", _abandon_if_last)


@mutant("a claim is never given up, so that later attempts are not abandoned", seed=26)
def claim_is_not_reset(patch: pytest.MonkeyPatch) -> None:
    class Clinging(Demand):
        __slots__ = ("kept",)

        def claimed(self: Any, value: bool) -> None:
            if value:
                self.kept = True

        is_used = property(lambda self: getattr(self, "kept", False), claimed)  # type: ignore[assignment]

    demand = Part(Clinging)
    demand.__set_name__(Connection, "_demand")
    patch.setattr(Connection, "_demand", demand, raising=False)


@mutant("abandoning does not wait until the link is closed")
def abandoning_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    async def _abandon_if_last(self: Any) -> None:
        if self._demand.ends_with_this_caller() and self.handles(T.DISCONNECT):
            self.fire(T.DISCONNECT)

    patch.setattr(Connection, "_abandon_if_last", _abandon_if_last)


@mutant("a caller that was cancelled goes on waiting")
def cancellation_is_swallowed(patch: pytest.MonkeyPatch) -> None:
    right = StateMachine.reach

    async def reach(self: Any, states: Any) -> Any:
        try:
            return await right(self, states)
        except asyncio.CancelledError:
            return await right(self, states)

    patch.setattr(StateMachine, "reach", reach)


@mutant("disconnect() only waits, and does not ask")
def disconnect_does_not_ask(patch: pytest.MonkeyPatch) -> None:
    async def disconnect(self: Any) -> None:
        self._demand.endings += 1
        await self.reach(ENDED)

    patch.setattr(Connection, "disconnect", disconnect)


@mutant("disconnect() returns before it is disconnected")
def disconnect_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    async def disconnect(self: Any) -> None:
        self._demand.endings += 1
        if self.handles(T.DISCONNECT):
            self.fire(T.DISCONNECT)

    patch.setattr(Connection, "disconnect", disconnect)


@mutant("disconnect is not final: a connect() that waited for the end begins anew", seed=150)
def disconnect_is_not_final(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Demand, "heed", lambda self, endings, owner: None)


@mutant("connect() returns before it is connected")
def connect_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    async def connect(self: Any) -> None:
        if self.handles(T.CONNECT):
            self.fire(T.CONNECT)

    patch.setattr(Connection, "connect", connect)


@mutant("connect() that ended in failed returns as if it were connected")
def failure_is_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "_judge", lambda self, record: None)


@mutant("connect() asks in every state, and is refused where that is not handled")
def connect_does_not_join(patch: pytest.MonkeyPatch) -> None:
    async def connect(self: Any) -> None:
        self.fire(T.CONNECT)
        await self._settle(T.CONNECT)

    patch.setattr(Connection, "connect", connect)


@mutant("a probe of an earlier visit speaks for the present one, and is refused where there is none")
def stale_probe_speaks(patch: pytest.MonkeyPatch) -> None:
    async def _probe(self: Any, link: Any, timeout: float) -> Any:
        _, failure = await prober.ask(link, self.health.service, timeout, self.name)
        self.fire(T.PROBE_FAILED if failure else T.PROBE_PASSED, failure)
        return failure

    patch.setattr(Connection, "_probe", _probe)


@mutant("the restart intensity is not asked", seed=23)
def restarts_have_no_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "may_restart", lambda self, reason: True)


@mutant("one loss fewer than the restart intensity allows is made good", seed=17)
def restarts_are_limited_too_soon(patch: pytest.MonkeyPatch) -> None:
    right = Losses.recent
    patch.setattr(Losses, "recent", lambda self, policy, now: right(self, policy, now) + 1)


@mutant("losses are never forgotten, however long ago they were", seed=136)
def losses_never_grow_old(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Losses, "recent", lambda self, policy, now: len(self))


@mutant("losses are not forgotten when somebody asks for the connection")
def losses_survive_a_connect(patch: pytest.MonkeyPatch) -> type[Connection]:
    return rows_changed(
        lambda row: [attrs.evolve(row, effects=tuple(each for each in row.effects if each != "forget_losses"))]
    )


@mutant("losses are not noted", seed=23)
def losses_are_not_noted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "note_loss", lambda self, reason: None)


@mutant("a careful attempt has as many successors as any", seed=15)
def trials_are_not_careful(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "begin_half_open", Connection.begin_outage)


@mutant("the mark of a careful attempt outlives it", seed=62)
def trials_never_end(patch: pytest.MonkeyPatch) -> None:
    right = Connection.begin_outage

    def begin_outage(self: Any, reason: BaseException | None) -> None:
        trial = self._outage.is_half_open
        right(self, reason)
        self._outage.is_half_open = trial

    patch.setattr(Connection, "begin_outage", begin_outage)


@mutant("what cannot get better is tried again after a while")
def hopeless_cases_recover(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "may_recover", lambda self, reason: self.retry.recover_after is not None)


@mutant("the careful attempt comes at once")
def recovery_is_rash(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RetryPolicy, "recovery_pause", lambda self, rng: 0.0)


@mutant("whoever waits is told of the failure only after the pause before the careful attempt")
def recovery_holds_up_callers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "rest", lambda self: None)


@mutant("the peer is never asked how it is")
def peer_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Prober, "_until_due", lambda self: asyncio.Event().wait())


@mutant("the peer is asked once, and then never again")
def peer_is_asked_once(patch: pytest.MonkeyPatch) -> None:
    right = Prober._until_due

    async def _until_due(self: Any) -> None:
        await right(self)
        self._policy = attrs.evolve(self._policy, interval=1e6)

    patch.setattr(Prober, "_until_due", _until_due)


@mutant("the probe loop of a link that was lost goes on")
def monitors_pile_up(patch: pytest.MonkeyPatch) -> None:
    async def _lost_or_ailing(self: Any, link: Any) -> Any:
        traffic = self._holder.traffic
        monitor = Prober(self.health, link, traffic, lambda: self._probe(link, self.health.timeout), self._random())
        self._piled = [*getattr(self, "_piled", []), asyncio.ensure_future(monitor.run())]
        return await link.lost()

    patch.setattr(Connection, "_lost_or_ailing", _lost_or_ailing)


@mutant("a probe without an answer is waited for, for ever")
def probing_has_no_limit(patch: pytest.MonkeyPatch) -> None:
    right = Connection.probe
    patch.setattr(Connection, "probe", lambda self: right(self, 1e9))


# --- the driver ----------------------------------------------------------------------------------------------


@mutant("the activity of a state that is left is not cancelled")
def activity_is_not_cancelled(patch: pytest.MonkeyPatch) -> None:
    def turn(self: Any, limit: float | None) -> None:
        if self.task is None:
            self._begin()

    patch.setattr(Run, "turn", turn)


@mutant("the next activity begins before the last one has ended")
def activities_overlap(patch: pytest.MonkeyPatch) -> None:
    def turn(self: Any, limit: float | None) -> None:
        if self.task is not None:
            self.task.cancel()
        self._begin()

    patch.setattr(Run, "turn", turn)


@mutant("a self transition leaves the activity as it is")
def self_transition_changes_nothing(patch: pytest.MonkeyPatch) -> None:
    right = Run.turn

    def turn(self: Any, limit: float | None) -> None:
        if self._machine.last_record.source != self._machine.last_record.dest:
            right(self, limit)

    patch.setattr(Run, "turn", turn)


@mutant("an activity whose state was left still speaks", Stubborn)
def stale_activity_speaks(patch: pytest.MonkeyPatch) -> None:
    right = Run._ended_late

    def _ended_late(self: Any, task: Any) -> None:
        if not task.cancelled():
            self._speak(task)
        right(self, task)

    patch.setattr(Run, "_ended_late", _ended_late)


@mutant("after an activity that ended late the next one is not begun")
def next_activity_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    ended, begin, late = Run._ended, Run._begin, []

    def _ended(self: Any, task: Any) -> None:
        late.append(self._visit != self._machine.visit)
        try:
            ended(self, task)
        finally:
            late.pop()

    patch.setattr(Run, "_ended", _ended)
    patch.setattr(Run, "_begin", lambda self: None if late and late[-1] else begin(self))


@mutant("errors of the world outside are taken for bugs")
def expected_errors_are_faults(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(errors, "EXPECTED", ())


@mutant("what an activity returns is not fired")
def activities_are_not_heard(patch: pytest.MonkeyPatch) -> None:
    right = Run._say
    patch.setattr(Run, "_say", lambda self, trigger, reason: right(self, trigger, reason) if reason else None)


@mutant("one visit to a state is not told from the next")
def visits_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StateMachine, "visit", property(lambda self: 0))


@mutant("a wake-up reaches only the first who waits")
def wakeup_reaches_only_the_first(patch: pytest.MonkeyPatch) -> None:
    def wake(self: Any, record: Any) -> None:
        future = next(iter(self))
        if record.dest in self.pop(future) and not future.done():
            future.set_result(record)

    patch.setattr(Waiters, "wake", wake)


@mutant("a wake-up is lost when the state was entered from itself or by an error")
def wakeup_is_lost_after_an_error(patch: pytest.MonkeyPatch) -> None:
    right = Waiters.wake
    patch.setattr(Waiters, "wake", lambda self, record: right(self, record) if record.reason is None else None)


@mutant("a waiter that was cancelled stays on the list, and is woken with the others")
def waiters_are_not_removed(patch: pytest.MonkeyPatch) -> None:
    async def wait_in(machine: Any, states: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        machine._fsm_waiters = waiters = machine._fsm_waiters or Waiters()
        waiters[future] = states
        return await future

    def wake(self: Any, record: Any) -> None:
        for future in [each for each, states in self.items() if record.dest in states]:
            del self[future]
            future.set_result(record)

    patch.setattr(machines, "wait_in", wait_in)
    patch.setattr(Waiters, "wake", wake)


@mutant("a trigger fired inside a dispatch is dispatched at once, and not afterwards", Greeting)
def queue_is_bypassed(patch: pytest.MonkeyPatch) -> None:
    right = StateMachine.fire

    def fire(self: Any, trigger: str, reason: BaseException | None = None, **data: Any) -> None:
        self._fsm_dispatching = False
        right(self, trigger, reason, **data)

    patch.setattr(StateMachine, "fire", fire)


@mutant("a trigger fired inside a dispatch is forgotten", Greeting)
def queue_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StateMachine, "_fsm_drain", lambda self, queue: queue.clear())


@mutant("what is queued is dispatched before the transition under way is told of", Greeting)
def queue_overtakes(patch: pytest.MonkeyPatch) -> None:
    right = StateMachine._fsm_turn

    def _turn(self: Any, limit: float | None = None) -> None:
        right(self, limit)
        while self._fsm_queue:
            self._fsm_dispatching = False
            self.fire(*self._fsm_queue.popleft()[:2])

    patch.setattr(StateMachine, "_fsm_turn", _turn)


@mutant("internal transitions leave no record")
def internal_transitions_are_not_recorded(patch: pytest.MonkeyPatch) -> None:
    right = Observers.publish

    def publish(self: Any, record: Any, *more: Any, **named: Any) -> None:
        if not record.internal:
            right(self, record, *more, **named)

    patch.setattr(Observers, "publish", publish)


@mutant("a trigger that the state does not handle is taken for the first row that knows it")
def illegal_triggers_are_taken(patch: pytest.MonkeyPatch) -> None:
    right = Steps.__missing__

    def __missing__(self: Any, key: tuple[str, str]) -> Any:
        if self.table.handles(*key):
            return right(self, key)
        dest = next(str(row.dest) for row in self.table.transitions if row.trigger == key[1])

        def step(machine: Any, reason: BaseException | None, data: Any, now: float) -> None:
            machine._state = dest
            machine.entered(reason)

        return step

    patch.setattr(Steps, "__missing__", __missing__)


@mutant("the state is assigned by hand when the link is open")
def state_is_assigned(patch: pytest.MonkeyPatch) -> None:
    right = Connection._open_link

    async def _open_link(self: Any) -> None:
        await right(self)
        self._state = str(S.CONNECTED)

    patch.setattr(Connection, "_open_link", _open_link)


# --- observers -----------------------------------------------------------------------------------------------


@mutant("observers are told twice of a transition that an error is behind")
def observers_are_told_twice(patch: pytest.MonkeyPatch) -> None:
    right = Observers.publish

    def publish(self: Any, record: Any, *more: Any, **named: Any) -> None:
        right(self, record, *more, **named)
        if record.reason is not None:
            right(self, record, *more, **named)

    patch.setattr(Observers, "publish", publish)


@mutant("what happens while observers are being told is forgotten")
def busy_observers_miss_records(patch: pytest.MonkeyPatch) -> None:
    right = Observers.publish

    def publish(self: Any, record: Any, *more: Any, **named: Any) -> None:
        if self._task is None:
            right(self, record, *more, **named)

    patch.setattr(Observers, "publish", publish)


@mutant("what happened last is told first")
def observers_are_told_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    right = Observers.publish

    def publish(self: Any, record: Any, *more: Any, **named: Any) -> None:
        right(self, record, *more, **named)
        if len(self._pending) > 2:
            self._pending.insert(1, self._pending.pop())

    patch.setattr(Observers, "publish", publish)


@mutant("async observers are cancelled as soon as they begin")
def observers_are_cancelled(patch: pytest.MonkeyPatch) -> None:
    async def _wait_for(self: Any, callback: Any, record: Any, task: Any) -> None:
        task.cancel()

    patch.setattr(Observers, "_wait_for", _wait_for)


@mutant("connect() and disconnect() return before the observers were told")
def flush_skipped(patch: pytest.MonkeyPatch) -> None:
    async def flush(self: Any) -> None:
        return None

    patch.setattr(Observers, "flush", flush)
