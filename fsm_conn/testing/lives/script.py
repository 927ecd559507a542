"""The steps of a life as data: a program to read, a table of its transitions, and input for a replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from fsm_conn.machine.records import TransitionRecord

__all__ = ["Script", "Step", "table"]


@attrs.frozen(cache_hash=True)
class Step:
    """One step of a life: the name of a method of the life, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()
    rush: bool = False
    """Whether the next step comes before anything else can run."""
    data: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    """The data that a trigger was fired with."""

    def __str__(self) -> str:
        arguments = [repr(each) for each in self.arguments]
        arguments += [f"{name}={value!r}" for name, value in self.data.items()] + (["rush=True"] if self.rush else [])
        return f"life.{self.name}({', '.join(arguments)})"

    def take(self, life: Any) -> None:
        """Take this step in a life."""
        if self.rush:
            getattr(life, self.name)(*self.arguments, **self.data, rush=True)
        else:
            getattr(life, self.name)(*self.arguments, **self.data)


@attrs.define
class Script:
    """The steps of a life; `replay` repeats them."""

    life: type[Any]
    """The kind of life: `Life`, `MachineLife` or `PoolLife`, or one derived from these."""
    subject: type[Any]
    """The class under test."""
    options: dict[str, Any] = attrs.field(factory=dict)
    """Keywords of the life: the policy, the seed, and so on."""
    steps: list[Step] = attrs.field(factory=list)

    def __str__(self) -> str:
        """The life as a short program that can be pasted as a test."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        lines = [f"life = {self.life.__name__}({self.subject.__qualname__}{options})", *map(str, self.steps)]
        return "\n".join(lines)


def table(records: Sequence[TransitionRecord], last: int = 40) -> str:
    """The last transitions as lines of time, trigger, destination and reason."""
    if not records:
        return "  (no transition yet)"
    shown = records[-last:]
    left_out = [f"  ... {len(records) - last} earlier ones"] if len(records) > last else []
    return "\n".join([*left_out, *_aligned(_cells(record) for record in shown)])


def _cells(record: TransitionRecord) -> tuple[str, ...]:
    dest = "(stays)" if record.internal else f"-> {record.dest}"
    reason = (
        "" if record.reason is None else f"{type(record.reason).__name__}: {str(record.reason).partition(chr(10))[0]}"
    )
    return f"{record.at:.3f} s", str(record.trigger), str(record.source), dest, reason


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [("time", "trigger", "state", "", "reason"), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        ("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]
