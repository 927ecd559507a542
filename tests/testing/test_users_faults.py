"""Faults that users make in their subclasses: each is found, and the message says what to do about it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from hypothesis import settings

from fsm_conn import (
    CallOptions,
    ConnectFailedError,
    Connection,
    ConnectionState,
    LinkError,
    Transition,
    Trigger,
    insert_state,
)
from fsm_conn.connection.table import LinkState
from fsm_conn.machine.activity import PATIENCE
from fsm_conn.machine.table import State
from fsm_conn.testing import Life, ViolationError, lifecycle_test, replay

from .mutants import hunt

S, T = ConnectionState, Trigger
LIVES = 300

LOGGING_IN: Any = insert_state(
    Connection, "logging_in", trigger=T.OPENED, before=S.CONNECTED, then="logged_in", like=S.CONNECTING
)


class LoggingIn(Connection):
    """As it should be: what the others below are compared with."""

    states, transitions = LOGGING_IN

    async def while_logging_in(self) -> str:
        """Log in, in bounded time."""
        async with asyncio.timeout(3):
            await self.call("session.Login")
        return "logged_in"


class NoWayOut(Connection):
    """The state has no activity, and nobody fires the trigger that leads on."""

    states, transitions = LOGGING_IN


class NeverEnds(Connection):
    """The activity waits for something that never comes."""

    states, transitions = LOGGING_IN

    async def while_logging_in(self) -> str:
        """Wait for ever."""
        await asyncio.Event().wait()
        return "logged_in"


class SwallowsCancellation(Connection):
    """The activity goes on when its state was left."""

    states, transitions = LOGGING_IN

    async def while_logging_in(self) -> str:
        """Try until it works, whatever happens."""
        while True:
            try:
                async with asyncio.timeout(3):
                    await self.call("session.Login")
                return "logged_in"
            except (LinkError, TimeoutError, asyncio.CancelledError):
                await asyncio.sleep(1)


class WaitsForEver(LoggingIn):
    """The login has no time limit."""

    async def while_logging_in(self) -> str:
        """Rely on the peer."""
        await self.call("session.Login")
        return "logged_in"


class ForgetsTheDeadline(LoggingIn):
    """The login has a time limit, and what is raised when it is up is nobody's business."""

    async def while_logging_in(self) -> str:
        """Rely on its being one of the package's errors."""
        await self.call("session.Login", CallOptions(timeout=3))
        return "logged_in"


class ImpureGuard(LoggingIn):
    """The guard counts how often it is asked."""

    asked = 0

    def may_retry(self, reason: BaseException | None) -> bool:
        """Count, and say yes three times."""
        self.asked += 1
        return self.asked <= 3 and super().may_retry(reason)


class MovesTheLink(LoggingIn):
    """The activity takes the link away from the connection, which then cannot close it."""

    async def while_logging_in(self) -> str:
        """Keep the link in a place of one's own, and give it back when all went well."""
        self._mine, self._holder.link = self.link, None
        async with asyncio.timeout(3):
            await self._mine.call("session.Login", None, {}, None)
        self._holder.link = self._mine
        return "logged_in"


class OpensAnother(LoggingIn):
    """The activity opens a link of its own for the login and forgets it when the login fails."""

    async def while_logging_in(self) -> str:
        """Log in over a second link."""
        async with asyncio.timeout(3):
            link = self._make_link()
            await link.open()
            await link.call("session.Login", None, {}, None)
            await link.close()
        return "logged_in"


class WrongTrigger(LoggingIn):
    """The activity returns a trigger that its state does not handle."""

    async def while_logging_in(self) -> str:
        """A name that is known, but not here."""
        return str(T.LOST)


class UnknownTrigger(LoggingIn):
    """The activity returns a trigger that no row knows."""

    async def while_logging_in(self) -> str:
        """A name with a slip in it."""
        return "loged_in"


class AssignsState(LoggingIn):
    """The activity assigns the state by hand."""

    async def while_logging_in(self) -> None:
        """Skip the table."""
        self._state = str(S.CONNECTED)


