"""A pool's slots without connections: what those read and do that decide about slots."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from fsm_conn import RetryPolicy
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.kind import Kind
from fsm_conn.pool.slots.slot import SLOW_START
from fsm_conn.pool.slots.slots import Slots
from fsm_conn.pool.slots.table import IN_SERVICE, STARTING, SlotState, SlotTrigger
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.targets.moves import Moves
from fsm_conn.pool.targets.target import PoolTarget
from fsm_conn.pool.targets.targets import Targets

PLAIN = RetryPolicy(max_attempts=None, initial_delay=2.0, jitter="none")


class Member:
    """One slot, in a state that a test sets."""

    links = leases = 0

    def __init__(self, target: Any, state: str = "ready", **attributes: Any) -> None:
        self.target, self.state = target, state
        self.is_active = self.in_service
        self.is_overflow = self.is_replaced = self.is_old = self.is_doubtful = False
        self.began = 0.0
        self.probed_since: float | None = None
        self.holders: list[Any] = []
        self.callers: list[Any] = []
        self.predecessor = self.cause = None
        self.policy: PoolPolicy | None = None
        self.backoff = SimpleNamespace(failures=0, wait=0.0, forgot=None)
        self.backoff.forget = lambda count=0: setattr(self.backoff, "forgot", count)
        self.fired: list[SlotTrigger] = []
        self.is_exclusive = self.is_retired = False
        self.expires_at: float | None = None
        self.idle_since = 0.0
        self.conn = SimpleNamespace(state="connected", serving_states={"connected"})
        self.dismissed = 0
        self.subscribers = SimpleNamespace(dismiss=lambda: setattr(self, "dismissed", self.dismissed + 1))
        self.__dict__.update(attributes)

    @property
    def in_service(self) -> bool:
        return self.state in IN_SERVICE

    @property
    def is_asleep(self) -> bool:
        return self.state == SlotState.ASLEEP

    @property
    def is_hopeful(self) -> bool:
        return self.in_service or (self.cause is None and self.state in STARTING)

    @property
    def is_stale(self) -> bool:
        return self.state == SlotState.STALE

    @property
    def slow_at(self) -> float | None:
        is_plain = self.in_service and self.state != SlotState.RESETTING
        since = self.probed_since if is_plain else self.began if self.is_hopeful else None
        return None if since is None else since + SLOW_START

    def is_coming(self, at: float) -> bool:
        return self.slow_at is not None and at < self.slow_at

    @property
    def room(self) -> int:
        most = 1 if self.policy is None else self.policy.leases_per_connection
        used = len(self.holders) + (most == 1 and bool(self.callers))
        return 0 if self.probed_since is not None else max(0, most - used)

    @property
    def is_used(self) -> bool:
        return bool(self.holders or self.callers)

    @property
    def is_ready(self) -> bool:
        return self.state == SlotState.READY and self.is_active and not self.is_replaced

    @property
    def takes_calls(self) -> bool:
        return not self.holders and self.probed_since is None

    def activate(self, active: bool) -> None:
        self.is_active = active

    def expire(self, *, is_replaced: bool = False) -> None:
        self.is_old, self.is_replaced = True, is_replaced

    def outdate(self) -> None:
        self.expire()

    def fire(self, trigger: SlotTrigger) -> None:
        self.fired.append(trigger)

    try_to_fire = fire


class Board:
    """Moves among targets of the given names, with all that they are given."""

    def __init__(self, names: str, is_open: bool = True, **policy: Any) -> None:
        rng = random.Random(1)
        self.policy = PoolPolicy(replacement=PLAIN, **policy)
        self.targets = Targets(lambda name: PoolTarget(name, str(name), lambda _: None, rng), names)
        self.counts = PoolStats()
        self.slots = Slots(self.policy, self.counts, self.targets)
        self.made: list[Any] = []
        self.retired: list[Any] = []
        self.can_make = True
        self.moves = Moves(self.slots, self.targets, self._make, self._retire)
        if is_open:
            self.moves.is_open = True

    def __getitem__(self, name: str) -> PoolTarget:
        return next(target for target in self.targets if target.name == name)

    def _make(self, kind: Kind, target: PoolTarget) -> Any:
        if not self.can_make:
            return None
        self.made.append(Member(target, "asleep", kind=kind))
        return self.made[-1]

    def _retire(self, slot: Any) -> None:
        self.slots.remove(slot)
        self.retired.append(slot)

    def leave_out(self, name: str, retry_at: float = 100.0) -> PoolTarget:
        self[name].failures, self[name].retry_at, self[name].cause = 1, retry_at, OSError(f"{name} is down")
        return self[name]

    def put(self, name: str, *states: str, **attributes: Any) -> Any:
        """Slots of a target; the last one."""
        there = [Member(self[name], state, **{"policy": self.policy, **attributes}) for state in states or ("ready",)]
        self.slots.add(*there)
        return there[-1]

    def left_alone(self) -> bool:
        """Whether nothing was made, retired or fired."""
        return not self.made and not self.retired and not any(slot.fired for slot in self.slots)
