"""One life of a pool, step by step in virtual time, against a simulated peer, and beside a model of the pool.

It works as a `Life` does for a connection. Each method is one step, and the steps are kept as a script that reads as a
program. After every step the pool is compared with the model, see `model`.
"""

from __future__ import annotations

import random
import threading
from typing import Any, ClassVar

from fsm_conn.links.base import CallOptions
from fsm_conn.pool.errors import PoolClosed
from fsm_conn.pool.table import PoolState
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, AT_THE_END
from fsm_conn.testing.lives.connections.life import POLICY
from fsm_conn.testing.lives.pools.asking import SimulatedTarget
from fsm_conn.testing.lives.pools.holding import hold
from fsm_conn.testing.lives.pools.hooks import HOOKS
from fsm_conn.testing.lives.pools.model import PoolUser
from fsm_conn.testing.lives.pools.offers import IMPATIENT, TARGETS, USERS, also, offers, options, pool_policy
from fsm_conn.testing.lives.pools.rules import broken_at_the_end
from fsm_conn.testing.lives.pools.stage import MakePool, PoolStage
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.lives.stepping import LIVENESS_BOUND, Offer
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["HOOKS", "MakePool", "PoolLife"]


class PoolLife(PoolStage):
    """A pool, its simulated peer, and its users.

    Args:
        pool_class: the class under test.
        policy: the pool's policy; by default two connections and one of overflow.
        retry: the policy of its connections; by default three attempts with delays of 1 and 2 s.
        hooks: the kind of its hooks, one of `HOOKS`.
        seed: the seed of the jitter, and of the failures of hooks.
        targets: how many targets the pool is made with. With more than one, some are sick for a while, and some are
            added and removed.
        make: makes the pool, for classes whose constructors take more. It is called with the factory of links, or a
            list of them for several targets, and the keywords that `ConnectionPool` takes.
        ignore: names of rules not to check, each with the reason why.
        invariants: further invariants, of a `PoolLife`.
        loop: the event loop, at time zero; by default the life has its own.

    Attributes:
        pool: the pool.
        peer: the peer of its links.
        users, others: users that acquire leases, and users that open, close and call.
        records: the transitions of the pool so far.
    """

    hook_kinds: ClassVar[tuple[str, ...]] = HOOKS
    """The kinds of hooks in random lives."""

    # --- steps ----------------------------------------------------------------------------------------------

    def initialize(self, *, rush: bool = False) -> None:
        """A user calls `initialize()`. `rush`, here and below: take the next step before anything else can run."""
        self._use("initialize", (), self.pool.initialize, rush)

    def open(self) -> None:
        """Open the pool, while the peer does everything it is asked."""
        self._step("open")
        self._other("initialize", self.pool.initialize)
        for _ in range(50):
            self._running(self.loop.run_until_blocked)
            if not self.peer.answer("open"):
                break
        self._settle(False)

    def close_all(self, timeout: float = 5.0, *, rush: bool = False) -> None:
        """A user calls `close_all()`."""

        async def close() -> None:
            by, before = self.loop.time() + timeout, self.model.close_by
            self.model.close_by = by if before is None else min(by, before)
            await self.pool.close_all(timeout)

        self._use("close_all", (timeout,), close, rush)

    def call(self, *, rush: bool = False) -> None:
        """A user makes a call without a lease."""
        self._use("call", (), lambda: self.pool.call("simulated.Call", n=1), rush)

    def call_patiently(self, timeout: float = 20.0, *, rush: bool = False) -> None:
        """A user makes an idempotent call without a lease, with a deadline."""
        options = CallOptions(idempotent=True, timeout=timeout)
        self._call("call_patiently", (timeout,), options, rush)

    def acquire(self, timeout: float | None = None, *, rush: bool = False) -> None:
        """A user acquires a lease, and holds it until a step releases or forgets it."""
        self._step("acquire", timeout, rush=rush)
        if len(self.users) < USERS:
            self._begin(PoolUser(timeout), "user of acquire")
        self._settle(rush)

    def release(self, number: int = 0, *, rush: bool = False) -> None:
        """Release the held lease with that number, counted from the oldest."""
        self._step("release", number, rush=rush)
        self._let_go(number, "release")
        self._settle(rush)

    def forget(self, number: int = 0, *, rush: bool = False) -> None:
        """Drop the lease with that number without releasing it."""
        self._step("forget", number, rush=rush)
        self._let_go(number, "forget")
        self._settle(rush)

    def release_and_cancel(self, number: int = 0, *, rush: bool = False) -> None:
        """Release the lease with that number, and cancel the user that is served by that before the user can know."""
        self._step("release_and_cancel", number, rush=rush)
        self._let_go(number, "release and cancel")
        self._settle(rush)

    def release_elsewhere(self, number: int = 0, *, rush: bool = False) -> None:
        """Release the lease with that number in another thread."""
        self._step("release_elsewhere", number, rush=rush)
        self._let_go(number, "release elsewhere")
        self._settle(rush)

    def discard(self, number: int = 0, *, rush: bool = False) -> None:
        """Discard the lease with that number: nobody may get its link again."""
        self._step("discard", number, rush=rush)
        self._let_go(number, "discard")
        self._settle(rush)

    def acquire_elsewhere(self, *, rush: bool = False) -> None:
        """While a task computes, another thread acquires in an event loop of its own, which must be refused."""
        self._step("acquire_elsewhere", rush=rush)
        self._other("acquire_elsewhere", self._computing)
        self._settle(rush)

    def call_that_kills(self) -> None:
        """A user makes an idempotent call that ends each link that it uses; other links are opened at once."""
        self.peer.killers.add(self._askers + 1)
        self._call("call_that_kills", (), CallOptions(idempotent=True, timeout=200), rush=False)
        for _ in range(10):
            self._running(self.loop.run_until_blocked)
            if not self.peer.answer("open"):
                self._running(lambda: self.loop.advance(1.0))
        self._check(ALWAYS, AT_REST)

    def open_partly(self) -> None:
        """A user calls `initialize(at_least=0)`, which waits for nothing if it is the first call."""
        is_first = self.state == PoolState.CLOSED and not self.others
        self._use("open_partly", (), lambda: self.pool.initialize(at_least=0), rush=False)
        if is_first and self.state == PoolState.OPENING:
            self._fail("opening_waits_as_said", "it was to wait for no connection, and does")

    def expire(self, *, rush: bool = False) -> None:
        """Have all present links replaced."""
        self._step("expire", rush=rush)
        if self.pool.state in (PoolState.OPENING, PoolState.OPEN):
            self.model.expired |= {slot.conn.link for slot in self.pool.slots if slot.in_service}
            self._inside(self.pool.expire)
        self._settle(rush)

    def resize(self, size: int, *, rush: bool = False) -> None:
        """Resize the pool to that many connections."""
        self._step("resize", size, rush=rush)
        if self.pool.state in (PoolState.CLOSED, PoolState.OPEN):
            self._inside(lambda: self.pool.resize(size))
            self.model.size = size
        self._settle(rush)

    def add_target(self, *, rush: bool = False) -> None:
        """Add a target to the pool."""
        self._step("add_target", rush=rush)
        if len(self.pool.targets) < TARGETS:
            self.targets.append(SimulatedTarget(self.peer, len(self.targets)))
            self._inside(lambda: self.pool.add_target(self.targets[-1]))
            self.model.targets.add(self.targets[-1].number)
        self._settle(rush)

    def remove_target(self, number: int = 0, *, rush: bool = False) -> None:
        """A user removes the pool's target with that number; its leases have 5 s."""
        self._step("remove_target", number, rush=rush)
        targets = self.pool.targets
        if number < len(targets) > 1 and len(self.others) < USERS:
            self._other("remove_target", lambda: self._removed(targets[number]))
        self._settle(rush)

    def sicken(self, number: int = 0, *, rush: bool = False) -> None:
        """From now on, no connection to a target can be made."""
        self._step("sicken", number, rush=rush)
        self.peer.sick.add(number)
        self._settle(rush)

    def mend(self, number: int = 0, *, rush: bool = False) -> None:
        """Connections to a target can be made again."""
        self._step("mend", number, rush=rush)
        self.peer.sick.discard(number)
        self._settle(rush)

    def cancel(self, number: int = 0, *, rush: bool = False) -> None:
        """Cancel the user with that number, counted from the oldest, whatever it awaits."""
        self._step("cancel", number, rush=rush)
        if number < len(self.users):
            self.cancelled.add(self.users[number].task)
            self.users[number].task.cancel()
        self._settle(rush)

    def cancel_other(self, number: int = 0, *, rush: bool = False) -> None:
        """Cancel one of the users that open, close or call."""
        self._step("cancel_other", number, rush=rush)
        if number < len(self.others):
            self.cancelled.add(self.others[number][1])
            self.others[number][1].cancel()
        self._settle(rush)

    def answer(self, what: str, kind: str = "ok", *, rush: bool = False) -> None:
        """The peer answers its oldest request: `open`, `close` or `call`."""
        self._step("answer", what, kind, rush=rush)
        self.model.losses += kind in ("half", "lost")
        self.peer.answer(what, kind)
        self._settle(rush)

    def lose(self, number: int = 0, *, rush: bool = False) -> None:
        """The open link with that number, counted from the oldest, is lost."""
        self._step("lose", number, rush=rush)
        self._lose(number)
        self._settle(rush)

    def fire(self, trigger: str, number: int = 0, *, rush: bool = False) -> None:
        """Fire a trigger of the connection class's own in one of the connections, if its state handles the trigger."""
        self._step("fire", trigger, number, rush=rush)
        slots = self.pool.slots
        if number < len(slots) and slots[number].conn.lifecycle.handles(slots[number].conn._state, trigger):
            self.model.losses += 1  # a user that gets this link now may have to wait again
            self._inside(lambda: slots[number].conn.fire(trigger))
        self._settle(rush)

    def block(self, seconds: float, number: int = 0) -> None:
        """Let time pass while a task computes; a link is lost meanwhile, and the loop cannot notice it."""
        self._step("block", seconds, number)
        self._lose(number)
        self.loop._clock.advance(seconds)
        self.model.blocked(self.loop.time())

    # --- possible steps -------------------------------------------------------------------------------------

    def options(self, everything: bool = False) -> list[Step]:
        """The steps that are possible now, each once."""
        timer = self.loop.next_timer()
        passing = [] if timer is None else [Step("advance", (timer,))]
        return [*(Step(name, arguments) for name, arguments in options(self)), *passing]

    def offers(self) -> list[Offer]:
        """The steps to choose from at random, each with its weight."""
        return offers([*options(self), *also(self)])

    @classmethod
    def random_options(cls, rng: random.Random) -> dict[str, Any]:
        """A policy of a small pool, and the kind of its hooks."""
        return {
            "policy": pool_policy(rng),
            "hooks": rng.choice(cls.hook_kinds),
            "seed": rng.randrange(4),
            "targets": rng.choice((1, 1, 2, 3)),
            "retry": rng.choice((POLICY, POLICY, IMPATIENT)),
        }

    def _end(self) -> None:
        self._hooks.well = True
        self.peer.heal()
        self._all_let_go()
        self._serve_as_many_as_ever()
        self._close_for_good()

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
        self._step(name, *arguments, rush=rush)
        if len(self.others) < USERS:
            self._other(name, lambda: self.pool.call("simulated.Call", options, n=1))
            self.model.until = {task: until for task, until in self.model.until.items() if not task.done()}
            self.model.until[self.others[-1][1]] = self.loop.time() + (options.timeout or 0)
        self._settle(rush)

    async def _removed(self, target: Any) -> None:
        if target in self.pool.targets and len(self.pool.targets) > 1:
            self.model.targets.discard(target.number)
            await self.pool.remove_target(target, timeout=5)
            self.model.removed.add(target.number)

    async def _computing(self) -> None:
        thread = threading.Thread(target=self._acquired_elsewhere)
        thread.start()
        thread.join()

    def _acquired_elsewhere(self) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(self._acquired_in_time())
            self.model.unexpected = AssertionError("a lease, in another event loop than the pool's")
        except (RuntimeError, PoolClosed):
            pass
        except BaseException as error:
            self.model.unexpected = error
        finally:
            loop.close()

    async def _acquired_in_time(self) -> None:
        await self.pool.acquire(timeout=1.0)

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
        self._check(ALWAYS, AT_REST)

    def _serve_as_many_as_ever(self) -> None:
        if self.pool.state == PoolState.CLOSED:
            self._other("initialize", self.pool.initialize)
            self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        most = self.pool.policy.size * self.pool.policy.leases_per_connection
        self._hooks.has_refused = False
        for _ in range(most):
            self._begin(PoolUser(None), "user at the end")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        served = sum(user.is_holding for user in self.users) + self.model.held_by_strangers()
        if served < most and not self._hooks.has_refused:
            self._fail("no_slot_is_lost", f"all is well, and only {served} could be served at once: {self.pool!r}")
        self._check(ALWAYS, AT_REST)
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
        self._check(ALWAYS, AT_REST)
        broken = broken_at_the_end(self.pool, self.loop)
        if broken is None and self.peer.open_now:
            broken = "everything_is_closed", f"{self.peer.open_now} links are open"
        if broken is not None:
            self._fail(*broken)
        self._check(AT_THE_END)
