"""Faults of a pool that no random life can find, for they are of numbers and words, or of a choice: each is sown as those
of `mutants`, and names the test of this room that finds it.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest

from fsm_conn._util import timing
from fsm_conn.connection import link_holder
from fsm_conn.machine import activity
from fsm_conn.pool import hooks, reasons
from fsm_conn.pool.leasing import deadlocks, leases
from fsm_conn.pool.leasing.waiters import Waiters
from fsm_conn.pool.life import PoolMachine
from fsm_conn.pool.slots.slots import Slots
from fsm_conn.pool.supervisor import Supervisor
from fsm_conn.pool.targets.target import PoolTarget

from . import test_asked_for, test_deaf, test_one_link, test_outages, test_pool, test_targets
from .mutants import mutant, nothing
from .scenarios import by

__all__: list[str] = []


@mutant(
    "a lease is of any target, however many leases it has",
    by(test_targets.test_the_least_loaded_target_is_leased_first),
)
def leased_wherever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "load", lambda self: Counter())


@mutant("a call goes to any target, however many it has", by(test_targets.test_calls_go_to_the_least_loaded_target))
def called_wherever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "is_spread", False)


@mutant(
    "a target that is left out is tried without pauses",
    by(test_targets.test_a_dead_target_is_tried_with_growing_pauses_by_one_connection),
)
def tried_without_pauses(patch: pytest.MonkeyPatch) -> None:
    failed = PoolTarget.failed

    def fail(self: PoolTarget, cause: BaseException | None, now: float, policy: Any) -> None:
        failed(self, cause, now, policy)
        self.retry_at = now

    patch.setattr(PoolTarget, "failed", fail)


@mutant(
    "a target that is added waits until something else happens",
    by(test_targets.test_a_target_that_is_added_in_an_outage_serves_at_once),
)
def added_and_not_used(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "add_target", lambda self, target: self._targets.add(target) and None)


@mutant(
    "a task that waits for itself is not warned of",
    by(test_asked_for.test_a_task_that_waits_for_itself_is_warned_of_without_tracking_too),
)
def deadlocks_are_silent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases, "warn_of_deadlock", nothing)


@mutant(
    "who is warned of waiting for itself is not told where",
    by(test_asked_for.test_a_task_that_waits_for_itself_is_warned_of_with_both_places),
)
def deadlocks_have_no_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deadlocks, "shown_frames", lambda frames: "")


@mutant("who was served after waiting is not counted", by(test_pool.test_every_documented_number_and_more))
def waits_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    serve = Waiters.serve

    def silently(self: Waiters, *args: Any) -> bool:
        counts = self._counts
        before = counts.waits, counts.waited
        served = serve(self, *args)
        counts.waits, counts.waited = before
        return served

    patch.setattr(Waiters, "serve", silently)


@mutant(
    "a policy that is given afterwards is taken, and ignored", by(test_outages.test_a_policy_is_not_given_afterwards)
)
def policies_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PoolMachine, "policy", property(lambda self: self._policy, nothing))


@mutant(
    "a group of errors does not say what is in it", by(test_outages.test_a_group_of_errors_is_told_by_what_is_in_it)
)
def groups_are_told_as_groups(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reasons, "said", str)


@mutant(
    "each slot shows the traceback that all have",
    by(test_one_link.test_one_failure_of_many_slots_is_told_at_length_once),
)
def tracebacks_of_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "_told", property(lambda self: [], nothing), raising=False)


@mutant(
    "each slot that gives up tells at length what all have",
    by(test_outages.test_several_that_give_up_for_one_reason_tell_it_once),
)
def reasons_of_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "_told_cause", property(lambda self: "", nothing), raising=False)


@mutant(
    "a pool that is closed waits for on_open that has lost its cancellation",
    by(test_one_link.test_on_open_that_loses_its_cancellation_does_not_hang_the_closing),
)
def deaf_hooks_hang_the_closing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(activity, "PATIENCE", 1000.0)
    patch.setattr(hooks, "GRACE", 1000.0)


@mutant(
    "a close that ignores its cancellation is waited for",
    by(test_deaf.test_a_close_that_ignores_its_cancellation_costs_no_slot),
)
def deaf_closes_cost_a_slot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(link_holder, "GRACE", 1e9)


@mutant(
    "what a link opens when nobody wants it any more stays open",
    by(partial(test_deaf.test_an_open_that_ignores_its_cancellation_costs_no_slot, "lose")),
)
def late_opens_leak(patch: pytest.MonkeyPatch) -> None:
    async def _closed_if_opened(*given: Any) -> None:
        return None

    patch.setattr(link_holder, "_closed_if_opened", _closed_if_opened)


@mutant(
    "calls that never end keep a retired link open",
    by(test_deaf.test_calls_of_a_retired_link_that_never_end_do_not_keep_it_open),
)
def deaf_calls_keep_a_link(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(link_holder, "limited", _within)


@mutant(
    "a hook that was cut off has succeeded, if it says nothing to that",
    by(partial(test_deaf.test_a_hook_that_ignores_its_cancellation_has_failed, "on_release", False)),
)
def cut_off_is_done(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hooks, "limited", _within)


async def _within(seconds: float | None, work: Any, *told: Any, **options: Any) -> Any:
    return await timing.within(seconds, work)
