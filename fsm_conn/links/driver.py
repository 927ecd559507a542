"""A link around a driver's own connection, such as one of asyncpg or redis-py.

    class Postgres(DriverLink[asyncpg.Connection]):
        async def connect(self) -> asyncpg.Connection:
            db = await asyncpg.connect("postgresql://localhost/shop")
            db.add_termination_listener(lambda db: self.mark_lost())
            return db

        async def disconnect(self, db: asyncpg.Connection) -> None:
            await db.close()

Its `Connection` opens it again when it is lost, and a `DriverPool` leases the driver's object itself. The rules that
hold here:

- An error of a driver while it connects or is probed is an outage, whatever its class: the policy retries. An error in
  a call is raised to the caller as it is, unless the link was lost during the call.
- Most drivers do one thing at a time. So calls through one link take turns, and a driver in use is not probed: a probe
  would interrupt a long query.
- When an exchange is cut off, by a time limit or because its caller was cancelled, its answer may still come, and the
  next caller would read it. So the link is lost then.
"""

from __future__ import annotations

import abc
import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from typing import Any, Generic, TypeVar

from fsm_conn._util.text import named
from fsm_conn._util.timing import news_of_loss
from fsm_conn.links.base import CallOptions, Link
from fsm_conn.links.errors import ConnectionLostError, LinkError, LinkLostError, ProbeError

__all__ = ["DriverLink", "has_reset", "probed_since", "watch_probes"]

T = TypeVar("T")


