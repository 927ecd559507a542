"""Tests of this room as lives: they hunt the mutants that no random life can find, such as those of what is logged."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

from fsm_conn import ConnectionPool
from fsm_conn.testing import ViolationError, run_virtually
from fsm_conn.testing.lives.script import Script

from .conftest import opening

__all__ = ["by"]


class Heard(logging.Handler):
    """What is logged, as pytest's `caplog` has it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter())
        self.messages: list[str] = []
        self.texts: list[str] = []

    @property
    def text(self) -> str:
        """All of it, with tracebacks."""
        return "\n".join(self.texts)

    def emit(self, record: logging.LogRecord) -> None:
        """Note one record."""
        self.messages.append(record.getMessage())
        self.texts.append(self.format(record))

    def clear(self) -> None:
        """Forget all."""
        self.messages.clear()
        self.texts.clear()


def by(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[int], None]:
    """The life that is a test."""

    def live(seed: int) -> None:
        if seed:
            return  # it is always the same
        heard = Heard()
        logging.getLogger().addHandler(heard)
        try:
            run_virtually(_run(test, heard))
        except (Exception, pytest.fail.Exception) as error:
            name = getattr(test, "__name__", "")
            raise ViolationError(name, repr(error), Script(ConnectionPool, ConnectionPool)) from error
        finally:
            logging.getLogger().removeHandler(heard)

    return live


async def _run(test: Callable[..., Coroutine[Any, Any, None]], heard: Heard) -> None:
    async with AsyncExitStack() as stack:
        names = inspect.signature(test).parameters
        given: dict[str, Any] = {"caplog": heard} if "caplog" in names else {}
        if "opened" in names:
            given["opened"] = await stack.enter_async_context(opening())
        await test(**given)
