"""The public surface as text: every public name, signature, field and default, a line each.

    python tests/surface.py

writes `surface.txt` anew. What is in it is promised to users: `test_surface.py` fails when a line changes, and no entry of the
changelog names what changed.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsm_conn

TEXT = Path(__file__).with_name("surface.txt")


def packages() -> Iterator[str]:
    """Every package whose front offers names, whatever extra it needs."""
    yield "fsm_conn"
    for path in sorted(Path(fsm_conn.__file__).parent.iterdir()):
        # Rooms that only this package imports from have an empty front.
        if path.joinpath("__init__.py").is_file() and "__all__" in path.joinpath("__init__.py").read_text("utf-8"):
            yield f"fsm_conn.{path.name}"


def lines() -> list[str]:
    """The whole surface."""
    return sorted(line for package in packages() for line in _of_package(package))


def _of_package(package: str) -> Iterator[str]:
    module = importlib.import_module(package)
    for name in module.__all__:
        yield from _of_thing(f"{package}.{name}", getattr(module, name))


def _of_thing(path: str, thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield f"{path}{_signature(thing)}" if callable(thing) else f"{path} = {_shown(thing)}"
        return
    bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
    yield f"{path}({bases})"
    if issubclass(thing, enum.Enum):
        yield from (f"{path}.{member.name} = {member.value!r}" for member in thing)
    else:
        own = _own(thing)
        yield from ([f"{path}.__init__{_signature(thing.__init__)}"] if "__init__" in own else [])
        yield from (_of_member(f"{path}.{name}", own[name]) for name in sorted(own) if not name.startswith("_"))


def _of_member(path: str, member: Any) -> str:
    if isinstance(member, (staticmethod, classmethod)):
        member = member.__func__
    if inspect.isfunction(member):
        return f"{path}{_signature(member)}"
    if isinstance(member, property) or inspect.isdatadescriptor(member):
        return path
    return f"{path} = {_shown(member)}"


def _own(thing: type) -> dict[str, Any]:
    """What a class says itself, and what those of its bases say that nobody else can name."""
    others = [base for base in thing.__mro__[1:] if getattr(fsm_conn, base.__name__, None) is base]
    told = {each for base in others for each in base.__mro__}
    found: dict[str, Any] = {}
    for base in reversed(thing.__mro__):
        if base.__module__.partition(".")[0] == "fsm_conn" and base not in told:
            found.update(vars(base))
    return found


def _signature(thing: Any) -> str:
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(thing)))
    except (TypeError, ValueError):
        return "(...)"


def _shown(value: Any) -> str:
    """A value that a user could write; of others, their type."""
    simple = value is None or isinstance(value, (str, int, float, enum.Enum))
    return repr(value) if simple and len(repr(value)) <= 100 else f"a {type(value).__name__}"


if __name__ == "__main__":
    TEXT.write_text("\n".join(lines()) + "\n", "utf-8")
