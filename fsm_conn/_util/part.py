"""A part of an object that is made when it is first used, so that objects which never use it cost nothing for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Self, TypeVar, overload

__all__ = ["Part"]

T = TypeVar("T")


class Part(Generic[T]):
    """An attribute of a class: each instance gets a part of its own, at the first look at it.

    Args:
        make: makes one.
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
        part = vars(whole)[self._name] = self._make()  # found there from now on, as any attribute is
        return part
