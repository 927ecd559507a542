"""The diagrams that are kept beside the code, and the one on their page, show the tables as they are."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import fsm_conn
from fsm_conn.machine.chart import chart_of

ROOT = Path(__file__).parents[2]
RENEW = "renew them: tox -e diagrams"


def _gallery() -> Any:
    spec = spec_from_file_location("gallery", ROOT / "diagrams" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gallery = _gallery()
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_PLACES = re.compile(r' (?:d|points|[xy]|[cr][xy]|width|height|viewBox|transform)="[^"]*"')
ROUNDING = 0.05
"""Points by which another processor may lay out a picture differently."""


def same(kept: str, made: str, suffix: str) -> bool:
    """Letter by letter; but pictures of another version of Graphviz need only show the same."""
    if suffix != ".svg":
        return kept == made
    version, other = (re.search(r"<!-- Graphviz (\S+) -->", text) for text in (kept, made))
    assert version is not None
    assert other is not None
    if version[1] != other[1]:
        return _shown(kept) == _shown(made)
    ours, theirs = (list(map(float, _NUMBER.findall(text))) for text in (kept, made))
    near = len(ours) == len(theirs) and all(abs(a - b) <= ROUNDING for a, b in zip(ours, theirs, strict=True))
    return near and _NUMBER.sub("", kept) == _NUMBER.sub("", made)


def _shown(svg: str) -> list[str]:
    return sorted(re.findall(r"<(?:title|text|desc)[^>]*>(.*?)</", _PLACES.sub("", svg)))


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Each diagram by the name of its file."""
    return dict(gallery.files())


def test_the_kept_diagrams_show_the_tables_as_they_are(files: dict[str, str]) -> None:
    kept = {path.name: path.read_text("utf-8") for path in (ROOT / "diagrams").iterdir() if path.is_file()}
    assert kept.keys() - files.keys() == {"gallery.py", "README.md"}, RENEW
    assert files.keys() - kept.keys() == set(), RENEW
    stale = [name for name, made in files.items() if not same(kept[name], made, Path(name).suffix)]
    assert stale == [], RENEW


def test_making_them_twice_gives_the_same(files: dict[str, str]) -> None:
    assert dict(gallery.files()) == files


def test_a_stale_picture_is_noticed_whatever_drew_it(files: dict[str, str]) -> None:
    svg = files["ConnectionPool.svg"]
    stale = svg.replace(">make_slots<", ">made_slots<").replace("/ make_slots", "/ made_slots")
    assert stale != svg
    assert not same(stale, svg, ".svg")
    elsewhere = re.sub(r"Graphviz \S+", "Graphviz 99.0", svg).replace(' x="', ' x="1')
    assert same(elsewhere, svg, ".svg")
    assert not same(elsewhere, stale, ".svg")
    assert not same(svg.replace(' x="', ' x="1'), svg, ".svg")


def test_the_page_shows_the_table_of_a_connection_as_it_is() -> None:
    text = (ROOT / "diagrams" / "README.md").read_text("utf-8")
    assert "<!-- diagram: fsm_conn:Connection -->" in text
    assert gallery.renewed(text) == text, f"the diagram in diagrams/README.md is stale; {RENEW}"
    assert gallery.block("fsm_conn:Connection") in text


def test_a_document_is_renewed_between_its_marks_alone() -> None:
    before, after = "a\n<!-- diagram: fsm_conn:ConnectionPool -->\n", "<!-- end -->\nb\n<!-- end -->\n"
    made = gallery.renewed(f"{before}old\n{after}")
    assert made == before + gallery.block("fsm_conn:ConnectionPool") + after
    assert gallery.renewed(made) == made


@pytest.mark.parametrize(
    "name", ["ManagedConnection", "HealthMonitoredClient", "AutoReconnectClient", "StatefulConnection"]
)
def test_documented_clients_need_no_pictures_of_their_own(name: str) -> None:
    """Their table is that of a connection."""
    client, base = (chart_of(getattr(fsm_conn, each)) for each in (name, "Connection"))
    assert (client.states, client.rows) == (base.states, base.rows)
