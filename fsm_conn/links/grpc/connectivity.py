"""Notices when the connection under a channel ends, and tells an orderly close from a broken connection.

gRPC reports neither: after a GOAWAY, as after a kill, the channel is no longer ready, and it would connect again
without telling us. The difference is in the calls under way: a broken connection fails them at once, while a peer that
goes away in good order finishes them.

Rules that hold here:

- If a call under way breaks, the connection broke.
- A call that could not be sent, because there was no connection, tells nothing about the calls that were sent before.
  Nor does a call that has crossed a GOAWAY: the peer has not looked at it, and it may be sent again on the next
  connection. gRPC's own retries would do that, but without pause and without end if a peer turns each connection away.
- If a connection closes while its calls go on, or without any call under way, the close is orderly: nobody was harmed.
- A peer that is a process, and remembers what it was told, need not be replaced: the channel connects to it again, and
  the link goes on.
- A call that begins while the connection is closed waits until the channel is ready again. If the link is lost instead,
  the call was provably not sent.
- When a call fails while the channel still seems ready, the cause is checked. The failure may be the peer's own answer,
  even in the same words, or reach us a moment before the channel changes its state. So the peer is asked for a sign of
  life. Calls that fail together, or within a second, ask once; and a peer that refuses every question is alive.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from weakref import WeakSet

import grpc
import grpc.aio

from fsm_conn.links.errors import GoingAwayError, LinkLostError
from fsm_conn.links.grpc import health_service
from fsm_conn.links.grpc.channel import READY
from fsm_conn.links.grpc.feeding import is_being_cancelled
from fsm_conn.links.grpc.first_status import is_forgotten
from fsm_conn.links.grpc.loss import Loss

__all__ = ["MOST_CROSSINGS", "Connectivity", "is_broken", "is_cut", "is_never_sent", "is_turned_away"]

BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""The codes of a call whose connection breaks, or whose peer is shut down during the call."""

SETTLE = 0.1
"""Seconds in which a broken connection certainly fails the calls under way. It takes some milliseconds."""
SIGN_OF_LIFE = 0.25
"""Seconds to wait for a sign of life when a call failed and the channel still seems ready."""
TRIES = 2
ASKED_LATELY = 1.0
"""Seconds during which a peer that has answered, or refused to, is not asked again."""
MOMENT = 0.02
"""Seconds to wait for the channel to change its state instead."""
BLINK = 0.002
"""Seconds between two looks whether the channel is ready again. It takes a few milliseconds."""
RESUMED = 5.0
"""Seconds that the same peer has to accept a connection again. It does, or refuses, at once, unless it hangs."""
MOST_CROSSINGS = 3
"""How often one call is sent again because it has crossed a GOAWAY."""
LEAST_LIFE = 0.2
"""Seconds from one connection to the next, at least: a peer may close each one at once."""


_CUT = re.compile(
    r"(Stream removed \()?(RST_STREAM \(|Received RST_STREAM |Data frame with END_STREAM )|No status received$"
)
_TURNED_AWAY = re.compile(r"(Stream removed \()?GOAWAY received;")


def is_cut(details: str | None) -> bool:
    """Whether gRPC's words say that a call's stream ended without a status, whatever code gRPC has made of that.

    So servers end their calls when they are stopped, and proxies those of a backend that is gone: where the answer had
    begun, a proxy can say it in no other way.
    """
    return _CUT.match(details or "") is not None


def is_broken(error: grpc.aio.AioRpcError) -> bool:
    """Whether no server has answered a call: it does not serve, it was stopped meanwhile, or there was no status."""
    return error.code() in BROKEN or is_cut(error.details())


def is_turned_away(details: str | None) -> bool:
    """Whether gRPC's words say that a call has crossed a GOAWAY, so that the peer has not looked at it."""
    return _TURNED_AWAY.match(details or "") is not None


def is_never_sent(details: str | None) -> bool:
    """Whether gRPC's words say that a call was never sent: there was no connection for it, or it crossed a GOAWAY."""
    return (details or "").startswith("failed to connect to all addresses") or is_turned_away(details)


class Counting(Protocol):
    """An object that counts calls as under way."""

    def look(self) -> None:
        """Note the calls that have ended."""


