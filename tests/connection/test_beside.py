"""States beside `connected`: lived through, at random and up to a depth, as the example has one and the docs another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest
from extent import far
from shown_examples import example

from fsm_conn import Connection, Fires, HealthPolicy, LinkState, Metrics, RetryPolicy, TransitionRecord, Trigger
from fsm_conn.checks import check
from fsm_conn.connection.calling.records import CallRecord
from fsm_conn.connection.derive import add_state
from fsm_conn.telemetry.reading import ConnectOutcome
from fsm_conn.telemetry.watching import Measuring
from fsm_conn.testing import Life, ViolationError, explore, invariant, lifecycle_test

HEALTH = HealthPolicy(interval=5, timeout=2, failure_threshold=2, jitter=0)


Pausable = example("paused").Pausable


class Throttled(Connection):
    """The one of the docs: it comes back by itself."""

    states, transitions = add_state(
        Connection, "throttled", beside="connected", trigger="throttle", back="eased", back_effects="forget_probes"
    )

    async def while_throttled(self) -> Annotated[str, Fires("eased", Trigger.PROBE_PASSED, Trigger.PROBE_FAILED)]:
        """Watch the link for five seconds."""
        try:
            async with asyncio.timeout(5) as limit:
                return await self.while_connected()
        except TimeoutError:
            if not limit.expired():
                raise
            return "eased"


class Probed(Throttled):
    health = HEALTH


class ProbedPausable(Pausable):  # type: ignore[misc, valid-type]
    health = HEALTH


@invariant()
def losses_are_noticed_beside_connected(life: Life) -> str | None:
    """A link that has gone is not called paused or throttled."""
    link = life.peer.link
    unseen = life.state in ("paused", "throttled") and link is not None and link.is_lost
    return f"the link is lost, and the state is still {life.state!r}" if unseen else None


BESIDE = (losses_are_noticed_beside_connected,)
CLASSES: tuple[type[Connection], ...] = (Pausable, ProbedPausable, Throttled, Probed)

TestPausable = lifecycle_test(Pausable, max_examples=far(30), invariants=BESIDE)
TestProbedPausable = lifecycle_test(ProbedPausable, max_examples=far(30), invariants=BESIDE)
TestThrottled = lifecycle_test(Throttled, max_examples=far(30), invariants=BESIDE)
TestProbed = lifecycle_test(Probed, max_examples=far(30), invariants=BESIDE)


@pytest.mark.parametrize("owner", CLASSES)
def test_every_short_life_is_in_order(owner: type[Connection]) -> None:
    """And there are some in the state that was added."""
    walked = explore(owner, depth=4, invariants=BESIDE)
    assert walked.violation is None, walked
    assert walked.complete
    assert walked.states[str(owner.transitions[-1].source[0])] > 0


@pytest.mark.parametrize("owner", CLASSES)
def test_nothing_is_found_in_it(owner: type[Connection]) -> None:
    """By the checks."""
    assert check(owner) == ()


class Deaf(Pausable):  # type: ignore[misc, valid-type]
    async def while_paused(self) -> str:
        """Watch nothing."""
        await asyncio.Event().wait()
        return "resume"


class Remembers(ProbedPausable):
    """No effect on the way back."""

    states, transitions = add_state(
        Connection,
        LinkState("paused", on_error="lost", final=True),
        beside="connected",
        trigger="pause",
        back="resume",
    )


@pytest.mark.parametrize(
    ("found_by", "ignore"),
    [
        ("losses_are_noticed", {}),
        ("losses_are_noticed_beside_connected", {"losses_are_noticed": "it is the other one's turn"}),
    ],
)
def test_an_activity_that_does_not_watch_is_found_by_a_life(found_by: str, ignore: dict[str, str]) -> None:
    """By the harness itself; and by the invariant above, or it would say nothing."""
    violation = explore(Deaf, depth=4, invariants=BESIDE, ignore=ignore).violation
    assert violation is not None
    assert violation.invariant == found_by


@contextmanager
def lived(owner: type[Connection], **options: Any) -> Iterator[Life]:
    """A life in which the connection is connected."""
    life = Life(owner, **options)
    try:
        life.connect()
        life.answer("open")
        yield life
    finally:
        life.close()


def _fails_twice(life: Life) -> None:
    """One probe fails beside `connected`, and the next in it."""
    life.fire("pause")
    life.advance(5.5)
    life.answer("probe", "bad")
    assert life.state == "paused"
    life.fire("resume")
    life.advance(5.5)
    life.answer("probe", "bad")


def test_failed_probes_are_counted_in_one_state() -> None:
    """Which is what `forget_probes` on the way back is for; without it the harness finds one too many."""
    with lived(ProbedPausable) as life:
        _fails_twice(life)
        assert life.state == "connected"
    with lived(Remembers) as life, pytest.raises(ViolationError, match="probes_are_counted"):
        _fails_twice(life)


def _lose(life: Life) -> None:
    life.lose()


def _fail_probes(life: Life) -> None:
    for _ in range(2):
        life.advance(5.5)
        life.answer("probe", "bad")


def _reconnect(life: Life) -> None:
    life.reconnect()


@pytest.mark.parametrize(
    ("happens", "trigger"), [(_lose, "lost"), (_fail_probes, "probe_failed"), (_reconnect, "reconnect")]
)
def test_what_ends_a_link_ends_it_there_too(happens: Callable[[Life], None], trigger: str) -> None:
    """And the next one is connected, not paused."""
    with lived(ProbedPausable) as life:
        life.fire("pause")
        happens(life)
        assert [(record.trigger, record.source) for record in life.records if record.dest == "reconnecting"] == [
            (trigger, "paused")
        ]
        life.answer("close")
        life.answer("open")
        assert (life.state, life.peer.opened, life.peer.closed) == ("connected", 2, 1)


def test_a_loss_there_that_is_not_to_be_made_good_ends_in_failed() -> None:
    """By the same guards."""
    with lived(Pausable, retry=RetryPolicy(max_restarts=0)) as life:
        life.fire("pause")
        life.lose()
        assert life.state == "failed"


def test_the_link_is_kept_on_the_way_there_and_back() -> None:
    """And nobody is served meanwhile."""
    with lived(Pausable) as life:
        link = life.conn.link
        life.fire("pause")
        assert (life.conn.link, life.conn.is_connected()) == (link, False)
        life.fire("resume")
        assert (life.conn.link, life.conn.is_connected(), life.peer.opened) == (link, True, 1)


def test_it_comes_back_by_itself_after_its_time() -> None:
    """And may be disconnected before."""
    with lived(Throttled) as life:
        life.fire("throttle")
        life.advance(4.9)
        assert life.state == "throttled"
        life.advance(0.2)
        assert life.state == "connected"
        life.fire("throttle")
        life.disconnect()
        life.answer("close")
        assert life.state == "disconnected"


def test_time_beside_connected_is_time_that_the_link_was_up() -> None:
    """A loss after the outage's deadline is a new outage if the link had been up for long enough, wherever."""
    retry = RetryPolicy(max_attempts=2, deadline=20, stable_after=10)
    with lived(Pausable, retry=retry) as life:
        life.advance(100)
        life.fire("pause")
        life.advance(1)
        life.lose()
        assert (life.state, life.conn.attempt) == ("reconnecting", 1)
    with lived(Pausable, retry=retry) as life:
        for _ in range(5):
            life.advance(6)
            life.fire("pause")
            life.advance(6)
            life.fire("resume")
        life.lose()
        assert (life.state, life.conn.attempt) == ("reconnecting", 1)
    with lived(Pausable, retry=retry) as life:
        life.advance(1)
        life.fire("pause")
        life.lose()
        assert (life.state, life.conn.attempt) == ("reconnecting", 2)


