"""A part of an object that is created at its first use, so that it costs nothing where it is not used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Self, TypeVar, overload

__all__ = ["Part"]

T = TypeVar("T")


class Part(Generic[T]):
    """A descriptor: each instance gets a part of its own when the attribute is first read.

    Args:
        make: creates the part.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, whole: None, owner: type) -> Self: ...
    @overload
    def __get__(self, whole: object, owner: type) -> T: ...
    def __get__(self, whole: object | None, owner: type) -> Self | T:
        if whole is None:
            return self
        part = vars(whole)[self._name] = self._make()  # from now on it is found there, as any attribute is
        return part
