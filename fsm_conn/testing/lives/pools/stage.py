"""The surroundings of a pool's life: the pool, its simulated peer, their loop, and the checks.

The pool is compared with the `model` after every step; the steps are in `life`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import copy_context
from typing import Any

from fsm_conn._util.keywords import explained
from fsm_conn.connection.policy import RetryPolicy
from fsm_conn.links.errors import ConnectionLostError
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, Invariant, ViolationError, broken, chosen
from fsm_conn.testing.lives.connections.life import POLICY, START_TIMEOUT
from fsm_conn.testing.lives.fingerprint import fingerprint_of_pool
from fsm_conn.testing.lives.pools.asking import ASKER, PoolPeer, SimulatedTarget
from fsm_conn.testing.lives.pools.hooks import SimulatedHooks
from fsm_conn.testing.lives.pools.model import PoolModel, PoolUser
from fsm_conn.testing.lives.pools.offers import USERS
from fsm_conn.testing.lives.pools.rules import POOL_RULES, broken_at_rest
from fsm_conn.testing.lives.pools.watching import PoolWatch
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.silenced import SilencedLogs
from fsm_conn.testing.lives.stepping import leave_behind
from fsm_conn.testing.simulated import SimulatedLink, is_deadline
from fsm_conn.testing.virtual import LivelockError, VirtualLoop

__all__ = ["MakePool", "PoolStage"]

MakePool = Callable[[Any, dict[str, Any]], ConnectionPool]

SMALL = PoolPolicy(size=2, max_overflow=1)
STEP_RULES = (
    "cancellation_is_honest",
    "closing_ends_closed",
    "errors_are_ours",
    "expired_links_are_replaced",
    "everything_is_closed",
    "faults_have_a_cause",
    "links_are_used_rightly",
    "no_livelock",
    "no_slot_is_lost",
    "nobody_is_forgotten",
    "opening_waits_as_said",
    "permanent_errors_are_final",
    "targets_have_their_share",
    "unsent_calls_are_repeated",
)
"""Rules that are checked during a step; all other rules belong to the model."""

_silenced = SilencedLogs("fsm_conn", "fsm_conn.status", "fsm_conn.pool", "asyncio")


class PoolStage:
    """The pool and its surroundings; arguments as for `PoolLife`."""

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
        names = (*STEP_RULES, *(rule.__name__ for rule in POOL_RULES))
        self._chosen = chosen(tuple(invariants), names, tuple(dict(ignore or {}).items()))
        self.ignored = frozenset(ignore or ())
        given: tuple[tuple[str, Any, Any], ...] = (("policy", policy, SMALL), ("retry", retry, POLICY))
        given += (("hooks", hooks, ""), ("seed", seed, 0), ("targets", targets, 1))
        self.script = Script(type(self), pool_class, {name: value for name, value, usual in given if value != usual})
        self.policy = policy
        self.hooks = hooks
        self.loop = loop or VirtualLoop()
        self._owns_loop = loop is None
        self.checking = True
        self.steps_in: Counter[str] = Counter()
        self.sampled: set[str] = set()
        self.peer = PoolPeer()
        self.targets = [SimulatedTarget(self.peer, number) for number in range(targets)]
        self.model = PoolModel(policy.acquire_timeout, self.peer)
        self.model.called = lambda: [each.link for each in self.peer.unanswered() if each.what == "call"]
        self.users: list[PoolUser] = []
        self.others: list[tuple[str, asyncio.Task[Any]]] = []
        """Users that open, close or call."""
        self.cancelled: set[asyncio.Task[Any]] = set()
        self.records: list[TransitionRecord] = []
        self.ended = self._closed = False
        self._askers = 0
        options: dict[str, Any] = {"policy": policy, "retry": retry, "start_timeout": START_TIMEOUT, "name": "pool"}
        options["rng"] = random.Random(seed)  # noqa: S311
        self._hooks = SimulatedHooks(hooks, random.Random(seed), self.model)  # noqa: S311
        options |= self._hooks.options()
        given_to = self.targets[0] if targets == 1 else list(self.targets)
        self.pool = make(given_to, options) if make is not None else pool_class(given_to, **options)
        self.pool.on_transition(self.records.append)
        self._watch = PoolWatch(self.pool, self.loop)
        self.machine: Any = self.pool

    @property
    def links(self) -> list[SimulatedLink]:
        """The links that were made and are not closed, oldest first."""
        return self.peer.made

    def open_links(self) -> list[SimulatedLink]:
        """The links that are open and not lost, oldest first."""
        return [link for link in self.links if link.is_open and not link.is_lost]

    @property
    def state(self) -> str:
        """The pool's state."""
        return str(self.pool.state)

    def fingerprint(self) -> tuple[Any, frozenset[str]]:
        """The fingerprint of this moment, and the objects that could not be compared."""
        return fingerprint_of_pool(self.pool, self.peer, self.loop, self._watch.known())

    def cell(self) -> Any:
        """A coarse description of this moment."""
        return self.state, len(self.users), len(self.open_links())

    def unjudged(self) -> dict[str, str]:
        """No rule depends on the class."""
        return {}

    def try_refusals(self) -> None:
        """A pool has nothing that must be refused."""

    # --- how --------------------------------------------------------------------------------------------------

    def _use(
        self, name: str, arguments: tuple[Any, ...], function: Callable[[], Coroutine[Any, Any, Any]], rush: bool
    ) -> None:
        self._step(name, arguments, rush)
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

    def _step(self, name: str, arguments: tuple[Any, ...], rush: bool) -> None:
        self.steps_in[self.state] += 1
        self.script.steps.append(Step(name, arguments, rush))

    def _settle(self, rush: bool) -> None:
        if not rush:
            self._running(self.loop.run_until_blocked)
            self._check()

    def _running(self, run: Callable[[], None]) -> None:
        try:
            with _silenced:
                run()
        except LivelockError as error:
            self._fail("no_livelock", str(error))
        if found := self._watch.found(self.records):
            self._fail(found.name, found.message, found.cause)
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
            self._fail("errors_are_ours", f"a {task.get_name()} was told {error!r}", error)
        elif _was_given_up(task):
            self._fail("unsent_calls_are_repeated", f"a {task.get_name()} was told {task.exception()!r}")

    def _is_known(self, error: BaseException | None) -> bool:
        failed_hook = self.hooks == "failing" and isinstance(error, OSError)
        return isinstance(error, FsmConnError) or failed_hook or is_deadline(error)

    def _check(self) -> None:
        found = self.loop.inside(lambda: broken_at_rest(self.pool, self.model, self.loop.time(), self.ignored))
        if found is None and self.peer.faults:
            found = "links_are_used_rightly", self.peer.faults[0]
        if found is not None:
            self._fail(*found)
        self._look_at((ALWAYS, AT_REST))

    def _look_at(self, moments: tuple[str, ...]) -> None:
        """Check the invariants of the application."""
        if finding := self.loop.inside(lambda: broken(self, self._chosen, moments)):  # type: ignore[arg-type]
            self._fail(finding.name, finding.message, finding.cause)

    def _fail(self, name: str, message: str, cause: BaseException | None = None) -> None:
        if name in self.ignored:
            return
        self.ended = True
        error = ViolationError(name, message, self.script, tuple(self.records))
        error.suspects = self._watch.suspects(self.records, self.state)
        self.close()
        raise error from cause

    def close(self) -> None:
        """Close the loop, or return it, whatever still runs in it."""
        if self.loop.is_closed() or self._closed:
            return
        self._closed = True
        with _silenced:
            try:
                emptied = self.loop.cancel_everything()
            except LivelockError:
                emptied = False
            if not emptied:
                leave_behind(self.loop.tasks())
            for task in (*(user.task for user in self.users), *(task for _, task in self.others)):
                if task.done() and not task.cancelled():
                    task.exception()  # it was reported already, or does not matter any more
            if self._owns_loop or not emptied:
                self.loop.close()


def _was_given_up(task: asyncio.Task[Any]) -> bool:
    """Whether a call that may be repeated ended because it was not sent once, and the pool was not closed."""
    error = task.exception()
    is_unsent = isinstance(error, ConnectionLostError) and not error.maybe_executed
    return is_unsent and "patiently" in task.get_name() and "disconnect()" not in str(error)
