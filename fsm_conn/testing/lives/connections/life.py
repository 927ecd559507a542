"""One life of a connection, step by step in virtual time, against a simulated peer.

A life is driven by plain method calls. Each is one step: a caller calls the connection, the peer answers, time passes.
The steps are kept as a `Script`, which reads as a program and can be replayed. After every step the invariants are
checked. The rules of all lives are in `stepping`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fsm_conn._util.keywords import explained
from fsm_conn.connection.calling.records import CallOutcome, CallRecord
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.connection.table import ConnectionState
from fsm_conn.links.base import CallOptions
from fsm_conn.machine.errors import IllegalTriggerError
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, AT_THE_END, Invariant
from fsm_conn.testing.lives.connections import offers, verdicts
from fsm_conn.testing.lives.connections.caller_oracle import CallerOracle
from fsm_conn.testing.lives.connections.evidence import Asked, ConnectionEvidence, User
from fsm_conn.testing.lives.connections.invariants import INVARIANTS, RULES_OF_STEPS
from fsm_conn.testing.lives.connections.overrides import overrides_of
from fsm_conn.testing.lives.connections.remembered import fingerprint_of
from fsm_conn.testing.lives.connections.spinning import Spinning
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.stepping import LIVENESS_BOUND, Offer, SteppedLife
from fsm_conn.testing.virtual import VirtualLoop, waiting

__all__ = ["Life", "Make", "make_connection"]

Make = Callable[[Callable[[], Any], dict[str, Any]], Connection]

POLICY = RetryPolicy(max_attempts=3, initial_delay=1.0, multiplier=2.0, max_delay=8.0, jitter="none", stable_after=30.0)
START_TIMEOUT = 5.0
A_WHILE = 40.0
"""Seconds of rest after which nothing new is to be expected."""
PATIENTLY = CallOptions(idempotent=True, timeout=20)
USERS, FEW_USERS = 6, 2
"""The most callers at a time, in a random life and in a systematic one. More of them would reveal no more mistakes. Two
can share an attempt, cancel one another's wait, and be the last to leave."""


def make_connection(connection_class: type[Connection]) -> Make:
    """Make a connection in the usual way, from the link and the keywords alone."""
    return lambda link, options: connection_class(link, **options)


