"""For Sphinx: `.. fsm-conn-diagram:: module:Class`, drawn from the table when the documentation is built.

In `conf.py`: `extensions = ["fsm_conn.diagrams.sphinx"]`. In a page:

    .. fsm-conn-diagram:: fsm_conn:Connection
       :format: svg
       :theme: light
       :state: connected
       :base: fsm_conn:Connection
       :detail: full
       :title: Connection
       :caption: The life of a connection
       :alt: Six states and eighteen transitions
       :name: life
       :class: wide

All options may be left out; `base` marks what differs from that one, `name` is what `:ref:` refers to, and `class` is
for style sheets: in themes that know `only-light` and `only-dark`, such as furo, two directives show the picture that
fits. `svg`, the
default, and `png` become an image, and need the extra `diagrams`; `rst` becomes the tables of states and rows; the
other formats stand there as text. What cannot show SVG, such as LaTeX and Texinfo, gets a PNG in its place. A page is
built anew when the module has changed.
"""

from __future__ import annotations

import base64
from inspect import getsourcefile
from typing import Any, ClassVar

from fsm_conn._util.extras import missing
from fsm_conn._util.lookup import NameNotFoundError, object_named, reason_of
from fsm_conn.diagrams import Format, diagram
from fsm_conn.diagrams.drafting import drawing_of
from fsm_conn.machine.chart import chart_of
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.version import __version__

try:
    from docutils import nodes
    from docutils.parsers.rst import directives
    from sphinx.application import Sphinx
    from sphinx.transforms.post_transforms import SphinxPostTransform
    from sphinx.util.docutils import SphinxDirective
    from sphinx.util.typing import ExtensionMetadata, OptionSpec
except ImportError as error:
    raise missing("fsm_conn.diagrams.sphinx", None, "sphinx") from error

__all__ = ["FsmConnDiagram", "setup"]

_IMAGES = {Format.SVG: "image/svg+xml", Format.PNG: "image/png"}
_OPTIONS = ("format", "theme", "state", "base", "detail", "title", "caption", "alt")
_LOOKS = ("theme", "state", "detail", "title")
_HEADING = 3
"""Lines before the tables: a title would be a section, which cannot stand everywhere."""


class FsmConnDiagram(SphinxDirective):
    """The directive."""

    required_arguments = 1
    option_spec: ClassVar[OptionSpec] = {
        **dict.fromkeys(_OPTIONS, directives.unchanged),
        "name": directives.unchanged,
        "class": directives.class_option,
    }

    def run(self) -> list[nodes.Node]:
        """Draw, or say in the log and on the page what is wrong."""
        machine = self._machine(self.arguments[0])
        base = self._machine(self.options["base"]) if "base" in self.options else None
        try:
            made = self._captioned(self._made(machine, base))
        except (FsmConnError, ImportError) as error:
            raise self.error(f"{self.name}: {error}") from error
        self.add_name(made[0])
        made[0]["classes"] += self.options.get("class", [])
        return made

    def _machine(self, named: str) -> Any:
        """A module of the user's may raise anything; that is no reason to end the whole build."""
        try:
            return object_named(named)
        except NameNotFoundError as error:
            raise self.error(f"{self.name}: {error}") from error
        except (Exception, SystemExit) as error:
            raise self.error(f"{self.name}: cannot import {named!r}: {reason_of(error)}") from error

    def _made(self, machine: Any, base: Any) -> list[nodes.Node]:
        self._depend_on(machine)
        if base is not None:
            self._depend_on(base)
        format = self.options.get("format", Format.SVG)
        options = {name: self.options[name] for name in _LOOKS if name in self.options}
        drawn = diagram(machine, format, base=base, **options)
        if format in _IMAGES:
            return [self._image(machine, _IMAGES[format], drawn if isinstance(drawn, bytes) else drawn.encode())]
        text = drawn if isinstance(drawn, str) else ""
        if format == Format.RST:
            return self.parse_text_to_nodes("\n".join(text.splitlines()[_HEADING:]))
        return [nodes.literal_block(text, text, language="text")]

    def _image(self, machine: Any, kind: str, drawn: bytes) -> nodes.Node:
        """The picture stands in the page itself; for what cannot have that, Sphinx makes a file of it."""
        drawing = drawing_of(chart_of(machine))
        alt = self.options.get("alt", f"{drawing.title}. {drawing.summary}")
        names = {name: self.options[name] for name in (*_LOOKS, "base") if name in self.options}
        return nodes.image(uri=_inline(kind, drawn), alt=alt, fsm_conn={"machine": self.arguments[0], **names})

    def _captioned(self, made: list[nodes.Node]) -> list[nodes.Node]:
        if "caption" not in self.options:
            return made
        words, messages = self.parse_inline(self.options["caption"], lineno=self.lineno)
        caption = nodes.caption("", "", *words)
        self.set_source_info(caption)
        return [nodes.figure("", *made, caption), *messages]

    def _depend_on(self, machine: Any) -> None:
        owner = chart_of(machine).owner
        path = getsourcefile(owner) if owner is not None else None
        if path is not None:
            self.env.note_dependency(path)


class _Fallback(SphinxPostTransform):
    """Draws a PNG for what cannot show SVG. Pages are read once for all builders, so the directive cannot know."""

    default_priority = 90
    """Before Sphinx makes files of images that stand in a page themselves."""
    sphinx: Sphinx

    def run(self, **options: Any) -> None:
        """Replace the pictures of this page."""
        svg, png = _IMAGES[Format.SVG], _IMAGES[Format.PNG]
        known = self.sphinx.builder.supported_image_types
        for node in self.document.findall(nodes.image):
            if "fsm_conn" in node and svg not in known and png in known and node["uri"].startswith(f"data:{svg}"):
                told = dict(node["fsm_conn"])
                machine = object_named(told.pop("machine"))
                told["base"] = object_named(told["base"]) if "base" in told else None
                node["uri"] = _inline(png, diagram(machine, "png", **told))
                node["candidates"] = {"?": node["uri"]}


def _inline(kind: str, drawn: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(drawn).decode()}"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Make the directive known."""
    app.add_directive("fsm-conn-diagram", FsmConnDiagram)
    app.add_post_transform(type("Fallback", (_Fallback,), {"sphinx": app}))
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}
