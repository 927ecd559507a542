"""The possible next steps in the life of a connection: each once, or with its weight in a random life."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

from fsm_conn.connection.policy import HealthPolicy, Jitter, RetryPolicy
from fsm_conn.testing.lives.connections.evidence import ConnectionEvidence
from fsm_conn.testing.lives.connections.remembered import turning_points
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.lives.stepping import TIMES, Offer
from fsm_conn.testing.simulated import OUTCOMES

__all__ = ["health_policy", "offers", "options", "passing", "refusals", "retry_policy"]

# The weights of steps; all others have weight one.
WEIGHTS = {"connect": 3, "answer": 3, "lose": 3, "go_away": 2, "probe": 12, "call": 6, "reconnect": 2}

LONG_ILL = ("bad",) * 20
"""Outcomes of probes of a peer that is ill for long, for classes that decide for themselves what follows."""
FAVOURED = {
    ("answer", ("open", "ok")): 4,
    ("answer", ("call", "ok")): 2,
    ("answer", ("probe", "ok")): 8,
    ("answer", ("probe", "bad")): 12,
    ("attend", ("call",)): 2,
    ("attend", ("probe",)): 4,  # without it, few lives stay connected for longer than an interval
    ("attend", ("probe", "bad")): 2,
    ("attend", ("probe", "bad", "bad")): 3,
    ("attend", ("probe", "hang")): 3,
    ("attend", ("probe", *LONG_ILL)): 8,
    ("advance", (6.0,)): 4,
    ("neglect", ("open",)): 6,
    ("neglect", ("close",)): 6,
}

MOODS = (("bad",), ("bad", "bad"), ("hang",))
"""Outcomes of the next few probes, of a peer that then recovers."""


_ASKING = tuple(Step(name) for name in ("connect", "disconnect", "reconnect"))
_USING = (Step("probe"), Step("call"))
_PATIENT = (Step("call_patiently"),)
_LOSING = (Step("lose"), Step("go_away"))
_ANNOUNCING = (Step("announce", (False,)), Step("announce", (True,)))
_ANSWERS = {
    what: tuple(Step("answer", (what, kind)) for kind in kinds if kind != "hang") for what, kinds in OUTCOMES.items()
}
_CANCELLING = [tuple(Step("cancel", (number,)) for number in range(users)) for users in range(16)]
_PASSING = tuple((Step("advance", (seconds,)), FAVOURED.get(("advance", (seconds,)), 1)) for seconds in TIMES)
_TICK = (Step("tick"), 1)


def options(life: ConnectionEvidence, users: int) -> list[Step]:
    """The steps that make sense now, with at most `users` callers at a time."""
    return [step for steps in _groups(life, users) for step in steps]


def _groups(life: ConnectionEvidence, users: int) -> Iterator[tuple[Step, ...]]:
    """The same, in groups of steps that make sense together."""
    if len(life.users) < users:
        yield _ASKING
        if life.is_serving:
            yield _USING
        yield _PATIENT
    for what in OUTCOMES if life.peer.pending else ():
        if life.peer.waits_for(what):
            yield _ANSWERS[what]
    link = life.peer.link
    if link is not None and not link.is_lost:
        yield _LOSING
        if link.news is not None:
            yield _ANNOUNCING
    yield _CANCELLING[len(life.users)]
    if life.overrides.own_triggers:
        yield tuple(Step("fire", (each,)) for each in life.overrides.own_triggers if life.conn.handles(each))


def passing(life: ConnectionEvidence) -> list[Step]:
    """The durations that matter: until the next timer, and until the policy would decide differently than now."""
    timer, points = life.next_timer(), turning_points(life)
    times = points[:1] if timer is None else [timer, *(each for each in points[:1] if each < timer)]
    return [Step("advance", (seconds,)) for seconds in times]


def refusals(life: ConnectionEvidence) -> tuple[str, ...]:
    """Triggers of the base table that must be refused now."""
    return life.overrides.refused.get(life.state, ())


def offers(life: ConnectionEvidence, users: int = 6) -> list[Offer]:
    """The steps to choose from at random. Steps that lead to rare events have a higher weight."""
    found: list[Offer] = []
    for steps in _groups(life, users):
        found += _offered(steps)
    refused = refusals(life)
    if refused:
        found.append((Step("misfire", (refused[len(life.script.steps) % len(refused)],)), 1))
    found += [_manner(name, arguments) for name, arguments in _manners(life)]
    found += _PASSING
    found.append(_TICK)
    return found


@cache
def _manner(name: str, arguments: tuple[str, ...]) -> Offer:
    return Step(name, arguments), FAVOURED.get((name, arguments), 1)


@cache
def _offered(steps: tuple[Step, ...]) -> tuple[Offer, ...]:
    """Each of these steps with its weight, and in a rush."""
    weights = [FAVOURED.get((step.name, step.arguments), WEIGHTS.get(step.name, 1)) for step in steps]
    rushed = [Step(step.name, step.arguments, True) for step in steps]
    return tuple(
        each for step, weight, rush in zip(steps, weights, rushed, strict=True) for each in ((step, weight), (rush, 1))
    )


def _manners(life: ConnectionEvidence) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The ways in which the peer could behave: it waits for steps, it succeeds, or it fails at first."""
    for what in OUTCOMES:
        yield ("neglect" if life.peer.attends_to(what) else "attend"), (what,)
    if life.is_serving:
        for kinds in (*MOODS, LONG_ILL) if life.overrides.has_own("is_unhealthy") else MOODS:
            yield "attend", ("probe", *kinds)


def retry_policy(rng: random.Random) -> RetryPolicy:
    """A policy that is quickly exhausted."""
    return RetryPolicy(
        max_attempts=rng.choice((1, 2, 3, 4)),
        initial_delay=rng.choice((0.0, 1.0)),
        multiplier=rng.choice((1.0, 2.0)),
        max_delay=4.0,
        jitter=rng.choice(tuple(Jitter)),
        deadline=rng.choice((None, None, 3.0, 12.0)),
        stable_after=rng.choice((0.0, 5.0, 30.0)),
        max_restarts=rng.choice((None, None, 1)),
        restart_window=rng.choice((3.0, 60.0)),
        recover_after=rng.choice((None, None, 2.0)),
    )


def health_policy(rng: random.Random) -> HealthPolicy | None:
    """A policy that tolerates few failures; or None, for the class's own."""
    quick = HealthPolicy(
        interval=rng.choice((2.0, 6.0)),
        timeout=1.0,
        failure_threshold=rng.choice((1, 2)),
        jitter=rng.choice((0.0, 0.5)),
        skip_when_busy=rng.choice((True, False)),
    )
    return rng.choice((None, quick))
