"""A part of an object that is created at its first use, so that it costs nothing where it is not used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Self, TypeVar, overload

__all__ = ["Part", "expect_attributes"]

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
        part = self._make()
        object.__setattr__(whole, self._name, part)  # from now on it is found there, as any attribute is
        return part


def expect_attributes(cls: type, names: Iterable[str]) -> None:
    """Prepare a class for the attributes that its instances get late, such as parts.

    CPython keeps the names of attributes in a table that all instances share, of thirty at most, and closes it when
    some instances were made. One that gets another name then has a table of its own, of three times the size.
    """
    if hasattr(cls, "__del__"):
        return
    try:
        first: object = object.__new__(cls)
    except TypeError:  # it is abstract, or made otherwise
        return
    for name in names:
        object.__setattr__(first, name, None)
