"""The promises of a cluster can be broken, and the random lives of `test_promises` tell of it: each seeded lie is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from fsm_conn import CallOptions, ConnectionLostError
from fsm_conn.cluster.calling.route import MemberCall
from fsm_conn.cluster.membership.member import Member, MemberLife
from fsm_conn.connection.calling.calls import Patience, _Repeats

from . import test_promises as promises

Patch = pytest.MonkeyPatch
MOST = 100
"""Lives for a fault to be found in. The latest takes a tenth of them."""


def a_lie_about_a_loss(patch: Patch) -> None:
    """What was lost under way is said not to have been executed."""
    call = MemberCall.call

    async def lying(self: MemberCall, *arguments: Any) -> Any:
        try:
            return await call(self, *arguments)
        except ConnectionLostError as error:
            raise ConnectionLostError(str(error), maybe_executed=False) from None

    patch.setattr(MemberCall, "call", lying)


def a_call_sent_again(patch: Patch) -> None:
    """What must not be repeated is."""
    after_loss = _Repeats.after_loss

    def careless(self: _Repeats, error: ConnectionLostError) -> None:
        self._options = CallOptions(idempotent=True)
        after_loss(self, error)

    patch.setattr(_Repeats, "after_loss", careless)


def a_drain_that_waits_for_nobody(patch: Patch) -> None:
    """Calls under way are cut off."""

    async def hasty(self: Member) -> str:
        self.conn.link._broken.set_result(None) if self.conn.link is not None else None  # type: ignore[attr-defined]
        await self.conn.disconnect()
        self._unwatch()
        return "drained"

    patch.setattr(Member, "while_draining", hasty)


def a_sick_member_kept_in(patch: Patch) -> None:
    """Calls go on to who answers nothing."""
    patch.setattr(MemberLife, "went_wrong", lambda self, error: None)


def a_deadline_forgotten(patch: Patch) -> None:
    """Who waits for a member does so for longer than was said."""
    patch.setattr(Patience, "_link_in_time", lambda self: self._route.next(None))


def a_call_never_counted_off(patch: Patch) -> None:
    """A member is thought to be busy for ever."""
    patch.setattr(MemberLife, "end", lambda self: None)


def a_call_given_up_too_early(patch: Patch) -> None:
    """What is idempotent is not sent to another member."""
    patch.setattr(_Repeats, "after_loss", _raises)


def _raises(self: _Repeats, error: ConnectionLostError) -> None:
    raise error


FOUND = {
    a_lie_about_a_loss: promises.test_nothing_is_executed_twice_and_nobody_is_lied_to,
    a_call_sent_again: promises.test_nothing_is_executed_twice_and_nobody_is_lied_to,
    a_deadline_forgotten: promises.test_nothing_is_executed_twice_and_nobody_is_lied_to,
    a_call_never_counted_off: promises.test_what_is_idempotent_is_answered_as_long_as_anybody_serves,
    a_call_given_up_too_early: promises.test_what_is_idempotent_is_answered_as_long_as_anybody_serves,
    a_drain_that_waits_for_nobody: promises.test_an_orderly_end_loses_no_call,
    a_sick_member_kept_in: promises.test_who_answers_nothing_is_left_out,
}


Life = Callable[[random.Random], dict[str, Any]]


def _struck(rng: random.Random, actions: tuple[str, ...], most: int) -> list[tuple[float, str, str]]:
    names = [f"m{number}" for number in range(promises.SIZE)]
    return [(rng.uniform(0, 2), rng.choice(actions), rng.choice(names)) for _ in range(rng.randint(1, most))]


def _called(rng: random.Random) -> list[tuple[float, bool, float]]:
    return [(rng.uniform(0, 2), rng.random() < 0.5, rng.choice([0.05, 1.0, 20.0])) for _ in range(20)]


LIVES: dict[Any, Life] = {
    promises.test_nothing_is_executed_twice_and_nobody_is_lied_to: lambda rng: {
        "events": _struck(rng, ("kill", "start", "hang", "wake", "strike", "blackout"), 14),
        "subset": None,
        "latency": rng.choice([0.01, 0.6]),
    },
    promises.test_what_is_idempotent_is_answered_as_long_as_anybody_serves: lambda rng: {
        "losses": _struck(rng, ("kill", "strike", "drain", "go_away"), 3)
    },
    promises.test_an_orderly_end_loses_no_call: lambda rng: {"ends": _struck(rng, ("drain", "go_away", "forget"), 6)},
}


def lived(promise: Any, seed: int) -> None:
    """Have one life judged. It is drawn here: what Hypothesis draws depends on which modules were imported before."""
    rng = random.Random(seed)
    if promise is promises.test_who_answers_nothing_is_left_out:
        promise.hypothesis.inner_test(seed=seed, victim="m1")
    else:
        promise.hypothesis.inner_test(seed=seed, calls=_called(rng), **LIVES[promise](rng))


@pytest.mark.parametrize("mutant", FOUND, ids=lambda mutant: mutant.__name__)
def test_the_promises_find(mutant: Callable[[Patch], None]) -> None:
    """The promise that the fault breaks fails, by its own words and not by an accident of the fault."""
    with Patch.context() as patch:
        mutant(patch)
        with pytest.raises(AssertionError):
            for seed in range(MOST):
                lived(FOUND[mutant], seed)


@pytest.mark.parametrize("promise", dict.fromkeys(FOUND.values()), ids=lambda promise: promise.__name__)
def test_without_a_fault_the_same_lives_are_survived(promise: Any) -> None:
    """As many as the faults are found in."""
    for seed in range(MOST // 10):
        lived(promise, seed)
