"""Checks the options of a connection, with errors that say what to give instead."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

from fsm_conn._util.keywords import Places, limits
from fsm_conn._util.validators import check_seconds, shown
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.budget import RetryBudget

__all__ = [
    "attempt_limit",
    "checked_budget",
    "checked_health",
    "checked_history",
    "checked_name",
    "checked_retry",
    "checked_rng",
    "checked_start_timeout",
    "other_places",
    "shared_rng",
    "wait_limits",
]

ATTRIBUTES = (
    *("_make_link", "name", "retry", "_fsm_context", "_fsm_dispatching", "_fsm_visit", "_fsm_since"),
    *("_fsm_records", "_fsm_run", "_fsm_waiters", "_fsm_reason", "_state", "_entry_reason", "attempt", "_rng"),
    *("_demand", "_outage", "_losses", "_holder", "_status_log", "_probes", "_calls"),
)
"""The attributes of nearly every connection that was connected."""

_BY_CLASS = ("close_timeout", "drain_timeout", "hook_timeout")
"""The limits that a class sets, rather than each connection."""

_MOST_RECORDS = 100_000_000


def other_places() -> Places:
    """The places that take keywords which users often give to a connection."""
    from fsm_conn.links.base import CallOptions
    from fsm_conn.links.target import Endpoint, Plugin

    homes = {
        "CallOptions({}) with a call": CallOptions,
        "retry=RetryPolicy({})": RetryPolicy,
        "health=HealthPolicy({})": HealthPolicy,
        "Plugin(command, {}) as the target": Plugin,
        "Endpoint(address, {}) as the target": Endpoint,
    }
    given_first = {"address", "command"}
    found: dict[str, Iterable[str]] = {
        place: attrs.fields_dict(home).keys() - given_first for place, home in homes.items()
    }
    return {**found, "{} as an attribute of a subclass of Connection": _BY_CLASS}


def attempt_limit() -> Places:
    """Where an attempt to connect has its limit."""
    return {"Connection(target, {})": ("start_timeout",)}


def wait_limits() -> Places:
    """The limit of a wait for a connection, and that of each attempt."""
    return {**limits(), **attempt_limit()}


@functools.cache
def shared_rng() -> random.Random:
    """The shared source of jitter. Created late: importing random is a third of the time to import this package."""
    import random

    return random.Random()  # noqa: S311 - jitter is no secret


def checked_name(name: object) -> str:
    """Check the name of a connection."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"name={shown(name)}: give a string that is not empty")
    return name


def checked_retry(retry: object) -> RetryPolicy:
    """Check a retry policy."""
    if not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry={retry!r}: give a RetryPolicy, such as RetryPolicy(max_attempts=5)")
    return retry


def checked_health(health: object) -> HealthPolicy:
    """Check a health policy."""
    if not isinstance(health, HealthPolicy):
        raise TypeError(f"health={health!r}: give a HealthPolicy, such as HealthPolicy(interval=30)")
    return health


def checked_budget(budget: object) -> RetryBudget:
    """Check a retry budget."""
    from fsm_conn.connection.budget import RetryBudget

    if not isinstance(budget, RetryBudget):
        raise TypeError(f"budget={budget!r}: give a RetryBudget, the same to each connection that shares it")
    return budget


def checked_start_timeout(value: object) -> float:
    """Check the seconds for one attempt to open a link."""
    return check_seconds(f"start_timeout={shown(value)}", value)


def checked_history(value: object) -> int:
    """Check how many records to keep."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"history={shown(value)}: give a whole number of records to keep")
    if not 0 <= value <= _MOST_RECORDS:
        raise ValueError(f"history={shown(value)}: give zero or more, and at most {_MOST_RECORDS:,}")
    return value


def checked_rng(rng: Any) -> random.Random:
    """Check the source of jitter."""
    if not callable(getattr(rng, "random", None)) or not callable(getattr(rng, "uniform", None)):
        raise TypeError(f"rng={rng!r}: give a random.Random")
    found: random.Random = rng
    return found
