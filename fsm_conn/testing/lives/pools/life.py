"""One life of a pool, lived step by step in virtual time against a simulated peer, beside a model of what must be.

As a `Life` is for a connection: each method is one step, what was done is kept as a trace that reads as a program, and
after every step the pool is compared with the model, see `model`.
"""

from __future__ import annotations

import random
import threading
from typing import Any, ClassVar

from fsm_conn.links.base import CallOptions
from fsm_conn.pool.errors import PoolClosed
from fsm_conn.pool.table import PoolState
from fsm_conn.testing.lives.checks import AT_THE_END
from fsm_conn.testing.lives.pools.asking import SimulatedTarget
from fsm_conn.testing.lives.pools.holding import hold
from fsm_conn.testing.lives.pools.hooks import HOOKS
from fsm_conn.testing.lives.pools.model import PoolUser
from fsm_conn.testing.lives.pools.offers import TARGETS, USERS, also, offers, options, pool_policy
from fsm_conn.testing.lives.pools.rules import broken_at_the_end
from fsm_conn.testing.lives.pools.stage import MakePool, PoolStage
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.lives.stepping import LIVENESS_BOUND, Offer
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["HOOKS", "MakePool", "PoolLife"]


class PoolLife(PoolStage):
    """A pool, its simulated peer, and those who use it.

    Args:
        pool_class: the class under test.
        policy: the pool's; by default two connections and one of overflow.
        retry: that of its connections; by default three attempts with delays of 1 and 2 s.
        hooks: what its hooks are like, one of `HOOKS`.
        seed: for the jitter, and for what failing hooks do.
        targets: how many targets the pool is made with. With more than one, some are sick for a while, and some are
            added and removed.
        make: how to make the pool, for constructors that take more: called with what makes links, or a list of that
            for several targets, and the keywords that `ConnectionPool` takes.
        ignore: names of rules not to check, each with the reason why.
        invariants: further ones, of a `PoolLife`.
        loop: a loop to live in, at time zero; by default the life has its own.

    Attributes:
        pool: the pool.
        peer: what its links are to.
        users, others: those who acquire leases, and those who open, close and call.
        records: the transitions of the pool so far.
    """

    endings = ("end",)
    hook_kinds: ClassVar[tuple[str, ...]] = HOOKS
    """What the hooks may be in a random life."""

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

    def call_patiently(self, timeout: float = 20.0, *, rush: bool = False) -> None:
        """A caller makes an idempotent call without a lease, with a deadline."""
        options = CallOptions(idempotent=True, timeout=timeout)
        self._call("call_patiently", (timeout,), options, rush)

    def acquire(self, timeout: float | None = None, *, rush: bool = False) -> None:
        """A caller acquires a lease, and holds it until a step releases or forgets it."""
        self._step("acquire", (timeout,), rush)
        if len(self.users) < USERS:
            self._begin(PoolUser(timeout), "user of acquire")
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

    def release_elsewhere(self, number: int = 0, *, rush: bool = False) -> None:
        """The lease with that number is released by another thread."""
        self._step("release_elsewhere", (number,), rush)
        self._let_go(number, "release elsewhere")
        self._settle(rush)

    def discard(self, number: int = 0, *, rush: bool = False) -> None:
        """The lease with that number is discarded: nobody is to have its link again."""
        self._step("discard", (number,), rush)
        self._let_go(number, "discard")
        self._settle(rush)

    def acquire_elsewhere(self, *, rush: bool = False) -> None:
        """While a task computes, another thread acquires in an event loop of its own: that is refused."""
        self._step("acquire_elsewhere", (), rush)
        self._other("acquire_elsewhere", self._computing)
        self._settle(rush)

    def call_that_kills(self) -> None:
        """Somebody makes an idempotent call that ends each link through which it goes; others are opened at once."""
        self.peer.killers.add(self._askers + 1)
        self._call("call_that_kills", (), CallOptions(idempotent=True, timeout=200), rush=False)
        for _ in range(10):
            self._running(self.loop.run_until_blocked)
            if not self.peer.answer("open"):
                self._running(lambda: self.loop.advance(1.0))
        self._check()

    def open_partly(self) -> None:
        """Somebody calls `initialize(at_least=0)`, which waits for nothing, if he is the first."""
        is_first = self.state == PoolState.CLOSED and not self.others
        self._use("open_partly", (), lambda: self.pool.initialize(at_least=0), rush=False)
        if is_first and self.state == PoolState.OPENING:
            self._fail("opening_waits_as_said", "it was to wait for no connection, and does")

    def expire(self, *, rush: bool = False) -> None:
        """All present links are to be replaced."""
        self._step("expire", (), rush)
        if self.pool.state in (PoolState.OPENING, PoolState.OPEN):
            self.model.expired |= {slot.conn.link for slot in self.pool.slots if slot.in_service}
            self.loop.inside(self.pool.expire)
        self._settle(rush)

    def resize(self, size: int, *, rush: bool = False) -> None:
        """The pool is to have so many connections."""
        self._step("resize", (size,), rush)
        if self.pool.state in (PoolState.CLOSED, PoolState.OPEN):
            self.loop.inside(lambda: self.pool.resize(size))
            self.model.size = size
        self._settle(rush)

    def add_target(self, *, rush: bool = False) -> None:
        """The pool is to connect to one more target."""
        self._step("add_target", (), rush)
        if len(self.pool.targets) < TARGETS:
            self.targets.append(SimulatedTarget(self.peer, len(self.targets)))
            self.loop.inside(lambda: self.pool.add_target(self.targets[-1]))
        self._settle(rush)

    def remove_target(self, number: int = 0, *, rush: bool = False) -> None:
        """Somebody removes the target with that number among those of the pool; its leases have 5 s."""
        self._step("remove_target", (number,), rush)
        targets = self.pool.targets
        if number < len(targets) > 1 and len(self.others) < USERS:
            self._other("remove_target", lambda: self._removed(targets[number]))
        self._settle(rush)

    def sicken(self, number: int = 0, *, rush: bool = False) -> None:
        """No connection can be made to a target any more."""
        self._step("sicken", (number,), rush)
        self.peer.sick.add(number)
        self._settle(rush)

    def mend(self, number: int = 0, *, rush: bool = False) -> None:
        """Connections to a target can be made again."""
        self._step("mend", (number,), rush)
        self.peer.sick.discard(number)
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
        self._lose(number)
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

    def block(self, seconds: float, number: int = 0) -> None:
        """Time passes while somebody computes; a link goes away, and the loop has no turn in which it is told."""
        self._step("block", (seconds, number), False)
        self._lose(number)
        self.loop._clock.advance(seconds)

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

    # --- what could be done next ----------------------------------------------------------------------------

    def options(self, everything: bool = False) -> list[Step]:
        """The steps that are possible now, each once."""
        timer = self.loop.next_timer()
        passing = [] if timer is None else [Step("advance", (timer,))]
        return [*(Step(name, arguments) for name, arguments in options(self)), *passing]

    def offers(self) -> list[Offer]:
        """The steps to choose from at random, with how often."""
        return offers([*options(self), *also(self)])

    @classmethod
    def random_options(cls, rng: random.Random) -> dict[str, Any]:
        """A policy of a small pool, and what its hooks are like."""
        return {
            "policy": pool_policy(rng),
            "hooks": rng.choice(cls.hook_kinds),
            "seed": rng.randrange(4),
            "targets": rng.choice((1, 1, 2, 3)),
        }

    def _begin(self, user: PoolUser, name: str) -> None:
        user.task = self._task(hold(user, self.pool, self.model, self.cancelled), name)
        self.users.append(user)

    def _lose(self, number: int) -> None:
        links = self.open_links()
        if number < len(links):
            self.model.losses += 1
            self.model.lost_at[links[number]] = self.loop.time()
            links[number].lose()

    def _call(self, name: str, arguments: tuple[Any, ...], options: CallOptions, rush: bool) -> None:
        self._step(name, arguments, rush)
        if len(self.others) < USERS:
            self._other(name, lambda: self.pool.call("simulated.Call", options, n=1))
            self.model.until = {task: until for task, until in self.model.until.items() if not task.done()}
            self.model.until[self.others[-1][1]] = self.loop.time() + (options.timeout or 0)
        self._settle(rush)

    async def _removed(self, target: Any) -> None:
        if target in self.pool.targets and len(self.pool.targets) > 1:
            await self.pool.remove_target(target, timeout=5)
            self.model.removed.add(target.number)

    async def _computing(self) -> None:
        thread = threading.Thread(target=self._acquired_elsewhere)
        thread.start()
        thread.join()

    def _acquired_elsewhere(self) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(self.pool.acquire(timeout=1.0).__aenter__())
            self.model.unexpected = AssertionError("a lease, in another event loop than the pool's")
        except (RuntimeError, PoolClosed):
            pass
        except BaseException as error:
            self.model.unexpected = error
        finally:
            loop.close()

    def _let_go(self, number: int, word: str) -> None:
        held = [user for user in self.users if user.is_holding]
        if number < len(held) and not held[number].word.done():
            held[number].word.set_result(word)

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
        for _ in range(self.pool.policy.size * self.pool.policy.leases_per_connection):
            self._begin(PoolUser(None), "user at the end")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        served = sum(user.is_holding for user in self.users)
        if served < self.pool.policy.size * self.pool.policy.leases_per_connection:
            self._fail("no_slot_is_lost", f"all is well, and only {served} could be served at once: {self.pool!r}")
        self._check()
        for user in self.users:
            user.word.set_result("release")
        self._running(self.loop.run_until_blocked)

    def _close_for_good(self) -> None:
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        old = [slot for slot in self.pool.slots if slot.in_service and slot.conn.link in self.model.expired]
        share = [len([slot for slot in self.pool.slots if slot.target is each]) for each in self.pool._targets]
        if self.pool.state == PoolState.OPEN and max(share) - min(share) > 1 + self.pool.policy.max_overflow:
            self._fail("targets_have_their_share", f"all are well, and have {share} connections")
        if old:
            self._fail("expired_links_are_replaced", f"nobody uses it, and {old[0]!r} has still the link that expired")
        self._other("close_all", lambda: self.pool.close_all(5.0))
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        self._check()
        broken = broken_at_the_end(self.pool, self.loop)
        if broken is None and self.peer.open_now:
            broken = "everything_is_closed", f"{self.peer.open_now} links are open"
        if broken is not None:
            self._fail(*broken)
        self._look_at((AT_THE_END,))
