"""The evidence for checks and oracles in the life of a connection: its peer, and its callers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import attrs

from fsm_conn.connection.connection import Connection
from fsm_conn.testing.lives.connections.overrides import Overrides
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.simulated import SimulatedPeer

__all__ = ["CONNECTING_CALLS", "Asked", "ConnectionEvidence", "User"]

CONNECTING_CALLS = frozenset({"connect", "ensure_connected", "reconnect"})
"""Methods that wait until a connection is connected."""


@attrs.define(eq=False)
class User:
    """A caller that has called the machine and awaits the outcome."""

    method: str
    since: float
    """When the call was made."""
    task: asyncio.Task[Any] = attrs.field(init=False)
    cancelled_after: int | None = None
    """The number of transitions when the harness cancelled the call; None when it did not."""
    told_after: int | None = None
    """The number of transitions when the caller got its result; None as long as it waits."""

    @property
    def cancelled(self) -> bool:
        """Whether the harness cancelled the call."""
        return self.cancelled_after is not None

    @property
    def wants_connection(self) -> bool:
        """Whether the caller waits until the machine is connected."""
        return self.method in CONNECTING_CALLS

    @property
    def keeps_attempt(self) -> bool:
        """Whether an attempt continues for this caller: it waits until connected, or has a call that does."""
        return self.wants_connection or self.method == "call_patiently"

    def leave(self) -> None:
        """End the caller, if its task has ended. A task that was cancelled before it began was told nothing."""
        if self.task.done():
            self.told_after = self.cancelled_after if self.told_after is None else self.told_after
            if not self.task.cancelled():
                self.task.exception()  # read here, as asyncio would otherwise complain that nobody did

    def was_leaving(self, index: int) -> bool:
        """Whether the caller was cancelled, but had not ended, when that transition was taken."""
        begun, ended = self.cancelled_after, self.told_after
        return begun is not None and begun <= index and (ended is None or index < ended)


@attrs.frozen
class Asked:
    """A request for a link."""

    at: float
    after: int
    """The number of transitions before it."""
    closed_at: float
    """When the last closing of a link had ended."""


class ConnectionEvidence(Evidence):
    """A connection, its simulated peer, and its callers.

    Attributes:
        conn: the connection under test, which is the machine.
        peer: the simulated peer.
        users: callers that wait, oldest first.
        answered: how many callers got a success, an error, or their cancellation.
        links_asked: the requests for links.
        sign_of_life: when a call was last answered, if that counts as a sign of life.
        rng: the source of its jitter.
        overrides: how the class differs from `Connection`.
    """

    conn: Connection
    overrides: Overrides
    rng: random.Random

    def __init__(self) -> None:
        super().__init__()
        self.peer = SimulatedPeer()
        self.users: list[User] = []
        self.answered: Counter[str] = Counter()
        self.links_asked: list[Asked] = []
        self.sign_of_life = 0.0

    def events(self) -> int:
        """The transitions, and the requests for links."""
        return len(self.records) + len(self.links_asked)

    @property
    def is_serving(self) -> bool:
        """Whether calls are served in the present state."""
        return self.state in self.conn.serving_states