class Connectivity:
    """The connection of one link.

    Args:
        channel: a channel that is ready.
        loss: where the end of the connection is declared.
        reconnects: whether calls may go on while the channel connects again, after an orderly close.
        resumes: whether the link goes on after an orderly close, if the same peer accepts a connection again.

    Attributes:
        is_strict: whether the channel's state decides what may be sent: it neither reconnects nor resumes.
        stubs: objects that count calls here, and may not have noticed yet that some calls have ended.
        under_way: how many calls are under way.
        resumed: how many times the link went on after an orderly close.
        partings: how many times the connection closed, while that is watched.
    """

    def __init__(self, channel: Any, loss: Loss, *, reconnects: bool, resumes: bool = False) -> None:
        self.under_way = self.resumed = self.partings = 0
        self._channel = channel
        self._loss = loss
        self._reconnects = reconnects
        self._resumes = resumes
        self.is_strict = not (reconnects or resumes)
        self._is_lenient = reconnects and not resumes
        self._witnesses = 0
        self._is_parting = False
        self._looking = 0
        self.stubs: WeakSet[Counting] = WeakSet()
        self._over: asyncio.Event | None = None
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._broken: set[asyncio.Task[None]] = set()
        self._watcher = asyncio.create_task(self._watch())

    def refuses(self) -> bool:
        """Whether nothing may be sent any more."""
        if self._reconnects:
            return self._loss.reason is not None and not self._loss.is_going_away
        return self._loss.reason is not None or (self.is_strict and self._channel.get_state() is not READY)

    def is_open(self) -> bool:
        """Whether a call can be sent at once. A quick test: where it says no, others say what to do."""
        return self._loss.reason is None and (self._is_lenient or self._channel.get_state() is READY)

    def is_parted(self) -> bool:
        """Whether the connection is closed, and a call has to wait until the link goes on or is lost."""
        return self._resumes and self._channel.get_state() is not READY and self._loss.reason is None

    async def is_back(self) -> bool:
        """Wait until the channel is ready again, or the link is lost; return whether a call can be sent.

        When neither happens in bounded time, the call is sent: gRPC then says what becomes of it.
        """
        end = asyncio.get_running_loop().time() + RESUMED + 2 * SETTLE
        while self._loss.reason is None and self._channel.get_state(try_to_connect=True) is not READY:
            if await self._loss.is_declared_within(BLINK) or asyncio.get_running_loop().time() > end:
                break
        return not self.refuses()

    def begin(self) -> None:
        """A call is under way."""
        self.under_way += 1

    def end(self) -> None:
        """A call has ended, in whatever way."""
        self.under_way -= 1
        if self._over is not None and not self.under_way:
            self._over.set()

    def end_broken(self, details: str | None) -> None:
        """A call has broken, and nobody waits to learn why: until that is known, it counts as under way.

        Args:
            details: the words of the call's status.
        """
        if not is_never_sent(details):
            self.suspect()
        if self._loss.reason is not None:
            self.end()
            return
        task = asyncio.create_task(self._find_out(details))
        self._broken.add(task)
        task.add_done_callback(self._looked_into)

    def _looked_into(self, task: asyncio.Task[None]) -> None:
        self._broken.discard(task)
        self.end()

    async def drained(self) -> None:
        """Wait until no call is under way."""
        self._look()
        self._over = self._over or asyncio.Event()
        while self.under_way:
            self._over.clear()
            await self._over.wait()

    def _look(self) -> None:
        for each in tuple(self.stubs):
            each.look()

    @contextmanager
    def witness(self) -> Iterator[None]:
        """A stream of our own: if it breaks, the connection broke; nobody waits for its end."""
        self._witnesses += 1
        try:
            yield
        finally:
            self._witnesses -= 1

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await self._channel.wait_for_state_change(READY)
            self.partings += 1
            if self._looking:  # a call has just broken, and this is why
                self._loss.declare(LinkLostError("the connection broke"))
            self._look()
            harmed = self.under_way + self._witnesses
            self._is_parting = True
            if self._loss.reason is not None or (harmed and await self._loss.is_declared_within(SETTLE)):
                return
            self._is_parting = False
            if self._resumes:
                await self._loss.is_declared_within(began + LEAST_LIFE - clock())
            if not (self._resumes and await self._is_resumed()):
                break
            self.resumed += 1
        if harmed:
            self._loss.declare(GoingAwayError("the peer closes the connection, and finishes what is under way"))
        elif self._reconnects:
            self._loss.declare(GoingAwayError("the peer closed the connection while nothing was under way"))
        else:
            self._loss.declare(LinkLostError("the connection broke"))

    async def _is_resumed(self) -> bool:
        """Connect again, and return whether the peer accepts that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RESUMED):
                while self._loss.reason is None:
                    state = self._channel.get_state(try_to_connect=True)
                    if state in (READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                        return bool(state is READY)
                    await self._channel.wait_for_state_change(state)
        return False

    def suspect(self) -> None:
        """A call broke. If the connection has gone with it, the close was not orderly."""
        if self._loss.reason is None and (self._is_parting or self._channel.get_state() is not READY):
            self._loss.declare(LinkLostError("the connection broke"))

    async def is_lost_after(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether a call failed because the link is lost, rather than because the peer answered so."""
        if not (is_broken(error) or is_forgotten(error)):
            return False
        await self._find_out(error.details())
        return self._loss.reason is not None

    async def has_crossed(self, error: grpc.aio.AioRpcError, partings: int) -> bool:
        """Whether a call has crossed a GOAWAY, and can be sent again now.

        The words alone do not prove it: a peer may pass on such words from elsewhere, after it has acted on the call.

        Args:
            error: how the call ended.
            partings: the number of partings when the call began.
        """
        if error.code() not in BROKEN or not is_turned_away(error.details()):
            return False
        await self._follow()
        return self.partings > partings and not self.refuses()

    async def _find_out(self, details: str | None) -> None:
        """A call broke with these words: find out whether the connection broke, too."""
        if is_turned_away(details):
            await self._follow()
            return
        if is_never_sent(details):
            # The earlier connection may still finish its calls; the watcher reports whether it does.
            await self._loss.is_declared_within(RESUMED + 2 * SETTLE)
        elif self._loss.reason is None and self._channel.get_state() is READY:
            self._looking += 1
            try:
                await self._look_into_it()
            finally:
                self._looking -= 1
        self.suspect()

    async def _follow(self) -> None:
        """A call has crossed a GOAWAY: wait until it is known what happens to the link."""
        resumed, end = self.resumed, asyncio.get_running_loop().time() + RESUMED + 2 * SETTLE
        if await self._loss.is_declared_within(MOMENT):
            return
        if self._channel.get_state() is READY:  # gRPC overlooks a GOAWAY that comes at once
            await self._look_into_it()
        while self._channel.get_state() is not READY and self.resumed == resumed:
            if await self._loss.is_declared_within(MOMENT) or asyncio.get_running_loop().time() > end:
                break

    async def _look_into_it(self) -> None:
        if asyncio.get_running_loop().time() - self._asked_at < ASKED_LATELY:
            await self._loss.is_declared_within(MOMENT)
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        await asyncio.wait((self._asking,))

    async def _ask(self) -> None:
        """Make the peer answer, or the channel notice that the peer is gone."""
        turned_away = 0
        for _ in range(TRIES):
            if self._loss.reason is not None or self._channel.get_state() is not READY:
                return
            try:
                await health_service.ask(self._channel, timeout=SIGN_OF_LIFE)
            except grpc.aio.AioRpcError as error:
                if is_broken(error):
                    turned_away += is_turned_away(error.details())
                    await self._loss.is_declared_within(MOMENT)
                    continue
            except asyncio.CancelledError:
                if is_being_cancelled():
                    raise
                return
            break
        if turned_away == TRIES:
            self._loss.declare(GoingAwayError("the peer turns all calls away"))
        self._asked_at = asyncio.get_running_loop().time()

    def stop(self) -> None:
        """Stop watching. Call `stopped` after it, with no wait between them except for the channel's."""
        for task in self._tasks():
            task.cancel()

    async def stopped(self) -> None:
        """Wait until none of its tasks runs."""
        await asyncio.wait(self._tasks())

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [self._watcher, *([self._asking] if self._asking is not None else []), *self._broken]
