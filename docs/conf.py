"""How `tox -e docs` builds the documentation: Sphinx, MyST's Markdown, and figures drawn from the tables that run."""

import re
import sys
from pathlib import Path
from typing import Any, get_origin

sys.path.insert(0, str(Path(__file__).parent))
from docutils import nodes
from generate import PACKAGES

from fsm_conn._util.field_docs import FIELDS
from fsm_conn.version import __version__

project = "fsm_conn"
author = "the fsm_conn authors"
copyright = "the fsm_conn authors"
version = release = __version__

extensions = [
    "fsm_conn.diagrams.sphinx",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_static"]
html_theme = "furo"
html_title = f"fsm_conn {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
# Docstrings here name code in single backquotes, as Markdown does.
default_role = "code"
# Short names of types are in more than one room.
suppress_warnings = ["ref.python"]

_EXPORTED = [getattr(module, name) for module in PACKAGES.values() for name in module.__all__]
"""What users import; no other class of ours is a base that they know."""
_SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:")


def _from_markdown(lines: list[str]) -> None:
    """Docstrings are Markdown: an indented block is code, and a name in backquotes may have an ending."""
    last, place = "", 0
    while place < len(lines):
        line = lines[place] = re.sub(r"(`[^`\s]+`)(?=[a-z]\b)", r"\1\\ ", lines[place])
        begins_code = line.startswith("    ") and place > 0 and not lines[place - 1].strip()
        if begins_code and last and not last.startswith(" ") and last not in _SECTIONS and not last.endswith("::"):
            lines[place:place] = ["::", ""]
            place += 2
            last = line
        elif line.strip():
            last = line
        place += 1


def _public(base: type) -> list[type]:
    """A base class that users can name; of one of ours that they cannot, those of its bases that they can."""
    origin: type = get_origin(base) or base
    ours = origin.__module__.partition(".")[0] == "fsm_conn"
    if origin in _EXPORTED or not (ours or origin.__name__.startswith("_")):
        return [base]
    return [each for above in origin.__bases__ for each in _public(above)]


def _public_bases(app: Any, name: str, obj: Any, options: Any, bases: list[type]) -> None:
    found = dict.fromkeys(each for base in bases for each in _public(base))
    bases[:] = [each for each in found if each is not object] or [object]


def _without_object(app: Any, doctree: Any) -> None:
    """Every class has `object` as its base."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)


def setup(app: Any) -> None:
    """Before napoleon, which reads the sections; what stands below an attribute has none, and is left as it is."""
    attributes: dict[str, list[str]] = {}

    def read(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        if FIELDS in lines:  # each of them is shown by itself
            del lines[lines.index(FIELDS) :]
        _from_markdown(lines)
        if what == "attribute":
            attributes[name] = list(lines)

    def restore(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        if what == "attribute":
            lines[:] = attributes.pop(name)

    app.connect("autodoc-process-bases", _public_bases)
    app.connect("doctree-read", _without_object)
    app.connect("autodoc-process-docstring", read, priority=100)
    app.connect("autodoc-process-docstring", restore, priority=900)
