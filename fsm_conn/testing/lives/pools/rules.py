"""The rules for a pool and its model. They must hold whenever nothing more can happen at the present time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fsm_conn.connection.table import LOSING, ConnectionState, Trigger
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.pool.slots.table import SlotState
from fsm_conn.pool.table import PoolState
from fsm_conn.testing.lives.checks import AT_REST, Invariant
from fsm_conn.testing.lives.culprits import where_defined
from fsm_conn.testing.lives.pools.model import SLACK, PoolModel
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["POOL_RULES", "broken_at_the_end"]

MOST_REPEATS = 3
"""How many times a call may be sent again after its link was lost."""

Rule = Callable[[ConnectionPool, PoolModel, float], "str | None"]


def counts_are_equal(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """What the statistics count is what the users count."""
    told = pool.get_pool_stats()
    held = sum(user.lease is not None and user.lease.is_held for user in model.holding)
    asking = sum(model.asked(slot) for slot in pool.slots)
    counted = told["stats"]
    pairs = {
        "waiting": (told["waiting"], len(model.waiting) - model.asking.total()),
        "leased": (told["leased"], held + asking),
        "leases": (counted["pool_hits"] + counted["pool_misses"], model.grants),
        "timeouts": (counted["timeouts"] >= model.timeouts, True),
        "refused": (counted["refused"] >= model.refusals, True),
        "leaked": (counted["leaked"], model.leaked),
        "overflow": (counted["overflow_used"], model.overflow()),
    }
    return next((f"{what}: {one}, and the users say {two}" for what, (one, two) in pairs.items() if one != two), None)


def slots_are_as_many_as_said(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """There are `size` and `standby` regular slots, at most `max_overflow` others, and at most `size` active ones."""
    policy = pool.policy
    regular = [slot for slot in pool.slots if not slot.is_overflow]
    expected = 0 if pool.state == PoolState.CLOSED else policy.size + policy.standby
    instead = sum(slot.predecessor is not None or slot.is_replaced for slot in regular)
    may_leave = pool.state == PoolState.DRAINING and model.peer.targets > 1  # slots of a removed target leave first
    least = 0 if may_leave else expected
    if not least <= len(regular) <= expected + instead:
        return f"{len(regular)} regular slots instead of {expected}"
    if len(pool.slots) - len(regular) > policy.max_overflow:
        return f"{len(pool.slots) - len(regular)} slots of overflow"
    active = sum(slot.is_active for slot in regular)
    in_service = sum(slot.in_service and not slot.is_replaced for slot in regular)
    if pool.state == PoolState.OPEN and active != min(policy.size, in_service):
        return f"{active} active slots, of {in_service} in service"
    return None


def links_are_as_many_as_said(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Beyond `size`, `standby` and `max_overflow` one link is open at most, the successor of the last that serves, and
    those that are being closed. With several targets and after `resize()` there may be more for a while.
    """
    if model.size is not None or model.peer.targets > 1:
        return None
    closing = sum(each.what == "close" for each in model.peer.unanswered())
    most = pool.policy.size + pool.policy.standby + pool.policy.max_overflow + 1
    links = model.peer.open_now - closing
    return f"{links} links are open, and {closing} more are being closed" if links > most else None


