"""What a slot reads of its connection, and what it counts, each decision alone: connections that a test makes up."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from fsm_conn import DriverLink, LinkLostError, RetryPolicy
from fsm_conn.connection.errors import ConnectAbandonedError, ConnectFailedError
from fsm_conn.connection.table import Trigger
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.kind import Kind
from fsm_conn.pool.slots.slot import SLOW_START, SOON, Slot
from fsm_conn.pool.slots.table import IN_SERVICE, STARTING, SlotState, SlotTrigger

from .conftest import settled
from .members import PLAIN

S, T = SlotState, SlotTrigger
ME: Any = "my task"
REFUSED = OSError("refused")


class Link:
    """A link of a connection that is made up."""

    one_at_a_time = False


class Conn:
    """A connection that does as a test says."""

    name = "plug"
    serving_states = frozenset({"connected", "degraded"})
    linked_states = frozenset({"connected", "degraded", "closing"})
    start_timeout: float | None = 7.0
    budget: Any = None
    failure: BaseException | None = None

    def __init__(self) -> None:
        self.retry = RetryPolicy(stable_after=10)
        self.state = "connected"
        self.link: Any = Link()
        self.done: list[str] = []
        self.observers: list[Any] = []

    def on_transition(self, callback: Any) -> Any:
        self.observers.append(callback)
        return lambda: self.observers.remove(callback)

    async def _do(self, what: str) -> None:
        self.done.append(what)
        await asyncio.sleep(1)
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    async def connect(self) -> None:
        await self._do("connect")

    async def reconnect(self) -> None:
        await self._do("reconnect")

    async def disconnect(self) -> None:
        await self._do("disconnect")

    async def wait_for_state(self, *states: str) -> None:
        self.done.append(f"wait for {sorted(states)}")
        await asyncio.sleep(3)

    def tell(self, dest: str, trigger: str = Trigger.LOST, reason: Any = None, internal: bool = False) -> None:
        for observer in self.observers:
            observer(SimpleNamespace(dest=dest, trigger=trigger, reason=reason, internal=internal, source="connected"))


class Owner:
    """Is told."""

    lender = "the lender"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def slot_moved(self, slot: Any, *, was_in_service: bool) -> None:
        self.told.append(("moved", slot.state, was_in_service))

    def slot_in_trouble(self, slot: Any) -> None:
        self.told.append(("in trouble", slot.cause))

    def gave_up(self, slot: Any, *, is_news: bool) -> None:
        self.told.append(("gave up", is_news))
        assert isinstance(slot, Slot)

    def hook_failed(self, slot: Any, name: str, error: Any) -> None:
        self.told.append((name, error))
        assert isinstance(slot, Slot)

    def slot_probed(self, slot: Any) -> None:
        self.told.append(("probed", slot))


def made(state: str = S.ASLEEP, *, kind: Kind = Kind.REGULAR, on_open: Any = None, **policy: Any) -> Any:
    """A slot in a state, without its activity."""
    slot: Any = Slot(
        Conn(),  # type: ignore[arg-type]
        kind,
        Owner(),  # type: ignore[arg-type]
        "a target",  # type: ignore[arg-type]
        policy=PoolPolicy(replacement=PLAIN, **{"max_lifetime": None, **policy}),
        rng=random.Random(1),
        on_open=on_open,
    )
    slot._state = state
    slot.in_service = state in IN_SERVICE
    return slot


def now() -> float:
    return asyncio.get_running_loop().time()


# --- what the pool may ask ------------------------------------------------------------------------------------------------


def test_a_slot_begins_with_nothing() -> None:
    """Neither users nor a link nor a past; and it follows its connection."""
    slot = made()
    no = [name for name in vars(slot) if getattr(slot, name) is False]
    assert {"is_active", "is_ready", "is_old", "is_doubtful", "is_retired", "is_exclusive", "is_replaced"} <= {*no}
    assert (slot.links, slot.leases, slot.idle_since, slot.expires_at, slot.cause) == (0, 0, 0.0, None, None)
    assert (slot.holders, slot.callers, slot.predecessor, slot.is_overflow) == ([], [], None, False)
    assert (slot.generation.lender, slot.generation.slot, slot.target) == ("the lender", slot, "a target")
    assert len(slot.conn.observers) == 1
    assert made(kind=Kind.OVERFLOW).is_overflow
    slot.holders.append(ME)
    assert repr(slot) == f"<{Kind.REGULAR} slot of {slot.conn!r}, asleep, leases=1>"


@pytest.mark.parametrize("state", S)
def test_what_a_state_means(state: SlotState) -> None:
    """To those who choose a slot."""
    slot = made(state)
    assert slot.is_stale is (state == S.STALE)
    assert slot.is_clean is (state in {S.READY, S.RESETTING})
    assert slot.is_asleep is (state in {S.ASLEEP, S.CLOSING})
    assert slot.is_used is (state == S.RESETTING)
    assert slot.is_hopeful is (state in IN_SERVICE or state in STARTING)
    slot.cause = REFUSED
    assert slot.is_hopeful is (state in IN_SERVICE)
    slot.is_wanted_again = True
    assert slot.is_asleep is (state == S.ASLEEP)
    assert slot.is_hopeful is (state in IN_SERVICE)
    slot.cause = None
    assert slot.is_hopeful
    slot.is_wanted_again, slot.is_retired = False, True
    assert slot.is_asleep is (state == S.ASLEEP)


@pytest.mark.parametrize(
    ("state", "slow_at"),
    [(S.OPENING, 5.0), (S.CONFIGURING, 5.0), (S.RESETTING, 5.0), (S.READY, None), (S.STALE, None), (S.ASLEEP, None)],
)
def test_a_slot_that_is_under_way_is_counted_on_for_a_while(state: SlotState, slow_at: float | None) -> None:
    """Unless it failed before."""
    slot = made(state)
    slot._began = 5.0 - SLOW_START
    assert slot.slow_at == slow_at
    moments = (4.0, 5.0 - 2 * SOON, 5.0 - SOON, 5.0)
    assert [slot.is_coming(at) for at in moments] == [slow_at is not None] * 2 + [False] * 2
    slot.cause = REFUSED
    assert slot.slow_at == (slow_at if state == S.RESETTING else None)


@pytest.mark.parametrize(
    ("each", "holders", "callers", "room"),
    [(1, 0, 0, 1), (1, 1, 0, 0), (1, 0, 1, 0), (1, 1, 1, 0), (3, 0, 0, 3), (3, 2, 0, 1), (3, 2, 5, 1), (3, 4, 0, 0)],
)
def test_how_many_more_may_lease_a_slot(each: int, holders: int, callers: int, room: int) -> None:
    """Calls take the place of a lease where there is but one."""
    slot = made(S.READY, leases_per_connection=each)
    slot.holders, slot.callers = [ME] * holders, [ME] * callers
    assert slot.room == room
    assert slot.is_used is bool(holders or callers)


@pytest.mark.parametrize(
    ("each", "exclusive", "holders", "callers", "takes"),
    [
        (1, False, 0, 0, True),
        (1, False, 0, 3, True),
        (1, False, 1, 0, False),
        (1, True, 0, 0, True),
        (1, True, 0, 1, False),
        (2, False, 1, 0, True),
        (2, True, 0, 1, True),
    ],
)
def test_whether_a_call_may_go_through_a_slot(
    each: int, exclusive: bool, holders: int, callers: int, takes: bool
) -> None:
    """Beside those who use it."""
    slot = made(S.READY, leases_per_connection=each)
    slot.is_exclusive, slot.holders, slot.callers = exclusive, [ME] * holders, [ME] * callers
    assert slot.takes_calls is takes


async def test_who_uses_a_slot() -> None:
    """Leases, calls, and what cleans up."""
    slot = made(S.READY)
    slot.holders, slot.callers = ["a"], ["b", "c"]
    assert list(slot.users()) == ["a", "b", "c"]
    slot._state = S.RESETTING
    assert list(slot.users()) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("state", S)
def test_which_slot_can_be_leased_and_how_quickly(state: SlotState, kind: Kind) -> None:
    """Active and ready; at once, when nothing else is to be done for it afterwards."""
    slot = made(state, kind=kind)
    slot.activate(True)
    ready = state == S.READY
    plain = ready and kind is not Kind.OVERFLOW
    assert (slot.is_active, slot.is_ready, slot.generation.is_plain) == (True, ready, plain)
    for name in ("is_old", "has_reset"):
        setattr(slot, name, True)
        slot.activate(True)
        assert (slot.is_ready, slot.generation.is_plain) == (ready, False)
        setattr(slot, name, False)
    slot.is_replaced = True
    slot.activate(True)
    assert (slot.is_ready, slot.generation.is_plain) == (False, False)
    slot.is_replaced = False
    slot.activate(False)
    assert (slot.is_active, slot.is_ready, slot.generation.is_plain) == (False, False, False)


def test_a_slot_grows_old() -> None:
    """Subscriptions end; once replaced it stays so."""
    slot = made(S.READY)
    dismissed: list[int] = []
    slot.subscribers = SimpleNamespace(dismiss=lambda: dismissed.append(1))
    slot.activate(True)
    slot.expires_at = 5.0
    slot.expire()
    assert (slot.is_old, slot.is_replaced, slot.expires_at, slot.is_ready) == (True, False, None, True)
    assert not slot.generation.is_plain
    slot.expire(is_replaced=True)
    assert (slot.is_replaced, slot.is_ready) == (True, False)
    slot.expire()
    assert (slot.is_replaced, len(dismissed)) == (True, 3)


@pytest.mark.parametrize("state", [S.READY, S.OPENING])
async def test_a_link_that_is_outdated_is_old_also_when_it_comes_into_service_later(state: SlotState) -> None:
    """The next one is not."""
    slot = made(state)
    slot.outdate()
    assert slot.is_old is (state == S.READY)
    slot.begin_service(None)
    assert slot.is_old
    slot.conn.link = Link()
    slot.begin_service(None)
    assert not slot.is_old


# --- guards and effects ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.OPENING, S.CONFIGURING])
@pytest.mark.parametrize("serves", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_whether_a_slot_is_connected(state: SlotState, serves: bool, same: bool) -> None:
    """Its connection serves; and when `on_open` has run, it was for this link."""
    slot = made(state)
    slot.conn.state = "connected" if serves else "connecting"
    slot._configured = slot.conn.link if same else Link()
    assert slot.is_connected(None) is (serves and (same or state == S.OPENING))
    assert slot.needs_configuring(None) is False
    slot._on_open = print
    assert slot.needs_configuring(None) is not same


def test_which_link_is_condemned() -> None:
    """The one that it was, and no later one."""
    slot = made(S.READY)
    assert not slot.is_condemned(None)
    slot.condemn_link(None)
    assert slot.is_condemned(None)
    slot.conn.link = Link()
    assert not slot.is_condemned(None)


async def test_a_slot_pauses_when_its_connection_gave_up_or_had_before() -> None:
    """Until a link was stable."""
    slot = made(S.OPENING)
    assert not slot.must_pause(None)
    slot.conn.state = "failed"
    assert slot.must_pause(None)
    assert not slot.is_on_trial(None)
    slot.conn.state = "connected"
    slot.note_failure(REFUSED)
    assert not slot.must_pause(None)
    assert slot.is_on_trial(None)
    slot.conn.state = "connecting"
    assert slot.must_pause(None)
    slot.begin_service(None)
    await asyncio.sleep(9.9)
    assert slot.is_on_trial(None)
    await asyncio.sleep(0.1)
    assert not slot.must_pause(None)
    slot.end_service(None)
    assert slot.backoff.failures == 0


async def test_a_slot_that_is_needed_forgets_its_failures() -> None:
    """At once, or when it is closed."""
    slot = made(S.CLOSING)
    await asyncio.sleep(4)
    slot.note_failure(REFUSED)
    slot.wake_again(None)
    assert (slot.is_wanted(None), slot.cause, slot._began, slot.backoff.failures) == (True, None, 4.0, 1)
    slot.cause = REFUSED
    slot.forget_failures(None)
    assert (slot.is_wanted(None), slot.cause, slot.backoff.failures) == (False, None, 0)
    assert slot.was_retired(None) is False
    slot.cut_off(None)
    assert slot.was_retired(None) is True


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (REFUSED, REFUSED),
        (ConnectFailedError("gave up"), None),
        (None, None),
    ],
)
async def test_the_cause_is_what_has_failed_and_not_who_gave_up(reason: Any, cause: Any) -> None:
    """The owner is told."""
    slot = made(S.OPENING)
    if isinstance(reason, ConnectFailedError):
        slot.note_cause(reason)
        assert slot.cause is reason
        reason.reason = cause = REFUSED
    slot.note_cause(reason)
    if cause is None:
        assert str(slot.cause) == "it could not be opened"
    else:
        assert slot.cause is cause
    assert slot._owner.told[-1] == ("in trouble", slot.cause)


async def test_only_the_first_failure_is_news() -> None:
    """Each counts, and has its pause."""
    slot = made(S.OPENING)
    slot.note_failure(REFUSED)
    slot.note_failure(REFUSED)
    assert slot._owner.told == [("in trouble", REFUSED), ("gave up", True), ("in trouble", REFUSED), ("gave up", False)]
    assert (slot.backoff.failures, slot.backoff.wait) == (2, 4.0)


async def test_losses_are_counted_from_when_they_were() -> None:
    """For the restart intensity."""
    slot = made(S.OPENING)
    slot.backoff._retry = RetryPolicy(max_restarts=1, restart_window=60)
    slot._state = S.BACKING_OFF
    for _ in range(3):
        await asyncio.sleep(10)
        slot.conn.tell("closing")
        slot.conn.tell("backing_off", Trigger.RECONNECT)
        slot.conn.tell("backing_off")
    slot.note_failure(None)
    assert slot.backoff.wait == 50.0


async def test_what_is_noted_of_a_new_link() -> None:
    """Once for each; who serves again by the same one is only idle from then on."""
    slot = made(S.OPENING, max_lifetime=100.0)
    await asyncio.sleep(5)
    slot.cause = REFUSED
    slot.begin_service(None)
    assert (slot.cause, slot.idle_since, slot.links, slot.is_exclusive, slot.has_reset) == (None, 5.0, 1, False, False)
    expires_at = slot.expires_at
    assert 5 < expires_at <= 105
    await asyncio.sleep(5)
    slot.begin_service(None)
    assert (slot.idle_since, slot.links, slot.expires_at) == (10.0, 1, expires_at)
    slot.conn.link = Link()
    slot.conn.link.one_at_a_time = True
    slot.policy = PoolPolicy(max_lifetime=None)
    slot.begin_service(None)
    assert (slot.links, slot.expires_at, slot.is_exclusive) == (2, None, True)
    slot.conn.link = None
    slot.begin_service(None)
    assert slot.is_exclusive is False


@pytest.mark.parametrize("resets", [False, True])
async def test_what_is_noted_of_a_driver(resets: bool) -> None:
    """Whether its `reset` is to be called; and its probes are told to the owner."""

    class Driver(DriverLink[Any]):
        async def connect(self) -> Any:
            return object()

    class Resetting(Driver):
        async def reset(self, driver: Any) -> None: ...

    slot = made(S.OPENING)
    slot.conn.link = link = Resetting() if resets else Driver()
    slot.begin_service(None)
    assert slot.has_reset is resets
    link._on_probe()  # type: ignore[misc]
    assert slot._owner.told == [("probed", slot)]


async def test_what_cleans_up_has_a_limit_and_is_one_after_another() -> None:
    """Nobody gets the slot before; the state is entered once."""
    slot, done = made(S.READY, hook_timeout=3.0), []
    slot.in_service = True

    async def clean(seconds: float) -> None:
        await asyncio.sleep(seconds)
        done.append(seconds)

    slot.reset("reset", clean(1))
    slot.reset("on_release", clean(50))
    assert (slot.state, slot.holders) == (S.RESETTING, [])
    assert list(slot.users()) == [slot.activity_task]
    await asyncio.sleep(3.9)
    assert done == [1]
    await asyncio.sleep(0.2)
    assert (slot.state, done) == (S.STALE, [1])
    ((name, error),) = [each for each in slot._owner.told if each[0] != "moved"]
    assert (name, str(error)) == ("on_release", "on_release did not end within 3 s, its hook_timeout")


@pytest.mark.parametrize("state", [S.OPENING, S.CLOSING, S.BACKING_OFF])
async def test_only_what_cleans_up_uses_a_slot(state: SlotState) -> None:
    """Not what else it does by itself."""
    slot = made()
    slot.conn.state = "failed"
    slot.try_to_fire(T.WAKE)
    assert slot.activity_task is not None
    slot._state = state
    assert list(slot.users()) == []
    slot._state = S.OPENING
    await slot.end()
    assert slot.is_retired is True
    assert slot.state == S.CLOSED


async def test_pauses_are_shortened_by_the_pool_s_own_dice() -> None:
    """The one that it was given."""
    slot = made(S.OPENING)
    slot.backoff._replacement = RetryPolicy(max_attempts=None, initial_delay=2.0, jitter="full")
    slot.note_failure(REFUSED)
    assert slot.backoff.wait == RetryPolicy(initial_delay=2.0, jitter="full").delay(1, 0.0, random.Random(1))


# --- activities -----------------------------------------------------------------------------------------------------------


async def test_a_slot_connects_or_reconnects_once_when_a_fresh_link_is_wanted() -> None:
    """Again, when somebody has disconnected it meanwhile."""
    slot = made(S.OPENING)
    slot.conn.failure = ConnectAbandonedError("by somebody")
    assert await slot.while_opening() == T.CONNECTED
    slot.ask_for_fresh_link(None)
    assert await slot.while_opening() == T.CONNECTED
    assert await slot.while_opening() == T.CONNECTED
    assert slot.conn.done == ["connect", "connect", "reconnect", "connect"]


@pytest.mark.parametrize(
    ("failures", "has_budget", "state", "asked"),
    [
        (1, True, "failed", True),
        (0, True, "failed", False),
        (1, False, "failed", False),
        (1, True, "connected", False),
    ],
)
async def test_who_makes_an_attempt_in_place_of_the_connection_asks_its_budget(
    failures: int, has_budget: bool, state: str, asked: bool
) -> None:
    """The connection asks for its own."""
    slot, admitted = made(S.OPENING), []

    async def admit() -> None:
        admitted.append(list(slot.conn.done))

    slot.conn.budget = SimpleNamespace(admit=admit) if has_budget else None
    slot.conn.state = state
    slot.backoff.failures = failures
    await slot.while_opening()
    assert admitted == ([[]] if asked else [])


async def test_on_open_is_run_for_a_link_and_what_it_did_is_noted() -> None:
    """Whatever link there is afterwards."""
    asked: list[Any] = []

    async def prepare(conn: Any) -> None:
        asked.append(conn)
        await asyncio.sleep(1)
        conn.link = Link()

    slot = made(S.CONFIGURING, on_open=prepare)
    link = slot.conn.link
    assert await slot.while_configuring() == T.CONFIGURED
    assert (asked, slot._configured) == ([slot.conn], link)


@pytest.mark.parametrize("how", ["raises", "hangs", "meddles"])
async def test_a_link_that_on_open_refuses_has_failed(how: str) -> None:
    """By its error, by its limit, or by what it did to the connection."""

    async def prepare(conn: Any) -> None:
        if how == "raises":
            raise REFUSED
        if how == "hangs":
            await asyncio.sleep(100)
        slot._meddling = "its link was replaced by reconnect()"

    slot = made(S.CONFIGURING, on_open=prepare)
    fired: list[Any] = []
    slot.fire = lambda *what: fired.append(what)
    assert await slot.while_configuring() is None
    ((trigger, error),) = fired
    assert (trigger, slot._owner.told, slot._configured) == (T.OPEN_FAILED, [("on_open", error)], None)
    if how == "raises":
        assert error is REFUSED
    elif how == "hangs":
        assert (now(), "on_open did not end within 7 s, its start_timeout" in str(error)) == (7.0, True)
    else:
        assert str(error) == "plug: its link was replaced by reconnect() while on_open ran"


@pytest.mark.parametrize("fails", [False, True])
async def test_a_slot_is_clean_when_all_has_been_cleaned_up(fails: bool) -> None:
    """Or its link is spoiled; who failed is named."""
    slot, done = made(S.RESETTING), []

    async def clean(error: Any) -> None:
        await asyncio.sleep(1)
        done.append(error)
        if error is not None:
            raise error

    slot._cleanups.add("reset", clean(None))
    slot._cleanups.add("on_release", clean(REFUSED if fails else None))
    assert await slot.while_resetting() == (T.SPOIL if fails else T.RESET_DONE)
    assert (len(done), slot._owner.told) == (2, [("on_release", REFUSED)] if fails else [])


@pytest.mark.parametrize("state", ["failed", "backing_off"])
@pytest.mark.parametrize(("wait", "until"), [(2.0, 2.0), (50.0, None)])
async def test_a_slot_pauses_unless_its_connection_recovers(
    state: str, wait: float, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that still tries is stopped first, which is part of the pause."""
    slot = made(S.BACKING_OFF)
    slot.conn.state, slot.backoff.wait = state, wait
    slot.conn.failure = REFUSED if state != "failed" else None
    assert await slot.while_backing_off() == T.RETRY
    stops = state != "failed"
    assert now() == (until or 3.0 + stops)
    assert slot.conn.done == ["disconnect"] * stops + ["wait for ['connected', 'degraded']"]
    assert caplog.messages == [f"{slot.conn!r}: could not be disconnected"] * stops


