"""Imports what `examples/` shows, for tests that live with it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from traces import removed

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
    with removed(str(path.parent)):  # other examples may have modules of the same names
        sys.path.insert(0, str(path.parent))  # as when it is run
        spec.loader.exec_module(module)
    return module
