"""The part of a pool's memory that can matter later: its slots, leases, waiters and peer, without what only counts.

Counts and the numbers of visits and links grow for ever, so that no two moments would be equal. They are left out where
no code of the user's reads them; where the pool's counts are compared with the model's, the differences stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fsm_conn.connection.table import ConnectionState
from fsm_conn.machine.activity import Run
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.observers import Observers
from fsm_conn.pool.leasing.lease import Lease
from fsm_conn.pool.leasing.waiters import Waiters
from fsm_conn.testing.lives.moments.fingerprint import pending_work
from fsm_conn.testing.lives.moments.freezing import Freezer
from fsm_conn.testing.lives.moments.reading import functions_read, read_outside

__all__ = ["fingerprint_of"]

_LEFT_OUT = frozenset(
    {"_fsm_visit", "_fsm_records", "_visit", "_rested_visit", "_mark", "_guardian", "_queued", "_told_of"}
    | {"generation", "_generation", "links", "leases", "_counts", "_queue", "_back", "_turns", "_left"}
)
"""Attributes of this package's objects that only count, or tell who is who; see `_INSTEAD`."""
_COUNTS = frozenset({"get_pool_stats", "generation", "links", "leases", "visit"})
"""The names by which code reads them."""
_INSTEAD: Mapping[type, Callable[[Any], Any]] = {
    Run: lambda run: (run._visit == run._machine.visit, run.is_resting),
    Observers: lambda observers: observers._queued - observers._told_of,
    Lease: lambda lease: (lease.is_held, lease._slot),
    Waiters: lambda waiters: [
        (waiter, user, wants)
        for waiter, user, _, wants in (*(entry for _, entry in waiters._back), *waiters._queue)
        if not waiter.done()
    ],
}
"""What matters of them."""


class _PoolFreezer(Freezer):
    """As any freezer, but leaves out what only counts."""

    def attributes_of(self, value: Any) -> dict[str, Any]:
        """The attributes by name."""
        found = super().attributes_of(value)
        if type(value).__module__.startswith("fsm_conn.") or isinstance(value, StateMachine):
            found = {name: each for name, each in found.items() if name not in _LEFT_OUT}
            for kind, matters in _INSTEAD.items():
                if isinstance(value, kind):
                    found["what matters"] = matters(value)
        return found


def fingerprint_of(life: Any, known: Mapping[int, str]) -> tuple[Any, frozenset[str]]:
    """The fingerprint of the moment, and the objects that could not be compared.

    The time is a part of it, because slots have an age.
    """
    pool, loop, peer, hooks = life.pool, life.loop, life.peer, life.pool._leases._hooks
    tasks = {id(user.task): f"user {number}" for number, user in enumerate(life.users)}
    tasks |= {id(task): f"other {number}" for number, (_, task) in enumerate(life.others)}
    owners = {*map(type, (pool, *(slot.conn for slot in pool.slots)))}
    own_hooks = [hooks.on_open, *getattr(hooks.on_acquire, "args", ()), hooks.on_release]
    counts_matter = functions_read(_COUNTS, owners, own_hooks)
    usual = {id(loop): "loop", id(life): "life", id(peer): "peer", id(life.model): "model"}
    freezer = (Freezer if counts_matter else _PoolFreezer)({**usual, **tasks, **known})
    moment = (
        freezer.frozen(pool, "pool"),
        freezer.frozen(_of_peer(peer), "peer"),
        freezer.frozen(_of_users(life), "users"),
        freezer.frozen(_of_model(life), "model"),
        freezer.frozen(life._hooks, "hooks"),
        round(loop.time(), 6),
        pending_work(loop, freezer),
        life._watch.remembered(loop.time()),
    )
    life.sampled |= read_outside(type(pool))
    return moment, frozenset(freezer.blind)


def _of_peer(peer: Any) -> Any:
    waiting = [(each.what, each.link) for each in peer.unanswered()]
    scripted = [(what, list(outcomes)) for what, outcomes in peer._scripts.items() if outcomes]
    return (
        [(link, peer.target_of[link]) for link in peer.made],
        waiting,
        (peer.open_now, peer.leaving, peer.faults, peer.targets, sorted(peer.sick), sorted(peer.killers)),
        (scripted, peer._default, peer.opened_for),
    )


def _of_users(life: Any) -> Any:
    users = [(user.timeout, user.deadline, user.is_holding, user.word_is_given, user.lease) for user in life.users]
    return users, [(name, life.model.until.get(task)) for name, task in life.others]


def _of_model(life: Any) -> Any:
    """What the model knows, as far as it concerns links that are there; and how far the counts differ."""
    model, links = life.model, life.peer.made
    counted, places = life.pool._counts, {id(user): number for number, user in enumerate(life.users)}
    leases = counted.leases + sum(slot.leases for slot in life.pool.slots)
    of_links = [
        [each in some for some in (model.doubtful, model.expired, model.unprepared, model.links_before)]
        + [model.unclean[each], model.asking[each], model.lost_at.get(each)]
        for each in links
    ]
    gave_up = [
        next((record.at for record in reversed(slot.conn.history) if record.dest == ConnectionState.FAILED), None)
        for slot in life.pool.slots
    ]
    return (
        [places.get(id(user)) for user in (*model.waiting, None, *model.holding)],
        (leases - model.grants, counted.timeouts - model.timeouts, counted.refused - model.refusals),
        (counted.leaked - model.leaked, model.losses, model.unavailable, model.size, sorted(model.removed)),
        (of_links, gave_up, model.asking.total()),
    )
