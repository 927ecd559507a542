"""Services and methods by attribute: `conn.calculator.Add(a=5, b=3)`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import Any, NoReturn, Protocol

from fsm_conn._util.hints import did_you_mean
from fsm_conn.connection.calling.catalog import Offers, methods

__all__ = ["BoundMethod", "Caller", "MethodCall", "ServiceProxy", "Services", "public_first"]


class Caller(Protocol):
    """An object that makes calls: a connection, a pool or a lease."""

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call a method that answers with one message."""

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """Call a method that answers with a stream of messages."""


class Services:
    """Every service by name: `conn.services["calculator"]`, also where `Connection` has an attribute of that name."""

    __slots__ = ("_conn",)

    def __init__(self, conn: Caller) -> None:
        self._conn = conn

    def __getitem__(self, name: str) -> ServiceProxy:
        if not isinstance(name, str) or not name:
            raise TypeError(f"services[{name!r}]: give the name of a service")
        return ServiceProxy(self._conn, name)

    def __repr__(self) -> str:
        return f"<services of {self._conn!r}>"


class ServiceProxy:
    """The methods of one service, as attributes: `conn.calculator.Add(a=5, b=3)`."""

    __slots__ = ("_conn", "_name")

    def __init__(self, conn: Caller, name: str) -> None:
        self._conn = conn
        self._name = name

    def __getattr__(self, method: str) -> BoundMethod:
        if method.startswith("__"):
            raise AttributeError(method)
        return BoundMethod(self._conn, f"{self._name}.{method}")

    def __getitem__(self, method: str) -> BoundMethod:
        return BoundMethod(self._conn, f"{self._name}.{method}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: the caller has mistaken a service for a method of the connection."""
        raise AttributeError(no_such_attribute(self._conn, self._name))

    def __dir__(self) -> list[str]:
        """The methods that the peer offers, as far as they are known, and the attributes of every object."""
        offers: Offers = getattr(self._conn, "_offers", dict)()
        return public_first([*super().__dir__(), *methods(offers, self._name)])

    def __repr__(self) -> str:
        return f"<service {self._name!r} of {self._conn!r}>"

    # A misspelt attribute looks like a service, so each use that a service does not have names the mistake.

    def __bool__(self) -> bool:
        self._refuse("used as a truth value")

    def __eq__(self, other: object) -> bool:
        self._refuse("compared")

    def __lt__(self, other: object) -> bool:
        self._refuse("compared")

    __ne__ = __eq__
    __gt__ = __le__ = __ge__ = __lt__
    __hash__ = object.__hash__

    def __len__(self) -> int:
        self._refuse("measured")

    def __contains__(self, item: object) -> bool:
        self._refuse("searched")

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterated over")

    def __aiter__(self) -> AsyncIterator[Any]:
        self._refuse("iterated over")

    def __await__(self) -> Generator[Any, None, Any]:
        self._refuse("awaited")

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(f"a service cannot be {what}: {no_such_attribute(self._conn, self._name, 'attribute')}")


_OTHERS = {
    "close": "aclose",
    "get": "acquire",
    "invoke": "call",
    "request": "call",
    "start": "connect",
    "stop": "aclose",
}
"""What other libraries call our methods."""


def no_such_attribute(conn: Caller, name: str, kind: str = "method") -> str:
    """The message for a service that was mistaken for a method of the connection."""
    offered = [each for each in dir(type(conn)) if not each.startswith("_")]
    same = _OTHERS.get(name)
    hint = f" (did you mean {same!r}?)" if same in offered else did_you_mean(name, offered)
    return (
        f"{type(conn).__name__} has no {kind} {name!r}{hint}; "
        f"the methods of a service are called as .{name}.<Method>(field=value)"
    )


class BoundMethod:
    """One method of one service. Calling it returns a `MethodCall`."""

    __slots__ = ("_conn", "_method")

    def __init__(self, conn: Caller, method: str) -> None:
        self._conn = conn
        self._method = method

    def __call__(self, /, *args: Any, **fields: Any) -> MethodCall:
        """Arguments as for `Connection.call`."""
        return MethodCall(self._conn, self._method, args, fields)

    def __repr__(self) -> str:
        return f"<method {self._method!r} of {self._conn!r}>"


class MethodCall:
    """A call that is not sent yet: `await` it for one reply, or `async for` over it for a stream of replies.

    To run it in a task: `create_task(conn.call(...))`.
    """

    __slots__ = ("_args", "_conn", "_fields", "_method")

    def __init__(self, conn: Caller, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        self._conn = conn
        self._method = method
        self._args = args
        self._fields = fields

    def __await__(self) -> Generator[Any, None, Any]:
        return self._conn.call(self._method, *self._args, **self._fields).__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._conn.stream(self._method, *self._args, **self._fields)

    def __repr__(self) -> str:
        return f"<call of {self._method!r}, not sent yet: await it, or iterate over it with async for>"


class _Name(str):
    """A name that sorts behind all others when it begins with an underscore."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return (self[:1] == "_", str(self)) < (other[:1] == "_", str(other))


def public_first(names: Iterable[str]) -> list[str]:
    """The names in a form that `dir()`, which sorts them, shows with the public ones first."""
    return sorted(map(_Name, names))
