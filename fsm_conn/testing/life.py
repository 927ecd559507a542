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
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import attrs

from fsm_conn.connection import Connection
from fsm_conn.errors import FsmConnError
from fsm_conn.lifecycle import ConnectionState, Trigger
from fsm_conn.links.base import CallOptions
from fsm_conn.policy import RetryPolicy
from fsm_conn.record import TransitionRecord
from fsm_conn.testing.invariants import ALWAYS, AT_REST, AT_THE_END, INVARIANTS, Invariant, ViolationError
from fsm_conn.testing.simulated import OUTCOMES, SimulatedPeer
from fsm_conn.testing.trace import Step, Trace
from fsm_conn.testing.virtual import DeadlockError, VirtualLoop

__all__ = ["Life", "User", "make_connection"]

_log = logging.getLogger("fsm_conn")

Make = Callable[[Callable[[], Any], dict[str, Any]], Connection]

POLICY = RetryPolicy(max_attempts=3, initial_delay=1.0, multiplier=2.0, max_delay=8.0, jitter="none", stable_after=30.0)
START_TIMEOUT = 5.0
USERS = 6
"""At most so many callers at a time: more of them show nothing that fewer do not."""
LIVENESS_BOUND = 600.0
"""Seconds within which a connection must come to rest once its peer does all that it is asked."""


@attrs.define(eq=False)
class User:
    """Somebody who has called the connection and awaits the outcome."""

    method: str
    task: asyncio.Task[Any]
    cancelled: bool = False
    """Whether the harness cancelled the call."""


def make_connection(connection_class: type[Connection]) -> Make:
    """The usual way to make a connection under test: the link and the keywords, and nothing else."""
    return lambda link, options: connection_class(link, **options)


