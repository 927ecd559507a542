"""What checks and oracles may look at in the life of a connection: its peer, and those who use it."""

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
    """Somebody who has called the machine and awaits the outcome."""

    method: str
    since: float
    """When the call was made."""
    task: asyncio.Task[Any] = attrs.field(init=False)
    cancelled_after: int | None = None
    """After how many transitions the harness cancelled the call; None when it did not."""
    told_after: int | None = None
    """After how many transitions the caller was told; None as long as it waits."""

    @property
    def cancelled(self) -> bool:
        """Whether the harness cancelled the call."""
        return self.cancelled_after is not None

    @property
    def wants_connection(self) -> bool:
        """Whether it waits until it is connected."""
        return self.method in CONNECTING_CALLS

    @property
    def keeps_attempt(self) -> bool:
        """Whether an attempt goes on for its sake: it waits until it is connected, or has a call that does."""
        return self.wants_connection or self.method == "call_patiently"

    def leave(self) -> None:
        """Be gone, if the task has ended; what was cancelled before it had begun was told nothing."""
        if self.task.done():
            self.told_after = self.cancelled_after if self.told_after is None else self.told_after
            if not self.task.cancelled():
                self.task.exception()  # asked for here, or asyncio would complain that nobody did

    def was_leaving(self, index: int) -> bool:
        """Whether it was cancelled, and not yet gone, when that transition was taken."""
        begun, ended = self.cancelled_after, self.told_after
        return begun is not None and begun <= index and (ended is None or index < ended)


@attrs.frozen
class Asked:
    """A link was asked for."""

    at: float
    after: int
    """How many transitions there had been."""
    closed_at: float
    """When the last closing of a link had ended."""


class ConnectionEvidence(Evidence):
    """A connection, its simulated peer, and those who use it.

    Attributes:
        conn: the connection under test, which is the machine.
        peer: the simulated peer.
        users: callers that wait, oldest first.
        answered: how many callers were told of success, of an error, of their cancellation.
        links_asked: when links were asked for.
        sign_of_life: when a call was answered last, if that counts as a sign of life.
        rng: where its jitter is drawn from.
        overrides: what the class does in its own way.
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

    @property
    def is_serving(self) -> bool:
        """Whether calls are served in the present state."""
        return self.state in self.conn.serving_states
