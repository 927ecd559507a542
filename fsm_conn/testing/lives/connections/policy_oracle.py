"""A second implementation of the policy: it computes from past events, not from the connection's counters.

The connection's counters and the arithmetic of `RetryPolicy` may be wrong, so the oracle uses neither. It reads the
transitions and the times at which links were asked for, in the order in which they happened.

The behaviour of Connection's base table is taken as documented. The meaning of a class's own triggers is read from the
effects of their rows. A class that decides in its own way is judged as far as possible: its guards may refuse more than
the policy does, but never permit more. If a class should permit more, ignore the invariant; the message says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from fsm_conn.connection.policy import Jitter, RetryPolicy
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import LOSING, ConnectionState, Trigger
from fsm_conn.machine.errors import is_expected
from fsm_conn.testing.lives.checks import EPSILON
from fsm_conn.testing.lives.connections.evidence import Asked, ConnectionEvidence
from fsm_conn.testing.lives.connections.overrides import BASE_TRIGGERS, COUNTING, OPENING

__all__ = ["REASONS_TO_GIVE_UP", "Decision", "PolicyOracle"]

S, T = ConnectionState, Trigger
FAILING = frozenset({T.OPEN_FAILED, T.LOST, T.PROBE_FAILED})
"""Triggers after which the connection decides whether to open a link again."""
ASKING = frozenset({T.CONNECT, T.RECONNECT})
"""Triggers by which a caller asks for a link, whatever happened before."""
BEGINNING = ASKING | {T.RECOVER}
"""Triggers that begin an outage."""
_BASE_STATES = frozenset(ConnectionState)

MANY = 3
"""Attempts at one time that are acceptable: the first one, the one after a link that came up, and one by chance."""
AT_ONCE, WHENEVER = (0.0, 0.0), (0.0, math.inf)


@attrs.frozen
class Decision:
    """The data for deciding whether to try again, at the moment of the decision."""

    record: ConnectionRecord
    retry: RetryPolicy
    attempts: int
    """Attempts of the outage so far."""
    elapsed: float
    """Seconds since the outage began."""
    delay: tuple[float, float]
    """The shortest and the longest pause before another attempt."""
    losses: int
    """Links lost within the window of the restart intensity, this one included; 0 when none was open."""
    is_trial: bool
    """Whether this was the single attempt of a connection that had given up."""
    is_free: bool
    """Whether the class decides in its own way."""

    @property
    def is_permanent(self) -> bool:
        """Whether the error is permanent."""
        return bool(getattr(self.record.reason, "permanent", False))

    @property
    def is_exhausted(self) -> bool:
        """Whether all attempts have been made."""
        return self.retry.max_attempts is not None and self.attempts >= self.retry.max_attempts

    @property
    def is_too_often(self) -> bool:
        """Whether links were lost more often than the policy allows."""
        return self.retry.max_restarts is not None and self.losses > self.retry.max_restarts

    @property
    def is_surely_late(self) -> bool:
        """Whether no further attempt can begin before the deadline."""
        return self.retry.deadline is not None and self.elapsed + self.delay[0] >= self.retry.deadline + EPSILON

    @property
    def is_perhaps_late(self) -> bool:
        """Whether the longest pause would end after the deadline."""
        return self.retry.deadline is not None and self.elapsed + self.delay[1] >= self.retry.deadline - EPSILON


REASONS_TO_GIVE_UP: tuple[Callable[[Decision], bool], ...] = (
    lambda decision: decision.is_permanent,
    lambda decision: decision.is_exhausted,
    lambda decision: decision.is_perhaps_late,
    lambda decision: decision.is_too_often,
    lambda decision: decision.is_trial,
    lambda decision: decision.is_free,
)
"""When a connection gives up, one of these must be true."""


class PolicyOracle:
    """The events of a life as outages, attempts, delays and probes.

    Attributes:
        attempts: attempts begun in the present outage.
        since: when the outage began.
        on_trial: whether it is the single attempt of a connection that had given up.
        losses: when links were lost, since a caller asked for one.
        problems: what was wrong, by the name of the invariant; the first problem of each.
    """

    def __init__(self, life: ConnectionEvidence) -> None:
        self.life = life
        self.attempts = self.links = self.came_up = self.bad_probes = 0
        self.since = 0.0
        self.problems: dict[str, str] = {}
        self.losses: list[float] = []
        self._at_once = self.on_trial = False
        self._delay = WHENEVER
        self._entered: ConnectionRecord | None = None
        self._up_since: float | None = None
        self._asked_at, self._at_one_time = -1.0, 0
        self._records_read = self._links_read = 0

    def up_to_date(self) -> PolicyOracle:
        """Read the events since the last call."""
        records, links = self.life.records, self.life.links_asked
        if self._records_read == len(records) and self._links_read == len(links):
            return self
        while self._records_read < len(records) or self._links_read < len(links):
            link = links[self._links_read] if self._links_read < len(links) else None
            if link is None or self._records_read < link.after:
                self._read_record(records[self._records_read])
                self._records_read += 1
            else:
                self._read_link(link)
                self._links_read += 1
        return self

    # --- transitions ----------------------------------------------------------------------------------------

    def _read_record(self, record: ConnectionRecord) -> None:
        self._count_probe(record)
        if record.internal:
            return
        self._decide(record)
        self._note_link(record)
        self._note_outage(record)
        counted = self._does(record, "count_attempt", self._is_attempt(record))
        self._delay = self._next_delay() if counted else WHENEVER
        if counted:
            self._count_attempt(record)
        if self._does(record, "note_opened", record.trigger == T.OPENED and record.dest == S.CONNECTED):
            self.came_up += 1
            self._at_once = self._at_once or self.came_up == 1
        self._entered = record

    def _decide(self, record: ConnectionRecord) -> None:
        if record.trigger in FAILING:
            if self._up_since is not None and record.at - self._up_since >= self.life.conn.retry.stable_after:
                self._begin_outage(record)
            self._judge(record)
        elif record.trigger == T.RECOVER:
            self._judge_recovery(record)

    def _note_link(self, record: ConnectionRecord) -> None:
        """A link is up from the first state that is called connected, as long as states own it."""
        if record.dest not in self.life.conn.linked_states:
            self._up_since = None
        elif self._up_since is None and record.dest in self.life.conn.serving_states:
            self._up_since = record.at

    def _note_outage(self, record: ConnectionRecord) -> None:
        if self._does(record, "begin_outage", record.trigger in BEGINNING):
            self._begin_outage(record)
        if self._does(record, "begin_half_open", record.trigger == T.RECOVER):
            self.on_trial = True
        if self._does(record, "forget_losses", record.trigger in ASKING):
            self.losses.clear()
        if self._does(record, "note_loss", record.trigger in LOSING and record.dest in (S.RECONNECTING, S.FAILED)):
            self.losses.append(record.at)

    def _does(self, record: ConnectionRecord, effect: str, by_base_table: bool) -> bool:
        """Whether a transition has an effect, according to the base table's documentation or to the class's own row."""
        if record.trigger in BASE_TRIGGERS and record.dest in _BASE_STATES:
            return by_base_table
        row = (str(record.trigger), str(record.source), str(record.dest))
        return effect in self.life.overrides.effects.get(row, ())

    @staticmethod
    def _is_attempt(record: ConnectionRecord) -> bool:
        return record.trigger in BEGINNING or (record.trigger in FAILING and record.dest == S.RECONNECTING)

    def _begin_outage(self, record: ConnectionRecord) -> None:
        self.attempts = self.links = self.came_up = self._at_one_time = 0
        self.since, self._at_once, self.on_trial = record.at, False, False

    def _count_attempt(self, record: ConnectionRecord) -> None:
        self.attempts += 1
        self._at_once = False
        most = self.life.conn.retry.max_attempts
        if most is not None and self.attempts > most:
            self._wrong("attempts_are_counted", f"attempt {self.attempts} of at most {most} has begun")
        elif record.attempt != self.attempts and not self.life.overrides.has_own(*COUNTING):
            self._wrong(
                "attempts_are_counted",
                f"{record} begins attempt {self.attempts} of this outage, and the connection calls it {record.attempt}",
            )

    # --- decisions ------------------------------------------------------------------------------------------

    def _judge(self, record: ConnectionRecord) -> None:
        """Judge whether trying again, or giving up, was right."""
        decision = Decision(
            record,
            self.life.conn.retry,
            self.attempts,
            record.at - self.since,
            self._next_delay(),
            self._losses_with(record),
            self.on_trial,
            self._is_free(record),
        )
        if record.dest == S.FAILED:
            if not any(reason(decision) for reason in REASONS_TO_GIVE_UP):
                most = decision.retry.max_attempts or "any number of"
                self._wrong("gives_up_only_when_it_must", f"{record} after {self.attempts} of {most} attempts")
        elif record.dest == S.RECONNECTING:
            self._judge_retry(decision)

    def _judge_retry(self, decision: Decision) -> None:
        record = decision.record
        if decision.is_permanent:
            self._wrong("permanent_errors_are_final", f"{record} is tried again, and cannot get better")
        if decision.is_exhausted:
            most = decision.retry.max_attempts
            self._wrong("attempts_are_counted", f"{record} begins attempt {self.attempts + 1} of at most {most}")
        if decision.is_too_often:
            window = f"{decision.retry.max_restarts} in {decision.retry.restart_window:g} s"
            told = f"{record} is loss {decision.losses}, and the policy makes good {window}"
            self._wrong("restarts_are_limited", told + self._remedy_for_losses())
        if decision.is_trial:
            self._wrong("recovery_is_careful", f"{record} ends a careful attempt, and is tried again")
        if decision.is_surely_late:
            self._wrong(
                "deadlines_are_kept",
                f"{record} tries again {decision.elapsed:g} s into an outage, of which the deadline is "
                f"{decision.retry.deadline:g} s",
            )

    def _remedy_for_losses(self) -> str:
        """The effect that is missing from a row by which a link was lost, if one is missing."""
        for (trigger, source, dest), effects in self.life.overrides.effects.items():
            if trigger in LOSING and dest == S.RECONNECTING and "note_loss" not in effects:
                return (
                    f"; the row for {trigger!r} from {source!r} to {dest!r} lacks the effect 'note_loss', "
                    "and perhaps the guard 'may_restart'"
                )
        return ""

    def _losses_with(self, record: ConnectionRecord) -> int:
        window = self.life.conn.retry.restart_window
        return sum(at > record.at - window for at in (*self.losses, record.at)) if record.trigger in LOSING else 0

    def _judge_recovery(self, record: ConnectionRecord) -> None:
        """Judge the single attempt of a connection that had given up: was it time, and could it help?"""
        pause, cause = self.life.conn.retry.recover_after, self._entered
        if self.life.overrides.has_own("may_recover", "while_failed"):
            return
        if pause is None or cause is None:
            self._wrong("recovery_is_careful", f"{record}, and no policy has asked for it")
        elif cause.reason is not None and (getattr(cause.reason, "permanent", False) or not is_expected(cause.reason)):
            self._wrong("recovery_is_careful", f"{record} after {cause}, which cannot get better")
        elif not pause - EPSILON <= record.dwell <= pause * 1.5 + 2 * self.life.conn.close_timeout + EPSILON:
            self._wrong("recovery_is_careful", f"{record} after {record.dwell:g} s; the policy says {pause:g} s")

    def _is_free(self, record: ConnectionRecord) -> bool:
        overrides = self.life.overrides
        return (
            overrides.has_own("may_retry", "may_restart", *COUNTING)
            or (str(record.trigger), str(record.source)) in overrides.decided_elsewhere
            or type(self.life.conn.retry) is not RetryPolicy
        )

    # --- delays ---------------------------------------------------------------------------------------------

    def _next_delay(self) -> tuple[float, float]:
        """The shortest and the longest pause before the next attempt, following the docstring of `RetryPolicy`."""
        retry = self.life.conn.retry
        if type(retry) is not RetryPolicy or self.life.overrides.has_own(*COUNTING):
            return WHENEVER
        if self.attempts == 0 or self._at_once:
            return AT_ONCE
        if retry.jitter is Jitter.DECORRELATED:
            return min(retry.initial_delay, retry.max_delay), retry.max_delay
        whole = min(retry.max_delay, retry.initial_delay * retry.multiplier ** (self.attempts - 1))
        return {Jitter.NONE: whole, Jitter.EQUAL: whole / 2, Jitter.FULL: 0.0}[retry.jitter], whole

    def _read_link(self, link: Asked) -> None:
        record, overrides = self._entered, self.life.overrides
        if record is None or record.dest in self.life.conn.linked_states:
            return
        self.links += 1
        self._count_at_once(link)
        if self.links > self.attempts and not overrides.has_own(*OPENING, *COUNTING):
            self._wrong("attempts_are_counted", f"{self.links} links were asked for in {self.attempts} attempts")
        least, longest = self._delay
        waited, idle = link.at - record.at, link.at - max(record.at, link.closed_at)
        told = f"after {record} came a further attempt, and the policy says"
        if waited < least - EPSILON:
            self._wrong("delays_are_kept", f"{waited:g} s {told} {least:g} s at least")
        if idle > longest + EPSILON and not overrides.acts_by_itself(str(record.source), str(record.dest)):
            self._wrong("delays_are_kept", f"{idle:g} s {told} {longest:g} s at most")

    def _count_at_once(self, link: Asked) -> None:
        """Count attempts with only refusals between them: whatever the policy, time must pass between attempts."""
        self._at_one_time = self._at_one_time + 1 if link.at == self._asked_at else 1
        self._asked_at = link.at
        is_plain = type(self.life.conn.retry) is RetryPolicy
        if is_plain and not self.life.overrides.has_own("may_retry", *OPENING, *COUNTING):
            return  # the policy sets the number and the pauses
        most = self.life.conn.retry.max_attempts if is_plain else None
        if self._at_one_time > max(MANY, most or 0):
            told = f"{self._at_one_time} links were asked for at one time, in one outage"
            self._wrong("attempts_let_time_pass", f"{told}; a peer that refuses is called in a tight loop")

    # --- probes ---------------------------------------------------------------------------------------------

    def _count_probe(self, record: ConnectionRecord) -> None:
        if record.trigger == T.PROBE_FAILED and record.source == S.CONNECTED:
            self.bad_probes += 1
            threshold, overrides = self.life.conn.health.failure_threshold, self.life.overrides
            unusual = (str(T.PROBE_FAILED), str(S.CONNECTED)) in overrides.decided_elsewhere
            enough = self.bad_probes >= threshold or getattr(record.reason, "conclusive", False)
            if enough == record.internal and not (unusual or overrides.has_own("is_unhealthy")):
                self._wrong(
                    "probes_are_counted",
                    f"{record}, and it was failed probe number {self.bad_probes} in a row of {threshold}",
                )
        connected = record.dest == S.CONNECTED and record.source != S.CONNECTED
        if record.trigger == T.PROBE_PASSED or self._does(record, "forget_probes", connected):
            self.bad_probes = 0

    def _wrong(self, name: str, message: str) -> None:
        own = sorted(self.life.overrides.own & {"may_retry", *OPENING})
        if own:
            message += f"; if {own[0]}() means that, say ignore={{{name!r}: '<why>'}}"
        self.problems.setdefault(name, message)
