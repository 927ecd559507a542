"""Reads traces: the lines of a `TraceWriter`, or those of `fsm-conn watch --json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["transitions_in"]


def transitions_in(lines: Iterable[str]) -> Iterator[str]:
    """Each line; a line that is no transition becomes empty, so that line numbers stay the same."""
    for line in lines:
        yield "" if '"event"' in line and _event(line) not in (None, "transition") else line


def _event(line: str) -> Any:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None  # the reader of the trace reports the mistake
    return data.get("event") if isinstance(data, dict) else None