class Noted(Measuring):
    """What a backend of telemetry is told of connecting."""

    def __init__(self, conn: Connection) -> None:
        super().__init__(conn)
        self.notes: list[str] = []
        self.moves: list[str] = []

    def moved(self, record: TransitionRecord) -> None:
        self.moves.append(str(record))

    def probed(self, outcome: str) -> None:
        self.notes.append(f"probe {outcome}")

    def attempted(self, outcome: ConnectOutcome, record: TransitionRecord) -> None:
        self.notes.append(f"attempt {outcome}")

    def began(self, record: TransitionRecord) -> None:
        self.notes.append(f"began on {record.trigger}")

    def ended(self, outcome: ConnectOutcome, seconds: float, record: TransitionRecord) -> None:
        self.notes.append(f"{outcome} after {seconds:g} s")

    def called(self, record: CallRecord) -> None:
        """Not of interest here."""


def test_to_be_beside_connected_is_no_connecting() -> None:
    """No attempt, and no time of one: the link is up. What begins with a loss there does, as ever."""
    with lived(Pausable) as life:
        noted = Noted(life.conn)
        life.conn.on_transition(noted.told)
        life.advance(3)
        life.fire("pause")
        life.advance(4)
        life.fire("resume")
        assert (noted.notes, len(noted.moves)) == ([], 2)
        life.fire("pause")
        life.lose()
        assert noted.notes == ["began on lost"]
        life.answer("close")
        life.advance(2)
        life.answer("open")
        assert noted.notes == ["began on lost", "attempt succeeded", "succeeded after 2 s"]


def test_what_is_attached_while_it_is_paused_knows_that_the_link_is_up() -> None:
    """As it would, had it been there before."""
    with lived(Pausable) as life:
        life.fire("pause")
        noted, metrics = Noted(life.conn), Metrics()
        life.conn.on_transition(noted.told)
        metrics.watch(life.conn)
        life.fire("resume")
        assert noted.notes == []
        assert (metrics.connection_count, metrics.losses) == (0, 0)


def test_links_are_counted_and_not_the_ways_back_to_connected() -> None:
    """One link, one connection, one loss; wherever it was lost."""
    metrics = Metrics()
    life = Life(Pausable)
    metrics.watch(life.conn)
    life.connect()
    life.answer("open")
    life.advance(7)
    for _ in range(3):
        life.fire("pause")
        life.advance(1)
        life.fire("resume")
    assert (metrics.connection_count, metrics.reconnect_count, metrics.connected_since) == (1, 0, 0.0)
    life.fire("pause")
    life.lose()
    assert (metrics.losses, metrics.connected_since) == (1, None)
    life.answer("close")
    life.answer("open")
    assert (metrics.connection_count, metrics.reconnect_count, metrics.losses) == (2, 1, 1)
    life.end()
    assert (metrics.disconnection_count, metrics.failed_connection_count) == (1, 0)
