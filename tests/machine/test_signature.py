"""What guards and effects take, read from their signatures."""

from __future__ import annotations

from typing import Any

import pytest

from fsm_conn.machine.signature import Takes, takes


def owner() -> type:  # noqa: C901 - they are many, and none is long
    """A class of its own for each test, for what is read of a function is kept."""

    class Owner:
        """Methods of every shape."""

        limit = 3
        builtin = len

        def nothing(self) -> None: ...
        def reason(self, reason: Any) -> None: ...
        def reason_later(self, amount: int, reason: Any = None) -> None: ...
        def reason_by_name(self, *, reason: Any) -> None: ...
        def underscore(self, _why: Any) -> None: ...
        def by_place(self, error: Any, /) -> None: ...
        def variadic(self, *reasons: Any) -> None: ...
        def data(self, amount: int, currency: str = "EUR") -> None: ...
        def everything(self, reason: Any, **data: Any) -> None: ...
        def all_data(self, **data: Any) -> None: ...
        def two_reasons(self, reason: Any, _other: Any) -> None: ...
        def no_self() -> None: ...  # type: ignore[misc]
        def only_variadic(*everything: Any) -> None: ...  # type: ignore[misc]

        @staticmethod
        def static(reason: Any, amount: int) -> None: ...
        @classmethod
        def of_class(cls, amount: int) -> None: ...

    return Owner


SHAPES = {
    "nothing": Takes(),
    "reason": Takes("reason"),
    "reason_later": Takes("reason=reason", ("amount",)),
    "reason_by_name": Takes("reason=reason"),
    "underscore": Takes("reason"),
    "by_place": Takes("reason"),
    "variadic": Takes("reason"),
    "data": Takes("", ("amount",), ("currency",)),
    "everything": Takes("reason", everything=True),
    "all_data": Takes(everything=True),
    "two_reasons": None,
    "no_self": None,
    "only_variadic": Takes("reason"),
    "of_class": Takes("", ("amount",)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_signature_says_what_is_taken(name: str) -> None:
    """The reason by place or by name, data that is needed, data that is taken when there is some."""
    assert takes(owner(), name) == SHAPES[name]


def test_a_static_method_has_no_self_to_leave_out() -> None:
    """Its first parameter is the first that is taken."""
    assert takes(owner(), "static") == Takes("reason", ("amount",))
