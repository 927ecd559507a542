"""Renews the pictures beside this file, and the diagram on their page: `tox -e diagrams`.

A test compares them with what the tables say now. They are made from the tables alone, but for those that show what
can be laid over a diagram: one short life, in virtual time, and what it covered, which are the same every time too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import fsm_conn
from fsm_conn._util.lookup import object_named
from fsm_conn.diagrams import SUFFIXES, Detail, Format, Theme, diagram
from fsm_conn.testing import Life, TransitionCoverage

HERE = Path(__file__).parent
ROOT = HERE.parent
FORMATS = (Format.MERMAID, Format.DOT, Format.SVG, Format.MARKDOWN)
BLOCK = re.compile(r"(<!-- diagram: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def machines() -> dict[str, Any]:
    """What is shown, by the name of its files."""
    return {
        "Connection": fsm_conn.Connection,
        "ConnectionPool": fsm_conn.ConnectionPool,
        "Slot": object_named("fsm_conn.pool.slots.slot:Slot"),
        "Authenticated": _example("authenticated.py").Authenticated,
        "Pausable": _example("paused.py").Pausable,
        "Door": _example("door.py").Door,
        "Order": _example("order.py").Order,
        "Upload": _example("upload.py").Upload,
        "PatientLogin": _example("tutorial/after.py").PatientLogin,
    }


def files() -> Iterator[tuple[str, str]]:
    """Each file by its name, with what should stand in it."""
    for name, machine in machines().items():
        for format in FORMATS:
            yield f"{name}{_suffix(format)}", drawn(machine, format)
    for name in ("Connection", "ConnectionPool"):
        yield f"{name}.dark.svg", drawn(getattr(fsm_conn, name), Format.SVG, theme=Theme.DARK)
    for name in ("Authenticated", "Pausable"):
        yield from _both(f"{name}.changes", machines()[name], base=fsm_conn.Connection)
        dark = drawn(machines()[name], Format.SVG, theme=Theme.DARK, base=fsm_conn.Connection)
        yield f"{name}.changes.dark.svg", dark
    for detail in (Detail.STATES, Detail.TRIGGERS):
        yield from _both(f"Connection.{detail}", fsm_conn.Connection, detail=detail)
    dark = drawn(fsm_conn.Connection, Format.SVG, theme=Theme.DARK, detail=Detail.TRIGGERS)
    yield "Connection.triggers.dark.svg", dark
    with TransitionCoverage() as coverage:
        history = short_life()
    yield from _both("Connection.coverage", fsm_conn.Connection, coverage=coverage.report())
    yield from _both("Connection.history", fsm_conn.Connection, history=history)


def _both(name: str, machine: Any, **options: Any) -> Iterator[tuple[str, str]]:
    """As Mermaid, and as a picture."""
    for format in (Format.MERMAID, Format.SVG):
        yield f"{name}{_suffix(format)}", drawn(machine, format, **options)


def drawn(machine: Any, format: Format, **options: Any) -> str:
    """A diagram in a format that is text."""
    text = diagram(machine, str(format), **options)
    assert isinstance(text, str)
    return text


def _suffix(format: Format) -> str:
    return next(suffix for suffix, each in SUFFIXES.items() if each is format)


def short_life() -> list[fsm_conn.ConnectionRecord]:
    """A connection that comes up at the second attempt, is lost, comes back, and is closed."""
    life = Life(fsm_conn.Connection)
    life.connect()
    life.answer("open", "refuse")
    life.advance(1.0)
    life.answer("open")
    life.advance(40.0)
    life.lose()
    life.advance(1.0)
    life.answer("open")
    life.disconnect()
    life.answer("close")
    history = list(life.records)
    life.close()
    return history


def renewed(text: str) -> str:
    """A document with what stands between `<!-- diagram: module:Class -->` and `<!-- end -->` drawn anew."""
    return BLOCK.sub(lambda found: f"{found[1]}{block(found[2])}{found[3]}", text)


def block(name: str) -> str:
    """A diagram as code hosts render it."""
    return f"```mermaid\n{diagram(object_named(name))}```\n"


def main() -> None:
    """Renew everything, and remove what is no more."""
    kept = {Path(__file__).name, "README.md"}
    for name, text in files():
        kept.add(name)
        (HERE / name).write_text(text, encoding="utf-8")
    for path in HERE.iterdir():
        if path.is_file() and path.name not in kept:
            path.unlink()
    readme = HERE / "README.md"
    readme.write_text(renewed(readme.read_text(encoding="utf-8")), encoding="utf-8")


def _example(path: str) -> Any:
    spec = spec_from_file_location(f"gallery_{Path(path).stem}", ROOT / "examples" / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
