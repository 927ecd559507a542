"""Rules about time: every wait has an end, every delay a reason, and nothing continues before an end that it needs."""

from __future__ import annotations

from fsm_conn.connection.linked import RENEWAL_PAUSE
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.machine.activity import PATIENCE
from fsm_conn.testing.lives.checks import AT_REST, EPSILON, Invariant, invariant
from fsm_conn.testing.lives.connections.caller_oracle import CallerOracle
from fsm_conn.testing.lives.connections.evidence import ConnectionEvidence
from fsm_conn.testing.lives.connections.overrides import activity_of

__all__ = ["OF_TIME", "limit_of"]

S, T = ConnectionState, Trigger
ASKED = frozenset({T.CONNECT, T.RECONNECT})
PROBED = frozenset({T.PROBE_PASSED, T.PROBE_FAILED})
WATCHING = ("while_connected", "probe")

_ARTICLES = {"open": "an open", "close": "a close", "probe": "a probe", "call": "a call"}


def limit_of(life: ConnectionEvidence, state: str) -> float | None:
    """Seconds that an action may take in `state` according to the connection's own timeouts; None: there is no limit.

    A link of the previous state may still be closing when the state is entered, and then the state's own link closes.
    """
    conn, overrides = life.conn, life.overrides
    if overrides.acts_by_itself(state):
        return None
    closing = 2 * conn.close_timeout
    opening = closing + conn.start_timeout
    if conn._open_hook is not None or overrides.has_own("on_open"):
        opening += conn.hook_timeout
    limits: dict[str, float] = {
        S.CONNECTING: opening,
        S.RECONNECTING: opening + conn.retry.max_delay,
        S.DISCONNECTING: closing,
        S.RENEWING: conn.start_timeout + RENEWAL_PAUSE,
    }
    limit = limits.get(state)
    return None if limit is None else limit + PATIENCE * bool(overrides.acting)


@invariant(AT_REST)
def waits_are_bounded(life: ConnectionEvidence) -> str | None:
    """No working state lasts longer than its timeouts allow, and no probe longer than its own."""
    now, since = life.loop.time(), life.conn._fsm_since
    lasted = 0.0 if since is None else now - since
    limit = limit_of(life, life.state) if lasted else None
    if limit is not None and lasted > limit + EPSILON:
        return f"{lasted:g} s in {life.state!r}, whose timeouts allow {limit:g} s"
    for user in life.users:
        waited = now - user.since
        allowed = life.conn.health.timeout
        if user.method == "probe" and waited > allowed + EPSILON and not life.overrides.has_own("probe"):
            return f"probe() has waited for {waited:g} s, and its timeout is {allowed:g} s"
    return None


@invariant(AT_REST)
def waits_have_a_limit(life: ConnectionEvidence) -> str | None:
    """A peer that hangs is not waited for without a limit in a state that is only passed through."""
    state = life.conn.lifecycle.states[life.state]
    if state.final or life.state == S.CONNECTED or not life.overrides.acts_by_itself(life.state):
        return None
    asked = next((each.what for each in life.peer.unanswered() if each.context.run(life.conn.in_activity)), None)
    if asked is None or life.next_timer() is not None:
        return None
    activity = activity_of(life.state)
    return (
        f"in {life.state!r}, {activity}() waits for the peer's answer to {_ARTICLES[asked]}, and nothing sets a limit: "
        "a peer that hangs is waited for without an end; put 'async with asyncio.timeout(self.start_timeout):' around "
        "what is awaited there"
    )


@invariant(AT_REST)
def peers_are_asked(life: ConnectionEvidence) -> str | None:
    """While connected, no more than the interval plus the timeout passes without an answered probe or call."""
    policy, since = life.conn.health, life.conn._fsm_since
    if policy.interval is None or since is None or life.state != S.CONNECTED or life.overrides.has_own(*WATCHING):
        return None
    # A probe leaves no record if it is unanswered while a call is under way, or if it failed together with another one.
    silent = life.loop.time() - max(since, life.sign_of_life, life.part(CallerOracle).probed_at)
    if silent > policy.interval + policy.timeout + EPSILON:
        return f"nothing was heard of the peer for {silent:g} s, and nobody has asked"
    return None


@invariant(AT_REST)
def closing_is_waited_for(life: ConnectionEvidence) -> str | None:
    """While a link is being closed, the connection goes neither to rest nor to the next link."""
    if life.conn.state != S.DISCONNECTED and not life.peer.waits_for("open"):
        return None
    if any(each.what == "close" and not each.link.is_leaving for each in life.peer.unanswered()):
        return f"a link is still being closed, and in {life.state!r} that is not waited for"
    return None


@invariant(AT_REST)
def reconnect_is_prompt(life: ConnectionEvidence) -> str | None:
    """`reconnect()` and `connect()` skip the delay: a link is asked for as soon as the last one is closed."""
    if not life.records or life.peer.waits_for("close"):
        return None
    record, links = life.records[-1], life.links_asked
    if record.trigger not in ASKED or life.overrides.acts_by_itself(str(record.source), str(record.dest)):
        return None
    if record.dest not in (S.CONNECTING, S.RECONNECTING) or (links and links[-1].after == len(life.records)):
        return None
    return f"{record}, and no link is asked for yet"


OF_TIME: tuple[Invariant, ...] = (
    waits_are_bounded,
    waits_have_a_limit,
    peers_are_asked,
    closing_is_waited_for,
    reconnect_is_prompt,
)
"""The rules about time."""
