"""The example of a state that serves, on a real plugin that stands still for a while."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "degraded.py"


def test_the_example_is_degraded_and_serves() -> None:
    """A slow call degrades it, the next one is served, and some time later all is well."""
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:3] == ["connected -> degraded on degrade", "3.0", "degraded True 7.0"]
    assert lines[3] == "degraded -> connected on improve: StateTimeoutError"
    assert lines[-2:] == ["connected -> disconnecting on disconnect", "disconnecting -> disconnected on closed"]
