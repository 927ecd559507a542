"""A link made of a driver's own connection: of asyncpg, redis-py, or whatever else is opened, used and closed.

    class Postgres(DriverLink[asyncpg.Connection]):
        async def connect(self) -> asyncpg.Connection:
            db = await asyncpg.connect("postgresql://localhost/shop")
            db.add_termination_listener(lambda db: self.mark_lost())
            return db

        async def disconnect(self, db: asyncpg.Connection) -> None:
            await db.close()

Its `Connection` opens it again when it is lost, and a `DriverPool` leases the driver's object itself. The rules that
hold here:

- What a driver raises while it connects or is asked whether it is well is an outage, whatever its class: it is tried
  again by the policy. What it raises in a call is the caller's, as it is, unless the link was lost under it.
- A driver that is in use is not probed: most of them do one thing at a time, and a probe would break into a long query.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

from fsm_conn._util.text import named
from fsm_conn.links.base import CallOptions, Link
from fsm_conn.links.errors import ConnectionLostError, LinkError, LinkLostError, ProbeError

__all__ = ["DriverLink"]

T = TypeVar("T")


class DriverLink(Link, Generic[T]):
    """Base of links that are a driver's connection. Define `connect`, and what else the driver can do.

    Attributes:
        users: how many use the driver now; it is not probed meanwhile.
    """

    poll_interval: float = 0.5
    """Seconds between two looks at `is_lost`, where that is defined."""

    def __init__(self) -> None:
        self.users = 0
        self._driver: T | None = None
        self._gone: asyncio.Future[Exception] | None = None
        self._polling: asyncio.Task[None] | None = None
        self._pinging: asyncio.Future[None] | None = None

    # --- what there is to define ------------------------------------------------------------------------------

    @abc.abstractmethod
    async def connect(self) -> T:
        """Make one attempt to connect, and return the driver's object. After any exception, it is tried again."""

    async def disconnect(self, driver: T, /) -> None:
        """Close the driver's object. By default its `aclose()` or `close()` is called, and awaited if it is async."""
        close = getattr(driver, "aclose", None) or getattr(driver, "close", None)
        if close is None:
            raise TypeError(f"{type(self).__name__}: define disconnect(), for {type(driver).__name__} has no close()")
        outcome = close()
        if hasattr(outcome, "__await__"):
            await outcome

    async def ping(self, driver: T, /) -> None:
        """Ask whether the other side is there; whatever it raises means no. Without it, probes can tell nothing."""

    def is_lost(self, driver: T, /) -> bool:
        """Whether the driver knows that its connection is gone; for drivers that tell it by no callback."""
        return False

    async def reset(self, driver: T, /) -> None:
        """Clean up after a lease, such as a transaction that was not ended; what it raises has the link replaced."""

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
        """The driver's object, for whoever does something with it: it is not probed until `end_use`."""
        self.users += 1
        try:
            if self._pinging is not None:
                await asyncio.wait({self._pinging})
            return self.driver
        except BaseException:
            self.users -= 1
            raise

    def end_use(self) -> None:
        """End what `begin_use` began."""
        self.users -= 1

    def mark_lost(self, reason: BaseException | None = None) -> None:
        """Say that the connection is gone, from a callback of the driver, or from whoever finds out. Once is enough."""
        if self._gone is not None and not self._gone.done():
            if not isinstance(reason, Exception):
                reason = LinkLostError(f"{type(self).__name__}: the driver lost its connection")
            self._gone.set_result(reason)

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
            raise LinkError(
                f"{type(self).__name__}: could not connect: {named(error)}; it is tried again: if trying again cannot "
                "help, raise a LinkError with permanent=True in connect()"
            ) from error
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
        """As `ping` does, unless somebody uses the driver."""
        if self.users or type(self).ping is DriverLink.ping:
            return False
        pinging = self._pinging = asyncio.get_running_loop().create_future()
        try:
            await self.ping(self.driver)
        except (OSError, ProbeError):
            raise
        except Exception as error:
            raise ProbeError(f"{type(self).__name__}: {named(error)}") from error
        finally:
            self._pinging = None
            pinging.set_result(None)
        return True

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Call a method of the driver's object: `conn.call("fetchval", "SELECT 1")`.

        A request that is a tuple gives several positional arguments, fields give arguments by name.

        Raises:
            ConnectionLostError: the link was lost under it; what the driver raised is the cause.
        """
        words = request if isinstance(request, tuple) else () if request is None else (request,)
        limit = asyncio.timeout(None if options is None else options.timeout)
        try:
            async with limit:
                function = getattr(await self.begin_use(), method.rpartition(".")[2])
                try:
                    outcome = function(*words, **fields)
                    return await outcome if hasattr(outcome, "__await__") else outcome
                finally:
                    self.end_use()
        except Exception as error:
            if self._is_gone():
                text = f"{type(self).__name__}: {method}: the link was lost: {named(error)}"
                raise ConnectionLostError(text, maybe_executed=True) from error
            raise

    def _is_gone(self) -> bool:
        if self._driver is not None and self.is_lost(self._driver):
            self.mark_lost()
        return self._gone is None or self._gone.done()

    async def _poll(self, driver: T) -> None:
        while not self.is_lost(driver):  # noqa: ASYNC110 - drivers that tell it by an event need no poll
            await asyncio.sleep(self.poll_interval)
        self.mark_lost()