class EffectRaises(LoggingIn):
    """An effect raises for a connection that was lost for the second time."""

    times = 0

    def reset_if_stable(self, reason: BaseException | None) -> None:
        """Look up what is not there."""
        raise KeyError("login_times")


class OwnsNothing(LoggingIn):
    """The state was declared by hand, and it was forgotten that a link is open in it."""

    states = (*Connection.states, State("logging_in", on_error=T.OPEN_FAILED))


class NeverDisconnects(LoggingIn):
    """The table was changed so that a login cannot be ended."""

    transitions = tuple(
        Transition(row.trigger, tuple(name for name in row.sources(S) if name != "logging_in"), row.dest)
        if row.trigger == T.DISCONNECT
        else row
        for row in LoggingIn.transitions
    )


class AsksItself(LoggingIn):
    """The activity calls a method that waits for the activity."""

    async def while_logging_in(self) -> str:
        """Wait for oneself."""
        await self.connect()
        return "logged_in"


class Spins(LoggingIn):
    """The activity asks again and again, and lets no time pass."""

    async def while_logging_in(self) -> str:
        """Wait for what will never be."""
        while True:
            await asyncio.sleep(0)


class GuardRemembers(LoggingIn):
    """The guard changes what is in a list, which stays where it is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reasons: list[BaseException | None] = []

    def may_retry(self, reason: BaseException | None) -> bool:
        """Keep the reason for a report."""
        self.reasons.append(reason)
        return super().may_retry(reason)


class ForgetsLosses(Connection):
    """A pause with the link kept, from which lost links are replaced without being counted."""

    states = (*Connection.states, LinkState("paused", on_error=T.LOST, final=True))
    transitions = (
        *Connection.transitions,
        Transition("pause", S.CONNECTED, "paused"),
        Transition("resume", "paused", S.CONNECTED),
        Transition(T.LOST, "paused", S.RECONNECTING, guards="may_retry", effects=("reset_if_stable", "count_attempt")),
        Transition(T.LOST, "paused", S.FAILED, effects="reset_if_stable"),
    )
    while_paused = Connection.while_connected


class NeverLetsGo(LoggingIn):
    """The activity tries until it works, and takes its own cancellation for one more failure."""

    async def while_logging_in(self) -> str:
        """Try again, at once, whatever was raised."""
        while True:
            try:
                async with asyncio.timeout(3):
                    await self.call("session.Login")
                return "logged_in"
            except BaseException:
                pass


class LeavesATask(LoggingIn):
    """The activity begins something that goes on when the connection is at rest."""

    async def while_logging_in(self) -> str:
        """Write a report in the background."""
        self._reporting = asyncio.create_task(self._report())
        return await super().while_logging_in()

    async def _report(self) -> None:
        await asyncio.Event().wait()


class NobodyWatches(Connection):
    """A pause with the link kept, in which nobody notices that it has gone."""

    states = (*Connection.states, LinkState("paused", on_error=T.LOST, final=True))
    transitions = (
        *Connection.transitions,
        Transition("pause", S.CONNECTED, "paused"),
        Transition("resume", "paused", S.CONNECTED),
    )


class LooksAway(NobodyWatches):
    """The same, and what there is of an activity looks elsewhere."""

    transitions = (*NobodyWatches.transitions, Transition(T.LOST, "paused", S.FAILED))

    async def while_paused(self) -> str:
        """Wait for somebody to resume."""
        await asyncio.Event().wait()
        return "resume"


class InventsState(LoggingIn):
    """The activity assigns a state that is in no table."""

    async def while_logging_in(self) -> str:
        """A name with a slip in it."""
        self._state = "conected"
        return "logged_in"


class CancelsCallers(LoggingIn):
    """What callers are told of a failure looks as if they had been cancelled."""

    async def connect(self) -> None:
        """Say it in another way."""
        try:
            await super().connect()
        except ConnectFailedError:
            raise asyncio.CancelledError from None


class RaisesItsOwn(LoggingIn):
    """What callers are told of a failure is no error of the package."""

    async def connect(self) -> None:
        """Say it in another way."""
        try:
            await super().connect()
        except ConnectFailedError as error:
            raise RuntimeError("no connection") from error


class ObserverFails(LoggingIn):
    """An observer of the class's own looks up what is not there."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        names: dict[str, str] = {}
        self.on_state_change(S.CONNECTED, lambda old, new: names[new])