async def test_a_slot_is_closed_by_its_connection() -> None:
    """Also at the end of the loop."""
    slot = made(S.CLOSING)
    assert await slot.while_closing() == T.DISCONNECTED
    await slot.on_loop_end()
    assert slot.conn.done == ["disconnect"] * 2


# --- what the connection tells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dest", "is_same", "outlives", "ends"),
    [
        ("connected", True, False, False),
        ("closing", True, False, False),
        ("backing_off", True, False, True),
        ("connected", False, False, True),
        ("backing_off", True, True, False),
        ("connected", False, True, False),
    ],
)
async def test_leases_end_with_their_link(dest: str, is_same: bool, outlives: bool, ends: bool) -> None:
    """Unless the policy says otherwise; they are told why."""
    slot = made(S.READY, lease_outlives_link=outlives)
    slot.fire = lambda *what: None
    slot._link = slot.conn.link if is_same else Link()
    slot.holders, generation, reason = [ME], slot.generation, LinkLostError("gone")
    slot.conn.tell(dest, reason=reason)
    assert (generation.is_over, slot.generation is not generation, slot.holders) == (ends, ends, [] if ends else [ME])
    assert generation.loss is (reason if ends else None)
    slot.holders = []
    generation = slot.generation
    slot.conn.tell(dest, reason=reason)
    assert slot.generation is generation


