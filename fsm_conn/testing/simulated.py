"""A peer that exists only in memory: the test decides what it does, and everything that it is asked is counted.

There are two ways. A *script* sets beforehand what each open, probe and call does, for tests written by hand:

    conn = Connection(SimulatedLink.script(opens=["ok", "refuse", Outcome("hang")]))

Without a script each request stays pending until `answer` decides it, at any later moment or never. The harness
drives it that way.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextvars import Context, copy_context
from typing import Any

import attrs

from fsm_conn._util.keywords import explained
from fsm_conn.links.base import CallOptions, Link
from fsm_conn.links.errors import ConnectionLostError, GoingAwayError, LinkError, LinkLostError, NotServingError

__all__ = ["OUTCOMES", "Outcome", "PermanentRefusalError", "SimulatedLink", "SimulatedPeer"]

OUTCOMES: Mapping[str, tuple[str, ...]] = {
    "open": ("ok", "refuse", "refuse_for_good", "half", "crash", "hang"),
    "close": ("ok", "fail", "hang"),
    "probe": ("ok", "bad", "hang"),
    "call": ("ok", "lost", "unsent", "garbage", "hang"),
}
"""The possible outcomes of each kind of request.

`refuse` is worth another attempt and `refuse_for_good` is not; `half` opens a link that is lost at once; `crash` raises
what no link should; `hang` never ends; `lost` ends a call whose link went away, `unsent` one that was never sent.
"""


_MOMENT = 1e-3
_CUT_OFF = {"call": "lost", "probe": "bad"}


class PermanentRefusalError(LinkError):
    """A permanent refusal."""

    permanent = True


_KINDS = frozenset(kind for kinds in OUTCOMES.values() for kind in kinds)


def _kind(instance: Any, attribute: Any, value: str) -> None:
    if value not in _KINDS:
        raise ValueError(f"Outcome({value!r}): give one of {', '.join(sorted(_KINDS))}")


@attrs.frozen
class Outcome:
    """The outcome of one request."""

    kind: str = attrs.field(default="ok", validator=_kind)
    """One of `OUTCOMES`."""
    after: float = attrs.field(default=0.0, kw_only=True)
    """Seconds until it happens."""
    value: Any = attrs.field(default=None, kw_only=True)
    """The reply of a call that is `ok`."""


@attrs.define(eq=False)
class Pending:
    """A request that the peer has not answered yet."""

    what: str
    link: SimulatedLink
    decided: asyncio.Future[Outcome]
    context: Context = attrs.field(factory=copy_context)
    """That of who asked."""


class SimulatedPeer:
    """A target for tests: `Connection(SimulatedPeer())`.

    Attributes:
        asked: how often each kind of request was made: open, close, probe, call.
        opened: how many links were opened.
        closed: how many links were closed.
        leaving: open links that are being closed in good order.
        faults: violations of the link's contract by the connection, such as closing twice.
        links: the last few links, oldest first.
        closing_time: seconds that a closing must be given before it is cut off; None: not checked.
        closed_at: when the last closing had ended, by the loop's clock.
        on_asked: called with what it is asked, at once.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.opened = 0
        self.closed = 0
        self.leaving = 0
        self.faults: list[str] = []
        self.links: deque[SimulatedLink] = deque(maxlen=8)
        self.pending: list[Pending] = []
        self.closing_time: float | None = None
        self.closed_at = 0.0
        self.on_asked: Callable[[str], None] = lambda what: None
        self._late: list[Pending] = []
        self._scripts: dict[str, deque[Outcome]] = {}
        self._default: dict[str, Outcome] = {}

    __name__ = "simulated"

    def __call__(self) -> SimulatedLink:
        """Make a link."""
        link = SimulatedLink(self)
        self.links.append(link)
        return link

    @property
    def open_now(self) -> int:
        """Links that are open at present."""
        return self.opened - self.closed

    @property
    def link(self) -> SimulatedLink | None:
        """The open link, or None."""
        return next((link for link in reversed(self.links) if link.is_open), None)

    @explained()
    def script(self, what: str, outcomes: Iterable[Outcome | str], then: Outcome | str | None = "ok") -> None:
        """Set the outcomes of the next requests of a kind, and of all later ones; None leaves those pending."""
        if what not in OUTCOMES:
            raise ValueError(f"script({what!r}): give one of {', '.join(OUTCOMES)}")
        self._scripts[what] = deque(_outcome(each) for each in outcomes)
        if then is None:
            self._default.pop(what, None)
        else:
            self._default[what] = _outcome(then)

    def attend(self, what: str, *kinds: Outcome | str) -> None:
        """From now on answer requests of that kind at once, pending ones included.

        The first requests get the outcomes `kinds`, one after another, and all later ones succeed.
        """
        self.script(what, kinds)
        while self.waits_for(what):
            self.answer(what, self._scripted(what) or Outcome())

    def neglect(self, what: str) -> None:
        """From now on leave requests of that kind pending, as at the beginning."""
        self.script(what, (), then=None)

    def attends_to(self, what: str) -> bool:
        """Whether what will be asked, of that kind, is done without being told to."""
        return what in self._default

    def heal(self) -> None:
        """From now on let all requests succeed, pending ones included."""
        for what in OUTCOMES:
            self.script(what, ())
        for pending in list(self.pending):
            if not pending.decided.done():
                pending.decided.set_result(Outcome())

    def announce(self, well: bool) -> bool:
        """Announce whether the peer is healthy. Return whether a connection listens."""
        listeners = [link for link in self.links if link.news is not None and not link.is_lost]
        for link in listeners:
            assert link.news is not None
            link.news.put_nowait(well)
        return bool(listeners)

    @explained()
    def answer(self, what: str, outcome: Outcome | str = "ok") -> bool:
        """Decide the oldest pending request of a kind. Return False when there is none."""
        for pending in self.pending:
            if pending.what == what and not pending.decided.done():
                pending.decided.set_result(_outcome(outcome))
                return True
        return False

    def give_up(self, link: SimulatedLink) -> None:
        """The calls and probes under way on a link that is closed fail at once, as a link's contract says."""
        for pending in self.unanswered():
            if pending.link is link and pending.what in _CUT_OFF:
                pending.decided.set_result(Outcome(_CUT_OFF[pending.what]))

    def unanswered(self) -> list[Pending]:
        """What it was asked and has not done yet, what it lets hang included."""
        return [each for each in (*self.pending, *self._late) if not each.decided.done()]

    def waits_for(self, what: str) -> bool:
        """Whether a request of that kind is pending."""
        return any(pending.what == what and not pending.decided.done() for pending in self.pending)

    def lose(self, reason: Exception | None = None) -> bool:
        """Lose the open link. Return False when there is none, or it is lost already."""
        link = self.link
        return link is not None and link.lose(reason)

    def go_away(self) -> bool:
        """Close the open link in good order: its calls are finished. Return False when there is none."""
        return self.lose(GoingAwayError("the simulated peer goes away"))

    async def decide(self, what: str, link: SimulatedLink) -> Outcome:
        """What becomes of a request; waits as long as the script, or the test, lets it."""
        self.asked[what] += 1
        self.on_asked(what)
        outcome = self._scripted(what)
        if outcome is None:
            outcome = await self._decided(what, link, self.pending)
        if outcome.after or outcome.kind == "hang":
            outcome = await self._done_late(what, link, outcome)
        return outcome

    def _scripted(self, what: str) -> Outcome | None:
        scripted = self._scripts.get(what)
        return scripted.popleft() if scripted else self._default.get(what)

    async def _done_late(self, what: str, link: SimulatedLink, outcome: Outcome) -> Outcome:
        """The outcome when its time has come, or what becomes of it when the link is closed before."""
        try:
            async with asyncio.timeout(None if outcome.kind == "hang" else outcome.after):
                return await self._decided(what, link, self._late)
        except TimeoutError:
            return outcome

    async def _decided(self, what: str, link: SimulatedLink, among: list[Pending]) -> Outcome:
        pending = Pending(what, link, asyncio.get_running_loop().create_future())
        among.append(pending)
        try:
            return await pending.decided
        finally:
            among.remove(pending)