class Life:
    """A connection of one class, its simulated peer, and those who use it.

    Args:
        connection_class: the class under test.
        retry: the policy; by default three attempts with delays of 1 and 2 s, and 30 s up to count as stable.
        start_timeout: seconds for one open.
        seed: for the jitter.
        make: how to make the connection, for classes whose constructors take more: called with what makes links
            and the keywords that `Connection` takes.
        ignore: names of invariants not to check, each with the reason why.
        invariants: further invariants.
    """

    def __init__(
        self,
        connection_class: type[Connection] = Connection,
        *,
        retry: RetryPolicy = POLICY,
        start_timeout: float = START_TIMEOUT,
        seed: int = 0,
        make: Make | None = None,
        ignore: dict[str, str] | None = None,
        invariants: Iterable[Invariant] = (),
    ) -> None:
        self._all = _chosen((*INVARIANTS, *invariants), ignore or {})
        self.connection_class = connection_class
        given = (("retry", retry, POLICY), ("start_timeout", start_timeout, START_TIMEOUT), ("seed", seed, 0))
        self.trace = Trace(connection_class, {name: value for name, value, usual in given if value != usual})
        self.loop = VirtualLoop()
        self.peer = SimulatedPeer()
        self.users: list[User] = []
        self.answered: Counter[str] = Counter()
        self.seen: list[TransitionRecord] = []
        self.seen_slowly: list[TransitionRecord] = []
        self.opens_asked: list[tuple[float, int]] = []
        """When links were made, and after how many transitions."""
        self.steps_in: Counter[str] = Counter()
        options = {"retry": retry, "start_timeout": start_timeout, "name": "life", "history": 1_000_000}
        options["rng"] = random.Random(seed)  # noqa: S311 - jitter is no secret
        self.conn = (make or make_connection(connection_class))(self._make_link, options)
        self.conn.on_transition(self.seen.append)
        self.conn.on_transition(self._see_slowly)
        self.checked = 0
        """How many records of the history have been checked."""
        self.checking = True
        """Whether the invariants are checked: for who lives again what was checked before, and has no time to lose."""
        self.ended = False

    def _make_link(self) -> Any:
        self.opens_asked.append((self.loop.time(), len(self.conn._records or ())))
        return self.peer()

    async def _see_slowly(self, record: TransitionRecord) -> None:
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
            self.users[number].cancelled = True
            self.users[number].task.cancel()
        self._settle(rush)

    def fire(self, trigger: str, *, rush: bool = False) -> None:
        """A trigger is fired from outside; when the state does not handle it, it must be refused without a trace."""
        self._step("fire", trigger, rush=rush)
        if self.loop.inside(lambda: self._changed_by_a_refusal(trigger)):
            self._fail("refusals_change_nothing", f"{trigger!r} was refused, and yet something changed")
        self._settle(rush)

    def answer(self, what: str, kind: str = "ok", *, rush: bool = False) -> None:
        """The peer does what it was asked longest ago: `open`, `close`, `probe` or `call`."""
        self._step("answer", what, kind, rush=rush)
        self.peer.answer(what, kind)
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

    def close(self) -> None:
        """Give the loop back, whatever still runs in it."""
        if self.loop.is_closed():
            return
        logs = [(log, log.disabled) for log in (_log, logging.getLogger("asyncio"))]
        try:
            for log, _ in logs:
                log.disabled = True
            for _ in range(20):
                for task in (tasks := asyncio.all_tasks(self.loop)):
                    task.cancel()
                if not tasks:
                    break
                self.loop.run_until_blocked()
            self.loop.close()
        finally:
            for log, before in logs:
                log.disabled = before

    # --- what could be done next ----------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The connection's state."""
        return str(self.conn.state)

    def own_triggers(self) -> tuple[str, ...]:
        """Triggers that the class's table has beside those of the base table."""
        known = {str(trigger) for trigger in Trigger}
        return tuple(sorted({str(row.trigger) for row in self.conn.lifecycle.transitions} - known))

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
        steps += [("cancel", (number,)) for number in range(len(self.users))]
        handled = self.conn.lifecycle.handles
        steps += [("fire", (trigger,)) for trigger in self.own_triggers() if handled(self.state, trigger)]
        return steps

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
            conn._activity is not None,
            round(self.next_timer() or 0.0, 3),
        )

    # --- how --------------------------------------------------------------------------------------------------

    def _use(self, method: str, function: Callable[[], Coroutine[Any, Any, Any]], rush: bool) -> None:
        self._step(method, rush=rush)
        if len(self.users) < USERS:
            task = self.loop.create_task(_starting(function), name=f"user of {method}")
            self.users.append(User(method, task))
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

    def _changed_by_a_refusal(self, trigger: str) -> bool:
        before, history = self.state, len(self.conn._records or ())
        try:
            self.conn.fire(trigger)
        except FsmConnError:
            return (self.state, len(self.conn._records or ())) != (before, history)
        return False

    def _running(self, run: Callable[[], None]) -> None:
        """Run the loop. What goes wrong is found by the invariants; logged, it would hide the life that is shown."""
        _log.disabled, before = True, _log.disabled
        try:
            run()
        except DeadlockError as error:
            self._fail("no_deadlock", str(error))
        finally:
            _log.disabled = before
        self.users, done = (
            [user for user in self.users if not user.task.done()],
            [user for user in self.users if user.task.done()],
        )
        for user in done:
            self._judge(user)

    def _judge(self, user: User) -> None:
        """What a caller was told must be something that callers are told."""
        if user.task.cancelled():
            self.answered["cancelled"] += 1
            if not user.cancelled:
                self._fail("cancellation_is_honest", f"{user.method}() was cancelled, and nobody had cancelled it")
            return
        error = user.task.exception()
        self.answered["ok" if error is None else "error"] += 1
        if error is not None and not isinstance(error, FsmConnError):
            self._fail(
                "errors_are_ours", f"{user.method}() raised {error!r}, which is none of the package's errors", error
            )

    def _check(self, *moments: str) -> None:
        invariants = [each for moment in moments for each in self._all[moment]]
        if not self.checking:
            return
        broken = self.loop.inside(lambda: next(filter(None, map(self._broken, invariants)), None))
        if broken is not None:
            self._fail(*broken)
        if AT_REST in moments:
            self.checked = len(self.conn._records or ())

    def _broken(self, invariant: Invariant) -> tuple[str, str] | None:
        message = invariant.check(self)
        return None if message is None else (invariant.name, message)

    def _come_to_rest(self) -> None:
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        resting = {ConnectionState.CONNECTED, ConnectionState.FAILED, ConnectionState.DISCONNECTED}
        if self.conn.state not in resting:
            self._fail(
                "liveness",
                f"{LIVENESS_BOUND:g} s after all faults stopped, the connection is still in {self.state!r}; "
                f"its activity must end, or some trigger must lead out of it",
            )

    def _disconnect_for_good(self) -> None:
        task = self.loop.create_task(self.conn.disconnect(), name="the last disconnect")
        self._running(lambda: self.loop.advance(LIVENESS_BOUND))
        if not task.done() or self.conn.state != ConnectionState.DISCONNECTED:
            self._fail("disconnect_ends_disconnected", f"after disconnect() the connection is in {self.state!r}")

    def _fail(self, name: str, message: str, cause: BaseException | None = None) -> None:
        self.ended = True
        error = ViolationError(name, message, self.trace, tuple(self.conn.history))
        self.close()
        raise error from cause


async def _starting(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return await function()


def _chosen(invariants: Sequence[Invariant], ignore: dict[str, str]) -> dict[str, list[Invariant]]:
    names = {invariant.name for invariant in invariants}
    for name, reason in ignore.items():
        if name not in names:
            raise ValueError(f"ignore: there is no invariant {name!r}; there are {', '.join(sorted(names))}")
        if not reason:
            raise ValueError(f"ignore: say why {name!r} need not hold")
    chosen: dict[str, list[Invariant]] = {ALWAYS: [], AT_REST: [], AT_THE_END: []}
    for invariant in invariants:
        if invariant.name not in ignore:
            chosen[invariant.moment].append(invariant)
    return chosen
