"""The callers of the connection: a result must be true at the moment in which a caller receives it.

A moment later it may be false: the link may be lost as soon as `connect()` has returned. So each call is judged in the
caller's own task, when it ends, by the events since it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs

from fsm_conn.connection.errors import ConnectAbandonedError, ConnectFailedError, NotConnectedError
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.machine.errors import IllegalTriggerError, is_expected
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, Invariant, invariant
from fsm_conn.testing.lives.connections.evidence import ConnectionEvidence, User
from fsm_conn.testing.lives.connections.overrides import BASE_TRIGGERS, ENDED

__all__ = ["OF_CALLERS", "CallerOracle"]

S, T = ConnectionState, Trigger
ASKING = (T.CONNECT, T.RECONNECT)
Method = Callable[[], Coroutine[Any, Any, Any]]


@attrs.frozen
class Call:
    """A call that has ended, and the events meanwhile."""

    user: User
    begun: int
    """The number of transitions when it began."""
    state: str
    """The state in which it began."""
    joined: bool
    """Whether that state did not handle the request, so that the call only waits."""
    ended: bool
    """Whether another caller called `disconnect()` meanwhile."""
    since: Sequence[ConnectionRecord]
    """The transitions meanwhile."""

    def came_to(self, *states: str) -> bool:
        """Whether one of these states was entered meanwhile."""
        return any(record.dest in states and not record.internal for record in self.since)

    def first(self, *states: str) -> int:
        """The number of transitions up to the first into one of these states; up to the call if there is none."""
        for number, record in enumerate(self.since, self.begun + 1):
            if record.dest in states and not record.internal:
                return number
        return self.begun


class CallerOracle:
    """The results that callers of a connection received.

    Attributes:
        lie: the first result that was not true; empty when there was none.
        probed_at: when the peer was last probed, by the loop's clock.
        leaving: cancelled callers of `connect()` and similar methods.
    """

    def __init__(self, life: ConnectionEvidence) -> None:
        self.life = life
        self.lie = ""
        self.leaving: list[User] = []
        self.probed_at = 0.0
        self._serving = life.conn.serving_states
        self._disconnects: list[int] = []
        self._successes: list[int] = []
        self._interests: list[int] = []

    def ends(self) -> None:
        """A caller calls `disconnect()` now."""
        self._disconnects.append(len(self.life.records))

    def wishes(self) -> None:
        """A trigger of the class's own was fired, so the attempt is wanted by somebody beside the callers."""
        self._interests.append(len(self.life.records))

    def asks(self, what: str) -> None:
        """The peer receives a request now. A call is a request of a caller that uses the connection."""
        if what == "probe":
            self.probed_at = self.life.loop.time()
        if what == "call" and self.life.is_serving:
            self._successes.append(len(self.life.records))

    def cancels(self, user: User) -> None:
        """A caller is cancelled now."""
        if not user.cancelled:
            user.cancelled_after = len(self.life.records)
            if user.keeps_attempt:
                self.leaving.append(user)

    def was_asked_for(self, index: int) -> bool:
        """Whether that transition was requested by `disconnect()`."""
        return index in self._disconnects

    def is_used(self, index: int) -> bool:
        """Whether, since the last rest before that transition, a caller had used the connection or was told of success.

        Also true if the connection had come back from `failed`, and the policy has it come back on its own: then it
        lives for the policy's sake, even if a caller has asked for it sooner.
        """
        return self._since_rest(self._successes, index) or self._since_rest(self._recoveries(), index)

    def _recoveries(self) -> list[int]:
        if self.life.conn.retry.recover_after is None:
            return []
        found, cause = [], None
        for count, record in enumerate(self.life.records, 1):
            if record.source == S.FAILED != record.dest and record.trigger in (*ASKING, T.RECOVER):
                hopeless = getattr(cause, "permanent", False) or not (cause is None or is_expected(cause))
                found += [] if hopeless else [count]
            if record.dest == S.FAILED and not record.internal:
                cause = record.reason
        return found

    def is_wanted(self, index: int) -> bool:
        """The same, or another caller had asked for it."""
        return self.is_used(index) or self._since_rest(self._interests, index)

    def _since_rest(self, marks: list[int], index: int) -> bool:
        records = self.life.records
        latest = max((mark for mark in marks if mark <= index), default=None)
        return latest is not None and not any(records[n].source in ENDED for n in range(latest, index))

    async def serve(self, user: User, method: Method) -> Any:
        """Make the call, and judge its result at the moment of its end."""
        life, error = self.life, None
        begun, state, ends = len(life.records), life.state, len(self._disconnects)
        joined = user.method in BASE_TRIGGERS and not life.conn.lifecycle.handles(state, user.method)
        if user.method == "disconnect":
            self.ends()
        try:
            return await method()
        except BaseException as raised:
            error = raised
            raise
        finally:
            user.told_after = len(life.records)
            since = life.records[begun : user.told_after]
            call = Call(user, begun, state, joined, len(self._disconnects) > ends, since)
            self.lie = self.lie or self._lie(call, error)

    def _lie(self, call: Call, error: BaseException | None) -> str:
        method = f"{call.user.method}()"
        if isinstance(error, IllegalTriggerError):
            return f"{method} raised {error!r}; its callers cannot know what is legal"
        if isinstance(error, NotConnectedError) and call.state in self._serving and not call.since:
            return f"{method} raised {error!r}, and it was connected"
        if call.user.method == "disconnect":
            wrong = self._lie_of_disconnect(call, error)
        elif call.user.wants_connection:
            wrong = self._lie_of_connect(call, error)
        else:
            wrong = ""
        return wrong and f"{method} {wrong}"

    def _lie_of_disconnect(self, call: Call, error: BaseException | None) -> str:
        if error is not None:
            return ""
        if not call.came_to(*ENDED) and not (call.joined and call.state in ENDED):
            return "returned, and it was not disconnected"
        return self._untold(call.first(*ENDED))

    def _lie_of_connect(self, call: Call, error: BaseException | None) -> str:
        if isinstance(error, asyncio.CancelledError):
            return self._left_too_early(call)
        if isinstance(error, ConnectAbandonedError) and not self._was_ended(call):
            return f"raised {error!r}, and nobody had called disconnect()"
        if isinstance(error, ConnectFailedError):
            failed = call.came_to(S.FAILED) or (call.joined and call.state == S.FAILED)
            wrong = "" if failed else f"raised {error!r}, and it had not failed"
            return wrong or self._untold(call.first(S.FAILED))
        return "" if error is not None else self._lie_of_success(call)

    def _lie_of_success(self, call: Call) -> str:
        had_one = call.state in self._serving and (call.joined or call.user.method != "reconnect")
        if not call.came_to(*self._serving) and not had_one:
            return "returned, and it was not connected"
        if call.ended:
            return "succeeded, although disconnect() was called after it"
        self._successes.append(len(self.life.records))
        return self._untold(call.begun if had_one else call.first(*self._serving))

    def _was_ended(self, call: Call) -> bool:
        """Whether a `disconnect()` or a trigger of the class's own ended it."""
        return call.ended or any(record.trigger not in BASE_TRIGGERS for record in call.since)

    def _left_too_early(self, call: Call) -> str:
        """A caller that abandons an attempt waits until the attempt is closed."""
        last, cancelled = len(self.life.records) - 1, call.user.cancelled_after
        if cancelled is None or last < cancelled or self.life.conn.state != S.DISCONNECTING:
            return ""
        abandoned = self.life.records[last].trigger == T.DISCONNECT and not self.was_asked_for(last)
        answered = call.ended or call.came_to(S.FAILED)
        return "abandoned the attempt, and did not wait until it was closed" if abandoned and not answered else ""

    def _untold(self, due: int) -> str:
        untold = due - len(self.life.seen_slowly)
        return f"returned before its observers were told of {untold} transitions" if untold > 0 else ""


