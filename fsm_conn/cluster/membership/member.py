"""`Member`: one connection to one server of a cluster, and whether calls are sent to it.

The rules that hold here:

- The connection keeps itself alive by its own policy. The member decides what that means for calls.
- A member is left out at the moment when its connection is lost, as the connection's transitions report.
- The load of a member is what this client has under way there. Calls of others are not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.cluster.membership.table import MEMBER_STATES, MEMBER_TRANSITIONS, MemberState, MemberTrigger
from fsm_conn.cluster.policy import ClusterPolicy
from fsm_conn.connection.errors import ConnectAbandonedError, ConnectFailedError
from fsm_conn.connection.table import Trigger
from fsm_conn.links.errors import GoingAwayError
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Fires, State

if TYPE_CHECKING:
    from fsm_conn.cluster.membership.info import MemberInfo
    from fsm_conn.connection.connection import Connection
    from fsm_conn.machine.records import TransitionRecord

__all__ = ["Member", "MemberLife"]

_S, _T = MemberState, MemberTrigger
FIRST_SHARE = 0.1
"""The share of its later load with which a member begins."""


class MemberLife(StateMachine, abstract=True):
    """A member for balancing: its state and its load.

    Args:
        info: its description by the source of members.
        policy: the policy of the pool.
        moved: called with the member whenever it has entered a state.

    Attributes:
        outstanding: calls and leases under way.
        calls, failures: how many calls there were, and how many of them the member caused to fail.
        cause: its last error; None when there was none, or when it has served since.
    """

    def __init__(self, info: MemberInfo, policy: ClusterPolicy, moved: Callable[[Any], None]) -> None:
        self.info = info
        self.policy = policy
        self.outstanding = self.calls = self.failures = 0
        self.cause: BaseException | None = None
        self._moved_to = moved
        self._failed_in_a_row = self._sick_times = 0
        self._since = 0.0
        self._pause = 0.0
        self._idle: asyncio.Event | None = None

    def load(self, now: float) -> float:
        """Its load: calls under way plus one, divided by its share during the slow start."""
        age, whole = now - self._since, self.policy.slow_start
        share = 1.0 if age >= whole else max(FIRST_SHARE, age / whole)
        return (self.outstanding + 1) / share

    @property
    def is_serving(self) -> bool:
        """Whether calls are sent to it."""
        return self._state == _S.SERVING

    def begin(self) -> None:
        """A call begins."""
        self.outstanding += 1
        self.calls += 1

    def end(self) -> None:
        """It has ended, however."""
        self.outstanding -= 1
        if self._idle is not None and not self.outstanding:
            self._idle.set()

    def went_well(self) -> None:
        """A call was answered."""
        self._failed_in_a_row = self._sick_times = 0

    def went_wrong(self, error: BaseException) -> None:
        """A call has failed for a reason of the member's: lost, refused as unavailable, or not answered in time."""
        self.failures += 1
        self._failed_in_a_row += 1
        self.cause = error
        if self._failed_in_a_row >= self.policy.sick_after and self._state == _S.SERVING:
            self.fire(_T.SICKENED, error)

    # --- effects --------------------------------------------------------------------------------------------------

    def begin_service(self, reason: BaseException | None) -> None:
        """From here on calls are sent to it, few at first."""
        self._since = asyncio.get_running_loop().time()
        self._pause = 0.0
        self.cause = None

    def note_loss(self, reason: BaseException | None) -> None:
        """The connection is lost: as soon as it is there again, it serves; unless calls have failed all the time."""
        self._blame(reason)
        if self._failed_in_a_row >= self.policy.sick_after:
            self.note_sickness(reason)

    def note_failure(self, reason: BaseException | None) -> None:
        """It could not be connected: tried again after a pause."""
        self.cause = getattr(reason, "reason", None) or reason
        self._pause = self.policy.longest_pause

    def note_sickness(self, reason: BaseException | None) -> None:
        """It is left out for a while, which is longer each time."""
        self._blame(reason)
        self._pause = min(self.policy.longest_pause, self.policy.sick_pause * 2.0**self._sick_times)
        self._sick_times += 1

    def _blame(self, reason: BaseException | None) -> None:
        """The error behind what happens, unless there is none: a connection that closes in good order is none."""
        if reason is not None and not isinstance(reason, GoingAwayError):
            self.cause = reason

    def entered(self, reason: BaseException | None) -> None:
        """Tell the pool."""
        self._moved_to(self)


class Member(MemberLife):
    """A member with a connection, which it closes. Arguments as for `MemberLife`, and `conn`, the connection."""

    states: ClassVar[Sequence[State | str]] = MEMBER_STATES
    transitions: ClassVar[Sequence[Any]] = MEMBER_TRANSITIONS
    required_triggers = tuple(MemberTrigger)

    def __init__(self, info: MemberInfo, conn: Connection, policy: ClusterPolicy, moved: Callable[[Any], None]) -> None:
        super().__init__(info, policy, moved)
        self.conn = conn
        self._is_unreachable = False
        self.keep_context()
        self._unwatch = conn.on_transition(self._conn_moved)

    def __repr__(self) -> str:
        return f"<Member {self.conn.name!r} {self._state}, {self.outstanding} calls under way>"

    @property
    def is_gone(self) -> bool:
        """Whether nobody is there: it was said so, or it could not be connected to when that was last tried."""
        return self._state in (_S.DRAINING, _S.LEFT) or self._is_unreachable

    # --- guards ---------------------------------------------------------------------------------------------------

    def is_connected(self, reason: BaseException | None) -> bool:
        """Whether the connection serves."""
        return self.conn.is_connected()

    # --- activities -----------------------------------------------------------------------------------------------

    async def while_joining(self) -> Annotated[str, Fires(_T.JOINED)]:
        """Connect."""
        await self._connect()
        return _T.JOINED

    async def while_lost(self) -> Annotated[str, Fires(_T.RETURNED)]:
        """Wait out the pause, if there is one, and then for the connection."""
        await asyncio.sleep(self._pause)
        await self._connect()
        return _T.RETURNED

    async def while_draining(self) -> Annotated[str, Fires(_T.DRAINED)]:
        """Wait for calls under way, and disconnect."""
        try:
            if self.outstanding:
                self._idle = asyncio.Event()
                await within(self.policy.drain_timeout, self._idle.wait())
        except ExpiredError:
            pass
        finally:
            await self.conn.disconnect()
            self._unwatch()
        return _T.DRAINED

    async def on_loop_end(self) -> None:
        """Disconnect."""
        await self.conn.disconnect()

    def come_to_rest(self) -> None:
        """Leave, without the activities."""
        for trigger in (_T.DRAIN, _T.DRAINED):
            if self.handles(trigger):
                self.fire(trigger)

    # --- how it is done -------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        while True:
            try:
                await self.conn.connect()
                return
            except ConnectAbandonedError as error:  # somebody has disconnected it under us
                raise ConnectFailedError(str(error), reason=error, attempts=0) from error

    def _conn_moved(self, record: TransitionRecord) -> None:
        """The connection moved: left out at once, whoever wins the race for the loop."""
        self._blame(record.reason)
        if record.trigger in (Trigger.OPENED, Trigger.OPEN_FAILED):
            self._is_unreachable = record.trigger == Trigger.OPEN_FAILED
            if self._is_unreachable and self._state != _S.SERVING:
                self._moved_to(self)
        if self._state == _S.SERVING and record.dest not in self.conn.serving_states:
            self.fire(_T.GONE, record.reason)