class Life(SteppedLife, ConnectionEvidence):
    """A connection of one class, its simulated peer, and its callers.

    Args:
        connection_class: the class under test.
        retry: the policy; by default three attempts with delays of 1 and 2 s, and links count as stable after 30 s.
        health: the policy for the peer's health; None: the class's own.
        start_timeout: seconds to open one link.
        seed: the seed of the jitter.
        make: makes the connection, for classes whose constructors take more. It is called with the factory of links
            and the keywords that `Connection` takes.
        ignore: names of invariants not to check, each with the reason why.
        invariants: further invariants.
        loop: the event loop, at time zero; it is returned without tasks. By default the life has its own.
    """

    all_invariants = INVARIANTS
    rules = RULES_OF_STEPS
    endings = ("end", "end", "end", "loop_ends")
    _quiet = frozenset(
        {"connect", "ensure_connected", "reconnect", "disconnect", "probe", "call", "call_patiently"}
        | {"cancel", "answer", "attend", "neglect", "lose", "go_away"}
    )

    @explained()
    def __init__(
        self,
        connection_class: type[Connection] = Connection,
        *,
        retry: RetryPolicy = POLICY,
        health: HealthPolicy | None = None,
        start_timeout: float = START_TIMEOUT,
        seed: int = 0,
        make: Make | None = None,
        ignore: dict[str, str] | None = None,
        invariants: Iterable[Invariant] = (),
        loop: VirtualLoop | None = None,
    ) -> None:
        given = (
            ("retry", retry, POLICY),
            ("health", health, None),
            ("start_timeout", start_timeout, START_TIMEOUT),
            ("seed", seed, 0),
        )
        script = Script(type(self), connection_class, {name: value for name, value, usual in given if value != usual})
        super().__init__(script, ignore, invariants, loop)
        options = {"retry": retry, "start_timeout": start_timeout, "name": "life", "history": 1_000_000}
        if health is not None:
            options["health"] = health
        options["rng"] = self.rng = random.Random(seed)  # noqa: S311 - jitter is no secret
        self.conn = self.machine = (make or make_connection(connection_class))(self._make_link, options)
        self.overrides = overrides_of(type(self.conn))
        self._spinning = Spinning(self.conn, self.loop)
        if self.conn.health.interval is not None and self.conn.health.skip_when_busy:
            self.conn.on_call(self._hear)
        self.caller_oracle = self.part(CallerOracle)
        self.peer.on_asked = self.caller_oracle.asks
        self.peer.closing_time = self.conn.close_timeout
        self.watch()

    def _make_link(self) -> Any:
        self.links_asked.append(Asked(self.loop.time(), len(self.records), self.peer.closed_at))
        return self.peer()

    def _hear(self, call: CallRecord) -> None:
        if call.outcome is CallOutcome.SUCCEEDED:
            self.sign_of_life = call.at

    # --- steps ----------------------------------------------------------------------------------------------

    def connect(self, *, rush: bool = False) -> None:
        """A caller calls `connect()`. `rush`, here and below: take the next step before anything else can run."""
        self._use("connect", self.conn.connect, rush)

    def ensure_connected(self, *, rush: bool = False) -> None:
        """A caller calls `ensure_connected()`."""
        self._use("ensure_connected", self.conn.ensure_connected, rush)

    def reconnect(self, *, rush: bool = False) -> None:
        """A caller calls `reconnect()`."""
        self._use("reconnect", self.conn.reconnect, rush)

    def disconnect(self, *, rush: bool = False) -> None:
        """A caller calls `disconnect()`."""
        self._use("disconnect", self.conn.disconnect, rush)

    def probe(self, *, rush: bool = False) -> None:
        """A caller calls `probe()`."""
        self._use("probe", self.conn.probe, rush)

    def call(self, *, rush: bool = False) -> None:
        """A caller makes a call."""
        self._use("call", lambda: self.conn.call("simulated.Call", n=1), rush)

    def call_patiently(self, *, rush: bool = False) -> None:
        """A caller makes an idempotent call, with a deadline."""
        self._use("call_patiently", lambda: self.conn.call("simulated.Call", PATIENTLY, n=1), rush)

    def cancel(self, number: int, *, rush: bool = False) -> None:
        """Cancel the waiting caller with that number, counted from the oldest."""
        self._step("cancel", number, rush=rush)
        if number < len(self.users):
            self.caller_oracle.cancels(self.users[number])
            self.users[number].task.cancel()
        self._settle(rush)

    def fire(self, trigger: str, *, rush: bool = False) -> None:
        """Fire a trigger from outside. A state that does not handle it must refuse it and change nothing."""
        self._step("fire", trigger, rush=rush)
        self._fire(trigger)
        self._settle(rush)

    def misfire(self, trigger: str, *, rush: bool = False) -> None:
        """Fire a trigger that must be refused; do nothing if the state handles it."""
        self._step("misfire", trigger, rush=rush)
        if not self.conn.handles(trigger):
            self._fire(trigger)
        self._settle(rush)

    def answer(self, what: str, kind: str = "ok", *, rush: bool = False) -> None:
        """The peer answers its oldest request: `open`, `close`, `probe` or `call`."""
        self._step("answer", what, kind, rush=rush)
        self.peer.answer(what, kind)
        self._settle(rush)

    def attend(self, what: str, *kinds: str, rush: bool = False) -> None:
        """From now on the peer answers requests of that kind at once, so that the life outlasts its steps.

        The first requests get the outcomes `kinds`, one after another, and all later ones succeed.
        """
        self._step("attend", what, *kinds, rush=rush)
        self.peer.attend(what, *kinds)
        self._settle(rush)

    def neglect(self, what: str, *, rush: bool = False) -> None:
        """From now on requests of that kind wait for `answer`, as at the beginning."""
        self._step("neglect", what, rush=rush)
        self.peer.neglect(what)
        self._settle(rush)

    def announce(self, well: bool, *, rush: bool = False) -> None:
        """The peer announces whether it is healthy."""
        self._step("announce", well, rush=rush)
        self.loop.inside(lambda: self.peer.announce(well))
        self._settle(rush)

    def lose(self, *, rush: bool = False) -> None:
        """The open link goes away."""
        self._step("lose", rush=rush)
        self.peer.lose()
        self._settle(rush)

    def go_away(self, *, rush: bool = False) -> None:
        """The peer closes the open link in good order, for example for an update; calls under way are finished."""
        self._step("go_away", rush=rush)
        self.peer.go_away()
        self._settle(rush)

    def loop_ends(self) -> None:
        """The loop ends, as in `asyncio.run`: all tasks are cancelled, and only those are waited for.

        Raises:
            ViolationError: a task continues, or something was left behind.
        """
        self._ending("loop_ends", self._loop_ends)

    # --- possible steps -------------------------------------------------------------------------------------

    def options(self, everything: bool = False) -> list[Step]:
        """The steps that are possible now, each once."""
        found = offers.options(self, USERS if everything else FEW_USERS)
        return found if everything else [*found, Step("loop_ends"), *offers.passing(self)]

    def offers(self) -> list[Offer]:
        """The steps to choose from at random, each with its weight."""
        return offers.offers(self)

    def fingerprint(self) -> tuple[Any, frozenset[str]]:
        """The fingerprint of this moment, and the objects that could not be compared."""
        return fingerprint_of(self)

    def try_refusals(self) -> None:
        """Fire all triggers that are illegal now. Each must be refused and change nothing."""
        shown = len(self.script.steps)
        wrong = self._inside(self._refused_wrongly)
        if wrong:
            self._fail("refusals_change_nothing", wrong)
        self._settle(rush=True)
        del self.script.steps[shown:]  # they changed nothing, so they need not be shown

    def _refused_wrongly(self) -> str:
        for trigger in offers.refusals(self):
            self._step("misfire", trigger, rush=True)
            wrong = self._fired_wrongly(trigger)
            if wrong:
                return wrong
        return ""

    def unjudged(self) -> dict[str, str]:
        """Rules that are not applied to this class, each with the reason."""
        return self.overrides.unjudged()

    @staticmethod
    def random_options(rng: random.Random) -> dict[str, Any]:
        """Policies that are quickly exhausted."""
        return {"retry": offers.retry_policy(rng), "health": offers.health_policy(rng), "seed": rng.randrange(4)}

    # --- how --------------------------------------------------------------------------------------------------

    def _use(self, method: str, function: Callable[[], Coroutine[Any, Any, Any]], rush: bool) -> None:
        self._step(method, rush=rush)
        if len(self.users) < USERS:
            user = User(method, self.loop.time())
            user.task = self.loop.create_task(self.caller_oracle.serve(user, function), name=f"user of {method}")
            self.users.append(user)
        self._settle(rush)

    def _fire(self, trigger: str) -> None:
        wrong = self._inside(lambda: self._fired_wrongly(trigger))
        if wrong:
            self._fail("refusals_change_nothing", wrong)

    def _fired_wrongly(self, trigger: str) -> str:
        before, handled = (self.state, len(self.records)), self.conn.handles(trigger)
        try:
            self.conn.fire(trigger)
        except IllegalTriggerError:
            changed = (self.state, len(self.records)) != before
            return f"{trigger!r} was refused, and yet something changed" if changed else ""
        if handled:
            self.caller_oracle.wishes()
        return "" if handled else f"{trigger!r} cannot happen in {before[0]!r}, and was not refused"

    def _after_running(self) -> None:
        if self._spinning.task:
            self._fail("no_livelock", verdicts.why_it_spins(self._spinning))
        done = [user for user in self.users if user.task.done()]
        if done:
            self.users = [user for user in self.users if user not in done]
            for user in done:
                user.leave()
            for user in done:
                self._judge(user)

    def _judge(self, user: User) -> None:
        if user.task.cancelled():
            self.answered["cancelled"] += 1
        else:
            self.answered["ok" if user.task.exception() is None else "error"] += 1
        self._fail_for(verdicts.told_wrongly(self, user))

    def _end(self) -> None:
        self.peer.heal()
        self._come_to_rest()
        self._disconnect_for_good()
        self._check(ALWAYS, AT_REST, AT_THE_END)

    def _come_to_rest(self) -> None:
        self._running(self._let_time_pass)
        if not self._is_at_rest():
            self._fail(
                "liveness",
                f"{LIVENESS_BOUND:g} s after all faults stopped, the connection is still in {self.state!r}; "
                f"its activity must end, or some trigger must lead out of it, or it must be declared with final=True\n"
                f"{waiting(self.loop)}",
            )

    def _let_time_pass(self) -> None:
        """Advance while anything may still happen: once at rest, until every timer has fired and no state was left."""
        end = self.loop.time() + LIVENESS_BOUND
        while (left := end - self.loop.time()) > 0:
            visit = self.conn.visit
            self.loop.advance(min(left, max(A_WHILE, self.loop._last_timer())))
            if self.conn.visit == visit and self._is_at_rest():
                return

    def _is_at_rest(self) -> bool:
        return self.is_serving or self.conn.lifecycle.states[self.state].final

    def _disconnect_for_good(self) -> None:
        self.caller_oracle.ends()
        task = self.loop.create_task(self.conn.disconnect(), name="the last disconnect")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        if not task.done() or self.conn.state != ConnectionState.DISCONNECTED:
            self._fail("disconnect_ends_disconnected", f"after disconnect() the connection is in {self.state!r}")

    def _loop_ends(self) -> None:
        tasks = self.loop.tasks()
        for task in self._in_order(tasks):
            task.cancel()
        if tasks:
            self._run(lambda: self.loop.run_until_complete(asyncio.wait(tasks, timeout=LIVENESS_BOUND)))
        wrong = verdicts.left_by_the_loop(self, tasks) if self.checking else ""
        if wrong:
            self._fail("nothing_outlives_the_loop", wrong)

    def _in_order(self, tasks: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        """The tasks sorted by name and age, because the order of a set of tasks varies between runs."""
        ages = {user.task: age for age, user in enumerate(self.users)}
        return sorted(tasks, key=lambda task: (ages.get(task, -1), task.get_name()))

    def _emptied(self) -> bool:
        self.peer.attend("close")
        return self.loop.cancel_everything()

    def _left(self) -> None:
        for user in self.users:
            user.leave()
        self._spinning.end()

    def _suspects(self) -> tuple[str, ...]:
        return super()._suspects() or self.loop.inside(lambda: verdicts.suspects_in_links(self.conn))
