"""The same seed gives the same life, to the last byte: twice in one process, and whatever the hashes of strings are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .mutants import SUBJECTS, lived

ROOT = Path(__file__).parents[2]
SEEDS = 40
SCRIPT = """
import sys
sys.path.insert(0, "tests")
from testing.mutants import SUBJECTS, lived
for subject in SUBJECTS:
    for seed in range({seeds}):
        print(lived(subject, seed))
"""


def printed(hash_seed: str) -> bytes:
    """What a process of its own makes of all subjects and seeds."""
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT.format(seeds=SEEDS)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=100, check=True).stdout


def test_the_same_seed_gives_the_same_trace_twice() -> None:
    """The steps that were chosen, every record, and what callers were told."""
    for subject in SUBJECTS:
        assert [lived(subject, seed) for seed in range(SEEDS)] == [lived(subject, seed) for seed in range(SEEDS)]


def test_the_same_seed_gives_the_same_trace_in_processes_with_other_hashes() -> None:
    """Nothing depends on the order of a set of strings."""
    first, second = printed("1"), printed("2")
    assert first == second
    assert first.count(b"life = Life(") == len(SUBJECTS) * SEEDS
