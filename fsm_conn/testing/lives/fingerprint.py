"""A moment in the life of a connection: what can be done next, and what tells it from other moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsm_conn.testing.lives.overrides import BASE_TRIGGERS
from fsm_conn.testing.simulated import OUTCOMES

if TYPE_CHECKING:
    from fsm_conn.testing.lives.life import Life

__all__ = ["fingerprint", "options", "refusals"]

_BASE_TRIGGERS = tuple(sorted(BASE_TRIGGERS))


def options(life: Life, users: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Steps that mean something now, with at most so many callers at a time."""
    steps: list[tuple[str, tuple[Any, ...]]] = []
    if len(life.users) < users:
        steps += [(name, ()) for name in ("connect", "disconnect", "reconnect")]
        if life.is_serving:
            steps += [("probe", ()), ("call", ())]
        steps.append(("call_patiently", ()))
    for what, kinds in OUTCOMES.items():
        if life.peer.waits_for(what):
            steps += [("answer", (what, kind)) for kind in kinds if kind != "hang"]
    link = life.peer.link
    if link is not None and not link.is_lost:
        steps.append(("lose", ()))
        if link.news is not None:
            steps += [("announce", (False,)), ("announce", (True,))]
    steps += [("cancel", (number,)) for number in range(len(life.users))]
    handled = life.conn.lifecycle.handles
    steps += [("fire", (trigger,)) for trigger in life.own_triggers() if handled(life.state, trigger)]
    return steps


def refusals(life: Life) -> list[str]:
    """Triggers of the base table that must be refused now."""
    handled, state = life.conn.lifecycle.handles, life.state
    return [trigger for trigger in _BASE_TRIGGERS if not handled(state, trigger)]


def fingerprint(life: Life) -> tuple[Any, ...]:
    """What tells this moment from others, as far as what can follow is concerned."""
    conn = life.conn
    link = life.peer.link
    return (
        life.state,
        conn.attempt,
        life.peer.open_now,
        link is not None and link.is_lost,
        tuple(sorted((user.method, user.cancelled) for user in life.users)),
        tuple(sorted(pending.what for pending in life.peer.pending if not pending.decided.done())),
        *conn.memory(life.loop.time()),
        conn.snapshot().activity is not None,
        round(life.next_timer() or 0.0, 3),
    )
