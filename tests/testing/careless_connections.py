"""Connections, links and pools with one mistake each, such as people make who have read the pages about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from fsm_conn import (
    Connection,
    ConnectionPool,
    ConnectionState,
    Fires,
    Link,
    LinkLostError,
    LinkState,
    State,
    Transition,
    Trigger,
    add_state,
    insert_state,
)
from tests.testing.careless import careless

__all__: list[str] = []


# --- guards and effects of connections ----------------------------------------------------------------------------


@careless("may_retry")
class Inverted(Connection):
    """Tries again exactly when it should not."""

    def may_retry(self, reason: BaseException | None) -> bool:
        return not super().may_retry(reason)


@careless("may_retry")
class Tireless(Connection):
    """Tries again whatever the error is, also when that cannot get better."""

    def may_retry(self, reason: BaseException | None) -> bool:
        return True


@careless("may_retry")
class Named(Connection):
    """Reads what only some errors have."""

    def may_retry(self, reason: BaseException | None) -> bool:
        return "refused" not in reason.args[1] and super().may_retry(reason)  # type: ignore[union-attr]


@careless("count_attempt")
class Uncounted(Connection):
    """Counts for itself, and forgets the base class."""

    tries = 0

    def count_attempt(self, reason: BaseException | None) -> None:
        self.tries += 1


@careless("is_unhealthy")
class Optimist(Connection):
    """No failed probe is ever one too many."""

    def is_unhealthy(self, reason: BaseException | None) -> bool:
        return False


@careless("begin_outage")
class Grudging(Connection):
    """Attempts are not counted from zero in the next outage."""

    def begin_outage(self, reason: BaseException | None) -> None:
        attempt = self.attempt
        super().begin_outage(reason)
        for _ in range(attempt):
            self.count_attempt(reason)


# --- activities of connections ------------------------------------------------------------------------------------


@careless("while_connected")
class Unwatched(Connection):
    """Does something useful, and does not watch its link meanwhile."""

    async def while_connected(self) -> Annotated[str, Fires(Trigger.PROBE_PASSED)]:
        while True:
            await asyncio.sleep(10)


@careless("while_reconnecting")
class Hasty(Connection):
    """Opens the next link without giving back the last one."""

    async def while_reconnecting(self) -> Annotated[str, Fires(Trigger.OPENED)]:
        await asyncio.sleep(1)
        await self._open_link()
        return Trigger.OPENED


@careless("while_disconnecting")
class Abrupt(Connection):
    """Says that it has closed its link, and has not."""

    async def while_disconnecting(self) -> Annotated[str, Fires(Trigger.CLOSED)]:
        return Trigger.CLOSED


@careless("while_failed")
class Sulking(Connection):
    """A bug in what is done after giving up."""

    async def while_failed(self) -> Annotated[str | None, Fires(Trigger.RECOVER)]:
        await self._release()
        raise KeyError(self.name)


@careless("while_connecting")
class Polite(Connection):
    """Waits for something before it connects, without a limit; nobody can be served, and nobody is told."""

    async def while_connecting(self) -> Annotated[str, Fires(Trigger.OPENED)]:
        await asyncio.get_running_loop().create_future()
        return Trigger.OPENED


@careless("while_greeting")
class Greeting(Connection):
    """Takes its own cancellation for an answer."""

    states, transitions = insert_state(
        Connection,
        LinkState("greeting", on_error=Trigger.OPEN_FAILED, timeout=5, on_timeout=Trigger.OPEN_FAILED),
        trigger=Trigger.OPENED,
        before=ConnectionState.CONNECTED,
        then="greeted",
        like=ConnectionState.CONNECTING,
    )

    async def while_greeting(self) -> Annotated[str, Fires("greeted")]:
        with suppress(BaseException):
            await self.call("hello.Hello")
        while True:
            with suppress(BaseException):
                await asyncio.sleep(60)


@careless("while_login", "Login")
class Login(Connection):
    """The state that was inserted has no limit, and the peer need not answer."""

    states, transitions = insert_state(
        Connection,
        LinkState("login", on_error=Trigger.OPEN_FAILED),
        trigger=Trigger.OPENED,
        before=ConnectionState.CONNECTED,
        then="logged_in",
        like=ConnectionState.CONNECTING,
    )

    async def while_login(self) -> Annotated[str, Fires("logged_in")]:
        await self.call("vault.Login")
        return "logged_in"


@careless("while_throttled")
class Throttled(Connection):
    """A state beside `connected` that only waits: nobody watches the link there."""

    states, transitions = add_state(
        Connection,
        LinkState("throttled", on_error=Trigger.LOST),
        beside=ConnectionState.CONNECTED,
        trigger="throttle",
        back="eased",
        back_effects="forget_probes",
    )

    async def while_throttled(self) -> Annotated[str, Fires("eased")]:
        await asyncio.sleep(5)
        return "eased"


@careless("Cornered", "while_cornered")
class Cornered(Connection):
    """A state of its own, from which `disconnect` does not lead out."""

    states = (*Connection.states, State("cornered", on_error=Trigger.OPEN_FAILED, timeout=9, on_timeout="freed"))
    transitions = (
        Transition("corner", ConnectionState.DISCONNECTED, "cornered"),
        Transition("freed", "cornered", ConnectionState.DISCONNECTED),
        Transition(Trigger.OPEN_FAILED, "cornered", ConnectionState.DISCONNECTED),
        *(
            row
            if row.trigger != Trigger.DISCONNECT
            else Transition(
                Trigger.DISCONNECT,
                tuple(
                    each
                    for each in ConnectionState
                    if each not in (ConnectionState.DISCONNECTED, ConnectionState.DISCONNECTING)
                ),
                ConnectionState.DISCONNECTING,
            )
            for row in Connection.transitions
        ),
    )

    async def while_cornered(self) -> Annotated[str, Fires("freed")]:
        await asyncio.sleep(5)
        return "freed"


# --- links of one's own, around the simulated one ---------------------------------------------------------------


class Around(Link):
    """What adds nothing to the link inside."""

    def __init__(self, inner: Link) -> None:
        self.inner = inner

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def lost(self) -> Exception:
        return await self.inner.lost()

    async def probe(self, service: str = "") -> bool:
        return await self.inner.probe(service)

    async def call(self, method: str, request: Any, fields: Any, options: Any) -> Any:
        return await self.inner.call(method, request, fields, options)


class Unclosed(Around):
    """Thinks that what was lost need not be closed."""

    is_gone = False

    async def lost(self) -> Exception:
        try:
            return await self.inner.lost()
        finally:
            self.is_gone = True

    async def close(self) -> None:
        if not self.is_gone:
            await self.inner.close()


class Persistent(Around):
    """Tries again by itself, without an end and without a pause, and what it tries again is opened twice."""

    async def open(self) -> None:
        while True:
            try:
                return await self.inner.open()
            except OSError:
                continue


class Deaf(Around):
    """Never says that it is lost."""

    async def lost(self) -> Exception:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


class Raising(Around):
    """Raises the loss instead of returning it, and raises a bug besides."""

    async def lost(self) -> Exception:
        raise LookupError(await self.inner.lost())


class Blurting(Around):
    """A bug of its own where the peer refuses."""

    async def open(self) -> None:
        try:
            await self.inner.open()
        except Exception as error:
            raise LinkLostError(f"refused by {self.inner.address}") from error  # type: ignore[attr-defined]


def over(link: type[Around]) -> Callable[..., Connection]:
    """Make connections whose links are of this class."""
    return lambda links, options: Connection(lambda: link(links()), **options)


def linked(name: str, link: type[Around], *guilty: str) -> None:
    careless(*guilty, link.__name__, make=over(link))(type(name, (Connection,), {"__module__": link.__module__}))


linked("OverUnclosed", Unclosed, "close", "lost")
linked("OverPersistent", Persistent, "open")
linked("OverDeaf", Deaf, "lost")
linked("OverRaising", Raising, "lost")
linked("OverBlurting", Blurting, "open")


# --- pools --------------------------------------------------------------------------------------------------------


@careless("end_service")
class Silent(ConnectionPool):
    """Whoever waits is not told that the pool closes."""

    def end_service(self, reason: BaseException | None) -> None:
        self._leases.is_slow = True
        self._supervisor.end()


@careless("while_draining")
class Sudden(ConnectionPool):
    """Says that all is closed, and has closed nothing."""

    async def while_draining(self) -> Annotated[str, Fires("drained")]:
        return "drained"


@careless("close_all")
class Unlimited(ConnectionPool):
    """Waits for leases as long as they are held, whatever it was told."""

    async def close_all(self, timeout: float | None = 10.0) -> None:
        await super().close_all(None)


@careless("while_open")
class Inattentive(ConnectionPool):
    """Looks after its links for a minute, and then no more."""

    async def while_open(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(super().while_open(), 60)


@careless("begin_service")
class Shy(ConnectionPool):
    """Does something of its own when it opens, and forgets the base class."""

    def begin_service(self, reason: BaseException | None) -> None:
        self.since = asyncio.get_running_loop().time()


@careless("forget_slots")
class Hoarding(ConnectionPool):
    """Keeps what is closed."""

    def forget_slots(self, reason: BaseException | None) -> None:
        pass


@careless("while_open")
class Busy(ConnectionPool):
    """A bug in what goes on while it is open, when somebody waits."""

    async def while_open(self) -> None:
        while not len(self._line):
            await asyncio.sleep(1)
        raise IndexError(len(self._line))


@careless("check")
class Checking(ConnectionPool):
    """A hook of its own that never ends when the peer does not answer, and ignores its cancellation."""

    def __init__(self, target: Any, *args: Any, **options: Any) -> None:
        options["on_acquire"] = self.check
        super().__init__(target, *args, **options)

    async def check(self, conn: Connection) -> None:
        while True:
            try:
                await conn.call("health.Check")
            except BaseException:
                continue


@careless("Tireless", make=lambda links, options: ConnectionPool(links, connection_class=Tireless, **options))
class OfTireless(ConnectionPool):
    """Its connections try again for ever what cannot get better."""