class SimulatedLink(Link):
    """One link to a `SimulatedPeer`."""

    def __init__(self, peer: SimulatedPeer) -> None:
        self._peer = peer
        self._gone: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.is_open = False
        self.opens = 0
        self.closes = 0
        self.news: asyncio.Queue[bool] | None = None

    @classmethod
    @explained()
    def script(
        cls,
        opens: Iterable[Outcome | str] = (),
        closes: Iterable[Outcome | str] = (),
        probes: Iterable[Outcome | str] = (),
        calls: Iterable[Outcome | str] = (),
        then: Outcome | str = "ok",
    ) -> SimulatedPeer:
        """Make a peer whose requests get the given outcomes, one after another, and `then` for ever after.

        Raises:
            ValueError: there is no such outcome.
        """
        peer = SimulatedPeer()
        for what, outcomes in (("open", opens), ("close", closes), ("probe", probes), ("call", calls)):
            peer.script(what, outcomes, then if what == "open" else "ok")
        return peer

    @property
    def is_lost(self) -> bool:
        """Whether it has gone away."""
        return self._gone.done()

    @property
    def is_leaving(self) -> bool:
        """Whether it goes away in good order."""
        return self._gone.done() and isinstance(self._gone.result(), GoingAwayError)

    def lose(self, reason: Exception | None = None) -> bool:
        """Go away. False when it had gone already."""
        if self._gone.done():
            return False
        self._peer.leaving += self.is_open and isinstance(reason, GoingAwayError)
        self._gone.set_result(reason or LinkLostError("the simulated link went away"))
        return True

    async def open(self) -> None:
        """Do as the peer's outcome says."""
        self._rule(self.opens == 0, "a link was opened twice")
        self.opens += 1
        kind = (await self._peer.decide("open", self)).kind
        if kind == "refuse":
            raise LinkError("the simulated peer refused")
        if kind == "refuse_for_good":
            raise PermanentRefusalError("the simulated peer refused for good")
        if kind == "crash":
            raise KeyError("a bug in the simulated link")
        self.is_open = True
        self._peer.opened += 1
        if kind == "half":
            self.lose()

    async def close(self) -> None:
        """Be closed at once as far as counting goes; then take as long, or fail, as the outcome says."""
        self._rule(
            self.is_open, "a link was closed that was not open" if self.closes == 0 else "a link was closed twice"
        )
        self.closes += 1
        if self.is_open:
            self.is_open = False
            self._peer.closed += 1
            self._peer.leaving -= self.is_leaving
        self._peer.give_up(self)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            kind = (await self._peer.decide("close", self)).kind
        except asyncio.CancelledError:
            enough = self._peer.closing_time
            self._rule(enough is None or loop.time() - begun > enough - _MOMENT, "the closing of a link was cut off")
            raise
        finally:
            self._peer.closed_at = loop.time()
        if kind == "fail":
            raise OSError("the simulated link could not close")

    async def lost(self) -> Exception:
        """Wait until it goes away."""
        return await asyncio.shield(self._gone)

    async def drained(self) -> None:
        """Wait until all its calls have been answered."""
        while calls := [each.decided for each in self._peer.unanswered() if (each.what, each.link) == ("call", self)]:
            await asyncio.wait(calls)

    async def probe(self, service: str = "") -> bool:
        """Answer as the outcome says."""
        if (await self._peer.decide("probe", self)).kind == "bad":
            raise NotServingError("the simulated peer is not well")
        return True

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        """Pass on what the peer announces."""
        self.news = asyncio.Queue()
        try:
            while True:
                yield await self.news.get()
        finally:
            self.news = None

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Answer as the outcome says; a call on a link that has gone is lost.

        Raises:
            grpc.aio.AioRpcError: DEADLINE_EXCEEDED, as on a real link, when the timeout of `options` has passed.
        """
        self._rule(self.is_open, "a call was made on a link that was not open")
        try:
            async with asyncio.timeout(None if options is None else options.timeout):
                outcome = await self._peer.decide("call", self)
        except TimeoutError:
            raise _deadline_exceeded() from None
        if outcome.kind == "unsent":
            raise ConnectionLostError(f"{method} was not sent", maybe_executed=False)
        if outcome.kind == "lost" or (self._gone.done() and not self.is_leaving):
            self.lose()
            raise ConnectionLostError(f"{method} was lost", maybe_executed=True)
        return object() if outcome.kind == "garbage" else outcome.value

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """A stream of the one reply that a call would have had."""
        yield await self.call(method, request, fields, options)

    def _rule(self, kept: bool, otherwise: str) -> None:
        if not kept:
            self._peer.faults.append(otherwise)


def _deadline_exceeded() -> Exception:
    import grpc  # takes longer to import than all the rest, and few need it

    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, nothing, nothing, details="Deadline Exceeded")


def is_deadline(error: BaseException | None) -> bool:
    """Whether an error is the one by which a call ends whose time is up."""
    grpc = sys.modules.get("grpc")
    return (
        grpc is not None
        and isinstance(error, grpc.aio.AioRpcError)
        and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    )


def _outcome(value: Outcome | str) -> Outcome:
    return value if isinstance(value, Outcome) else Outcome(value)
