"""One life of a pool, lived step by step in virtual time against a simulated peer, beside a model of what must be.

As a `Life` is for a connection: each method is one step, what was done is kept as a trace that reads as a program, and
after every step the pool is compared with the model, see `model`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fsm_conn.connection.policy import RetryPolicy
from fsm_conn.links.base import CallOptions
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.pool.table import PoolState
from fsm_conn.testing.lives.checks import ViolationError
from fsm_conn.testing.lives.connections.life import POLICY, START_TIMEOUT
from fsm_conn.testing.lives.fingerprint import fingerprint_of_pool
from fsm_conn.testing.lives.pools.holding import hold
from fsm_conn.testing.lives.pools.hooks import HOOKS, SimulatedHooks
from fsm_conn.testing.lives.pools.model import PoolModel, PoolUser, broken_at_rest, broken_at_the_end
from fsm_conn.testing.lives.pools.offers import USERS, offers, options, pool_policy
from fsm_conn.testing.lives.pools.watching import PoolWatch
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.silenced import SilencedLogs
from fsm_conn.testing.lives.stepping import LIVENESS_BOUND, Offer, leave_behind
from fsm_conn.testing.simulated import SimulatedLink, SimulatedPeer, is_deadline
from fsm_conn.testing.virtual import LivelockError, VirtualLoop

__all__ = ["HOOKS", "MakePool", "PoolLife"]

MakePool = Callable[[Callable[[], Any], dict[str, Any]], ConnectionPool]

SMALL = PoolPolicy(size=2, max_overflow=1)

_silenced = SilencedLogs("fsm_conn", "fsm_conn.status", "fsm_conn.pool", "asyncio")


class PoolLife:
    """A pool, its simulated peer, and those who use it.

    Args:
        pool_class: the class under test.
        policy: the pool's; by default two connections and one of overflow.
        retry: that of its connections; by default three attempts with delays of 1 and 2 s.
        hooks: what its hooks are like, one of `HOOKS`.
        seed: for the jitter, and for what failing hooks do.
        make: how to make the pool, for constructors that take more: called with what makes links and the keywords
            that `ConnectionPool` takes.
        loop: a loop to live in, at time zero; by default the life has its own.
    """

    endings = ("end",)
    hook_kinds: ClassVar[tuple[str, ...]] = HOOKS
    """What the hooks may be in a random life."""

    def __init__(
        self,
        pool_class: type[ConnectionPool] = ConnectionPool,
        *,
        policy: PoolPolicy = SMALL,
        retry: RetryPolicy = POLICY,
        hooks: str = "",
        seed: int = 0,
        make: MakePool | None = None,
        loop: VirtualLoop | None = None,
    ) -> None:
        given = (("policy", policy, SMALL), ("retry", retry, POLICY), ("hooks", hooks, ""), ("seed", seed, 0))
        self.script = Script(type(self), pool_class, {name: value for name, value, usual in given if value != usual})
        self.policy = policy
        self.hooks = hooks
        self.loop = loop or VirtualLoop()
        self._owns_loop = loop is None
        self.checking = True
        self.steps_in: Counter[str] = Counter()
        self.sampled: set[str] = set()
        self.peer = SimulatedPeer()
        self.links: list[SimulatedLink] = []
        self.model = PoolModel(policy.acquire_timeout)
        self.model.called = lambda: [each.link for each in self.peer.unanswered() if each.what == "call"]
        self.users: list[PoolUser] = []
        self.others: list[tuple[str, asyncio.Task[Any]]] = []
        """Those who opened, closed or called."""
        self.cancelled: set[asyncio.Task[Any]] = set()
        self.records: list[TransitionRecord] = []
        self.ended = self._closed = False
        options: dict[str, Any] = {"policy": policy, "retry": retry, "start_timeout": START_TIMEOUT, "name": "pool"}
        options["rng"] = random.Random(seed)  # noqa: S311
        self._hooks = SimulatedHooks(hooks, random.Random(seed), self.model)  # noqa: S311
        options |= self._hooks.options()
        self.pool = make(self._make_link, options) if make is not None else pool_class(self._make_link, **options)
        self.pool.on_transition(self.records.append)
        self._watch = PoolWatch(self.pool, self.loop)
        self.machine: Any = self.pool

    def _make_link(self) -> SimulatedLink:
        self.links = [link for link in self.links if link.is_open or not link.closes]
        self.links.append(self.peer())
        return self.links[-1]

    # --- steps ----------------------------------------------------------------------------------------------

    def initialize(self, *, rush: bool = False) -> None:
        """A caller calls `initialize()`. `rush`, here and below: the next step comes before anything else can run."""
        self._use("initialize", (), self.pool.initialize, rush)

    def open(self) -> None:
        """The pool is opened, and the peer does all it is asked meanwhile."""
        self._step("open", (), False)
        self._other("initialize", self.pool.initialize)
        for _ in range(50):
            self._running(self.loop.run_until_blocked)
            if not self.peer.answer("open"):
                break
        self._settle(False)

    def close_all(self, timeout: float = 5.0, *, rush: bool = False) -> None:
        """A caller calls `close_all()`."""
        self._use("close_all", (timeout,), lambda: self.pool.close_all(timeout), rush)

    def call(self, *, rush: bool = False) -> None:
        """A caller makes a call without a lease."""
        self._use("call", (), lambda: self.pool.call("simulated.Call", n=1), rush)

    def call_patiently(self, *, rush: bool = False) -> None:
        """A caller makes an idempotent call without a lease, with a deadline."""
        options = CallOptions(idempotent=True, timeout=20)
        self._use("call_patiently", (), lambda: self.pool.call("simulated.Call", options, n=1), rush)

    def acquire(self, timeout: float | None = None, *, rush: bool = False) -> None:
        """A caller acquires a lease, and holds it until a step releases or forgets it."""
        self._step("acquire", (timeout,), rush)
        if len(self.users) < USERS:
            user = PoolUser(timeout)
            user.task = self.loop.create_task(hold(user, self.pool, self.model, self.cancelled), name="user of acquire")
            self.users.append(user)
        self._settle(rush)

    def release(self, number: int = 0, *, rush: bool = False) -> None:
        """The lease with that number, counted from the oldest that is held, is released."""
        self._step("release", (number,), rush)
        self._let_go(number, "release")
        self._settle(rush)

    def forget(self, number: int = 0, *, rush: bool = False) -> None:
        """The lease with that number is dropped without having been released."""
        self._step("forget", (number,), rush)
        self._let_go(number, "forget")
        self._settle(rush)

    def release_and_cancel(self, number: int = 0, *, rush: bool = False) -> None:
        """The lease with that number is released, and who is served by that is cancelled before it can know."""
        self._step("release_and_cancel", (number,), rush)
        self._let_go(number, "release and cancel")
        self._settle(rush)

    def cancel(self, number: int = 0, *, rush: bool = False) -> None:
        """The user with that number, counted from the oldest, is cancelled, whatever it awaits."""
        self._step("cancel", (number,), rush)
        if number < len(self.users):
            self.cancelled.add(self.users[number].task)
            self.users[number].task.cancel()
        self._settle(rush)

    def cancel_other(self, number: int = 0, *, rush: bool = False) -> None:
        """Of those who opened, closed or called, one is cancelled."""
        self._step("cancel_other", (number,), rush)
        if number < len(self.others):
            self.cancelled.add(self.others[number][1])
            self.others[number][1].cancel()
        self._settle(rush)

    def answer(self, what: str, kind: str = "ok", *, rush: bool = False) -> None:
        """The peer answers its oldest request: `open`, `close` or `call`."""
        self._step("answer", (what, kind), rush)
        self.model.losses += kind in ("half", "lost")
        self.peer.answer(what, kind)
        self._settle(rush)

    def lose(self, number: int = 0, *, rush: bool = False) -> None:
        """The open link with that number, counted from the oldest, goes away."""
        self._step("lose", (number,), rush)
        links = self.open_links()
        if number < len(links):
            self.model.losses += 1
            links[number].lose()
        self._settle(rush)

    def fire(self, trigger: str, number: int = 0, *, rush: bool = False) -> None:
        """A trigger of the connection class's own is fired in one of the connections, where its state handles it."""
        self._step("fire", (trigger, number), rush)
        slots = self.pool.slots
        if number < len(slots) and slots[number].conn.lifecycle.handles(slots[number].conn._state, trigger):
            self.model.losses += 1  # who is given it in this moment may have to wait again
            self.loop.inside(lambda: slots[number].conn.fire(trigger))
        self._settle(rush)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._step("advance", (seconds,), False)
        self._running(lambda: self.loop.advance(seconds))
        self._check()

    def tick(self) -> None:
        """What is ready runs, once, and nothing that comes of it."""
        self._step("tick", (), False)
        self._running(self.loop.tick)

    def end(self) -> None:
        """From now on all requests succeed: the pool must be complete, serve all, and leave nothing behind.

        Raises:
            ViolationError: a rule does not hold, now or at the end.
        """
        if self.ended:
            return
        self.ended = self._hooks.well = True
        self._step("end", (), False)
        try:
            self.peer.heal()
            self._all_let_go()
            self._serve_as_many_as_ever()
            self._close_for_good()
        finally:
            self.close()

    def close(self) -> None:
        """Give the loop back, whatever still runs in it."""
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
            if self._owns_loop or not emptied:
                self.loop.close()

    # --- what could be done next ----------------------------------------------------------------------------

    def open_links(self) -> list[SimulatedLink]:
        """The links that are open and not lost, oldest first."""
        return [link for link in self.links if link.is_open and not link.is_lost]

    @property
    def state(self) -> str:
        """The pool's state."""
        return str(self.pool.state)

    def options(self, everything: bool = False) -> list[Step]:
        """The steps that are possible now, each once."""
        timer = self.loop.next_timer()
        passing = [] if timer is None else [Step("advance", (timer,))]
        return [*(Step(name, arguments) for name, arguments in options(self)), *passing]

    def offers(self) -> list[Offer]:
        """The steps to choose from at random, with how often."""
        return offers(options(self))

    def fingerprint(self) -> tuple[Any, frozenset[str]]:
        """What distinguishes this moment from others, as far as the future depends on it."""
        return fingerprint_of_pool(self.pool, self.peer, self.loop, self._watch.known())

    def cell(self) -> Any:
        """What kind of moment this is, coarsely."""
        return self.state, len(self.users), len(self.open_links())

    def unjudged(self) -> dict[str, str]:
        """No rule depends on what the class does."""
        return {}

    def try_refusals(self) -> None:
        """There is nothing that must be refused."""

    @classmethod
    def random_options(cls, rng: random.Random) -> dict[str, Any]:
        """A policy of a small pool, and what its hooks are like."""
        return {"policy": pool_policy(rng), "hooks": rng.choice(cls.hook_kinds), "seed": rng.randrange(4)}

    # --- how --------------------------------------------------------------------------------------------------

    def _let_go(self, number: int, word: str) -> None:
        held = [user for user in self.users if user.is_holding]
        if number < len(held) and not held[number].word.done():
            held[number].word.set_result(word)

    def _use(
        self, name: str, arguments: tuple[Any, ...], function: Callable[[], Coroutine[Any, Any, Any]], rush: bool
    ) -> None:
        self._step(name, arguments, rush)
        if len(self.others) < USERS:
            self._other(name, function)
        self._settle(rush)

    def _other(self, name: str, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.others.append((name, self.loop.create_task(function(), name=f"user of {name}")))

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
        """What a user was told must be something that users are told."""
        if task.cancelled():
            if task not in self.cancelled:
                self._fail("cancellation_is_honest", f"a {task.get_name()} was cancelled, and nobody had cancelled it")
            self.cancelled.discard(task)
        elif task.exception() is not None and not self._is_known(task.exception()):
            error = task.exception()
            self._fail("errors_are_ours", f"a {task.get_name()} was told {error!r}", error)

    def _is_known(self, error: BaseException | None) -> bool:
        failed_hook = self.hooks == "failing" and isinstance(error, OSError)
        return isinstance(error, FsmConnError) or failed_hook or is_deadline(error)

    def _check(self) -> None:
        broken = self.loop.inside(lambda: broken_at_rest(self.pool, self.model, self.loop.time()))
        if broken is None and self.peer.faults:
            broken = "links_are_used_rightly", self.peer.faults[0]
        if broken is not None:
            self._fail(*broken)

    def _all_let_go(self) -> None:
        for user in self.users:
            if not user.word_is_given:
                user.word.set_result("release")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        for user in self.users:
            if not user.word_is_given:  # it had not begun to acquire
                user.word.set_result("release")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        if self.users or self.others:
            left = [user.task.get_name() for user in self.users] + [name for name, _ in self.others]
            self._fail(
                "nobody_is_forgotten", f"{LIVENESS_BOUND:g} s after all faults stopped, there still wait: {left}"
            )
        self._check()

    def _serve_as_many_as_ever(self) -> None:
        if self.pool.state == PoolState.CLOSED:
            self._other("initialize", self.pool.initialize)
            self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        for _ in range(self.policy.size * self.policy.leases_per_connection):
            user = PoolUser(None)
            user.task = self.loop.create_task(hold(user, self.pool, self.model, self.cancelled), name="user at the end")
            self.users.append(user)
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        served = sum(user.is_holding for user in self.users)
        if served < self.policy.size * self.policy.leases_per_connection:
            self._fail("no_slot_is_lost", f"all is well, and only {served} could be served at once: {self.pool!r}")
        self._check()
        for user in self.users:
            user.word.set_result("release")
        self._running(self.loop.run_until_blocked)

    def _close_for_good(self) -> None:
        self._other("close_all", lambda: self.pool.close_all(5.0))
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        self._check()
        broken = broken_at_the_end(self.pool, self.loop)
        if broken is None and self.peer.open_now:
            broken = "everything_is_closed", f"{self.peer.open_now} links are open"
        if broken is not None:
            self._fail(*broken)

    def _fail(self, name: str, message: str, cause: BaseException | None = None) -> None:
        self.ended = True
        error = ViolationError(name, message, self.script, tuple(self.records))
        error.suspects = self._watch.suspects(self.records, self.state)
        self.close()
        raise error from cause