class DriverLink(Link, Generic[T]):
    """Base class of links around a driver's connection. Define `connect`, and further methods as the driver needs.

    Attributes:
        users: how many callers use the driver now; it is not probed meanwhile.
    """

    poll_interval: float = 0.5
    """Seconds between two calls of `is_lost`, where you define that."""
    one_at_a_time: bool = True
    """Whether calls take turns, and whether the link is lost when a call or a ping is cut off by its time limit or by a
    cancellation. False is for drivers that do several things at once and can forget one of them."""

    def __init__(self) -> None:
        self.users = 0
        self._driver: T | None = None
        self._gone: asyncio.Future[Exception] | None = None
        self._polling: asyncio.Task[None] | None = None
        self._pinging: asyncio.Future[None] | None = None
        self._probed_since: float | None = None
        self._on_probe: Callable[[], None] | None = None
        self._turn = asyncio.Lock()

    # --- what there is to define ------------------------------------------------------------------------------

    @abc.abstractmethod
    async def connect(self) -> T:
        """Make one attempt to connect, and return the driver's object. Any exception is a failed attempt."""

    async def disconnect(self, driver: T, /) -> None:
        """Close the driver's object. By default its `aclose()` or `close()` is called, and awaited if it is async."""
        close = getattr(driver, "aclose", None) or getattr(driver, "close", None)
        if close is None:
            raise TypeError(f"{type(self).__name__}: define disconnect(), for {type(driver).__name__} has no close()")
        outcome = close()
        if hasattr(outcome, "__await__"):
            await outcome

    async def ping(self, driver: T, /) -> None:
        """Check that the other side is there; any exception means no. Without this method, probes find nothing out."""

    def is_lost(self, driver: T, /) -> bool:
        """Whether the driver knows that its connection is gone. By default, what its `is_closed` or `closed` says.

        It is asked when the driver is leased, when it is given back and when a call fails. A definition of your own is
        asked every `poll_interval`, too: for drivers without a callback for a loss.
        """
        closed = getattr(driver, "is_closed", getattr(driver, "closed", False))
        if callable(closed) and not inspect.iscoroutinefunction(closed):
            closed = closed()
        return closed is True

    async def reset(self, driver: T, /) -> None:
        """Clean up what a lease left in the session, such as an unfinished transaction, settings or locks.

        Every pool calls it after each lease, before its `on_release`; nobody gets the link before both have ended. If
        it raises, or takes longer than `hook_timeout`, the link is replaced. Calls without a lease are not cleaned up.
        """

    # --- what may be used -------------------------------------------------------------------------------------

    @property
    def driver(self) -> T:
        """The driver's object.

        Raises:
            LinkLostError: it is not connected.
        """
        if self._driver is None:
            raise LinkLostError(f"{type(self).__name__} is not connected")
        return self._driver

    async def begin_use(self) -> T:
        """Return the driver's object for use: it is not probed until `end_use`.

        Raises:
            LinkLostError: the link is lost.
        """
        self.users += 1
        try:
            if self._pinging is not None and self.one_at_a_time:
                await asyncio.wait({self._pinging})
            if self.is_gone():
                raise LinkLostError(f"{type(self).__name__} is lost")
            return self.driver
        except BaseException:
            self.users -= 1
            raise

    def end_use(self) -> None:
        """End what `begin_use` began."""
        self.users -= 1

    def mark_lost(self, reason: BaseException | None = None) -> None:
        """Report that the connection is gone, such as from a callback of the driver. Calling it again is harmless."""
        if self._gone is not None and not self._gone.done():
            if not isinstance(reason, Exception):
                reason = LinkLostError(f"{type(self).__name__}: the driver lost its connection")
            self._gone.set_result(reason)

    def is_gone(self) -> bool:
        """Whether the connection is lost, as far as the driver or anybody else knows."""
        if self._driver is not None and self.is_lost(self._driver):
            self.mark_lost()
        return self._gone is None or self._gone.done()

    # --- what a Link promises ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """As `connect` does."""
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        try:
            self._driver = await self.connect()
        except (OSError, LinkError):
            raise
        except Exception as error:
            raise _not_connected(self, error) from error
        if type(self).is_lost is not DriverLink.is_lost:
            self._polling = loop.create_task(self._poll(self._driver), name=f"{type(self).__name__}.is_lost")

    async def close(self) -> None:
        """As `disconnect` does."""
        driver, self._driver = self.driver, None
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({polling})
        self.mark_lost()
        await self.disconnect(driver)

    async def lost(self) -> Exception:
        """Wait for `mark_lost`."""
        assert self._gone is not None
        return await asyncio.shield(self._gone)

    async def probe(self, service: str = "") -> bool:
        """As `ping` does, unless the driver is in use."""
        if self.users or type(self).ping is DriverLink.ping:
            return False
        loop = asyncio.get_running_loop()
        pinging = self._pinging = loop.create_future()
        self._tell_of_probe(loop.time())
        try:
            await self.ping(self.driver)
        except asyncio.CancelledError:
            self._cut_off("a ping")
            raise
        except (OSError, ProbeError):
            raise
        except Exception as error:
            raise ProbeError(f"{type(self).__name__}: {named(error)}") from error
        finally:
            self._pinging = None
            pinging.set_result(None)
            if not self.is_gone():  # otherwise a pool would lease it before it knows of the loss
                self._tell_of_probe(None)
        return True

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Call a method of the driver's object: `conn.call("fetchval", "SELECT 1")`.

        A request that is a tuple gives several positional arguments, fields give arguments by name.

        Raises:
            ConnectionLostError: the link was lost during the call; `__cause__` is the driver's error.
            TimeoutError: the timeout of `options` has passed.
        """
        words = request if isinstance(request, tuple) else () if request is None else (request,)
        limit = asyncio.timeout(None if options is None else options.timeout)
        try:
            async with limit, self._turn if self.one_at_a_time else nullcontext():
                return await self._called(method, words, fields)
        except Exception as error:
            if not (self.is_gone() or limit.expired()):
                await news_of_loss()
            if self.is_gone() and not limit.expired():
                text = f"{type(self).__name__}: {method}: the link was lost: {named(error)}"
                raise ConnectionLostError(text, maybe_executed=not isinstance(error, LinkLostError)) from error
            raise

    async def _called(self, method: str, words: tuple[Any, ...], fields: Mapping[str, Any]) -> Any:
        driver = await self.begin_use()
        try:
            outcome = getattr(driver, method.rpartition(".")[2])(*words, **fields)
            return await outcome if hasattr(outcome, "__await__") else outcome
        except asyncio.CancelledError:
            self._cut_off(method)
            raise
        finally:
            self.end_use()

    def _tell_of_probe(self, since: float | None) -> None:
        self._probed_since = since
        if self._on_probe is not None:
            self._on_probe()

    def _cut_off(self, what: str) -> None:
        if self.one_at_a_time:
            self.mark_lost(LinkLostError(f"{type(self).__name__}: {what} was cut off before its answer came"))

    async def _poll(self, driver: T) -> None:
        while not self.is_lost(driver):  # noqa: ASYNC110 - drivers that tell it by an event need no poll
            await asyncio.sleep(self.poll_interval)
        self.mark_lost()


def has_reset(link: Link | None) -> bool:
    """Whether pools clean the link up after each lease: it defines `reset`."""
    return isinstance(link, DriverLink) and type(link).reset is not DriverLink.reset


def probed_since(link: Link | None) -> float | None:
    """Since when a driver that does one thing at a time is probed, by the loop's clock; None: it is not."""
    return link._probed_since if isinstance(link, DriverLink) and link.one_at_a_time else None


def watch_probes(link: Link | None, told: Callable[[], None]) -> None:
    """Have `told` called when a probe of a driver has begun, and when it has ended."""
    if isinstance(link, DriverLink):
        link._on_probe = told


def _not_connected(link: Link, error: Exception) -> LinkError:
    failed = LinkError(f"{type(link).__name__}: could not connect: {named(error)}")
    failed.add_note("It is retried; where that cannot help, raise a LinkError with permanent=True in connect().")
    return failed
