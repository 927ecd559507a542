"""One life of a connection, lived step by step in virtual time against a simulated peer.

A life is driven by plain method calls, each of which is one step: somebody calls the connection, the peer answers,
time passes. What was done is kept as a `Trace`, which reads as a program and can be replayed. After every step the
invariants are checked.

The rules that hold here: a life has a loop of its own and nothing happens in it but by a step; the same steps always
give the same life; a step that means nothing at the moment (an answer that nobody waits for) does nothing, so that any
part of a trace is a trace.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from fsm_conn.connection import Connection
from fsm_conn.errors import FsmConnError, IllegalTriggerError
from fsm_conn.lifecycle import ConnectionState
from fsm_conn.links.base import CallOptions
from fsm_conn.machine import ACTIVITY_PREFIX
from fsm_conn.policy import HealthPolicy, RetryPolicy
from fsm_conn.record import CallOutcome, CallRecord, TransitionRecord
from fsm_conn.testing.callers import Callers, User
from fsm_conn.testing.checking import ALWAYS, AT_REST, AT_THE_END, Invariant, ViolationError
from fsm_conn.testing.customs import BASE_TRIGGERS, customs_of
from fsm_conn.testing.invariants import INVARIANTS, RULES_OF_STEPS, nobody_watches, raised_in_row, watch_it
from fsm_conn.testing.ledger import Asked, Ledger
from fsm_conn.testing.simulated import OUTCOMES, SimulatedPeer, is_deadline
from fsm_conn.testing.spinning import Spinning
from fsm_conn.testing.trace import Step, Trace
from fsm_conn.testing.virtual import LivelockError, VirtualLoop, waiting

__all__ = ["Life", "User", "make_connection"]

_log = logging.getLogger("fsm_conn")

Make = Callable[[Callable[[], Any], dict[str, Any]], Connection]

POLICY = RetryPolicy(max_attempts=3, initial_delay=1.0, multiplier=2.0, max_delay=8.0, jitter="none", stable_after=30.0)
_BASE_TRIGGERS = tuple(sorted(BASE_TRIGGERS))
START_TIMEOUT = 5.0
TIMED_CALLS = frozenset({"call_patiently"})
"""Steps by which somebody makes a call that has a deadline."""
USERS = 6
"""At most so many callers at a time: more of them show nothing that fewer do not."""
STUBBORNNESS = 20
"""How often what swallows its cancellation is cancelled again, before it is left behind with its loop."""
LIVENESS_BOUND = 600.0
"""Seconds within which a connection must come to rest once its peer does all that it is asked."""


def make_connection(connection_class: type[Connection]) -> Make:
    """The usual way to make a connection under test: the link and the keywords, and nothing else."""
    return lambda link, options: connection_class(link, **options)


class Life:
    """A connection of one class, its simulated peer, and those who use it.

    Args:
        connection_class: the class under test.
        retry: the policy; by default three attempts with delays of 1 and 2 s, and 30 s up to count as stable.
        health: how the peer's health is watched; None: as the class has it.
        start_timeout: seconds for one open.
        seed: for the jitter.
        make: how to make the connection, for classes whose constructors take more: called with what makes links
            and the keywords that `Connection` takes.
        ignore: names of invariants not to check, each with the reason why.
        invariants: further invariants.
        loop: a loop to live in, at time zero; it is given back with no task in it. By default the life has its own.
    """

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
        self._all = _chosen((*INVARIANTS, *invariants), tuple((ignore or {}).items()))
        self._ignored = frozenset(ignore or ())
        self.connection_class = connection_class
        given = (
            ("retry", retry, POLICY),
            ("health", health, None),
            ("start_timeout", start_timeout, START_TIMEOUT),
            ("seed", seed, 0),
        )
        self.trace = Trace(connection_class, {name: value for name, value, usual in given if value != usual})
        self.loop = loop or VirtualLoop()
        self._owns_loop = loop is None
        self._closed = False
        self.peer = SimulatedPeer()
        self.users: list[User] = []
        self.answered: Counter[str] = Counter()
        self.seen: list[TransitionRecord] = []
        self.seen_slowly: list[TransitionRecord] = []
        self.links_asked: list[Asked] = []
        self.steps_in: Counter[str] = Counter()
        options = {"retry": retry, "start_timeout": start_timeout, "name": "life", "history": 1_000_000}
        if health is not None:
            options["health"] = health
        options["rng"] = random.Random(seed)  # noqa: S311 - jitter is no secret
        self.conn = (make or make_connection(connection_class))(self._make_link, options)
        self.customs = customs_of(type(self.conn))
        self._spinning = Spinning(self.conn, self.loop)
        self.sign_of_life = 0.0
        """When a call was answered last, if that counts as a sign of life."""
        if self.conn.health.interval is not None and self.conn.health.skip_when_busy:
            self.conn.on_call(self._hear)
        self.callers = Callers(self)
        self.peer.on_asked = self.callers.asks
        self.ledger = Ledger(self)
        self.peer.closing_time = self.conn.close_timeout
        self.conn.on_transition(self.seen.append)
        self.conn.on_transition(self._see_slowly)
        self.checked = 0
        """How many records of the history have been checked."""
        self.checking = True
        """Whether the invariants are checked: for who lives again what was checked before, and has no time to lose."""
        self.ended = False

    def _make_link(self) -> Any:
        self.links_asked.append(Asked(self.loop.time(), len(self.records), self.peer.closed_at))
        return self.peer()

    @property
    def records(self) -> Sequence[TransitionRecord]:
        """All transitions so far."""
        return self.conn._records or ()

    def _hear(self, call: CallRecord) -> None:
        if call.outcome is CallOutcome.SUCCEEDED:
            self.sign_of_life = call.at

    def _see_slowly(self, record: TransitionRecord) -> Awaitable[None] | None:
        """An async observer, while that is checked; a plain one otherwise, which costs less."""
        if self.checking:
            return self._see_after_a_while(record)
        self.seen_slowly.append(record)
        return None

    async def _see_after_a_while(self, record: TransitionRecord) -> None:
        await asyncio.sleep(0)
        self.seen_slowly.append(record)

    # --- steps ----------------------------------------------------------------------------------------------

    def connect(self, *, rush: bool = False) -> None:
        """Somebody calls `connect()`. `rush`, here and below: the next step comes before anything else can run."""
        self._use("connect", self.conn.connect, rush)

    def ensure_connected(self, *, rush: bool = False) -> None:
        """Somebody calls `ensure_connected()`."""
        self._use("ensure_connected", self.conn.ensure_connected, rush)

    def reconnect(self, *, rush: bool = False) -> None:
        """Somebody calls `reconnect()`."""
        self._use("reconnect", self.conn.reconnect, rush)

    def disconnect(self, *, rush: bool = False) -> None:
        """Somebody calls `disconnect()`."""
        self._use("disconnect", self.conn.disconnect, rush)

    def probe(self, *, rush: bool = False) -> None:
        """Somebody calls `probe()`."""
        self._use("probe", self.conn.probe, rush)

    def call(self, *, rush: bool = False) -> None:
        """Somebody makes a call."""
        self._use("call", lambda: self.conn.call("simulated.Call", n=1), rush)

    def call_patiently(self, *, rush: bool = False) -> None:
        """Somebody makes an idempotent call, with a deadline."""
        options = CallOptions(idempotent=True, timeout=20)
        self._use("call_patiently", lambda: self.conn.call("simulated.Call", options, n=1), rush)

    def cancel(self, number: int, *, rush: bool = False) -> None:
        """The caller with that number, counted from the oldest that still waits, is cancelled."""
        self._step("cancel", number, rush=rush)
        if number < len(self.users):
            self.callers.cancels(self.users[number])
            self.users[number].task.cancel()
        self._settle(rush)

    def fire(self, trigger: str, *, rush: bool = False) -> None:
        """A trigger is fired from outside; where the state does not handle it, it must be refused without a trace."""
        self._step("fire", trigger, rush=rush)
        self._fire(trigger)
        self._settle(rush)

    def misfire(self, trigger: str, *, rush: bool = False) -> None:
        """The same, but nothing happens where the state does handle it."""
        self._step("misfire", trigger, rush=rush)
        if not self.conn.lifecycle.handles(self.conn._state, trigger):
            self._fire(trigger)
        self._settle(rush)

    def answer(self, what: str, kind: str = "ok", *, rush: bool = False) -> None:
        """The peer does what it was asked longest ago: `open`, `close`, `probe` or `call`."""
        self._step("answer", what, kind, rush=rush)
        self.peer.answer(what, kind)
        self._settle(rush)

    def attend(self, what: str, *kinds: str, rush: bool = False) -> None:
        """From now on the peer does what it is asked of that kind at once: a life that is longer than its steps.

        The first few requests come to `kinds`, one after another, and all later ones go well.
        """
        self._step("attend", what, *kinds, rush=rush)
        self.peer.attend(what, *kinds)
        self._settle(rush)

    def neglect(self, what: str, *, rush: bool = False) -> None:
        """From now on it does so only when told to, by `answer`, as at the beginning."""
        self._step("neglect", what, rush=rush)
        self.peer.neglect(what)
        self._settle(rush)

    def announce(self, well: bool, *, rush: bool = False) -> None:
        """The peer says by itself whether it is well."""
        self._step("announce", well, rush=rush)
        self.loop.inside(lambda: self.peer.announce(well))
        self._settle(rush)

    def lose(self, *, rush: bool = False) -> None:
        """The open link goes away."""
        self._step("lose", rush=rush)
        self.peer.lose()
        self._settle(rush)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._step("advance", seconds)
        self._running(lambda: self.loop.advance(seconds))
        self._check(ALWAYS, AT_REST)

    def tick(self) -> None:
        """What is ready runs, once, and nothing that comes of it."""
        self._step("tick")
        self._running(self.loop.tick)
        self._check(ALWAYS)

    def end(self) -> None:
        """From now on the peer does all it is asked: the connection comes to rest, disconnects, and leaves nothing.

        Raises:
            ViolationError: an invariant does not hold, now or at the end.
        """
        if self.ended:
            return
        self.ended = True
        self._step("end")
        try:
            self.peer.heal()
            self._come_to_rest()
            self._disconnect_for_good()
            self._check(ALWAYS, AT_REST, AT_THE_END)
        finally:
            self.close()

    def loop_ends(self) -> None:
        """The loop ends here, as that of `asyncio.run` does: all tasks are cancelled, and those alone are waited for.

        Raises:
            ViolationError: a task goes on, or something was left behind.
        """
        if self.ended:
            return
        self.ended = True
        self._step("loop_ends")
        try:
            tasks = asyncio.all_tasks(self.loop)
            with _quiet(_log):
                for task in self._in_order(tasks):
                    task.cancel()
                if tasks:
                    self.loop.run_until_complete(asyncio.wait(tasks, timeout=LIVENESS_BOUND))
            wrong = self._left_by_the_loop(tasks) if self.checking else ""
            if wrong:
                self._fail("nothing_outlives_the_loop", wrong)
        finally:
            self.close()

    def _in_order(self, tasks: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        """By name and age, for a set of tasks has them in another order each time."""
        ages = {user.task: age for age, user in enumerate(self.users)}
        return sorted(tasks, key=lambda task: (ages.get(task, -1), task.get_name()))

    def _left_by_the_loop(self, tasks: set[asyncio.Task[Any]]) -> str:
        stubborn = sorted(task.get_name() for task in tasks if not task.done())
        if stubborn:
            return f"the loop cannot end, for {stubborn[0]} goes on when it is cancelled; let CancelledError pass in it"
        if self.peer.open_now:
            remedy = f": {self.state!r} has no activity; {watch_it(self.state)}" if nobody_watches(self) else ""
            return f"the loop has ended, and {self.peer.open_now} links are still open{remedy}"
        resting = self.conn.lifecycle.states[self.conn._state].final
        return "" if resting else f"the loop has ended, and the connection is still in {self.state!r}"

    def close(self) -> None:
        """Give the loop back, whatever still runs in it."""
        if self._closed:
            return
        self._closed = True
        with _quiet(_log), _quiet(logging.getLogger("asyncio")):
            self.peer.attend("close")
            try:
                emptied = self._cancel_everything()
            except LivelockError:
                emptied = False
            if not emptied:
                self._spinning.leave_behind(asyncio.all_tasks(self.loop))
            for user in self.users:
                user.leave()
            if self._owns_loop or not emptied:
                self.loop.close()

    def _cancel_everything(self) -> bool:
        for _ in range(STUBBORNNESS):
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                return True
            for task in tasks:
                task.cancel()
            self.loop.run_until_blocked()
        return False

    # --- what could be done next ----------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The connection's state."""
        return self.conn._state

    def own_triggers(self) -> tuple[str, ...]:
        """Triggers that the class's table has beside those of the base table."""
        return self.customs.own_triggers

    def next_timer(self) -> float | None:
        """Seconds until something happens by itself; None when nothing will."""
        return self.loop.next_timer()

    def options(self, users: int = USERS) -> list[tuple[str, tuple[Any, ...]]]:
        """Steps that mean something now, with at most so many callers at a time."""
        steps: list[tuple[str, tuple[Any, ...]]] = []
        if len(self.users) < users:
            steps += [(name, ()) for name in ("connect", "disconnect", "reconnect")]
            if self.state == ConnectionState.CONNECTED:
                steps += [("probe", ()), ("call", ())]
            steps.append(("call_patiently", ()))
        for what, kinds in OUTCOMES.items():
            if self.peer.waits_for(what):
                steps += [("answer", (what, kind)) for kind in kinds if kind != "hang"]
        link = self.peer.link
        if link is not None and not link.is_lost:
            steps.append(("lose", ()))
            if link.news is not None:
                steps += [("announce", (False,)), ("announce", (True,))]
        steps += [("cancel", (number,)) for number in range(len(self.users))]
        handled = self.conn.lifecycle.handles
        steps += [("fire", (trigger,)) for trigger in self.own_triggers() if handled(self.state, trigger)]
        return steps

    def refusals(self) -> list[str]:
        """Triggers of the base table that must be refused now."""
        return [trigger for trigger in _BASE_TRIGGERS if not self.conn.lifecycle.handles(self.conn._state, trigger)]

    def abstract(self) -> tuple[Any, ...]:
        """What tells this moment from others, as far as what can follow is concerned."""
        conn = self.conn
        waiting = tuple(sorted((user.method, user.cancelled) for user in self.users))
        pending = tuple(sorted(pending.what for pending in self.peer.pending if not pending.decided.done()))
        link = self.peer.link
        return (
            self.state,
            conn.attempt,
            self.peer.open_now,
            link is not None and link.is_lost,
            waiting,
            pending,
            conn._failed_probes,
            conn._claimed,
            conn._opened,
            conn._on_trial,
            len(conn._losses or ()),
            conn._activity is not None,
            round(self.next_timer() or 0.0, 3),
        )

    # --- how --------------------------------------------------------------------------------------------------

    def _use(self, method: str, function: Callable[[], Coroutine[Any, Any, Any]], rush: bool) -> None:
        self._step(method, rush=rush)
        if len(self.users) < USERS:
            user = User(method, self.loop.time())
            user.task = self.loop.create_task(self.callers.serve(user, function), name=f"user of {method}")
            self.users.append(user)
        self._settle(rush)

    def _step(self, name: str, *arguments: Any, rush: bool = False) -> None:
        self.steps_in[self.state] += 1
        self.trace.steps.append(Step(name, arguments, rush))

    def _settle(self, rush: bool) -> None:
        if rush:
            self._check(ALWAYS)
            return
        self._running(self.loop.run_until_blocked)
        self._check(ALWAYS, AT_REST)

    def _fire(self, trigger: str) -> None:
        wrong = self.loop.inside(lambda: self._fired_wrongly(trigger))
        if wrong:
            self._fail("refusals_change_nothing", wrong)

    def _fired_wrongly(self, trigger: str) -> str:
        before, handled = (self.state, len(self.records)), self.conn.lifecycle.handles(self.conn._state, trigger)
        try:
            self.conn.fire(trigger)
        except IllegalTriggerError:
            changed = (self.state, len(self.records)) != before
            return f"{trigger!r} was refused, and yet something changed" if changed else ""
        if handled:
            self.callers.wishes()
        return "" if handled else f"{trigger!r} cannot happen in {before[0]!r}, and was not refused"

    def _running(self, run: Callable[[], None]) -> None:
        """Run the loop. What goes wrong is found by the invariants; logged, it would hide the life that is shown."""
        with _quiet(_log):
            try:
                run()
            except LivelockError as error:
                self._fail("no_livelock", str(error))
        if self._spinning.task:
            self._fail("no_livelock", self._why_it_spins())
        done = [user for user in self.users if user.task.done()]
        if done:
            self.users = [user for user in self.users if user not in done]
            for user in done:
                user.leave()
            for user in done:
                self._judge(user)

    def _why_it_spins(self) -> str:
        spinning = self._spinning
        who = spinning.task.rpartition(".")[2]
        who = f"{who}()" if who.startswith(ACTIVITY_PREFIX) else spinning.task
        refused = "returns" if spinning.refusal is None else f"raises {spinning.refusal!r}"
        return (
            f"{who} calls {spinning.method}() again and again, which {refused} at once, so nothing "
            f"else can run; do not catch everything there: let CancelledError pass, and let time pass between attempts"
        )

    def _judge(self, user: User) -> None:
        """What a caller was told must be something that callers are told."""
        if user.task.cancelled():
            self.answered["cancelled"] += 1
            if not user.cancelled:
                self._fail("cancellation_is_honest", f"{user.method}() was cancelled, and nobody had cancelled it")
            return
        error = user.task.exception()
        self.answered["ok" if error is None else "error"] += 1
        if error is not None and not self._may_be_told(user, error):
            self._blame(user, error)

    def _blame(self, user: User, error: BaseException) -> None:
        """Somebody was told of an error that is not for callers: say whose it is."""
        culprit = raised_in_row(self, error)
        if culprit:
            at_fault = "faults_have_a_cause", f"{culprit} has a bug: {error!r}, and {user.method}() was told"
            self._fail(*at_fault, error)
        self._fail("errors_are_ours", f"{user.method}() raised {error!r}, which is none of the package's errors", error)

    def _may_be_told(self, user: User, error: BaseException) -> bool:
        return isinstance(error, FsmConnError) or (user.method in TIMED_CALLS and is_deadline(error))

    def _check(self, *moments: str) -> None:
        if not self.checking:
            return
        broken = self.loop.inside(lambda: self._broken(moments))
        if broken is not None:
            self._fail(*broken)
        if AT_REST in moments:
            self.checked = len(self.records)

    def _broken(self, moments: Iterable[str]) -> tuple[str, str] | None:
        """The first invariant that does not hold, and what is wrong."""
        for moment in moments:
            for invariant in self._all[moment]:
                message = invariant.check(self)
                if message is not None:
                    return invariant.name, message
        return None

    def _come_to_rest(self) -> None:
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        final = self.conn.lifecycle.states[self.conn._state].final
        if not final and self.conn.state != ConnectionState.CONNECTED:
            self._fail(
                "liveness",
                f"{LIVENESS_BOUND:g} s after all faults stopped, the connection is still in {self.state!r}; "
                f"its activity must end, or some trigger must lead out of it, or it must be declared with final=True\n"
                f"{waiting(self.loop)}",
            )

    def _disconnect_for_good(self) -> None:
        self.callers.ends()
        task = self.loop.create_task(self.conn.disconnect(), name="the last disconnect")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        if not task.done() or self.conn.state != ConnectionState.DISCONNECTED:
            self._fail("disconnect_ends_disconnected", f"after disconnect() the connection is in {self.state!r}")

    def _fail(self, name: str, message: str, cause: BaseException | None = None) -> None:
        if name in self._ignored:
            return
        self.ended = True
        error = ViolationError(name, message, self.trace, tuple(self.conn.history))
        self.close()
        raise error from cause


@contextmanager
def _quiet(log: logging.Logger) -> Iterator[None]:
    log.disabled, before = True, log.disabled
    try:
        yield
    finally:
        log.disabled = before


@lru_cache(maxsize=16)  # life after life has the same
def _chosen(invariants: tuple[Invariant, ...], ignore: tuple[tuple[str, str], ...]) -> dict[str, list[Invariant]]:
    names = {*RULES_OF_STEPS, *(invariant.name for invariant in invariants)}
    for name, reason in ignore:
        if name not in names:
            raise ValueError(f"ignore: there is no invariant {name!r}; there are {', '.join(sorted(names))}")
        if not reason:
            raise ValueError(f"ignore: say why {name!r} need not hold")
    chosen: dict[str, list[Invariant]] = {ALWAYS: [], AT_REST: [], AT_THE_END: []}
    for invariant in invariants:
        if invariant.name not in dict(ignore):
            chosen[invariant.moment].append(invariant)
    return chosen
