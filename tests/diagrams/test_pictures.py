"""SVG and PNG: whole, readable aloud, the same every time, and a clear error without the extra."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transitions import Machine

from fsm_conn import Connection, ConnectionPool
from fsm_conn.diagrams import SUFFIXES, DiagramError, Format, diagram, graphviz, write
from fsm_conn.diagrams.themes import PALETTES, Theme
from fsm_conn.machine.chart import ChartError, chart_of

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_an_svg_can_be_read_aloud_and_stands_alone() -> None:
    svg = diagram(Connection, "svg")
    root = ElementTree.fromstring(svg)
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "title desc")
    assert [(each.tag, each.get("id"), each.text) for each in list(root)[:2]] == [
        (f"{SVG}title", "title", "Connection"),
        (
            f"{SVG}desc",
            "desc",
            "State machine of 7 states. Begins in disconnected. May stay for ever in disconnected, failed.",
        ),
    ]
    assert not re.search(r"href|url\(|<image|<script|<style|@import", svg)


def test_an_svg_shows_every_state_and_every_row() -> None:
    svg = diagram(Connection, "svg")
    titles = [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    chart = chart_of(Connection)
    for state in chart.states:
        assert state.name in titles
        assert state.name in texts(svg)
    for row in chart.rows:
        for source in row.sources if row.every_but is None and row.dest else ():
            assert any(title.startswith(f"{source} → {row.dest}: ") and row.trigger in title for title in titles)


def test_nothing_is_clipped_and_no_text_lies_on_another() -> None:
    """Every text begins inside the picture, and texts of the same line do not begin at the same place."""
    for owner, theme in product((Connection, ConnectionPool), Theme):
        root = ElementTree.fromstring(diagram(owner, "svg", theme=theme))
        _, _, width, height = map(float, root.get("viewBox", "").split())
        shift = re.search(r"translate\(([\d.]+) ([\d.]+)\)", root.find(f"{SVG}g").get("transform"))  # type: ignore[union-attr,arg-type]
        assert shift is not None
        places = [
            (float(each.get("x", "")) + float(shift[1]), float(each.get("y", "")) + float(shift[2]))
            for each in root.iter(f"{SVG}text")
        ]
        assert all(0 < x < width and 0 < y < height for x, y in places)
        assert len(set(places)) == len(places)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=9)
        .map(str.strip)
        .filter(bool),
        min_size=2,
        max_size=6,
        unique=True,
    )
)
def test_any_name_makes_an_svg_that_shows_it(names: list[str]) -> None:
    machine = Machine(None, names, initial=names[0], auto_transitions=False)
    machine.add_transition("t" + names[0], names[0], names[1], conditions="g" + names[1])
    shown = " ".join(texts(diagram(machine, "svg"))).replace("\N{NO-BREAK SPACE}", " ")
    assert all(name in shown for name in names)
    assert f"t{names[0]} [g{names[1]}]" in shown


def test_a_backslash_is_no_command_to_graphviz() -> None:
    r"""Which puts the name of the node in the place of `\N`, and of the edge in that of `\E`."""
    machine = Machine(None, [r"\N", r"a\G\b"], initial=r"\N", auto_transitions=False)
    machine.add_transition(r"\E\T\H\L", r"\N", r"a\G\b")
    assert sorted(texts(diagram(machine, "svg"))) == [r"\E\T\H\L", r"\N", r"a\G\b"]


def test_a_png_is_a_png() -> None:
    png = diagram(ConnectionPool, "png")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: str, other: str) -> float:
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", Theme)
def test_texts_and_lines_can_be_told_from_their_ground(theme: Theme) -> None:
    """WCAG 2.1: 4.5 for text, 3 for lines."""
    palette = PALETTES[theme]
    for ground, ink in product((palette.ground, palette.state, palette.lit), palette.tones.values()):
        assert _contrast(ground, ink) >= 4.5, (ground, ink)
    for line in (palette.border, palette.lit_border):
        assert _contrast(palette.ground, line) >= 3


def test_themes_differ() -> None:
    for format in ("mermaid", "dot", "svg", "png"):
        assert diagram(ConnectionPool, format) != diagram(ConnectionPool, format, theme="dark")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_gets_the_format_of_its_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pool{suffix.upper()}"
    write(ConnectionPool, path, theme="dark", state="open")
    drawn = diagram(ConnectionPool, str(SUFFIXES[suffix]), theme="dark", state="open")
    assert path.read_bytes() == (drawn if isinstance(drawn, bytes) else drawn.encode())


def test_every_format_has_a_suffix() -> None:
    assert set(SUFFIXES.values()) == set(Format)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"format": "sgv"}, r"'sgv' is no format \(did you mean 'svg'\?\); there are mermaid, dot, svg, png, "),
        ({"theme": "sepia"}, "'sepia' is no theme; there are light, dark"),
    ],
)
def test_what_there_is_not(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(DiagramError, match=said):
        diagram(Connection, **arguments)


def test_a_file_without_a_known_suffix_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DiagramError, match=r"x\.gif': a diagram's file ends in one of \.mmd, \.dot, "):
        write(Connection, tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_what_has_no_table_is_refused() -> None:
    with pytest.raises(ChartError, match="has no table"):
        diagram(object())


def test_without_the_extra_text_still_works_and_the_error_names_it() -> None:
    code = """
import sys
sys.modules["pygraphviz"] = None
from fsm_conn import Connection
from fsm_conn.diagrams import diagram
for format in ("mermaid", "dot", "markdown", "rst"):
    assert diagram(Connection, format)
for format in ("svg", "png"):
    try:
        diagram(Connection, format)
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200)
    said = "drawing SVG or PNG needs 'pygraphviz', which is not installed: pip install 'fsm_conn[diagrams]'"
    assert done.stdout.splitlines() == [said, said]


def test_drawing_imports_nothing_heavy() -> None:
    code = "import fsm_conn.diagrams, sys; print([m for m in ('pygraphviz', 'sphinx', 'grpc', 'hypothesis') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200)
    assert done.stdout.strip() == "[]"


def test_what_others_write_to_stderr_meanwhile_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    """The font library's remarks on the system are kept away, and nothing else."""
    with graphviz._quiet_fonts():
        os.write(2, b'Fontconfig warning: "/x/y.conf", line 6: unknown element "z"\nsomething else\n')
    os.write(2, b"and later\n")
    assert capfd.readouterr().err == "something else\nand later\n"


def test_a_closed_stderr_is_no_hindrance() -> None:
    """Daemons have none."""
    code = "import os; os.close(2); from fsm_conn import Connection; from fsm_conn.diagrams import diagram; "
    code += "print(diagram(Connection, 'svg')[:4])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout == "<svg\n"
