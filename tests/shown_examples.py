"""Imports what `examples/` shows, for tests that live with it."""

from __future__ import annotations

import importlib.util
import sys
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
    others = {*sys.modules}
    sys.path.insert(0, str(path.parent))  # as when it is run
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
        # Other examples may have modules of the same names.
        for name in sys.modules.keys() - others:
            if Path(getattr(sys.modules[name], "__file__", None) or "").parent == path.parent:
                del sys.modules[name]
    return module
