"""The peer of a pool under test. It has one or several targets, some of them sick, and knows which user asks it.

Each user of the pool has a number in a context variable. The number reveals a connection that was opened in the context
of the user that needed it first, and a call that is sent again and again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar

from fsm_conn.testing.simulated import Outcome, Pending, SimulatedLink, SimulatedPeer

__all__ = ["ASKER", "PoolPeer", "SimulatedTarget"]

ASKER: ContextVar[int] = ContextVar("ASKER", default=0)
"""The number of the user; 0: no user, but the pool itself."""


class SimulatedTarget:
    """Makes links to one of the targets of a pool.

    Args:
        peer: the peer of all targets.
        number: the number of the target.
    """

    def __init__(self, peer: PoolPeer, number: int) -> None:
        peer.targets += 1
        self.__name__ = f"target{number}"
        self.number = number
        self._peer = peer

    def __call__(self) -> SimulatedLink:
        """Make a link."""
        return self._peer.linked(self.number)


class PoolPeer(SimulatedPeer):
    """A peer with several targets.

    Attributes:
        targets: how many targets there were.
        made: the links that were made and are not closed, oldest first.
        target_of: the number of the target of each link.
        sick: the targets to which no connection can be made.
        killers: users whose calls end each link that they use.
        sent: how often the call of each of these users was sent.
        opened_for: a user in whose context a link was opened; 0: none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.targets = 0
        self.made: list[SimulatedLink] = []
        self.target_of: dict[SimulatedLink, int] = {}
        self.sick: set[int] = set()
        self.killers: set[int] = set()
        self.sent: Counter[int] = Counter()
        self.opened_for = 0
        self.on_asked = self._note

    def linked(self, number: int) -> SimulatedLink:
        """A link to one of the targets."""
        self.made = [link for link in self.made if link.is_open or not link.closes]
        link = self()
        self.made.append(link)
        self.target_of = {each: self.target_of.get(each, number) for each in self.made}
        return link

    def answer(self, what: str, outcome: Outcome | str = "ok") -> bool:
        """As `SimulatedPeer.answer`, but a sick target refuses."""
        if what == "open" and self.sick:
            for pending in self.pending:
                if pending.what == what and not pending.decided.done():
                    outcome = "refuse" if self.target_of.get(pending.link) in self.sick else outcome
                    break
        return super().answer(what, outcome)

    def heal(self) -> None:
        """As `SimulatedPeer.heal`, for all targets; also, calls no longer end their links."""
        self.sick.clear()
        self.killers.clear()
        super().heal()

    def _note(self, what: str) -> None:
        asker = ASKER.get()
        if what == "open":
            self.opened_for = self.opened_for or asker
        elif what == "call" and asker in self.killers:
            self.sent[asker] += 1
            asyncio.get_running_loop().call_soon(self._be_killed, asker)

    def _be_killed(self, asker: int) -> None:
        for pending in self.pending:
            if _asked_by(pending) == asker and pending.what == "call" and not pending.decided.done():
                pending.decided.set_result(Outcome("lost"))


def _asked_by(pending: Pending) -> int:
    return pending.context.get(ASKER, 0)
