"""Finds mistakes of user code in a pool that the model does not show: bugs, and hooks that never end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fsm_conn.connection.connection import Connection
from fsm_conn.connection.table import ConnectionState
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.machine.table import FAULT
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing.lives.checks import Finding
from fsm_conn.testing.lives.connections.overrides import overrides_of
from fsm_conn.testing.lives.connections.spinning import Spinning
from fsm_conn.testing.lives.connections.verdicts import why_it_spins
from fsm_conn.testing.lives.culprits import blamed
from fsm_conn.testing.lives.machine_rules import SIMULATED_BUG
from fsm_conn.testing.lives.machines.strays import LateSpeech, has_own_code
from fsm_conn.testing.lives.pools.serving import Serving
from fsm_conn.testing.lives.suspects import suspects, suspects_in_class
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["PoolWatch"]


def _is_final(error: BaseException | None) -> bool:
    return bool(getattr(error, "permanent", False))


class PoolWatch:
    """Watches a pool and its connections.

    Args:
        pool: the pool, before it was opened.
        loop: the loop in which it lives.

    Attributes:
        serving: watches its slots.
    """

    def __init__(self, pool: ConnectionPool, loop: VirtualLoop) -> None:
        self.serving = Serving(pool)
        self._pool = pool
        self._loop = loop
        self._kinds: dict[type[Connection], None] = {}
        self._spinning: list[Spinning] = []
        self._has_hooks = has_own_code(type(pool))
        self._late = [LateSpeech(pool)] if self._has_hooks else []
        self._seen = 0
        pool.on_connection(self._met)

    def _met(self, conn: Connection) -> None:
        self._kinds[type(conn)] = None
        self._loop.call_soon(self.serving.look)  # its slot is not on the list yet
        if self._has_hooks:
            self._spinning.append(Spinning(conn, self._loop))
        if self._has_hooks or has_own_code(type(conn)):
            self._late.append(LateSpeech(conn))

    def found(self, records: Sequence[TransitionRecord]) -> Finding | None:
        """The first mistake since the last call."""
        for each in self._spinning:
            if each.task:
                return Finding("no_livelock", why_it_spins(each))
        for record in records[self._seen :]:
            if record.trigger == FAULT and record.reason is not None and SIMULATED_BUG not in str(record.reason):
                whose = blamed(self._pool, record.reason) or type(self._pool).__name__
                return Finding("faults_have_a_cause", f"{whose} has a bug: {record.reason!r}", record.reason)
        if self.serving.told is not None:
            return Finding("what_serves_is_kept", self.serving.told)
        for late in self._late:
            if late.told is not None:
                return Finding("nobody_speaks_late", late.told)
        self._seen = len(records)
        return self._tried_in_vain()

    def _tried_in_vain(self) -> Finding | None:
        """A connection class that decides by itself whether to try again does not so when that cannot help."""
        if not any(overrides_of(kind).has_own("may_retry") for kind in self._kinds):
            return None
        for slot in self._pool.slots:
            last = slot.conn.last_record
            if last is not None and last.dest == ConnectionState.RECONNECTING and _is_final(last.reason):
                return Finding("permanent_errors_are_final", f"{slot.conn!r} tries again after {last.reason!r}")
        return None

    def suspects(self, records: Sequence[TransitionRecord], state: str) -> tuple[str, ...]:
        """Where to look in the user's code."""
        moved = (str(records[-1].trigger), str(records[-1].source)) if records else ("", "")
        return suspects(type(self._pool), *moved, state) or tuple(
            each for kind in self._kinds for each in suspects_in_class(kind)
        )

    def remembered(self, now: float) -> Any:
        """What matters later of the timers that are set."""
        return tuple(sorted(told for late in self._late if (told := late.remembered(now))))

    def known(self) -> dict[int, str]:
        """Objects that are no part of the pool, for fingerprints."""
        return {id(self): "watch", **{id(each): "spinning" for each in (self.serving, *self._spinning, *self._late)}}