def slots_in_service_are_connected(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """A slot in service has a link."""
    for slot in pool.slots:
        if slot.in_service and (slot.conn.state not in slot.conn.serving_states or slot.conn.link is None):
            return f"{slot!r} is in service"
    return None


def leases_fit(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """No connection has more leases than the policy lets it have, and each lease holds the slot that it says."""
    most = pool.policy.leases_per_connection
    for slot in pool.slots:
        if len(slot.holders) > most:
            return f"{slot!r} is leased more than {most} times"
    leases = [user.lease for user in model.holding if user.lease is not None and user.lease.is_held]
    held: list[Slot] = [lease._slot for lease in leases if lease._slot is not None]
    strange = [slot for slot in held if slot not in pool.slots]
    if strange:
        return f"{strange[0]!r} is leased, and not the pool's any more"
    counted = [(slot, held.count(slot) + model.asked(slot)) for slot in pool.slots if not slot.is_retired]
    miscounted = [(slot, users) for slot, users in counted if len(slot.holders) != users]
    return f"{miscounted[0][0]!r}, but {miscounted[0][1]} users hold it" if miscounted else None


def a_lease_is_of_one_link(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Who holds a lease has the link that he was given, or is told that it was lost."""
    for user in model.holding:
        lease = user.lease
        if lease is not None and lease.is_held and lease.connection.link is not user.link:
            return f"{lease!r} is held, and its link is another than it was"
    return None


def leases_are_exclusive(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """No call without a lease goes through a connection that a user leases, unless leases share it, too."""
    if pool.policy.leases_per_connection > 1:
        return None
    users = [user for user in model.holding if not user.is_stranger]  # a class calls through its own leases, too
    leased = {user.link for user in users if user.lease is not None and user.lease.is_held}
    called = [link for link in model.called() if link in leased]
    return f"calls without a lease go through {len(called)} links that are leased" if called else None


def attempts_have_pauses(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """A connection that has given up is not connected again before a pause, nor more often than its policy allows, and
    no pause is longer than both say.
    """
    least = 0.5 * pool.policy.replacement.initial_delay
    for slot in pool.slots:
        given_up, retry = None, slot.conn.retry
        longest = pool.policy.replacement.max_delay + (0 if retry.max_restarts is None else retry.restart_window)
        last = slot.last_record
        is_pausing = slot.state == SlotState.BACKING_OFF and slot.conn.state != ConnectionState.DISCONNECTING
        if is_pausing and last is not None and now - last.at > longest + SLACK:
            return f"{slot!r} has paused for {now - last.at:g} s"
        if (
            retry.max_restarts is not None
            and (span := _span(slot, retry.max_restarts + 2)) < retry.restart_window - SLACK
        ):
            return f"{slot!r} has lost {retry.max_restarts + 2} links within {span:g} s"
        for record in slot.conn.history:
            if record.internal:
                continue
            is_next = record.source == ConnectionState.FAILED and record.trigger == Trigger.CONNECT
            if is_next and given_up is not None and record.at - given_up < least - SLACK:
                return f"{slot!r} was connected again {record.at - given_up:g} s after it had given up"
            given_up = record.at if record.dest == ConnectionState.FAILED else None
    return None


def _span(slot: Slot, count: int) -> float:
    """The shortest time within which a slot has lost that many links. One that only stops serving is not lost."""
    linked = slot.conn.linked_states
    lost = [each.at for each in slot.conn.history if each.trigger in LOSING and each.dest not in linked]
    return min((then - first for first, then in zip(lost, lost[count - 1 :], strict=False)), default=math.inf)


def free_is_what_can_be_leased(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Every slot that is ready and has room is free, once, and nothing else is."""
    ready = [
        slot for slot in pool.slots if slot.is_ready and slot.room and pool.state in (PoolState.OPENING, PoolState.OPEN)
    ]
    if sorted(map(id, ready)) != sorted(map(id, pool._slots.free)):
        return f"free are {pool._slots.free}, and ready are {ready}"
    return None


def nobody_waits_in_vain(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Who waits does so while something is on its way or leased, and nothing is free; not beyond the deadline."""
    late = [user for user in model.waiting if user.deadline is not None and now > user.deadline + SLACK]
    late = [user for user in late if user.timeout != 0 or not model.asking.total()]  # except during `on_acquire`
    if late:
        return f"somebody waits {now - (late[0].deadline or 0):g} s beyond the deadline"
    waiting = len(model.waiting) - model.asking.total()
    if not waiting:
        return None
    if pool._slots.free:
        return f"{waiting} wait while {pool._slots.free} is free"
    if any(slot.is_ready and slot.room for slot in pool.slots):
        return f"{waiting} wait while {pool.slots} could be leased"
    if not pool._supervisor.is_serving:
        return f"{waiting} wait while the pool is {pool.state}"
    hurried = sum(user.deadline is None for user in model.waiting) - model.asking.total()
    if pool.state == PoolState.OPEN and hurried > 0 and not any(s.is_hopeful or s.is_asleep for s in pool.slots):
        return f"{hurried} wait, who named no time, while nothing can connect"
    return None


def overflow_starts_at_once(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Who waits has a connection on its way, or there are as many of them as there may be."""
    overflow = [slot for slot in pool.slots if slot.is_overflow]
    if pool.state != PoolState.OPEN or len(overflow) >= pool.policy.max_overflow:
        return None
    limits = {slot.conn.retry for slot in pool.slots if slot.conn.retry.max_restarts is not None}
    longest = max((pool.policy.replacement.max_delay, *(retry.restart_window for retry in limits)))
    if now < pool._slots.overflow_at <= now + longest:  # the longest pause begins at this moment
        return None  # it has failed, and pauses
    most = pool.policy.leases_per_connection
    places = pool.policy.size - sum(slot.is_active and not slot.is_overflow for slot in pool.slots)
    fresh = [slot for slot in pool.slots if slot.slow_at is not None and now + SLACK < slot.slow_at]
    cleaned = [slot for slot in fresh if slot.state == SlotState.RESETTING]  # and what takes long is not counted on
    fresh = [slot for slot in fresh if not slot.in_service]
    regular = sum(not slot.is_overflow for slot in fresh)
    coming = (min(places, regular) + sum(slot.is_overflow for slot in fresh) + len(cleaned)) * most
    waiting = len(model.waiting) - model.asking.total()
    return f"{waiting} wait, and {coming} can be served soon" if waiting > coming else None


def first_come_first_served(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Nobody was served before somebody who had come earlier and still waits. But who was given a link that was lost
    at that moment, or refused by a hook, waits again.
    """
    still = [user for user in model.waited_before if user in model.waiting]
    served, lost = model.served_since, model.losses
    if not still or not served or lost or pool._leases._hooks.on_acquire is not None:
        return None
    first, last = min(map(model.arrivals.__getitem__, still)), max(map(model.arrivals.__getitem__, served))
    return f"number {last} was served, while number {first} waits" if last > first else None


def standby_stands_by(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """While somebody of the standby is in service, no place of an active slot is empty."""
    if pool.state != PoolState.OPEN:
        return None
    idle = [slot for slot in pool.slots if slot.in_service and not (slot.is_active or slot.is_replaced)]
    active = sum(slot.is_active and not slot.is_overflow for slot in pool.slots)
    return f"{idle[0]!r} stands by, and {active} are active" if idle and active < pool.policy.size else None


def unavailable_is_unavailable(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Nobody is told that nothing can connect while a link is in service all along."""
    links = [slot.conn.link for slot in pool.slots if slot.in_service]
    lasted = [link for link in links if link in model.links_before]
    told = model.unavailable
    return f"{told} were told that nothing can connect, and {len(lasted)} links are open" if told and lasted else None


def errors_are_documented(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Who acquires is told nothing but what is documented."""
    return None if model.unexpected is None else f"somebody who acquired was told {model.unexpected!r}"


def closing_keeps_its_limit(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """When the time for leases is up, their connections are closed."""
    if pool.state != PoolState.DRAINING:
        model.close_by = None
        return None
    until = min((each for each in (pool._closing.until, model.close_by) if each is not None), default=math.inf)
    if now <= until + SLACK:
        return None
    left = [slot for slot in pool.slots if not slot.is_retired]
    return f"{now - until:g} s beyond the limit of closing there is still {left[0]!r}" if left else None


def closed_is_empty(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """A closed pool has no slots, and nothing is being closed."""
    if pool.state != PoolState.CLOSED:
        return None
    if pool.slots or pool._slots.leaving:
        return f"it is closed, and has {pool.slots or pool._slots.leaving}"
    return f"it is closed, and {model.peer.open_now} links are open" if model.peer.open_now else None


def what_leaves_is_closed(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """A slot that has left the pool is being closed, and the pool knows it no longer than that."""
    for slot in pool._slots.leaving:
        if slot in pool.slots or not slot.is_retired or slot.state != SlotState.CLOSING:
            return f"{slot!r} is leaving, and is not being closed"
    for slot in model.slots():
        if not (slot.state == SlotState.CLOSED or slot in pool.slots or slot in pool._slots.leaving):
            return f"{slot!r} has left, and nobody waits for its end"
    return None


def a_call_is_sent_a_few_times(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """A call that ends each link through which it goes is not sent again for ever."""
    most = max(model.peer.sent.values(), default=0)
    return f"a call that ends its links was sent {most} times" if most > 1 + MOST_REPEATS else None


def nothing_is_opened_for_one_user(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """A connection is the pool's: it is not opened in the context of whoever needed it first."""
    return "a link was opened in the context of a user of the pool" if model.peer.opened_for else None


def a_removed_target_is_left(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """When `remove_target` has ended, no link to that target is open, and none is opened any more."""
    targets = model.peer.target_of
    left = [targets[link] for link in model.peer.made if link.is_open and targets[link] in model.removed]
    return f"a link to target {left[0]} is open, which was removed" if left else None


def calls_keep_their_deadlines(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """The timeout of a call covers all that it waits for."""
    late = [now - until for task, until in model.until.items() if not task.done() and now > until + SLACK]
    return f"a call goes on {max(late):g} s beyond its deadline" if late else None


def it_is_as_large_as_said(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """It has the size that it was given last."""
    if model.size is not None and pool.get_pool_stats()["pool_size"] != model.size:
        return f"it was resized to {model.size}, and says {pool.get_pool_stats()['pool_size']}"
    return None


def it_has_the_targets_that_it_was_given(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """Those that it was made with, and those that were added; not those that were removed."""
    numbers = {target.number for target in pool.targets if hasattr(target, "number")}
    if numbers and numbers != model.targets:
        return f"it has the targets {sorted(numbers)}, and was given {sorted(model.targets)}"
    return None


def it_is_looked_after(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """As long as it is open, its activity goes on: it replaces what is too old, and closes what nobody needs."""
    if pool.state != PoolState.OPEN or pool.snapshot().activity is not None or pool._fsm_is_closed:
        return None
    where = where_defined(type(pool).while_open)
    return f"while_open(), {where}, has ended, and the pool is open: nothing replaces what is too old; let it go on"


def links_are_used_rightly(pool: ConnectionPool, model: PoolModel, now: float) -> str | None:
    """The contract of links is kept: each is opened once, closed once, and used in between."""
    return model.peer.faults[0] if model.peer.faults else None


def _as_invariant(rule: Rule) -> Invariant:
    def check(life: Any) -> str | None:
        return rule(life.pool, life.model, life.loop.time())

    check.__doc__ = rule.__doc__
    return Invariant(rule.__name__, AT_REST, check)


_RULES: tuple[Rule, ...] = (
    a_call_is_sent_a_few_times,
    nothing_is_opened_for_one_user,
    a_removed_target_is_left,
    calls_keep_their_deadlines,
    it_is_as_large_as_said,
    it_has_the_targets_that_it_was_given,
    errors_are_documented,
    counts_are_equal,
    slots_are_as_many_as_said,
    links_are_as_many_as_said,
    slots_in_service_are_connected,
    leases_fit,
    a_lease_is_of_one_link,
    leases_are_exclusive,
    attempts_have_pauses,
    free_is_what_can_be_leased,
    nobody_waits_in_vain,
    overflow_starts_at_once,
    first_come_first_served,
    standby_stands_by,
    unavailable_is_unavailable,
    closing_keeps_its_limit,
    closed_is_empty,
    what_leaves_is_closed,
    it_is_looked_after,
    links_are_used_rightly,
)
POOL_RULES: tuple[Invariant, ...] = tuple(map(_as_invariant, _RULES))
"""The rules that must hold whenever nothing more can happen at the present time."""


def broken_at_the_end(pool: ConnectionPool, loop: VirtualLoop) -> tuple[str, str] | None:
    """What is left of a pool that was closed for good; None when nothing is left."""
    if pool.state != PoolState.CLOSED:
        return "closing_ends_closed", f"it was closed, and is {pool.state}"
    tasks = [task.get_name() for task in loop.tasks() if not task.done()]
    return ("everything_is_closed", f"tasks are left: {tasks}") if tasks else None
