"""Runs one target, or each in turn: `python -m fuzz [TARGET] [options of libFuzzer]`.

A crash is written to `crash-*` in the working directory, and is tried again by `python -m fuzz TARGET crash-...`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fsm_conn", "google.protobuf"]):
    from fuzz.seeds import SEEDS
    from fuzz.targets import TARGETS


def fuzz(name: str, options: list[str]) -> None:
    """Fuzz one target until libFuzzer's options or a crash say that it is enough. It ends the process."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[name]):
            Path(corpus, f"{number}").write_bytes(seed)
        inputs = [] if any(not option.startswith("-") for option in options) else [corpus]
        atheris.Setup([sys.argv[0], *options, *inputs], TARGETS[name])
        atheris.Fuzz()


def fuzz_apart(name: str, options: list[str]) -> None:
    """The same in a process of its own."""
    if not (pid := os.fork()):
        fuzz(name, options)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        sys.exit(f"python -m fuzz: {name} ended with {status}")


def main() -> None:
    """Fuzz what the arguments say."""
    name, *options = sys.argv[1:] or ["all"]
    if name == "all":
        for each in TARGETS:
            fuzz_apart(each, options)
    elif name in TARGETS:
        fuzz(name, options)
    else:
        sys.exit(f"python -m fuzz: no target {name!r}; there are: all, {', '.join(TARGETS)}")


main()
