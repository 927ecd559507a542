"""The rooms of the house and its layers: imports point one way, and go round nowhere.

Every import counts: those inside functions, those for type checkers only, and modules that are named as text for a lazy
import. What a room may import stands in `LAYERS`; nothing else in the project decides it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import fsm_conn

PACKAGE = Path(fsm_conn.__file__).parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("_util", "version"),
    ("machine",),
    (
        "links.base",
        "links.target",
        "links.errors",
        "links.checking",
        "links.services",
        "links.stubs",
        "links.driver",
        "links.broker",
    ),
    ("links.grpc", "links.process", "connection"),
    ("links.plugin", "pool"),
    ("telemetry", "checks", "diagrams", "demo", "blocking", "cluster"),
    ("testing", "inspector"),
    ("cli",),
)
"""From the ground up. A room imports from the layers below it and from itself; rooms side by side never each other."""

SAME_ROOM = (
    "links.base",
    "links.target",
    "links.errors",
    "links.checking",
    "links.services",
    "links.stubs",
    "links.driver",
    "links.broker",
)
"""Modules that stand in one room."""

FREE = {"", "__main__", "links", "testing.plugin"}
"""The package's front, which names everybody's public names; and the pytest plugin, which is imported by pytest."""


def modules() -> dict[str, Path]:
    """Every module by its name without `fsm_conn.`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.endswith(("_pb2", "_pb2_grpc")):
            found[name.removesuffix("__init__").removesuffix(".")] = path
    return found


MODULES = modules()


@cache
def imported(name: str) -> tuple[str, ...]:
    """Our own modules that a module imports, wherever in it it does so."""
    return (*_imported(name),)


def _imported(name: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").partition(".")[0] == "fsm_conn":
            base = (node.module or "").removeprefix("fsm_conn").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}" if base else alias.name
                yield inner if inner in MODULES else base
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("fsm_conn."):
                    yield alias.name.removeprefix("fsm_conn.")


def room_of(module: str) -> str:
    """The room that a module stands in."""
    rooms = [room for layer in LAYERS for room in layer if module == room or module.startswith(f"{room}.")]
    assert rooms, f"{module} stands in no room: give it one"
    return rooms[0]


def layer_of(room: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if room in layer)


def wrong(module: str) -> list[str]:
    """What a module imports that is not below it."""
    room = room_of(module)
    found = []
    for name in imported(module):
        if not name:  # the package's front, whose public names are everybody's above the rooms that make them
            allowed = layer_of(room) >= layer_of("telemetry")
        elif name == "links":
            allowed = layer_of(room) > layer_of("links.base")
        else:
            other = room_of(name)
            same = other == room or (other in SAME_ROOM and room in SAME_ROOM)
            allowed = same or layer_of(other) < layer_of(room)
        if not allowed:
            found.append(name or "fsm_conn")
    return found


@pytest.mark.parametrize("module", sorted(MODULES.keys() - FREE))
def test_imports_point_one_way(module: str) -> None:
    """From a room to those below it, and to no neighbour."""
    assert wrong(module) == []


def test_no_imports_go_round() -> None:
    """Not even inside a room, a function, or for type checkers only."""
    graph = {name: {each for each in imported(name) if each in MODULES and each != name} for name in MODULES}
    for front in FREE:
        graph.pop(front, None)
    ended: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, "imports go round: " + " -> ".join((*way[way.index(name) :], name))
        if name in ended or name not in graph:
            return
        for each in sorted(graph[name]):
            walk(each, (*way, name))
        ended.add(name)

    for name in sorted(graph):
        walk(name, ())


def test_the_front_has_few_files() -> None:
    """A newcomer meets rooms, not a heap of modules."""
    assert len(list(PACKAGE.glob("*.py"))) <= 3


@pytest.mark.parametrize("room", sorted({str(path.parent.relative_to(PACKAGE)) for path in MODULES.values()}))
def test_a_room_has_few_files(room: str) -> None:
    """Some fifteen: beyond that, a room is two."""
    assert (
        len([each for each in (PACKAGE / room).glob("*.py") if each.stem != "__init__" and "_pb2" not in each.stem])
        <= 16
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_file_is_read_at_one_sitting(name: str) -> None:
    """At most 400 lines."""
    assert len(MODULES[name].read_text("utf-8").splitlines()) <= 400


GRPC_CALLS = {("links.grpc.health", "call"), ("links.grpc.metadata", "call")}
"""gRPC's own calls, which whoever began them cancels."""


def unclosed(name: str) -> Iterator[tuple[str, str]]:
    """What asynchronous generators of a module read without closing it themselves."""
    for function in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        nodes = tuple(ast.walk(function))
        if not any(isinstance(node, ast.Yield) for node in nodes):
            continue
        blocks = [item for node in nodes if isinstance(node, ast.AsyncWith) for item in node.items]
        closed = {
            ast.unparse(item.optional_vars)
            for item in blocks
            if item.optional_vars is not None and ast.unparse(item.context_expr).startswith("closing(")
        }
        yield from (
            (name, ast.unparse(n.iter))
            for n in nodes
            if isinstance(n, ast.AsyncFor) and ast.unparse(n.iter) not in closed
        )


def kept(node: ast.AST, forgotten: frozenset[str]) -> Iterator[str]:
    """What a function raises by a name of its own that outlives the raising."""
    for child in ast.iter_child_nodes(node):
        inside = forgotten
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
                continue
            case ast.ExceptHandler(name=str(caught)):  # the interpreter deletes that name at the end
                inside |= {caught}
            case ast.Try(finalbody=last):
                inside |= {ast.unparse(each) for word in last if isinstance(word, ast.Delete) for each in word.targets}
            case ast.Raise(exc=ast.Name(id=raised)) if raised not in forgotten and raised[0].islower():
                yield raised
        yield from kept(child, inside)


def test_what_is_raised_is_not_kept_by_who_raises_it() -> None:
    """An error refers to the functions it went through, and they to their names.

    Until the garbage collector comes, such a ring keeps all that they hold, and gRPC's calls keep the connections of
    channels that are closed.
    """
    functions = [
        (name, function)
        for name, path in sorted(MODULES.items())
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert [(name, f.name, found) for name, f in functions for found in kept(f, frozenset())] == []


def test_who_looks_through_all_objects_asks_nothing_of_them() -> None:
    """`isinstance` and attributes run a stranger's code: a proxy's, which wakes it, or a hostile one's; `type` does not."""
    looks = [
        (path.name, ast.unparse(node))
        for path in (*MODULES.values(), *Path(__file__).parent.rglob("*.py"))
        if "get_objects" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        for loop in (node, *getattr(node, "generators", ()))
        if ast.unparse(getattr(loop, "iter", ast.Constant(0))) == "gc.get_objects()"
    ]
    assert looks
    assert [(name, text) for name, text in looks if "isinstance(" in text] == []


def test_a_generator_closes_what_it_reads() -> None:
    """Otherwise the event loop closes it, some time after whoever stopped reading has gone on."""
    ours = [name for name in MODULES if not name.startswith("demo")]
    assert {found for name in sorted(ours) for found in unclosed(name)} == GRPC_CALLS
