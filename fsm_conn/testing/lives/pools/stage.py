"""The surroundings of a pool's life: the pool, its simulated peer, their loop, and the checks.

The pool is compared with the `model` after every step; the steps are in `life`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import copy_context
from typing import Any

from fsm_conn._util.keywords import explained
from fsm_conn.connection.policy import RetryPolicy
from fsm_conn.links.errors import ConnectionLostError
from fsm_conn.machine.errors import FsmConnError, is_expected
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing.lives.checks import AT_REST, Invariant
from fsm_conn.testing.lives.connections.life import POLICY, START_TIMEOUT
from fsm_conn.testing.lives.culprits import blamed, is_foreign
from fsm_conn.testing.lives.pools.asking import ASKER, PoolPeer, SimulatedTarget
from fsm_conn.testing.lives.pools.holding import tell_of_leases
from fsm_conn.testing.lives.pools.hooks import SimulatedHooks
from fsm_conn.testing.lives.pools.model import PoolModel, PoolUser
from fsm_conn.testing.lives.pools.offers import USERS
from fsm_conn.testing.lives.pools.remembered import fingerprint_of
from fsm_conn.testing.lives.pools.rules import POOL_RULES
from fsm_conn.testing.lives.pools.watching import PoolWatch
from fsm_conn.testing.lives.script import Script
from fsm_conn.testing.lives.stepping import SteppedLife
from fsm_conn.testing.simulated import SimulatedLink, is_deadline
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["MakePool", "PoolStage"]

MakePool = Callable[[Any, dict[str, Any]], ConnectionPool]

SMALL = PoolPolicy(size=2, max_overflow=1)
STEP_RULES: dict[str, str] = {
    "cancellation_is_honest": "Only a cancelled user gets a `CancelledError`.",
    "closing_ends_closed": "After `close_all()` the state is `closed`.",
    "errors_are_read": "An error that a task of user code ends with is read by somebody.",
    "coroutines_are_awaited": "A coroutine that user code makes is awaited by somebody.",
    "objects_share_nothing": "No object changes what all objects of its class share.",
    "errors_are_ours": "Users get only errors of this package.",
    "everything_is_closed": "A closed pool has no tasks and no open links.",
    "expired_links_are_replaced": "A link that expired is replaced when nobody uses it.",
    "faults_have_a_cause": "`fault` is fired only for bugs, and user code has none.",
    "no_livelock": "Work without a passing of time comes to an end.",
    "nobody_speaks_late": "What one visit to a state has started fires no trigger in a later visit to it.",
    "no_slot_is_lost": "Once all is well, as many users are served at once as ever.",
    "nobody_is_forgotten": "Once all is well, nobody waits for long.",
    "opening_waits_as_said": "`initialize(at_least=0)` waits for no connection.",
    "permanent_errors_are_final": "After a permanent error there is no further attempt.",
    "targets_have_their_share": "Once all is well, targets have equally many connections.",
    "what_serves_is_kept": "No link is closed for its age, or for being unused, while nothing else serves.",
    "unsent_calls_are_repeated": "A call that may be repeated is not given up because it was not sent.",
}
"""The rules that are checked during a step; all others are compared with the model at rest."""


class PoolStage(SteppedLife):
    """The pool and its surroundings; arguments as for `PoolLife`."""

    all_invariants = POOL_RULES
    rules = STEP_RULES
    pool: ConnectionPool

    @explained()
    def __init__(
        self,
        pool_class: type[ConnectionPool] = ConnectionPool,
        *,
        policy: PoolPolicy = SMALL,
        retry: RetryPolicy = POLICY,
        hooks: str = "",
        seed: int = 0,
        targets: int = 1,
        make: MakePool | None = None,
        ignore: Mapping[str, str] | None = None,
        invariants: Iterable[Invariant] = (),
        loop: VirtualLoop | None = None,
    ) -> None:
        given: tuple[tuple[str, Any, Any], ...] = (("policy", policy, SMALL), ("retry", retry, POLICY))
        given += (("hooks", hooks, ""), ("seed", seed, 0), ("targets", targets, 1))
        script = Script(type(self), pool_class, {name: value for name, value, usual in given if value != usual})
        super().__init__(script, ignore, invariants, loop)
        self.policy = policy
        self.hooks = hooks
        self.peer = PoolPeer()
        self.targets = [SimulatedTarget(self.peer, number) for number in range(targets)]
        self.model = PoolModel(policy.acquire_timeout, self.peer)
        self.model.targets = {target.number for target in self.targets}
        self.model.called = lambda: [each.link for each in self.peer.unanswered() if each.what == "call"]
        self.users: list[PoolUser] = []
        self.others: list[tuple[str, asyncio.Task[Any]]] = []
        """Users that open, close or call."""
        self.cancelled: set[asyncio.Task[Any]] = set()
        self._askers = 0
        options: dict[str, Any] = {"policy": policy, "retry": retry, "start_timeout": START_TIMEOUT, "name": "pool"}
        options["rng"] = random.Random(seed)  # noqa: S311
        self._hooks = SimulatedHooks(hooks, random.Random(seed), self.model)  # noqa: S311
        options |= self._hooks.options()
        given_to = self.targets[0] if targets == 1 else list(self.targets)
        self.pool = self.machine = make(given_to, options) if make is not None else pool_class(given_to, **options)
        self.pool.history_size = 1_000_000
        tell_of_leases(self.pool, self.model)
        self._hooks.join(self.pool)
        self._watch = PoolWatch(self.pool, self.loop)
        self.model.slots = lambda: tuple(self._watch.serving.slots)
        self.model.overflow = lambda: len(self._watch.serving.overflow)

    @property
    def links(self) -> list[SimulatedLink]:
        """The links that were made and are not closed, oldest first."""
        return self.peer.made

    def open_links(self) -> list[SimulatedLink]:
        """The links that are open and not lost, oldest first."""
        return [link for link in self.links if link.is_open and not link.is_lost]

    def fingerprint(self) -> tuple[Any, frozenset[str]]:
        """The fingerprint of this moment, and the objects that could not be compared."""
        return fingerprint_of(self, self._watch.known())

    def owners(self) -> tuple[type, ...]:
        """The classes of the pool and of its connections."""
        return type(self.pool), *{type(target.connect(None)) for target in self.pool._targets}

    def cell(self) -> Any:
        """A coarse description of this moment."""
        return self.state, len(self.users), len(self.open_links())

    def unjudged(self) -> dict[str, str]:
        """Rules that are not applied to this class, each with the reason."""
        own = is_foreign(type(self.pool).call.__code__)
        return {"unsent_calls_are_repeated": "call() is the class's own"} if own else {}

    def try_refusals(self) -> None:
        """A pool has nothing that must be refused."""

    # --- how --------------------------------------------------------------------------------------------------

    def _use(
        self, name: str, arguments: tuple[Any, ...], function: Callable[[], Coroutine[Any, Any, Any]], rush: bool
    ) -> None:
        self._step(name, *arguments, rush=rush)
        if len(self.others) < USERS:
            self._other(name, function)
        self._settle(rush)

    def _other(self, name: str, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.others.append((name, self._task(function(), f"user of {name}")))

    def _task(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task of another user, with a number of its own."""
        self._askers += 1
        context = copy_context()
        context.run(ASKER.set, self._askers)
        return self.loop.create_task(work, name=name, context=context)

    def _after_running(self) -> None:
        if found := self._watch.found(self.records):
            self._fail_for(found)
        tasks = [user.task for user in self.users] + [task for _, task in self.others]
        self.users = [user for user in self.users if not user.task.done()]
        self.others = [(name, task) for name, task in self.others if not task.done()]
        for task in tasks:
            if task.done():
                self._judge(task)

    def _judge(self, task: asyncio.Task[Any]) -> None:
        """Users must receive only documented results and errors."""
        if task.cancelled():
            if task not in self.cancelled:
                self._fail("cancellation_is_honest", f"a {task.get_name()} was cancelled, and nobody had cancelled it")
            self.cancelled.discard(task)
        elif task.exception() is not None and not self._is_known(task.exception()):
            error = task.exception()
            whose = blamed(self.pool, error).rstrip(",")
            told = f"a {task.get_name()} was told {error!r}{whose and '; raised by '}{whose}"
            self._fail("errors_are_ours", told, error)
        elif _was_given_up(task) and not self.unjudged():
            self._fail("unsent_calls_are_repeated", f"a {task.get_name()} was told {task.exception()!r}")

    def _is_known(self, error: BaseException | None) -> bool:
        failed_hook = self.hooks == "failing" and isinstance(error, OSError)
        own_hook = self._hooks.are_own and is_expected(error)
        return isinstance(error, FsmConnError) or failed_hook or own_hook or is_deadline(error)

    def _check(self, *moments: str) -> None:
        super()._check(*moments)
        if AT_REST in moments:
            self.model.looked_at(self.pool.slots)

    def _suspects(self) -> tuple[str, ...]:
        return self._watch.suspects(self.records, self.state)

    def _left(self) -> None:
        for task in (*(user.task for user in self.users), *(task for _, task in self.others)):
            if task.done() and not task.cancelled():
                task.exception()  # it was reported already, or does not matter any more


def _was_given_up(task: asyncio.Task[Any]) -> bool:
    """Whether a call that may be repeated ended because it was not sent once, and the pool was not closed."""
    error = task.exception()
    is_unsent = isinstance(error, ConnectionLostError) and not error.maybe_executed
    return is_unsent and "patiently" in task.get_name() and "disconnect()" not in str(error)
