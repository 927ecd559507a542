"""The life of a connection, as one table.

This module alone defines which states there are, what can happen in each, and what follows. It is data: nothing here
runs or waits. `fsm_conn.machine.table` explains how to read a row, and the rules of tables.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from fsm_conn._util.keywords import explained_class
from fsm_conn.machine.table import State, Transition, others

__all__ = ["LINK_OPEN", "LOSING", "SERVES", "STATES", "TRANSITIONS", "ConnectionState", "LinkState", "Trigger"]

LINK_OPEN = "link open"
SERVES = "serves calls"
"""The marks of a `LinkState` in charts."""


class ConnectionState(StrEnum):
    """The seven states of a connection. A subclass may add its own."""

    DISCONNECTED = "disconnected"
    """At rest, holding nothing."""
    CONNECTING = "connecting"
    """The first attempt of an outage is under way."""
    CONNECTED = "connected"
    """A link is open, and calls are served."""
    DISCONNECTING = "disconnecting"
    """The link is being closed, by request."""
    RECONNECTING = "reconnecting"
    """Waiting for a delay, or making a further attempt."""
    FAILED = "failed"
    """Given up; at rest until `connect()`, `reconnect()` or `disconnect()`, or until the policy's `recover_after`."""
    RENEWING = "renewing"
    """The peer closes the link in good order, and the next one is opened beside it. Running calls finish, new ones
    wait."""


class Trigger(StrEnum):
    """Everything that can happen to a connection. A subclass may add its own."""

    CONNECT = "connect"
    """A caller asks for a connection."""
    OPENED = "opened"
    """A link was opened."""
    OPEN_FAILED = "open_failed"
    """A link could not be opened."""
    LOST = "lost"
    """The open link was lost."""
    GOING_AWAY = "going_away"
    """The peer closes the open link in good order, for example for an update: no outage, and nothing is counted."""
    PROBE_PASSED = "probe_passed"
    """A health probe passed."""
    PROBE_FAILED = "probe_failed"
    """A health probe failed, by a bad, late or missing answer."""
    RECOVER = "recover"
    """The time for one more attempt after giving up has come."""
    RECONNECT = "reconnect"
    """A caller asks for a fresh link now."""
    DISCONNECT = "disconnect"
    """A caller asks to end the connection."""
    CLOSED = "closed"
    """The link was closed, or closing it failed."""
    FAULT = "fault"
    """An activity broke a rule or raised an unexpected error."""


@explained_class
@attrs.frozen
class LinkState(State):
    """A state throughout which a link is open."""

    serves: bool = attrs.field(default=False, kw_only=True)
    """Whether calls are served in this state."""

    @property
    def marks(self) -> tuple[str, ...]:
        """That a link is open, and whether calls are served."""
        return (LINK_OPEN, SERVES) if self.serves else (LINK_OPEN,)


_S, _T = ConnectionState, Trigger

LOSING = frozenset({_T.LOST, _T.PROBE_FAILED})
"""The triggers by which an open link is lost, if they lead to a state without one."""

STATES: tuple[State, ...] = (
    State(_S.DISCONNECTED, initial=True, final=True),
    State(_S.CONNECTING, on_error=_T.OPEN_FAILED),
    LinkState(_S.CONNECTED, on_error=_T.LOST, serves=True),
    LinkState(_S.RENEWING, on_error=_T.LOST),
    State(_S.RECONNECTING, on_error=_T.OPEN_FAILED),
    State(_S.DISCONNECTING, on_error=_T.CLOSED),
    State(_S.FAILED, final=True),
)
"""The states of a `Connection`."""


_OPENING = (_S.CONNECTING, _S.RECONNECTING)


_LINKED = (_S.CONNECTED, _S.RENEWING)


_BEGIN = ("begin_outage", "forget_losses", "count_attempt")


_NO_MORE = ("reset_if_stable", "note_loss")


_AGAIN = (*_NO_MORE, "count_attempt")


TRANSITIONS: tuple[Transition, ...] = (
    # Asked to connect: the first attempt of an outage is made at once.
    Transition(_T.CONNECT, (_S.DISCONNECTED, _S.FAILED), _S.CONNECTING, effects=_BEGIN),
    Transition(_T.OPENED, (*_OPENING, _S.RENEWING), _S.CONNECTED, effects=("note_opened", "forget_probes")),
    # The peer goes away in good order: the next link is opened beside the old one, which finishes its calls.
    Transition(_T.GOING_AWAY, _S.CONNECTED, _S.RENEWING),
    # An attempt failed, or the link was lost or not renewed: once more if the retry policy lets us, or give up.
    Transition(_T.OPEN_FAILED, _OPENING, _S.RECONNECTING, guards="may_retry", effects="count_attempt"),
    Transition(_T.OPEN_FAILED, _OPENING, _S.FAILED),
    Transition(_T.LOST, _LINKED, _S.RECONNECTING, guards=("may_restart", "may_retry"), effects=_AGAIN),
    Transition(_T.LOST, _LINKED, _S.FAILED, effects=_NO_MORE),
    # Health: one failed probe is noted, enough of them in a row count as a lost link.
    Transition(_T.PROBE_PASSED, _S.CONNECTED, None, effects="forget_probes"),
    Transition(
        _T.PROBE_FAILED,
        _S.CONNECTED,
        _S.RECONNECTING,
        guards=("is_unhealthy", "may_restart", "may_retry"),
        effects=("mark_unresponsive", *_AGAIN),
    ),
    Transition(
        _T.PROBE_FAILED, _S.CONNECTED, _S.FAILED, guards="is_unhealthy", effects=("mark_unresponsive", *_NO_MORE)
    ),
    Transition(_T.PROBE_FAILED, _S.CONNECTED, None, effects="note_failed_probe"),
    # Given up, and some time has passed: one careful attempt, if that can help.
    Transition(
        _T.RECOVER,
        _S.FAILED,
        _S.RECONNECTING,
        guards="may_recover",
        effects=("begin_half_open", "count_attempt"),
        timer="recover_after",
    ),
    Transition(_T.RECOVER, _S.FAILED, None, timer="recover_after"),
    # Asked for a fresh link: now, whatever delay was being waited out.
    Transition(_T.RECONNECT, (*_LINKED, _S.RECONNECTING, _S.FAILED), _S.RECONNECTING, effects=_BEGIN),
    # Asked to end: possible from everywhere, and it always ends in `disconnected`.
    Transition(_T.DISCONNECT, others(_S.DISCONNECTED, _S.DISCONNECTING), _S.DISCONNECTING),
    Transition(_T.CLOSED, _S.DISCONNECTING, _S.DISCONNECTED),
    # A bug in an activity: stop here, where it can be seen, instead of trying again.
    Transition(_T.FAULT, _S.DISCONNECTING, _S.DISCONNECTED),
    Transition(_T.FAULT, _S.FAILED, None),
    Transition(_T.FAULT, others(_S.DISCONNECTING, _S.FAILED), _S.FAILED),
)
"""The transitions of a `Connection`."""
