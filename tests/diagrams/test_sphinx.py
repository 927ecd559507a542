"""The directive, in a build of Sphinx."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import warm

from fsm_conn import Connection, ConnectionPool
from fsm_conn._util.lookup import NameNotFoundError, object_named
from fsm_conn.diagrams import diagram

Build = Callable[..., tuple[str, str]]
CONFIGURATION = """
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
extensions = ['fsm_conn.diagrams.sphinx']
"""


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """Builds one page in a process of its own, for Sphinx leaves traces; returns what it says, and the page."""
    also = ("sphinx.cmd.build", "sphinx.builders.html", "fsm_conn.diagrams.sphinx")
    with warm.started({**os.environ, "PYTHONWARNINGS": "default"}, *also, measured=True) as process:

        def built(folder: Path, page: str, builder: str = "html") -> tuple[str, str]:
            source = folder / "source"
            source.mkdir(exist_ok=True)
            (source / "conf.py").write_text(CONFIGURATION)
            (source / "index.rst").write_text(f"Page\n====\n\n{page}\n")
            arguments = ("-q", "-d", str(folder / "doctrees"), "-b", builder, str(source), str(folder / builder))
            done = process.run("-m", "sphinx", *arguments)
            assert done.returncode == 0, done.stderr
            made = folder / builder / ("index.txt" if builder == "text" else "index.html")
            return done.stderr, made.read_text() if made.exists() else ""

        yield built


def test_pictures_tables_and_text(build: Build, tmp_path: Path) -> None:
    said, page = build(
        tmp_path,
        """
.. fsm-conn-diagram:: fsm_conn:ConnectionPool
   :theme: dark
   :state: open
   :caption: The *life* of a pool
   :name: pool

.. fsm-conn-diagram:: fsm_conn:Connection
   :base: fsm_conn:ConnectionPool
   :alt: Six states
   :class: only-dark

.. fsm-conn-diagram:: fsm_conn:ConnectionPool
   :format: mermaid

.. fsm-conn-diagram:: fsm_conn:ConnectionPool
   :format: rst

See :ref:`pool`.
""",
    )
    assert said == ""
    pool, connection = (base64.b64decode(each).decode() for each in re.findall(r"svg\+xml;base64,([^\"]+)", page))
    assert pool == diagram(ConnectionPool, "svg", theme="dark", state="open")
    assert connection == diagram(Connection, "svg", base=ConnectionPool)
    assert 'alt="ConnectionPool. State machine of 4 states. ' in page
    assert 'alt="Six states" class="only-dark"' in page
    assert re.search(r"<figcaption>.*The <em>life</em> of a pool", page, re.DOTALL)
    assert '<figure class="align-default" id="pool">' in page
    assert re.search(r'href="#pool"><span class="std std-ref">The life of a pool<', page)
    assert "stateDiagram-v2" in page
    assert page.count("<table") == 2


def test_a_builder_without_inline_pictures_gets_the_words(build: Build, tmp_path: Path) -> None:
    said, page = build(tmp_path, ".. fsm-conn-diagram:: fsm_conn:ConnectionPool", "text")
    assert said == ""
    assert "State machine of 4 states" in page


@pytest.mark.parametrize(("builder", "page"), [("latex", "*.tex"), ("texinfo", "*.texi")])
def test_a_builder_without_svg_gets_pictures_that_it_can_use(
    build: Build, tmp_path: Path, builder: str, page: str
) -> None:
    """Also when the pages were read for another builder before."""
    text = ".. fsm-conn-diagram:: fsm_conn:ConnectionPool\n   :detail: states\n   :title: A pool\n   :base: fsm_conn:ConnectionPool"
    build(tmp_path, text)
    said, _ = build(tmp_path, text, builder)
    assert said == ""
    made = tmp_path / builder
    (picture,) = made.rglob("*.png")
    assert picture.read_bytes() == diagram(ConnectionPool, "png", detail="states", title="A pool", base=ConnectionPool)
    assert picture.stem in next(each for each in made.glob(page) if each.stem != "sphinx").read_text()
    assert not list(made.rglob("*.svg"))


@pytest.mark.parametrize(
    ("directive", "told"),
    [
        ("fsm_conn:Conection", "'fsm_conn' has no 'Conection' (did you mean 'Connection'?)"),
        ("fsm_conn:Connection\n   :format: gif", "'gif' is no format"),
        ("fsm_conn:Connection\n   :state: gone", "Connection has no state 'gone'"),
        ("fsm_conn:State", "has no table"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(build: Build, tmp_path: Path, directive: str, told: str) -> None:
    said, page = build(tmp_path, f".. fsm-conn-diagram:: {directive}")
    assert "index.rst:4" in said
    assert told in said
    assert "<svg" not in page


@pytest.mark.parametrize("raised", ["ValueError('not today')", "SystemExit('not today')"])
def test_a_module_that_cannot_be_imported_does_not_end_the_build(build: Build, tmp_path: Path, raised: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "broken_module.py").write_text(f"raise {raised}\n")
    said, page = build(tmp_path, ".. fsm-conn-diagram:: broken_module:X\n\nGoes on.")
    assert "index.rst:4" in said
    assert f"cannot import 'broken_module:X': {raised.partition('(')[0]}: not today" in said
    assert "Goes on." in page


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fsm_conn", "names no machine; write module:Class"),
        (":Connection", "names no machine"),
        ("fsm_conn:Connection.nothing", "Connection has no 'nothing'"),
    ],
)
def test_names_that_name_nothing(name: str, told: str) -> None:
    with pytest.raises(NameNotFoundError, match=told):
        object_named(name)


def test_a_module_that_lacks_another_says_so_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacking.py").write_text("import what_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_is_not_there"):
        object_named("lacking:X")


@pytest.mark.parametrize("lacking", ["docutils", "sphinx"])
def test_without_sphinx_the_error_says_what_to_install(lacking: str) -> None:
    """Whichever of its modules is looked for first."""
    code = f"import sys; sys.modules[{lacking!r}] = None\ntry:\n    import fsm_conn.diagrams.sphinx\nexcept ImportError as e:\n    print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout == "fsm_conn.diagrams.sphinx needs 'sphinx', which is not installed: pip install sphinx\n"