async def test_a_slot_is_told_of_what_means_something_to_it() -> None:
    """With the reason; not while `on_open` replaces the link itself."""
    slot = made(S.READY)
    fired: list[Any] = []
    slot.fire = lambda *what: fired.append(what)
    slot.conn.tell("connected")
    assert fired == []
    slot.conn.tell("backing_off", reason=REFUSED)
    assert fired == [(T.LOST, REFUSED)]
    slot.conn.tell("closing", reason=REFUSED)
    assert fired.pop() == (T.WITHDRAWN, REFUSED)
    slot._state = S.CONFIGURING
    slot.conn.tell("connecting", Trigger.RECONNECT)
    slot.conn.tell("backing_off")
    assert (len(fired), slot._meddling) == (1, "its link was replaced by reconnect()")


async def test_a_state_that_is_entered_is_told_to_the_owner() -> None:
    """With whether the slot was in service before; what was to be cleaned up is dropped."""
    slot, told = made(S.READY), []
    slot.activate(True)
    await asyncio.sleep(4)
    slot._cleanups = SimpleNamespace(drop=lambda: told.append("dropped"))
    slot._meddling = "something"
    for state in (S.RESETTING, S.READY, S.OPENING, S.CONFIGURING, S.CLOSED):
        slot._state = state
        slot._began = 0.0
        slot.entered(None)
        told.append((str(state), slot._began, slot.is_ready, len(slot.conn.observers)))
    assert slot._owner.told == [
        ("moved", S.RESETTING, True),
        ("moved", S.READY, True),
        ("moved", S.OPENING, True),
        ("moved", S.CONFIGURING, False),
        ("moved", S.CLOSED, False),
    ]
    assert told == [
        ("resetting", 4.0, False, 1),
        "dropped",
        ("ready", 0.0, True, 1),
        "dropped",
        ("opening", 4.0, False, 1),
        "dropped",
        ("configuring", 0.0, False, 1),
        "dropped",
        ("closed", 0.0, False, 0),
    ]
    assert slot._meddling == ""


@pytest.mark.parametrize("retired", [False, True])
async def test_a_slot_comes_to_rest_without_its_activities(retired: bool) -> None:
    """Asleep; or closed, when it has left the pool, with its leases."""
    slot = made(S.BACKING_OFF)
    slot.is_retired = retired
    generation = slot.generation
    slot.come_to_rest()
    assert slot.state == (S.CLOSED if retired else S.ASLEEP)
    assert generation.is_over is retired
    assert slot.conn.done == []


async def test_a_trigger_that_means_nothing_is_not_fired() -> None:
    """Others are."""
    slot = made(S.ASLEEP)
    slot.try_to_fire(T.LOST)
    assert slot.state == S.ASLEEP
    slot.try_to_fire(T.RETIRE)
    assert slot.state == S.CLOSED
    await settled()
