"""Random lives come often enough to what the invariants are about: one whose premise is never reached checks nothing."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from fsm_conn import Connection, ConnectionState, Trigger
from fsm_conn.connection.calling.records import CallOutcome, CallRecord
from fsm_conn.links.errors import ProbeTimeoutError
from fsm_conn.testing import Life, invariant

from .mutants import live

S, T = ConnectionState, Trigger
LIVES = 400
LEAST = {
    "a probe failed": 0.36,
    "a probe failed after another, and that ended the link": 0.05,
    "a probe passed after one that failed": 0.08,
    "a probe was not answered in time": 0.12,
    "connected for longer than interval and timeout": 0.11,
    "a call was answered": 0.45,
    "reconnect() replaced a link": 0.24,
    "a link that went away in good order was renewed": 0.10,
    "a link that went away in good order could not be renewed": 0.05,
}
"""In what share of lives each must have come to pass before the end: what was measured, less what chance may take."""


class Notes:
    """What came to pass in one life; to be given to it as an invariant that is never broken."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def options(self) -> dict[str, Any]:
        """Keywords of `Life`."""

        @invariant()
        def noted(life: Life) -> str | None:
            """It is only looked at."""
            if not life.ended:
                self._look(life)
            return None

        return {"make": self._make, "invariants": [noted]}

    def _make(self, link: Any, options: dict[str, Any]) -> Connection:
        conn = Connection(link, **options)
        conn.on_call(self._hear)
        return conn

    def _hear(self, call: CallRecord) -> None:
        if call.outcome is CallOutcome.SUCCEEDED:
            self.found.add("a call was answered")

    def _look(self, life: Life) -> None:
        policy, since = life.conn.health, life.conn.snapshot().since
        limit = math.inf if policy.interval is None else policy.interval + policy.timeout
        if life.state == S.CONNECTED and since is not None and life.loop.time() - since > limit:
            self.found.add("connected for longer than interval and timeout")
        if any(record.trigger == T.RECONNECT and record.source == S.CONNECTED for record in life.records):
            self.found.add("reconnect() replaced a link")
        renewals = [record.dest for record in life.records if record.source == S.RENEWING and not record.internal]
        if S.CONNECTED in renewals:
            self.found.add("a link that went away in good order was renewed")
        if S.RECONNECTING in renewals or S.FAILED in renewals:
            self.found.add("a link that went away in good order could not be renewed")
        self._look_at_probes(life)

    def _look_at_probes(self, life: Life) -> None:
        failed = 0
        for record in life.records:
            if record.trigger == T.PROBE_PASSED and failed:
                self.found.add("a probe passed after one that failed")
            if record.trigger == T.PROBE_FAILED:
                failed += 1
                self.found.add("a probe failed")
                if isinstance(record.reason, ProbeTimeoutError):
                    self.found.add("a probe was not answered in time")
                if failed > 1 and not record.internal:
                    self.found.add("a probe failed after another, and that ended the link")
            elif record.trigger == T.PROBE_PASSED or not record.internal:
                failed = 0


def test_random_lives_reach_what_the_invariants_are_about() -> None:
    """Each premise, in so many lives in a hundred; what happens while a life is brought to its end does not count."""
    reached: Counter[str] = Counter()
    for seed in range(LIVES):
        notes = Notes()
        live(Connection, seed, **notes.options())
        reached.update(notes.found)
    shares = {what: reached[what] / LIVES for what in LEAST}
    assert {what: share for what, share in shares.items() if share < LEAST[what]} == {}
