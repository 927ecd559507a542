"""`Connection` for synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from fsm_conn._util.keywords import explained
from fsm_conn.blocking.background import background
from fsm_conn.blocking.proxies import BlockingService, BlockingStub
from fsm_conn.connection.calling.catalog import attributes
from fsm_conn.connection.calling.proxies import public_first
from fsm_conn.connection.connection import Connection as AsyncConnection
from fsm_conn.connection.options import attempt_limit
from fsm_conn.links.target import Target
from fsm_conn.machine.records import TransitionRecord

__all__ = ["Connection"]

_StubT = TypeVar("_StubT")


class Connection:
    """A connection without `await`: as `fsm_conn.Connection`, with methods that block. Thread-safe.

        with Connection(["python", "calculator.py"]) as conn:
            print(conn.calculator.Add(a=5, b=3).result)
            for reply in conn.stream("calculator.Count", limit=3):
                print(reply.result)

    Everything runs in one background event loop, shared by all connections and pools of `fsm_conn.blocking`. Those
    that are open when the interpreter ends are closed then. Observers and hooks run in the background thread: keep them
    short, and do not call blocking methods in them.

    Args:
        target: as for `fsm_conn.Connection`.
        connection_class: `fsm_conn.Connection`, or a subclass of the application's.
        options: further arguments of that class, such as `retry`, `health`, `env`, `name`.

    Raises:
        ImportError: the extra `blocking` is not installed.
        RuntimeError: a method was called in the background thread, or in a forked child.
    """

    def __init__(
        self, target: Target, *, connection_class: type[AsyncConnection] = AsyncConnection, **options: Any
    ) -> None:
        self._background = background()
        self._conn = self._background.call(lambda: connection_class(target, **options))
        self._background.keep(self._conn)

    @explained(attempt_limit)
    def connect(self) -> None:
        """Connect, or join the attempt under way, and return once connected. Raises as the async method."""
        self._background.run(self._conn.connect)

    @explained(attempt_limit)
    def ensure_connected(self) -> None:
        """Return at once when connected, and otherwise connect."""
        self._background.run(self._conn.ensure_connected)

    @explained(attempt_limit)
    def reconnect(self) -> None:
        """Replace the link by a fresh one, now."""
        self._background.run(self._conn.reconnect)

    @explained()
    def disconnect(self) -> None:
        """Close the link, and return once disconnected."""
        self._background.run(self._conn.disconnect)

    def close(self) -> None:
        """The same as `disconnect()`, for `contextlib.closing`."""
        self.disconnect()

    def __enter__(self) -> Self:
        self._background.run(self._conn.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.disconnect()

    def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call a method that answers with one message, and return it. Arguments and errors as for the async method."""

        async def called() -> Any:
            return await self._conn.call(method, *args, **fields)

        return self._background.run(called)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> Iterator[Any]:
        """Call a method that answers with a stream of messages, and iterate over them."""
        return self._background.iterate(lambda: self._conn.stream(method, *args, **fields))

    def subscribe(self, method: str, /, *args: Any, **fields: Any) -> Iterator[Any]:
        """As `stream`, but opened again on the next link, with a `Gap` among the replies."""
        return self._background.iterate(lambda: self._conn.subscribe(method, *args, **fields))

    def stub(self, stub_class: Callable[[Any], _StubT]) -> _StubT:
        """A compiled stub that always uses the current link. A method returns the reply, or an iterator of replies."""
        made = self._background.call(self._conn.stub, stub_class)
        return cast("_StubT", BlockingStub(self._background, made))

    def __getattr__(self, name: str) -> BlockingService:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return BlockingService(
            lambda method, args, fields: self.call(method, *args, **fields), name, self._conn._offers
        )

    def __dir__(self) -> list[str]:
        return public_first([*super().__dir__(), *attributes(self._conn._offers())])

    @explained()
    def probe(self, timeout: float | None = None) -> float:
        """Probe the peer's health once, and return how long the answer took, in seconds."""
        return self._background.run(self._conn.probe, timeout)

    @explained()
    def wait_for_state(self, *states: str, timeout: float | None = None) -> str:
        """Wait until one of `states` is entered, and return it.

        Args:
            states: the names of states.
            timeout: seconds to wait; None: no limit.

        Raises:
            TimeoutError: none was entered in time.
            ValueError: there is no such state.
        """

        async def reached() -> str:
            async with asyncio.timeout(timeout):
                return str(await self._conn.wait_for_state(*states))

        return self._background.run(reached)

    def fire(self, trigger: str, reason: BaseException | None = None) -> None:
        """Dispatch a trigger of your own."""
        self._background.call(self._conn.fire, trigger, reason)

    def on_transition(self, callback: Callable[[TransitionRecord], None]) -> Callable[[], None]:
        """Call `callback(record)` for every transition, in the background thread. Returns what unregisters it."""
        return self._background.call(self._conn.on_transition, callback)

    @property
    def state(self) -> str:
        """The current state."""
        return self._conn.state

    @property
    def connected(self) -> bool:
        """Whether a call would be sent at once."""
        return self._conn.is_connected()

    @property
    def history(self) -> tuple[TransitionRecord, ...]:
        """The last transitions, oldest first."""
        return self._background.call(lambda: self._conn.history)

    @property
    def reason(self) -> BaseException | None:
        """The last error that caused a transition."""
        return self._conn.reason

    @property
    def pid(self) -> int | None:
        """The process id of the plugin; None without one."""
        return self._conn.pid

    @property
    def name(self) -> str:
        """The name of the connection in messages."""
        return self._conn.name

    def __repr__(self) -> str:
        return f"<blocking {self._conn!r}>"
