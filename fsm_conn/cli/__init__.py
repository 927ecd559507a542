"""The command `fsm-conn`.

Exit status: 0 done; 1 it could not be done, with a line on stderr that says why; 2 wrong arguments; 130 interrupted.

The rules that hold in this room: what a command does not need it does not import, so that `--help` and completion are
quick; what comes from elsewhere (plugins, files, users' modules) reaches the terminal only through `_util.text.plain`;
what is piped has no escape codes. This module is the only one that can be imported without the extra `cli`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from io import TextIOWrapper

__all__ = ["COMPLETE", "main"]

COMPLETE = "_FSM_CONN_COMPLETE"
"""The environment variable by which a shell asks for completions."""

_NEEDED = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    _replace_closed_streams()
    _write_what_can_be_written()
    missing = next((name for name in _NEEDED if find_spec(name) is None), None)
    if missing:
        print(f"fsm-conn needs {missing!r}, which is not installed: pip install 'fsm_conn[cli]'", file=sys.stderr)
        return 1
    status: int = importlib.import_module("fsm_conn.cli.app").run(sys.argv[1:] if arguments is None else arguments)
    return status


def _replace_closed_streams() -> None:
    """The number of a stream that was closed must not go to something else, and what is written needs a place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _write_what_can_be_written() -> None:
    r"""Where stdout is not UTF-8, a character that it does not have is written as its escape, such as `\xe9`."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
