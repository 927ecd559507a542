"""Imports what `examples/` shows, for tests that live with it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    """The module `examples/<name>.py`."""
    return module_of(EXAMPLES / f"{name}.py")


def module_of(path: Path) -> ModuleType:
    """The module that is written there."""
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
