"""Reads Mermaid and DOT back: small, strict readers that know nothing of how these were written."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import attrs
import pygraphviz

from fsm_conn.machine.chart import Chart, ChartRow


@attrs.define
class Seen:
    """What a reader of the diagram finds, by the titles of the nodes."""

    edges: Counter[tuple[str, str, str]] = attrs.field(factory=Counter)
    """Source, destination and text; lines joined by spaces."""
    inside: dict[str, list[str]] = attrs.field(factory=dict)
    """The lines inside each node."""
    begins: list[str] = attrs.field(factory=list)
    """What the initial dots lead to."""
    parents: dict[str, str | None] = attrs.field(factory=dict)


_STATE = re.compile(r'state "([^"]*)" as (\w+)( \{)?')
_INITIAL = re.compile(r"\[\*\] --> (\w+)")
_EDGE = re.compile(r"(\w+) --> (\w+)(?: : (.*))?")
_INSIDE = re.compile(r"(\w+) : (.*)")
_NOTE = re.compile(r"note right of (\w+) : (.*)")
_ROWS = re.compile(r"class ([\w,]+) rowMark")
_OTHER = re.compile(r"classDef \w+ [\w:#,\- ]+|class [\w,]+ \w+|accTitle: .*|accDescr: .*|\}|--")


def read_mermaid(text: str) -> Seen:
    """Every line must be one that is known. What an edge says is its label, or a node of class `rowMark` on its way."""
    first, *lines = [line.strip() for line in text.splitlines() if not line.startswith("%%{init")]
    assert first == "stateDiagram-v2"
    reader = _Mermaid({id for line in lines if (found := _ROWS.fullmatch(line)) for id in found[1].split(",")})
    for line in lines:
        reader.read(line)
    return reader.whole()


class _Mermaid:
    def __init__(self, rows: set[str]) -> None:
        self.seen = Seen()
        self.rows = rows
        self.titles: dict[str, str] = {}
        self.says: dict[str, str] = {}
        self.edges: list[tuple[str, str, str]] = []
        self.around: list[str | None] = [None]

    def whole(self) -> Seen:
        leaving = {source: dest for source, dest, _ in self.edges if source in self.rows}
        assert leaving.keys() == self.says.keys() == self.rows
        for source, dest, label in self.edges:
            if source in self.rows:
                assert not label
                continue
            end, told = (leaving[dest], self.says[dest]) if dest in self.rows else (dest, label)
            between = self.titles[source], self.titles[end]
            self.seen.edges[*between, " ".join(map(_plain, told.split("<br>")))] += 1
        return self.seen

    def read(self, line: str) -> None:
        if found := _STATE.fullmatch(line):
            self.state(found[1], found[2], bool(found[3]))
        elif found := _INITIAL.fullmatch(line):
            self.seen.begins.append(self.titles[found[1]])
        elif found := _EDGE.fullmatch(line):
            self.edges.append((found[1], found[2], found[3] or ""))
        elif found := _NOTE.fullmatch(line) or _INSIDE.fullmatch(line):
            self.seen.inside[self.titles[found[1]]] += [_plain(each) for each in found[2].split("<br>")]
        else:
            assert _OTHER.fullmatch(line), line
            del self.around[-1 if line == "}" else len(self.around) :]

    def state(self, text: str, id: str, composite: bool) -> None:
        assert id not in self.titles
        assert id not in self.says
        if id in self.rows:
            self.says[id] = text
            return
        title = _plain(text)
        self.titles[id] = title
        self.seen.inside[title] = []
        self.seen.parents[title] = self.around[-1]
        if composite:
            self.around.append(title)


def _plain(text: str) -> str:
    assert not re.search(r"[\"<>;{}\[\]|:`#]", re.sub(r"#\d+;", "", text)), text
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), text)


def read_dot(text: str) -> Seen:
    """As Graphviz reads it."""
    graph = pygraphviz.AGraph(string=text)
    labels = {str(each.name).removeprefix("cluster "): _label(each) for each in _clusters(graph)}
    titles: dict[str, str] = {}
    seen = Seen()
    for node in graph.nodes():
        if node.attr["shape"] == "circle":
            continue
        title, inside = _cells(labels[node] if node.attr["style"] == "invis" else node.attr["label"])
        titles[node] = title
        seen.inside[title] = inside
    for edge in graph.edges():
        if edge[0] not in titles:
            seen.begins.append(titles[edge[1]])
            continue
        bold, lines = _cells(edge.attr["label"] or "")
        seen.edges[titles[edge[0]], titles[edge[1]], " ".join(filter(None, [bold, *lines]))] += 1
    _nest(graph, titles, None, seen)
    return seen


def _label(graph: Any) -> str:
    """None of a graph in which nothing has one."""
    try:
        return str(graph.graph_attr["label"])
    except KeyError:
        return ""


def _clusters(graph: Any) -> list[Any]:
    return [each for inner in graph.subgraphs() for each in (inner, *_clusters(inner))]


def _nest(graph: Any, titles: dict[str, str], parent: str | None, seen: Seen) -> None:
    """Regions of parallel states are clusters without a node of their name."""
    clusters = [each for each in graph.subgraphs() if str(each.name).startswith("cluster ")]
    for cluster in clusters:
        head = titles.get(str(cluster.name).removeprefix("cluster "))
        _nest(cluster, titles, head or parent, seen)
        if head is not None:
            seen.parents[head] = parent
    for node in graph.nodes():
        if node in titles and titles[node] != parent:
            seen.parents.setdefault(titles[node], parent)


def _cells(label: str) -> tuple[str, list[str]]:
    """The title, which is bold, and the other lines."""
    tree = ElementTree.fromstring(f"<label>{label}</label>")
    texts = [
        (cell.find(".//B") is not None, "".join(cell.itertext()))
        for cell in tree.iter("TD")
        if cell.find("FONT") is not None
    ]
    # Of two backslashes Graphviz shows one.
    plain = [(bold, text.replace(" \N{NO-BREAK SPACE}", "  ").replace("\\\\", "\\")) for bold, text in texts]
    return " ".join(text for bold, text in plain if bold), [text for bold, text in plain if not bold]


def label_of(row: ChartRow, place: str, last: bool) -> str:
    """What a row should say, in one line."""
    words = [f"({place})"] if place else []
    words.append(row.trigger)
    if row.guards:
        words.append(f"[{' and '.join(row.guards)}]")
    elif place and last:
        words.append("[else]")
    if row.timer is not None:
        words.append(f"after {row.timer}")
    if row.effects:
        words.append(f"/ {', '.join(row.effects)}")
    return " ".join(words)


def expected(chart: Chart) -> tuple[Counter[tuple[str, str, str]], dict[str, str]]:
    """The edges, and the text of what is internal to each node, that a diagram of `chart` should show."""
    edges: Counter[tuple[str, str, str]] = Counter()
    inside: dict[str, list[str]] = {state.name: [] for state in chart.states}
    for row in chart.rows:
        many = row.every_but is not None and len(row.sources) > 1
        for sources in [row.sources] if many else [(source,) for source in row.sources]:
            where = [chart.alternatives[row.trigger, source] for source in sources]
            places = sorted({rows.index(row) + 1 for rows in where})
            several = any(len(rows) > 1 for rows in where)
            last = all(rows[-1] is row for rows in where)
            text = label_of(row, "/".join(map(str, places)) if several else "", last)
            but = ", ".join(row.every_but or ())
            key = (f"* but {but}" if but else "*") if many else sources[0]
            if row.dest is None:
                inside.setdefault(key, []).append(text)
            else:
                edges[key, row.dest, text] += 1
                inside.setdefault(key, [])
    return edges, {key: " ".join(texts) for key, texts in inside.items()}
