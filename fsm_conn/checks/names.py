"""Checks of the names of callbacks."""

from __future__ import annotations

from collections.abc import Iterator

from fsm_conn.checks.subject import Problem, Subject


def unresolved_callbacks(subject: Subject) -> Iterator[Problem]:
    """FSM110."""
    yield from ()


def callbacks_nearly_named(subject: Subject) -> Iterator[Problem]:
    """FSM115."""
    yield from ()
