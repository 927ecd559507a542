"""The example of a state beside `connected`, on a real plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "paused.py"


def test_the_example_is_paused_killed_and_back() -> None:
    """The plugin that dies while nobody is served is replaced, and serves."""
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr.partition(" after ")[0]) == (0, "calculator: lost")
    lines = done.stdout.splitlines()
    assert lines[1].startswith("calculator: no calls in state 'paused'")
    assert lines[:1] + lines[2:] == [
        "connected -> paused on pause",
        "paused -> connected on resume",
        "3.0",
        "connected -> paused on pause",
        "paused -> reconnecting on lost: PluginExitedError",
        "reconnecting -> connected on opened",
        "7.0",
        "connected -> disconnecting on disconnect",
        "disconnecting -> disconnected on closed",
    ]
