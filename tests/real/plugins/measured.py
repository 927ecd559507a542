"""A program of the package, whose lines are counted where those of the tests are: `measured.py MODULE` (see `lines`)."""

import atexit
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import lines

atexit.register(lines.write)
sys.argv = sys.argv[1:]
sys.exit(importlib.import_module(sys.argv[0]).main())