@invariant(ALWAYS)
def callers_are_told_the_truth(life: ConnectionEvidence) -> str | None:
    """What a caller is told is true at that moment, and the observers were notified before."""
    return life.part(CallerOracle).lie or None


@invariant(AT_REST)
def unwanted_attempts_end(life: ConnectionEvidence) -> str | None:
    """An attempt that no caller waits for, nobody uses and no policy wants is abandoned."""
    state, count = life.state, len(life.records)
    if life.is_serving or state in ENDED or state in life.overrides.ending or state in life.overrides.inescapable:
        return None
    if any(user.keeps_attempt for user in life.users) or life.part(CallerOracle).is_wanted(count):
        return None
    return f"in {state!r}, nobody waits any more, and nobody was told of success: the attempt must be abandoned"


@invariant(AT_REST)
def only_disconnect_ends_what_is_used(life: ConnectionEvidence) -> str | None:
    """Once a `connect()` has returned, cancelling another caller ends nothing."""
    callers = life.part(CallerOracle)
    for index in range(life.checked, len(life.records)):
        record = life.records[index]
        if record.trigger != T.DISCONNECT or callers.was_asked_for(index) or not callers.is_used(index):
            continue
        for user in callers.leaving:
            if user.was_leaving(index):
                return f"{record}, because {user.method}() was cancelled; others use the connection"
    return None


OF_CALLERS: tuple[Invariant, ...] = (
    callers_are_told_the_truth,
    unwanted_attempts_end,
    only_disconnect_ends_what_is_used,
)
"""The rules that callers may rely on."""
