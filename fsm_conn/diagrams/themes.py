"""The colours, light and dark. Every text stands on its ground with a contrast of at least 4.5 (WCAG 2.1, level AA)."""

from __future__ import annotations

from enum import StrEnum

import attrs

__all__ = ["PALETTES", "Palette", "Theme", "Tone"]


class Theme(StrEnum):
    """The background that the diagram is drawn for."""

    LIGHT = "light"
    DARK = "dark"


class Tone(StrEnum):
    """What a line, an edge or a state says beside its words. Never said by colour alone."""

    PLAIN = "plain"
    MUTED = "muted"
    """Of less weight: effects, callbacks."""
    GOOD = "good"
    """It ran."""
    WARN = "warn"
    """It ran, but not all of it."""
    BAD = "bad"
    """It never ran."""


@attrs.frozen
class Palette:
    """The colours of one theme, as `#rrggbb`."""

    ground: str
    state: str
    """What a state is filled with."""
    lit: str
    """What the current state is filled with."""
    border: str
    lit_border: str
    tones: dict[Tone, str]


PALETTES: dict[Theme, Palette] = {
    Theme.LIGHT: Palette(
        "#ffffff",
        "#f6f8fa",
        "#ddf4ff",
        "#6e7781",
        "#0969da",
        {
            Tone.PLAIN: "#1f2328",
            Tone.MUTED: "#57606a",
            Tone.GOOD: "#116329",
            Tone.WARN: "#7d4e00",
            Tone.BAD: "#cf222e",
        },
    ),
    Theme.DARK: Palette(
        "#0d1117",
        "#161b22",
        "#0c2d6b",
        "#8b949e",
        "#79c0ff",
        {
            Tone.PLAIN: "#e6edf3",
            Tone.MUTED: "#b1bac4",
            Tone.GOOD: "#56d364",
            Tone.WARN: "#e3b341",
            Tone.BAD: "#ff8f87",
        },
    ),
}
