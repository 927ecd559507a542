"""One life of a connection, lived step by step in virtual time against a simulated peer.

A life is driven by plain method calls, each of which is one step: somebody calls the connection, the peer answers,
time passes. What was done is kept as a `Script`, which reads as a program and can be replayed. After every step the
invariants are checked.

The rules that hold here: a life has a loop of its own and nothing happens in it but by a step; the same steps always
give the same life; a step that means nothing at the moment (an answer that nobody waits for) does nothing, so that any
part of a trace is a trace.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from fsm_conn.connection.calling.records import CallOutcome, CallRecord
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import ConnectionState
from fsm_conn.links.base import CallOptions
from fsm_conn.machine.errors import IllegalTriggerError
from fsm_conn.testing.lives import verdicts
from fsm_conn.testing.lives.caller_oracle import CallerOracle, User
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, AT_THE_END, Invariant, ViolationError
from fsm_conn.testing.lives.invariants import INVARIANTS
from fsm_conn.testing.lives.overrides import overrides_of
from fsm_conn.testing.lives.policy_oracle import Asked, PolicyOracle
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.silenced import SilencedLogs
from fsm_conn.testing.lives.spinning import Spinning
from fsm_conn.testing.simulated import SimulatedPeer
from fsm_conn.testing.virtual import LivelockError, VirtualLoop, waiting

__all__ = ["Life", "User", "make_connection"]

_silenced, _silenced_loop = SilencedLogs("fsm_conn", "fsm_conn.status"), SilencedLogs("asyncio")

Make = Callable[[Callable[[], Any], dict[str, Any]], Connection]

POLICY = RetryPolicy(max_attempts=3, initial_delay=1.0, multiplier=2.0, max_delay=8.0, jitter="none", stable_after=30.0)
START_TIMEOUT = 5.0
USERS = 6
"""At most so many callers at a time: more of them show nothing that fewer do not."""
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
        self._all = verdicts.chosen((*INVARIANTS, *invariants), tuple((ignore or {}).items()))
        self.ignored = frozenset(ignore or ())
        self.connection_class = connection_class
        given = (
            ("retry", retry, POLICY),
            ("health", health, None),
            ("start_timeout", start_timeout, START_TIMEOUT),
            ("seed", seed, 0),
        )
        self.script = Script(connection_class, {name: value for name, value, usual in given if value != usual})
        self.loop = loop or VirtualLoop()
        self._owns_loop = loop is None
        self._closed = False
        self.peer = SimulatedPeer()
        self.users: list[User] = []
        self.answered: Counter[str] = Counter()
        self.seen: list[ConnectionRecord] = []
        self.seen_slowly: list[ConnectionRecord] = []
        self.links_asked: list[Asked] = []
        self.steps_in: Counter[str] = Counter()
        options = {"retry": retry, "start_timeout": start_timeout, "name": "life", "history": 1_000_000}
        if health is not None:
            options["health"] = health
        options["rng"] = random.Random(seed)  # noqa: S311 - jitter is no secret
        self.conn = (make or make_connection(connection_class))(self._make_link, options)
        self.overrides = overrides_of(type(self.conn))
        self._spinning = Spinning(self.conn, self.loop)
        self.sign_of_life = 0.0
        """When a call was answered last, if that counts as a sign of life."""
        if self.conn.health.interval is not None and self.conn.health.skip_when_busy:
            self.conn.on_call(self._hear)
        self.caller_oracle = CallerOracle(self)
        self.peer.on_asked = self.caller_oracle.asks
        self.policy_oracle = PolicyOracle(self)
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
    def records(self) -> Sequence[ConnectionRecord]:
        """All transitions so far."""
        return self.conn.records

    def _hear(self, call: CallRecord) -> None:
        if call.outcome is CallOutcome.SUCCEEDED:
            self.sign_of_life = call.at

    def _see_slowly(self, record: ConnectionRecord) -> Awaitable[None] | None:
        """An async observer, while that is checked; a plain one otherwise, which costs less."""
        if self.checking:
            return self._see_after_a_while(record)
        self.seen_slowly.append(record)
        return None

    async def _see_after_a_while(self, record: ConnectionRecord) -> None:
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
            self.caller_oracle.cancels(self.users[number])
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
            with _silenced:
                for task in self._in_order(tasks):
                    task.cancel()
                if tasks:
                    self.loop.run_until_complete(asyncio.wait(tasks, timeout=LIVENESS_BOUND))
            wrong = verdicts.left_by_the_loop(self, tasks) if self.checking else ""
            if wrong:
                self._fail("nothing_outlives_the_loop", wrong)
        finally:
            self.close()

    def _in_order(self, tasks: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        """By name and age, for a set of tasks has them in another order each time."""
        ages = {user.task: age for age, user in enumerate(self.users)}
        return sorted(tasks, key=lambda task: (ages.get(task, -1), task.get_name()))

    def close(self) -> None:
        """Give the loop back, whatever still runs in it."""
        if self._closed:
            return
        self._closed = True
        with _silenced, _silenced_loop:
            self.peer.attend("close")
            try:
                emptied = self.loop.cancel_everything()
            except LivelockError:
                emptied = False
            if not emptied:
                self._spinning.leave_behind(asyncio.all_tasks(self.loop))
            for user in self.users:
                user.leave()
            if self._owns_loop or not emptied:
                self.loop.close()

    # --- what could be done next ----------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The connection's state."""
        return str(self.conn.state)

    @property
    def is_serving(self) -> bool:
        """Whether calls are served in that state."""
        return self.conn._state in self.conn.serving_states

    def own_triggers(self) -> tuple[str, ...]:
        """Triggers that the class's table has beside those of the base table."""
        return self.overrides.own_triggers

    def next_timer(self) -> float | None:
        """Seconds until something happens by itself; None when nothing will."""
        return self.loop.next_timer()

    # --- how --------------------------------------------------------------------------------------------------

    def _use(self, method: str, function: Callable[[], Coroutine[Any, Any, Any]], rush: bool) -> None:
        self._step(method, rush=rush)
        if len(self.users) < USERS:
            user = User(method, self.loop.time())
            user.task = self.loop.create_task(self.caller_oracle.serve(user, function), name=f"user of {method}")
            self.users.append(user)
        self._settle(rush)

    def _step(self, name: str, *arguments: Any, rush: bool = False) -> None:
        self.steps_in[self.state] += 1
        self.script.steps.append(Step(name, arguments, rush))

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
            self.caller_oracle.wishes()
        return "" if handled else f"{trigger!r} cannot happen in {before[0]!r}, and was not refused"

    def _running(self, run: Callable[[], None]) -> None:
        """Run the loop. What goes wrong is found by the invariants; logged, it would hide the life that is shown."""
        with _silenced:
            try:
                run()
            except LivelockError as error:
                self._fail("no_livelock", str(error))
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

    def _fail_for(self, finding: verdicts.Finding | None) -> None:
        if finding is not None:
            self._fail(finding.name, finding.message, finding.cause)

    def _check(self, *moments: str) -> None:
        if not self.checking:
            return
        self._fail_for(self.loop.inside(lambda: verdicts.broken(self, self._all, moments)))
        if AT_REST in moments:
            self.checked = len(self.records)

    def _come_to_rest(self) -> None:
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        final = self.conn.lifecycle.states[self.conn._state].final
        if not final and not self.is_serving:
            self._fail(
                "liveness",
                f"{LIVENESS_BOUND:g} s after all faults stopped, the connection is still in {self.state!r}; "
                f"its activity must end, or some trigger must lead out of it, or it must be declared with final=True\n"
                f"{waiting(self.loop)}",
            )

    def _disconnect_for_good(self) -> None:
        self.caller_oracle.ends()
        task = self.loop.create_task(self.conn.disconnect(), name="the last disconnect")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        if not task.done() or self.conn.state != ConnectionState.DISCONNECTED:
            self._fail("disconnect_ends_disconnected", f"after disconnect() the connection is in {self.state!r}")

    def _fail(self, name: str, message: str, cause: BaseException | None = None) -> None:
        if name in self.ignored:
            return
        self.ended = True
        error = ViolationError(name, message, self.script, tuple(self.conn.history))
        self.close()
        raise error from cause
