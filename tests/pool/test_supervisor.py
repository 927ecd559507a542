"""What a supervisor decides when a slot reports, each decision alone: slots without connections, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from fsm_conn import LinkLostError, PoolTimeoutError, PoolUnavailableError
from fsm_conn.pool.errors import HookTimeoutError
from fsm_conn.pool.leasing.waiters import CALL, LEASE, PATIENT
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.kind import Kind
from fsm_conn.pool.slots.slot import SOON
from fsm_conn.pool.slots.table import SlotTrigger
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.supervisor import Supervisor
from fsm_conn.pool.targets.target import PoolTarget
from fsm_conn.pool.targets.targets import Targets

from .conftest import settled
from .members import PLAIN, Member

WAKE, SLEEP, RETIRE, REPLACE = SlotTrigger.WAKE, SlotTrigger.SLEEP, SlotTrigger.RETIRE, SlotTrigger.REPLACE


class Office(Supervisor):
    """A supervisor of slots without connections, open; its lookout always thinks that the loop had its turns."""

    def __init__(self, names: str = "a", is_open: bool = True, **policy: Any) -> None:
        rng = random.Random(1)
        targets = Targets(lambda name: PoolTarget(name, str(name), lambda _: None, rng), names)
        self.made: list[Any] = []
        self.can_make = True
        self.counts = PoolStats()
        super().__init__(
            "<pool>", PoolPolicy(replacement=PLAIN, **{"max_overflow": 0, **policy}), targets, self._member, self.counts
        )
        assert not self.is_serving
        assert not self.is_open
        self.moves.is_open = self.is_open = is_open
        self.is_serving = True
        self.lookout.due = float("inf")

    def _member(self, kind: Kind, owner: Supervisor, target: PoolTarget) -> Any:
        if not self.can_make:
            raise ZeroDivisionError("of a constructor")
        assert owner is self
        self.made.append(Member(target, "asleep", kind=kind, is_overflow=kind is Kind.OVERFLOW, policy=self.policy))
        return self.made[-1]

    def target(self, name: str) -> PoolTarget:
        return next(target for target in self._targets if target.name == name)

    def put_in(self, state: str = "ready", name: str = "a", **attributes: Any) -> Any:
        """A slot that is simply there."""
        slot = Member(self.target(name), state, **{"policy": self.policy, **attributes})
        self.slots.add(slot)
        return slot

    def moved(self, slot: Any, state: str, *, before: str | None = None) -> None:
        """A slot goes to a state and reports it."""
        was, slot.state = slot.in_service, state
        self.news.clear()
        self.slot_moved(slot, was_in_service=was)
        assert self.news.is_set()

    def wait(self, wants: int = LEASE) -> asyncio.Future[Any]:
        return self.waiters.join("somebody", asyncio.get_running_loop(), wants)

    def gone(self, slot: Any) -> bool:
        return slot not in self.slots and slot in self.slots.leaving and slot.fired[-1:] == [RETIRE]


# --- begin and end --------------------------------------------------------------------------------------------------------


async def test_it_begins_with_all_slots_and_opens_no_more_before_they_were_up() -> None:
    office = Office("ab", size=2, standby=1)
    office.target("a").failed(OSError("old"), 0.0, PLAIN)
    before = office.news
    office.begin()
    assert [(slot.kind, slot.target.name) for slot in office.made] == [
        (Kind.REGULAR, "a"),
        (Kind.REGULAR, "b"),
        (Kind.REGULAR, "a"),
    ]
    assert tuple(office.slots) == tuple(office.made)
    assert (office.is_serving, office.is_open, office.moves.is_open) == (True, False, False)
    assert office.news is not before
    assert not office.target("a").is_left_out
    office.open()
    assert (office.is_open, office.moves.is_open) == (True, True)


async def test_at_the_end_nobody_is_served() -> None:
    office = Office()
    slot = office.put_in()
    office.put(slot)
    assert office.slots.free == [slot]
    office.end()
    assert (office.is_serving, office.is_open, office.slots.free, slot.dismissed) == (False, False, [], 1)
    assert office.news.is_set()
    office.settle(slot)
    assert office.slots.free == []
    office.slot_probed(slot)
    assert office.slots.free == []


# --- a slot comes up ------------------------------------------------------------------------------------------------------


async def test_a_slot_that_comes_up_is_leased() -> None:
    """Its target is well again; beyond the size it is standby, unless it is overflow."""
    office = Office(size=1, max_overflow=1, standby=1)
    office.target("a").failed(OSError("refused"), 0.0, PLAIN)
    slots = [office.put_in("opening", is_overflow=overflow) for overflow in (False, False, True)]
    for slot in slots:
        office.moved(slot, "ready")
    assert [slot.is_active for slot in slots] == [True, False, True]
    assert office.slots.free == [slots[2], slots[0]]
    assert not office.target("a").is_left_out


async def test_calls_share_a_slot_unless_it_takes_one_at_a_time() -> None:
    for exclusive, leases, share in ((False, 1, True), (True, 1, False), (True, 2, True)):
        office = Office(leases_per_connection=leases)
        office.moved(office.put_in("opening", is_exclusive=exclusive), "ready")
        assert office.waiters.calls_share is share


async def test_a_slot_that_comes_up_takes_the_place_for_which_it_was_made() -> None:
    """The old one leaves as soon as nobody uses it."""
    for state, holders, leaves in (("ready", [], True), ("ready", ["somebody"], False), ("opening", [], True)):
        office = Office()
        old = office.put_in(state, holders=holders)
        slot = office.put_in("opening", predecessor=old)
        office.moved(slot, "ready")
        assert (slot.predecessor, slot.is_active, old.is_replaced) == (None, True, True)
        assert office.gone(old) is leaves
        assert office.slots.free == [slot]


async def test_who_replaces_a_standby_slot_is_standby() -> None:
    office = Office(size=1, standby=1)
    office.put_in()
    slot = office.put_in("opening", predecessor=office.put_in(is_active=False))
    office.moved(slot, "ready")
    assert not slot.is_active


async def test_who_replaces_a_slot_that_has_gone_is_a_slot_as_any() -> None:
    office = Office(size=1)
    slot = office.put_in("opening", predecessor=Member(office.target("a")))
    office.moved(slot, "ready")
    assert (slot.predecessor, slot.is_active, office.slots.free) == (None, True, [slot])


async def test_a_trial_that_is_not_needed_leaves() -> None:
    """Both targets have one: nothing would be evened out."""
    office = Office("ab", size=1)
    trial = office.put_in("opening", "b", predecessor=office.put_in())
    office.moved(trial, "ready")
    assert office.gone(trial)
    assert len(office.slots) == 1


async def test_a_link_that_is_fresh_anyway_needs_no_successor() -> None:
    """One on another target goes on: it is a move."""
    office = Office("ab", size=1)
    for name, leaves in (("a", True), ("b", False)):
        slot = office.put_in("opening")
        other = office.put_in("opening", name, predecessor=slot)
        office.moved(slot, "ready")
        assert office.gone(other) is leaves


async def test_a_slot_that_is_closed_is_forgotten() -> None:
    office = Office()
    slot = office.put_in("closing")
    office.retire(slot)
    assert office.gone(slot)
    office.moved(slot, "closed")
    assert office.slots.leaving == set()


async def test_who_leaves_takes_a_successor_along() -> None:
    office = Office()
    old = office.put_in()
    successor = office.put_in("opening", predecessor=old)
    office.retire(old)
    assert office.gone(old)
    assert office.gone(successor)


async def test_a_slot_that_was_cleaned_up_or_probed_is_leased_again() -> None:
    """And meanwhile it is not; it is in service throughout."""
    office = Office(size=1)
    slot = office.put_in("opening")
    assert not office.slots.is_complete
    office.moved(slot, "ready")
    assert office.slots.is_complete
    office.moved(slot, "resetting")
    assert office.slots.free == []
    office.moved(slot, "ready")
    assert office.slots.free == [slot]
    for since, free in ((0.0, []), (None, [slot])):
        slot.probed_since = since
        office.news.clear()
        office.slot_probed(slot)
        assert (office.slots.free, office.news.is_set()) == (free, True)
    office.moved(slot, "opening")
    assert not office.slots.is_complete


# --- a slot goes down -----------------------------------------------------------------------------------------------------


async def test_standby_takes_the_place_of_one_that_goes_down() -> None:
    """Not that of one which was standby itself, nor that of overflow."""
    for active, overflow, takes in ((True, False, True), (False, False, False), (True, True, False)):
        office = Office(size=1, standby=1, max_overflow=1)
        slot = office.put_in(is_active=active, is_overflow=overflow)
        standby = office.put_in(is_active=False)
        office.put(slot)
        office.moved(slot, "opening")
        assert (standby.is_active, slot.is_active) == (takes, False)
        assert office.slots.free == [standby] * takes


@pytest.mark.parametrize(("state", "doubtful"), [("reconnecting", True), ("connected", False)])
async def test_a_target_is_doubtful_when_a_link_was_lost(state: str, doubtful: bool) -> None:
    """Not when the pool itself replaces it."""
    office = Office()
    slot = office.put_in()
    slot.conn.state = state
    office.moved(slot, "opening")
    assert office.target("a").is_doubtful is doubtful


async def test_a_slot_that_was_replaced_leaves_when_it_goes_down() -> None:
    """Once; and nothing is decided while nobody is served."""
    office = Office()
    slot = office.put_in(is_replaced=True)
    office.moved(slot, "opening")
    assert office.gone(slot)
    slot.state = "ready"
    office.moved(slot, "opening")
    assert slot.fired == [RETIRE]
    office = Office(size=1, standby=1)
    office.is_serving = False
    slot, standby = office.put_in(is_replaced=True), office.put_in(is_active=False)
    office.moved(slot, "opening")
    assert slot in office.slots
    assert not standby.is_active


async def test_a_slot_that_is_to_connect_where_another_target_is_better_moves() -> None:
    """And who waits is provided for. Nothing moves while nobody is served."""
    for serving in (True, False):
        office = Office("ab", max_overflow=1)
        office.is_serving = serving
        office.target("a").failed(OSError("refused"), 0.0, PLAIN)
        slot = office.put_in("asleep")
        office.moved(slot, "opening")
        assert office.gone(slot) is serving
        assert [made.target.name for made in office.made] == ["b"] * serving


# --- trouble --------------------------------------------------------------------------------------------------------------


async def test_overflow_that_fails_is_tried_again_later_while_somebody_waits() -> None:
    """Else it leaves."""
    for waits in (True, False):
        office = Office(max_overflow=2)
        office.put_in(holders=["somebody"])
        slot = office.put_in("backing_off", is_overflow=True, cause=OSError("refused"))
        slot.backoff.failures, slot.backoff.wait = 2, 9.0
        if waits:
            office.wait()
        office.slot_in_trouble(slot)
        assert (office.slots.overflow_failures, office.slots.overflow_at) == (2, 9.0)
        assert office.gone(slot) is not waits
        assert office.news.is_set()


async def test_overflow_that_has_not_given_up_does_not_pause_the_next() -> None:
    office = Office(max_overflow=2)
    for extra in ({"is_overflow": True}, {}):
        slot = office.put_in("opening", cause=OSError("refused"), **extra)
        slot.backoff.failures = 0 if extra else 3
        slot.backoff.wait = 9.0
        office.slot_in_trouble(slot)
        assert office.slots.overflow_at == 0.0
        assert office.gone(slot) is bool(extra)


async def test_an_attempt_that_fails_is_no_news_when_nobody_is_served() -> None:
    office = Office("ab")
    office.is_serving = False
    slot = office.put_in("opening", cause=OSError("refused"))
    office.slot_in_trouble(slot)
    assert not office.target("a").is_left_out
    office.is_serving = True
    office.slot_in_trouble(slot)
    assert office.gone(slot)


async def test_who_can_hope_for_nothing_is_told_at_once() -> None:
    """Except who waits through an outage, for whom overflow is tried."""
    office = Office(max_overflow=1)
    office.put_in("backing_off", cause=OSError("refused"))
    for number in (1, 2):
        waiter = office.wait()
        office.provide()
        assert str(waiter.exception()) == "'<pool>' has no connection: refused"
        assert (office.counts.refused, office.made) == (number, [])
    waiter, patient = office.wait(), office.wait(LEASE | PATIENT)
    office.provide()
    assert (waiter.done(), patient.done(), office.counts.refused) == (True, False, 3)
    assert isinstance(waiter.exception(), PoolUnavailableError)
    assert [slot.is_overflow for slot in office.made] == [True]
    patient.cancel()


async def test_all_that_is_known_of_an_outage_is_told() -> None:
    """Of slots, and of targets that have none."""
    office = Office("ab")
    office.put_in("backing_off", cause=OSError("a is down"))
    office.put_in("backing_off")
    office.target("a").cause, office.target("b").cause = next(iter(office.slots)).cause, OSError("b is down")
    error = office.why_unavailable("is unwell")
    assert str(error) == "'<pool>' is unwell: a is down; b is down"
    assert len(error.causes) == 2
    alone = Office("a")
    alone.target("a").cause = OSError("a is down")
    assert str(alone.why_unavailable()) == "'<pool>' has no connection: none is in service"


# --- what is said ---------------------------------------------------------------------------------------------------------


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.message) for record in caplog.records]


async def test_of_several_that_give_up_alike_one_tells_why(caplog: pytest.LogCaptureFixture) -> None:
    """The others say that it was the same, until one comes up."""
    caplog.set_level(logging.DEBUG)
    office = Office()
    slot = office.put_in("backing_off", cause=OSError("refused"), conn="<conn>")
    slot.backoff.wait = 1.23456
    office.gave_up(slot, is_news=True)
    office.gave_up(slot, is_news=False)
    office.is_open = False
    slot.cause = None
    office.gave_up(slot, is_news=True)
    assert said(caplog) == [
        ("WARNING", "'<conn>' has given up, and is tried again in 1.23 s: refused"),
        ("DEBUG", "'<conn>' has given up, and is tried again in 1.23 s: the same error"),
        ("WARNING", "'<conn>' has given up: "),
    ]
    slot.cause = OSError("refused")
    office.gave_up(slot, is_news=True)
    office.moved(office.put_in("opening"), "ready")
    office.gave_up(slot, is_news=True)
    assert [text.rpartition(": ")[2] for _, text in said(caplog)[3:]] == ["refused", "refused"]


async def test_a_hook_that_fails_alike_is_told_in_full_once(caplog: pytest.LogCaptureFixture) -> None:
    """Which hook, which error; one that took too long has nothing more to tell."""
    office = Office()
    slot = office.put_in(conn="<conn>")
    for error in (KeyError("x"), KeyError("x"), KeyError("y"), HookTimeoutError("on_acquire took too long")):
        office.hook_failed(slot, "on_acquire", error)
    office.hook_failed(slot, "on_release", KeyError("x"))
    assert [text for _, text in said(caplog)] == [
        "'<conn>': on_acquire failed, so its link is replaced",
        "'<conn>': on_acquire failed as before: 'x'",
        "'<conn>': on_acquire failed, so its link is replaced",
        "'<conn>': on_acquire took too long, so its link is replaced",
        "'<conn>': on_release failed, so its link is replaced",
    ]
    assert [str(record.exc_info[1]) if record.exc_info else None for record in caplog.records] == [
        "'x'",
        None,
        "'y'",
        None,
        "'x'",
    ]


async def test_the_last_errors_are_known_again(caplog: pytest.LogCaptureFixture) -> None:
    """Eight of them; the kind of an error and its text tell one from another."""
    office = Office()
    slot = office.put_in(conn="<conn>")
    errors = [OSError("x"), ValueError("x"), *(OSError(str(number)) for number in range(6))]
    for error in (*errors, *errors, OSError("y"), errors[0], errors[-1]):
        office.hook_failed(slot, "on_open", error)
    assert ["as before" in text for _, text in said(caplog)] == [False] * 8 + [True] * 8 + [False, False, True]


async def test_a_constructor_that_fails_is_told_to_nobody_who_waits(caplog: pytest.LogCaptureFixture) -> None:
    """It is called once, however many wait."""
    office = Office("ab", size=1, max_overflow=3)
    office.put_in(holders=["somebody"])
    office.can_make = False
    waiters = [office.wait() for _ in range(3)]
    office.provide()
    assert (any(waiter.done() for waiter in waiters), len(office.slots)) == (False, 1)
    assert said(caplog) == [("ERROR", "'<pool>': a connection beyond its size could not be made")]
    office.can_make = True
    office.provide()
    assert [slot.target.name for slot in office.made] == ["b", "a", "b"]
    for waiter in waiters:
        waiter.cancel()


# --- serving --------------------------------------------------------------------------------------------------------------


async def test_who_waits_is_served_first_and_in_order() -> None:
    """As long as there is room; then the slot is free."""
    office = Office(leases_per_connection=3)
    slot = office.put_in()
    first, second = office.wait(), office.wait()
    office.put(slot)
    assert first.result() is second.result() is slot
    assert (office.slots.free, slot.room) == ([slot], 1)
    third, fourth = office.wait(), office.wait()
    office.put(slot)
    assert third.result() is slot
    assert (fourth.done(), office.slots.free) == (False, [])
    fourth.cancel()


async def test_a_call_is_served_where_a_lease_would_not_be() -> None:
    """By a slot that carries calls already; and not by one that is leased."""
    for users, probed_since, wants, served in (
        ({}, 0.0, CALL, False),
        ({}, None, CALL, True),
        ({"callers": ["somebody"]}, None, CALL, True),
        ({"callers": ["somebody"]}, None, LEASE, False),
        ({"holders": ["somebody"]}, None, CALL, False),
        ({"holders": ["somebody"]}, None, LEASE, False),
        ({}, None, LEASE, True),
    ):
        office = Office()
        slot = office.put_in(probed_since=probed_since, **users)
        waiter = office.wait(wants)
        office.put(slot)
        assert waiter.done() is served
        waiter.cancel()


async def test_a_slot_is_looked_at_before_it_is_handed_out() -> None:
    """When the loop was blocked, and somebody waits."""
    office = Office()
    office.lookout.due = 0.0
    slot = office.put_in()
    office.put(slot)
    assert (office.slots.free, office.slots.set_aside) == ([slot], [])
    waiter = office.wait()
    office.put(slot)
    assert (waiter.done(), slot in office.slots.set_aside) == (False, True)
    assert await waiter is slot


async def test_a_slot_that_is_not_ready_is_not_free() -> None:
    office = Office()
    slot = office.put_in()
    office.put(slot)
    slot.state = "resetting"
    office.put(slot)
    assert office.slots.free == []


async def test_the_time_without_use_begins_when_nobody_uses_it() -> None:
    office = Office()
    await asyncio.sleep(3)
    used, unused, out = office.put_in(holders=["somebody"]), office.put_in(), office.put_in("opening")
    for slot in (used, unused, out):
        office.settle(slot)
    assert [slot.idle_since for slot in (used, unused, out)] == [0.0, 3.0, 0.0]
    retired = office.put_in(is_retired=True)
    office.news.clear()
    office.settle(retired)
    assert (retired.idle_since, office.news.is_set(), office.slots.free) == (0.0, True, [unused])


@pytest.mark.parametrize(
    ("slot", "others", "policy", "fired"),
    [
        ({}, [{}], {}, []),
        ({"is_replaced": True}, [], {}, [RETIRE]),
        ({"state": "stale"}, [], {}, [REPLACE]),
        ({"is_old": True}, [{}], {}, [REPLACE]),
        ({"is_old": True}, [{"state": "opening"}], {}, []),
        ({"is_overflow": True}, [{}], {"overflow_linger": 0.0}, [RETIRE]),
        ({"is_overflow": True}, [], {"overflow_linger": 0.0}, []),
        ({"is_overflow": True}, [{}], {"overflow_linger": 5.0}, []),
        ({"is_overflow": True, "is_old": True}, [{}], {"overflow_linger": 5.0}, [RETIRE]),
        ({"is_overflow": True, "is_old": True, "waits": True}, [{}], {"overflow_linger": 5.0}, [REPLACE]),
        ({"is_overflow": True, "waits": True}, [{}], {"overflow_linger": 0.0}, []),
    ],
)
async def test_what_is_due_to_a_slot_that_nobody_uses(
    slot: dict[str, Any], others: list[dict[str, Any]], policy: dict[str, Any], fired: list[str]
) -> None:
    office = Office(max_overflow=2, **policy)
    for other in others:
        office.put_in(**{"is_active": False, **other})
    if slot.pop("waits", False):
        office.wait(CALL).add_done_callback(lambda _: None)
    member = office.put_in(**{"is_active": False, **slot})
    office.settle(member)
    assert member.fired == fired


async def test_the_last_one_in_service_has_a_successor_before_its_link_is_replaced() -> None:
    """One, and none if it cannot be made; overflow has none."""
    office = Office(max_overflow=1)
    office.can_make = False
    old = office.put_in(is_old=True)
    office.settle(old)
    assert len(office.slots) == 1
    office.can_make = True
    for _ in range(2):
        office.settle(old)
    (new,) = office.made
    assert (new.kind, new.target, new.predecessor, new.fired, new in office.slots) == (
        Kind.REGULAR,
        old.target,
        old,
        [WAKE],
        True,
    )
    assert office.slots.free == [old]
    office = Office(max_overflow=1)
    office.settle(office.put_in(is_old=True, is_overflow=True))
    assert office.made == []
    office.put_in()
    office.put_in("opening")
    office.settle(office.put_in(is_old=True))
    assert office.made == []  # another one serves: when the third does, too, it can be replaced


async def test_who_waits_has_as_much_started_as_is_needed() -> None:
    """What sleeps is woken, and what is beyond the size is opened with the failures of the last one."""
    office = Office(size=2, max_overflow=2)
    office.put_in(holders=["somebody"])
    asleep = office.put_in("asleep")
    office.slots.overflow_failures = 3
    waiters = [office.wait() for _ in range(2)]
    office.is_open = False
    office.provide()
    assert (asleep.fired, office.made) == ([], [])
    office.is_open = True
    office.news.clear()
    office.provide()
    (overflow,) = office.made
    assert (asleep.fired, overflow.fired, overflow.kind, overflow.backoff.forgot) == ([WAKE], [WAKE], Kind.OVERFLOW, 3)
    assert overflow in office.slots
    assert office.news.is_set()
    for waiter in waiters:
        waiter.cancel()


async def test_nothing_is_started_when_nobody_waits() -> None:
    office = Office(size=2)
    asleep = office.put_in("asleep")
    office.news.clear()
    office.provide()
    assert (asleep.fired, office.news.is_set()) == ([], False)


# --- what is due by the clock ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expires_at", "is_due"), [(4.0, True), (5.0, True), (5.0 + SOON, True), (5.1, False)])
async def test_a_link_that_is_too_old_is_replaced(expires_at: float, is_due: bool) -> None:
    """When nobody uses it; and it is taken last until then."""
    office = Office(size=2)
    await asyncio.sleep(5)
    office.put_in()
    slot, used = office.put_in(expires_at=expires_at), office.put_in(expires_at=expires_at, holders=["somebody"])
    asleep = office.put_in("asleep", expires_at=1.0)
    office.put(slot)
    assert office.clean_up() == (None if is_due else expires_at)
    assert (slot.is_old, used.is_old, asleep.is_old) == (is_due, is_due, False)
    assert (slot.fired, used.fired, office.slots.free) == ([REPLACE] * is_due, [], [slot] * (not is_due))
    used.holders.clear()
    office.settle(used)
    assert used.fired == [REPLACE] * is_due


@pytest.mark.parametrize(
    ("policy", "slots", "closed", "later"),
    [
        ({}, [{}, {}], [], None),
        ({"max_idle": 4.0}, [{}, {}], [SLEEP], None),
        ({"max_idle": 6.0}, [{}, {}], [], 6.0),
        ({"max_idle": 4.0, "min_idle": 2}, [{}, {}], [], None),
        ({"max_idle": 4.0, "min_idle": 1, "standby": 1}, [{}, {}], [], None),
        ({"max_idle": 4.0, "min_idle": 1}, [{}, {}], [SLEEP], None),
        ({"max_idle": 4.0}, [{"holders": ["somebody"]}, {}], [], 9.0),
        ({"max_idle": 4.0}, [{"state": "opening"}, {}], [], None),
        ({"overflow_linger": 4.0}, [{"is_overflow": True}, {}], [RETIRE], None),
        ({"overflow_linger": 6.0}, [{"is_overflow": True}, {}], [], 6.0),
        ({"overflow_linger": 4.0}, [{"is_overflow": True}, {"is_overflow": True}], [], None),
        ({"overflow_linger": 4.0}, [{"is_overflow": True, "holders": ["somebody"]}, {}], [], 9.0),
    ],
)
async def test_a_slot_that_was_idle_for_too_long_is_closed(
    policy: dict[str, Any], slots: list[dict[str, Any]], closed: list[str], later: float | None
) -> None:
    """Overflow leaves, as long as others serve; another one sleeps, as long as enough are left."""
    office = Office(max_overflow=2, size=2, **{"min_idle": 0, **policy})
    await asyncio.sleep(5)
    first, _ = [office.put_in(**slot) for slot in slots]
    assert office.clean_up() == later
    assert first.fired == closed


async def test_what_is_due_for_who_waits() -> None:
    """When an opening takes too long to be counted on, and when overflow may be opened again."""
    office = Office(max_overflow=2)
    await asyncio.sleep(5)
    office.put_in("opening", began=4.5)
    office.put_in("ready", holders=["somebody"])
    office.slots.overflow_at = 5.4
    assert office.clean_up() is None
    waiters = [office.wait() for _ in range(2)]
    assert office.clean_up() == 5.4
    office.slots.overflow_at = 0.0
    assert office.made == []
    assert office.clean_up() == 5.5
    assert len(office.made) == 1
    office.slots.overflow_at = 5.0 + SOON
    next(iter(office.slots)).began = office.made[0].began = -9.0
    assert office.clean_up() is None
    for waiter in waiters:
        waiter.cancel()


async def test_the_first_that_is_due_is_told() -> None:
    """Of links that age, of targets that are tried again, and of what is to come for who waits."""
    office = Office("ab", max_overflow=1)
    office.put_in(holders=["somebody"], expires_at=7.0)
    assert office.clean_up() == 7.0
    office.target("b").failed(OSError("refused"), 4.0, PLAIN)
    assert office.clean_up() == 6.0
    office.slots.overflow_at = 9.0
    waiter = office.wait()
    assert office.clean_up() == 6.0
    office.slots.overflow_at = 5.0
    assert office.clean_up() == 5.0
    waiter.cancel()


async def test_an_old_link_is_replaced_when_the_others_are_back() -> None:
    """Nobody reports that: it is looked at each time."""
    office = Office(size=2)
    slots = [
        office.put_in(is_old=True),
        office.put_in(is_old=True, holders=["somebody"]),
        office.put_in(),
    ]
    office.clean_up()
    assert [slot.fired for slot in slots] == [[REPLACE], [], []]


async def test_all_links_can_be_replaced() -> None:
    office = Office(size=2)
    slots = [office.put_in(), office.put_in(holders=["somebody"]), office.put_in("opening")]
    office.news.clear()
    office.expire_all()
    assert [slot.is_old for slot in slots] == [True] * 3
    assert office.news.is_set()
    assert office.slots.free == [slots[0]]


# --- other sizes and targets ----------------------------------------------------------------------------------------------


async def test_a_pool_that_grows_opens_more() -> None:
    """And makes active what was standby. While it is being opened, the rest comes by itself."""
    for is_open in (True, False):
        office = Office("ab", is_open, size=1, standby=1)
        office.put_in()
        standby = office.put_in(is_active=False, name="b")
        policy = PoolPolicy(size=3, standby=1, replacement=PLAIN)
        office.resize(policy)
        assert (office.policy, office.slots.policy, standby.policy) == (policy, policy, policy)
        assert [(slot.kind, slot.fired, slot in office.slots) for slot in office.made] == [
            (Kind.REGULAR, [WAKE], True)
        ] * 2 * is_open
        assert sorted(slot.target.name for slot in office.made) == ["a", "b"] * is_open
        assert (standby.is_active, office.slots.free[-1:]) == (True, [standby])


async def test_a_pool_that_shrinks_closes_what_is_missed_least() -> None:
    """When nobody uses it. A successor that is on its way is not needed either."""
    office = Office(size=3)
    used, other, old = office.put_in(holders=["somebody"]), office.put_in(holders=["somebody"]), office.put_in()
    successor = office.put_in("opening", predecessor=old)
    office.resize(PoolPolicy(size=1, max_overflow=0))
    assert office.gone(successor)
    assert office.gone(old)
    assert [slot.is_replaced for slot in (used, other)] == [True, False]
    assert used in office.slots
    assert [slot.is_active for slot in (used, other)] == [False, True]


async def test_a_slot_more_that_cannot_be_made_is_left_out() -> None:
    office = Office(size=1)
    office.can_make = False
    office.put_in()
    office.resize(PoolPolicy(size=3))
    assert len(office.slots) == 1


async def test_those_in_use_stay_active() -> None:
    """Before those that are active and unused, before standby; as many as the size."""
    office = Office(size=2)
    standby, unused = office.put_in(is_active=False), office.put_in()
    used, second = office.put_in(holders=["somebody"]), office.put_in()
    others = [
        office.put_in(is_overflow=True),
        office.put_in(is_active=False, is_replaced=True),
        office.put_in("opening", is_active=False),
    ]
    office._even_active()
    assert [slot.is_active for slot in (standby, unused, used, second)] == [False, True, True, False]
    assert [slot.is_active for slot in others] == [True, False, False]
    assert office.slots.free == [unused]
    office.policy = PoolPolicy(size=4)
    office._even_active()
    assert [slot.is_active for slot in (standby, unused, used, second)] == [True] * 4
    assert set(office.slots.free) == {standby, unused, second}


async def test_a_pool_that_shrinks_hands_out_no_more_than_its_size(opened: Any) -> None:
    """When standby is closed, one of the active slots becomes standby: not the one that is leased."""
    pool, peer = await opened(3, policy=PoolPolicy(standby=1))
    peer.made[0].gone.set_result(LinkLostError("the peer went away"))
    await settled()
    assert [slot.is_active for slot in pool.slots] == [False, True, True, True]
    leases = [await pool.acquire()]
    pool.resize(2)
    with pytest.raises(PoolTimeoutError):
        for _ in range(3):
            leases.append(await pool.acquire(timeout=1))
    assert len(leases) == 2
    for lease in leases:
        lease.release()


async def test_targets_come_and_go() -> None:
    """What one had and is still to be closed is told."""
    for serving in (True, False):
        office = Office("ab")
        office.is_serving = serving
        used, unused = office.put_in(holders=["somebody"]), office.put_in()
        other = office.put_in(name="b")
        office.news.clear()
        gone = office.remove_target("a")
        assert office.news.is_set()
        assert set(gone) == {used, unused}
        assert office.gone(unused) is serving
        assert used.is_replaced is serving
        assert other not in gone
        office.news.clear()
        office.add_target("c")
        assert office.news.is_set()
        assert [target.name for target in office._targets] == ["b", "c"]


async def test_who_pauses_goes_to_a_target_that_is_added() -> None:
    for serving in (True, False):
        office = Office("a")
        office.is_serving = serving
        slot = office.put_in("backing_off")
        office.target("a").failed(OSError("refused"), 0.0, PLAIN)
        office.add_target("b")
        assert office.gone(slot) is serving
