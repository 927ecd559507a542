"""Diagrams and tables of any machine: drawn from the table that runs, so never out of date.

    from fsm_conn import Connection
    from fsm_conn.diagrams import diagram, write

    print(diagram(Connection))  # Mermaid
    write(Connection, "connection.svg", theme="dark", state="connected")

Mermaid, DOT and tables need nothing else; SVG and PNG need the extra `diagrams`: `pip install 'fsm_conn[diagrams]'`.
The same machine gives the same diagram, byte for byte; a PNG depends on the fonts of the machine that draws, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.keywords import explained
from fsm_conn.diagrams.dot import picture_dot, to_dot
from fsm_conn.diagrams.drafting import drawing_of
from fsm_conn.diagrams.drawing import Detail
from fsm_conn.diagrams.errors import DiagramError, DiagramWarning
from fsm_conn.diagrams.graphviz import to_png, to_svg
from fsm_conn.diagrams.mermaid import to_mermaid
from fsm_conn.diagrams.overlays import Coverage, overlays_of
from fsm_conn.diagrams.tables import to_markdown, to_rst
from fsm_conn.diagrams.text import to_text
from fsm_conn.diagrams.themes import Theme
from fsm_conn.machine.chart import ChartError, chart_of
from fsm_conn.machine.records import TransitionRecord

__all__ = [
    "SUFFIXES",
    "ChartError",
    "Coverage",
    "Detail",
    "DiagramError",
    "DiagramWarning",
    "Format",
    "Theme",
    "diagram",
    "format_of",
    "write",
]

_Choice = TypeVar("_Choice", bound=StrEnum)


class Format(StrEnum):
    """The formats of diagrams."""

    MERMAID = "mermaid"
    """`stateDiagram-v2`, which code hosts render."""
    DOT = "dot"
    """For Graphviz."""
    SVG = "svg"
    """Needs the extra `diagrams`."""
    PNG = "png"
    """Needs the extra `diagrams`. The only one that is bytes."""
    MARKDOWN = "markdown"
    """Two tables, of states and of rows."""
    RST = "rst"
    """The same tables in reStructuredText."""
    TEXT = "text"
    """A line for each state and each row, for terminals, reviews and tests."""


_TABLES = {Format.MARKDOWN: to_markdown, Format.RST: to_rst, Format.TEXT: to_text}
SUFFIXES = {
    ".mmd": Format.MERMAID,
    ".dot": Format.DOT,
    ".svg": Format.SVG,
    ".png": Format.PNG,
    ".md": Format.MARKDOWN,
    ".rst": Format.RST,
    ".txt": Format.TEXT,
}
"""The format for each suffix of a file."""


@overload
def diagram(
    machine: Any,
    format: Literal["png", Format.PNG],
    *,
    theme: str = ...,
    state: Any = ...,
    history: Iterable[TransitionRecord] | None = ...,
    coverage: Coverage | None = ...,
    base: Any = ...,
    detail: str = ...,
    title: str | None = ...,
) -> bytes: ...


@overload
def diagram(
    machine: Any,
    format: Literal["mermaid", "dot", "svg", "markdown", "rst", "text"] = ...,
    *,
    theme: str = ...,
    state: Any = ...,
    history: Iterable[TransitionRecord] | None = ...,
    coverage: Coverage | None = ...,
    base: Any = ...,
    detail: str = ...,
    title: str | None = ...,
) -> str: ...


@overload
def diagram(
    machine: Any,
    format: str,
    *,
    theme: str = ...,
    state: Any = ...,
    history: Iterable[TransitionRecord] | None = ...,
    coverage: Coverage | None = ...,
    base: Any = ...,
    detail: str = ...,
    title: str | None = ...,
) -> str | bytes: ...


@explained()
def diagram(
    machine: Any,
    format: str = Format.MERMAID,
    *,
    theme: str = Theme.LIGHT,
    state: Any = None,
    history: Iterable[TransitionRecord] | None = None,
    coverage: Coverage | None = None,
    base: Any = None,
    detail: str = Detail.FULL,
    title: str | None = None,
) -> str | bytes:
    """Draw a machine.

    Args:
        machine: a `StateMachine` class, such as `Connection` or `ConnectionPool`, an instance of one, or a
            `transitions.Machine` of any kind. The current state of an instance is shown only if it is given as `state`.
        format: a `Format`, or its name.
        theme: `light` or `dark`. Mermaid's `light` leaves the colours to the page that shows it. Tables have none.
        state: the current state, which is highlighted: its name, or an object with the attribute `state`.
        history: the history of the machine, such as `Connection.history`: shows the steps on the edges and the seconds
            spent in each state. Its last state is highlighted, unless `state` names another.
        coverage: the coverage of tests, measured by `fsm_conn.testing`: how often each row was taken and refused.
        base: a machine to compare with, such as the base class: marks states and rows that are added and changed,
            names those that are gone, and adds a legend.
        detail: a `Detail`, or its name: `states`, which state can follow which; `triggers`, and by which trigger; or
            `full`. Tables have everything.
        title: the title above the diagram, which screen readers read instead of the machine's name.

    Returns:
        Text, or bytes for PNG.

    Raises:
        DiagramError: there is no such format, theme, detail or state, or a history or coverage is of another table.
        ChartError: `machine` or `base` has no table.
        ImportError: for SVG and PNG, when pygraphviz is not installed; the message says how to get it.

    Warns:
        DiagramWarning: the diagram is larger than Mermaid draws by default.
    """
    form = _chosen(Format, "format", format)
    colours = _chosen(Theme, "theme", theme)
    much = _chosen(Detail, "detail", detail)
    chart = chart_of(machine)
    overlays = overlays_of(chart, state, history, coverage, base)
    if form in _TABLES:
        return _TABLES[form](chart, overlays, title)
    drawing = drawing_of(chart, overlays, much, title)
    if form is Format.MERMAID:
        return to_mermaid(drawing, colours)
    if form is Format.DOT:
        return to_dot(drawing, colours)
    picture = picture_dot(drawing, colours)
    return to_png(picture) if form is Format.PNG else to_svg(picture, drawing.title, drawing.summary)


@explained()
def write(
    machine: Any,
    path: str | os.PathLike[str],
    *,
    theme: str = Theme.LIGHT,
    state: Any = None,
    history: Iterable[TransitionRecord] | None = None,
    coverage: Coverage | None = None,
    base: Any = None,
    detail: str = Detail.FULL,
    title: str | None = None,
) -> None:
    """Draw a machine into a file, in the format of its suffix: one of `SUFFIXES`.

    Raises:
        DiagramError: no format has that suffix; or as `diagram`.
        OSError: the file cannot be written.
    """
    options: dict[str, Any] = {"history": history, "coverage": coverage, "base": base, "detail": detail, "title": title}
    drawn = diagram(machine, format_of(path), theme=theme, state=state, **options)
    Path(path).write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode())


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format for the suffix of a file.

    Raises:
        DiagramError: no format has that suffix.
    """
    found = SUFFIXES.get(Path(path).suffix.lower())
    if found is None:
        raise DiagramError(f"{os.fspath(path)!r}: a diagram's file ends in one of {', '.join(SUFFIXES)}")
    return found


def _chosen(choices: type[_Choice], what: str, value: str) -> _Choice:
    try:
        return choices(value)
    except ValueError:
        raise DiagramError(
            f"{value!r} is no {what}{did_you_mean(value, choices)}; there are {', '.join(choices)}"
        ) from None
