"""The command `fsm-conn`.

Exit status: 0 done; 1 it could not be done, with a line on stderr that says why; 2 wrong arguments; 130 interrupted.

The rules that hold in this package: a command imports only what it needs, so that `--help` and completion are quick.
All text reaches the terminal through `_util.text.plain` (`streams`, `terminal.Console`). Piped output has no escape
codes. Only this module and `streams` can be imported without the extra `cli`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from fsm_conn.cli.streams import plain_streams, say_on_stderr

__all__ = ["COMPLETE", "main"]

COMPLETE = "_FSM_CONN_COMPLETE"
"""A shell sets this environment variable to ask for completions."""

_NEEDED = ("click", "rich")


class SignalError(Exception):
    """A signal ended the command. It stands here because whoever asks for help should not wait for asyncio.

    Attributes:
        number: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by signal {number}")
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    with plain_streams(for_good=arguments is None):
        missing = next((name for name in _NEEDED if find_spec(name) is None), None)
        if missing:
            say_on_stderr(f"fsm-conn needs {missing!r}, which is not installed: pip install 'fsm_conn[cli]'")
            return 1
        run = importlib.import_module("fsm_conn.cli.app").run
        status: int = run(sys.argv[1:] if arguments is None else arguments)
        return status
