"""Services and methods by attribute: `conn.calculator.Add(a=5, b=3)`, answered by a message or by an iterator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["BlockingService"]


class BlockingService:
    """A service of the peer, by name."""

    def __init__(self, ask: Callable[[str, tuple[Any, ...], dict[str, Any]], Any], name: str) -> None:
        self._ask = ask
        self._name = name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(f"{self!r} has no attribute {method!r}")

        def call(*args: Any, **fields: Any) -> Any:
            return self._ask(f"{self._name}.{method}", args, fields)

        call.__name__ = call.__qualname__ = method
        return call

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value; call one of its methods")

    def __repr__(self) -> str:
        return f"<service {self._name!r}>"
