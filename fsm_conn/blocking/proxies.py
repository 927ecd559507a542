"""Services by attribute: `conn.calculator.Add(a=5, b=3)` returns the reply. Streams are read by `stream`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fsm_conn.blocking.background import Background
from fsm_conn.connection.calling.catalog import Offers, methods
from fsm_conn.connection.calling.proxies import public_first

__all__ = ["BlockingService", "BlockingStub"]


class BlockingService:
    """A service of the peer, by name."""

    def __init__(
        self,
        ask: Callable[[str, tuple[Any, ...], dict[str, Any]], Any],
        name: str,
        offers: Callable[[], Offers] = dict,
    ) -> None:
        self._ask = ask
        self._name = name
        self._offers = offers

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(f"{self!r} has no attribute {method!r}")

        def call(*args: Any, **fields: Any) -> Any:
            return self._ask(f"{self._name}.{method}", args, fields)

        call.__name__ = call.__qualname__ = method
        return call

    def __dir__(self) -> list[str]:
        return public_first([*super().__dir__(), *methods(self._offers(), self._name)])

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value; call one of its methods")

    def __repr__(self) -> str:
        return f"<service {self._name!r}>"


class BlockingStub:
    """A compiled stub whose methods return the reply, or an iterator of replies."""

    def __init__(self, background: Background, stub: Any) -> None:
        self._background = background
        self._stub = stub

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._stub, name)

        def call(*args: Any, **options: Any) -> Any:
            made = self._background.call(lambda: method(*args, **options))
            if method.kind.endswith("_stream"):
                return self._background.iterate(lambda: aiter(made))
            return self._background.run(_answered, made)

        call.__name__ = call.__qualname__ = name
        return call

    def __dir__(self) -> list[str]:
        return public_first([*super().__dir__(), *vars(self._stub)])

    def __repr__(self) -> str:
        return f"<blocking {type(self._stub).__name__}>"


async def _answered(call: Awaitable[Any]) -> Any:
    return await call
