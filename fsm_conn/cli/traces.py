"""What the commands read as a trace: the lines of a `TraceWriter`, or those of `fsm-conn watch --json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["transitions_in"]


def transitions_in(lines: Iterable[str]) -> Iterator[str]:
    """Each line, but an empty one for every event that is no transition, so that the numbers stay."""
    for line in lines:
        yield "" if '"event"' in line and _event(line) not in (None, "transition") else line


def _event(line: str) -> Any:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None  # the reader says what is wrong with it
    return data.get("event") if isinstance(data, dict) else None
