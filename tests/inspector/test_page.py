"""The page's own files: colours that can be read."""

from __future__ import annotations

import re

import pytest

from fsm_conn.inspector.app import PAGE


def palettes() -> list[dict[str, str]]:
    """The colours of each theme, in the order of the style sheet: light, dark by the system, dark by choice."""
    style = (PAGE / "style.css").read_text("utf-8")
    blocks = re.findall(r":root[^{]*\{([^}]*--paper[^}]*)\}", style)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]


def contrast(one: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines 2.2 define it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_both_dark_themes_are_the_same() -> None:
    """That of the system, and the one that was chosen."""
    light, by_system, by_choice = palettes()
    assert by_system == by_choice
    assert light.keys() == by_system.keys()


@pytest.mark.parametrize("palette", palettes()[:2], ids=["light", "dark"])
def test_everything_can_be_read(palette: dict[str, str]) -> None:
    """Text has a contrast of 4.5 at least (level AA), on every ground that it stands on."""
    states = ("good", "coming", "again", "bad", "rest", "going", "other")
    for ground in ("paper", "raised", "chosen"):
        for ink in ("ink", "dim", *states):
            assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
    for state in states:
        assert contrast(palette["on-colour"], palette[state]) >= 4.5, state
    assert contrast(palette["ink"], palette["lit-ground"]) >= 4.5
    assert contrast(palette["focus"], palette["paper"]) >= 3