STUCK = ("liveness", "still in 'logging_in'", "its activity must end, or some trigger must lead out of it")

FAULTS: dict[type[Connection], tuple[str, ...]] = {
    NoWayOut: STUCK,
    NeverEnds: (*STUCK, "while_logging_in waits at ", "await asyncio.Event().wait()"),
    WaitsForEver: (
        "waits_have_a_limit",
        "in 'logging_in', while_logging_in() waits for the peer's answer to a call, and nothing sets a limit",
        "put 'async with asyncio.timeout(self.start_timeout):' around what is awaited there",
    ),
    ForgetsTheDeadline: (
        "faults_have_a_cause",
        "the activity ForgetsTheDeadline.while_logging_in(), tests/testing/test_users_faults.py:",
        "has a bug",
        "DEADLINE_EXCEEDED",
        "catch it there, and raise a LinkError",
    ),
    ImpureGuard: (
        "guards_are_pure",
        "may_retry(), tests/testing/test_users_faults.py:",
        " changed asked; count in an effect, a guard must only read",
    ),
    MovesTheLink: ("links_are_owned", "owns no link, and one is open", "must release it"),
    OpensAnother: ("at_most_one_link", "link"),
    WrongTrigger: ("faults_have_a_cause", "'lost' cannot happen in state 'logging_in'", "what can: disconnect"),
    UnknownTrigger: ("faults_have_a_cause", "'loged_in' cannot happen", "did you mean 'logged_in'?"),
    AssignsState: (
        "moves_are_rows",
        "the state was assigned outside dispatch",
        "it is 'connected'",
        "fire a trigger instead of assigning a state",
    ),
    SwallowsCancellation: (
        "activities_end_with_their_state",
        "the activity of 'logging_in' goes on after its state was left",
        "let CancelledError pass in while_logging_in()",
    ),
    EffectRaises: (
        "faults_have_a_cause",
        "the effect EffectRaises.reset_if_stable(), tests/testing/test_users_faults.py:",
        "KeyError('login_times')",
    ),
    OwnsNothing: ("links_are_owned", "'logging_in' owns no link, and one is open"),
    NeverDisconnects: (
        "disconnect_leads_out",
        "disconnect() leads nowhere from 'logging_in'",
        "Transition('disconnect', 'logging_in', 'disconnecting')",
    ),
    Spins: ("no_livelock", "goes on and on, and no time passes", "while_logging_in"),
    LeavesATask: (
        "no_task_is_left",
        "tasks are left:\n  LeavesATask._report waits at LeavesATask._report, ",
        "await asyncio.Event().wait()",
    ),
    NobodyWatches: (
        "losses_are_noticed",
        "a link is open in 'paused', where nobody watches or closes it",
        "write 'while_paused = Connection.while_connected', and rows for 'lost' from 'paused'",
    ),
    LooksAway: (
        "losses_are_noticed",
        "the link is lost, and the state is still 'paused'; while_paused() must await link.lost()",
    ),
    NeverLetsGo: ("no_livelock", "something goes on and on, and no time passes", ".while_logging_in waits at "),
    GuardRemembers: (
        "guards_are_pure",
        "may_retry(), tests/",
        " changed reasons; count in an effect, a guard must only read",
    ),
    ForgetsLosses: (
        "restarts_are_limited",
        "the row for 'lost' from 'paused' to 'reconnecting' lacks the effect 'note_loss'",
        "perhaps the guard 'may_restart'",
    ),
    InventsState: ("state_is_in_the_table", "'conected' is not in the table"),
    CancelsCallers: ("cancellation_is_honest", "connect() was cancelled, and nobody had cancelled it"),
    RaisesItsOwn: ("errors_are_ours", "RuntimeError('no connection'), which is none of the package's errors"),
    ObserverFails: (
        "observers_raised_nothing",
        "<lambda>(), tests/testing/test_users_faults.py:",
        "has a bug: KeyError(",
    ),
    AsksItself: ("faults_have_a_cause", "connect() was called from an activity", "return a trigger from the activity"),
}
"""Each fault, the invariant that finds it, and words of the message."""


def found(connection_class: type[Connection], **options: Any) -> ViolationError:
    violation = hunt(connection_class, LIVES, **options)
    assert violation is not None, f"{connection_class.__name__} survived"
    return violation


def test_without_a_fault_there_is_nothing_to_find() -> None:
    """The class that the faults were put into lives."""
    assert hunt(LoggingIn, LIVES) is None


@pytest.mark.parametrize("broken", FAULTS, ids=lambda broken: str(broken.__name__))
def test_a_fault_is_found_and_the_message_says_what_to_do(broken: type[Connection]) -> None:
    """In well under a second, and in the user's words: their state, their method."""
    violation = found(broken)
    name, *words = FAULTS[broken]
    assert violation.invariant == name
    for each in words:
        assert each in violation.message


@pytest.mark.parametrize("broken", FAULTS, ids=lambda broken: str(broken.__name__))
def test_a_fault_shows_again_when_its_life_is_replayed(broken: type[Connection]) -> None:
    """The trace is all that a regression test needs."""
    violation = found(broken)
    assert violation.script is not None
    with pytest.raises(ViolationError) as again:
        replay(violation.script)
    assert str(again.value) == str(violation)


def test_a_second_link_is_told_with_the_method_that_has_opened_it() -> None:
    """By what it does first: it is open beside the other, or its closing is cut off."""
    violation = found(OpensAnother)
    told = {"2 links are open; release the old one before opening another", "the closing of a link was cut off"}
    assert violation.message in told
    assert "Look at OpensAnother.while_logging_in(), tests/testing/test_users_faults.py:" in str(violation)


def test_a_swallowed_cancellation_is_noticed_by_the_driver_too() -> None:
    """Where nothing else shows it, the driver loses its patience, and the message says how to mend the activity."""

    class Deaf(LoggingIn):
        async def while_logging_in(self) -> str:
            for _ in range(15):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1)
            return "logged_in"

    life = Life(Deaf)
    life.connect()
    life.answer("open")
    life.checking = False
    life.disconnect()
    life.advance(PATIENCE + 1)
    life.checking = True
    with pytest.raises(ViolationError, match="goes on after its state was left, and had to be left behind") as caught:
        life.advance(1)
    assert "let CancelledError pass in while_logging_in()" in caught.value.message


@pytest.mark.parametrize("broken", [NobodyWatches, LooksAway])
def test_hypothesis_finds_a_state_that_nobody_watches(broken: type[Connection]) -> None:
    """In as many lives as it has by default."""
    case = lifecycle_test(broken)
    case.settings = settings(case.settings, derandomize=True, database=None)
    with pytest.raises(ViolationError, match="losses_are_noticed"):
        case("runTest").runTest()


def test_a_link_that_outlives_its_loop_is_told_with_the_activity_that_is_missing() -> None:
    """Nobody but the activity of the state could have closed it."""
    life = Life(NobodyWatches, ignore={"losses_are_noticed": "the end is of interest here"})
    life.connect()
    life.answer("open")
    life.fire("pause")
    with pytest.raises(ViolationError, match=r"still open: 'paused' has no activity.*'while_paused = Connection"):
        life.loop_ends()


def test_who_never_ends_whatever_is_raised_does_not_hang_the_harness() -> None:
    """Not even when all seems well, nor when all that is left of the life is thrown away."""

    class PollsForEver(LoggingIn):
        async def while_logging_in(self) -> str:
            while True:
                try:
                    async with asyncio.timeout(3):
                        await self.probe()
                except BaseException:
                    pass

    violation = found(PollsForEver)
    assert violation.invariant == "no_livelock"
    assert "while_logging_in() calls probe() again and again, which raises " in violation.message
    del violation
    gc.collect()
