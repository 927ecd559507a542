"""The command `fsm-conn`.

Exit status: 0 done; 1 it could not be done, with one line on stderr that says why; 2 wrong arguments; 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from fsm_conn.errors import FsmConnError
from fsm_conn.version import __version__

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    if sys.stdout is None:  # it was closed: its number must not go to something else
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        asyncio.run(_demo())
    except FsmConnError as error:
        print(f"fsm-conn {chosen.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()  # whoever read it has gone, as `head` does
        return 0
    except OSError as error:
        _drop_output()
        print(f"fsm-conn {chosen.command}: cannot write: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _drop_output() -> None:
    """What is still to be written goes nowhere; Python would complain at exit without this."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fsm-conn",
        description="Connections to plugin processes that live by one declarative state machine.",
        epilog="Exit status: 0 done, 1 could not be done, 2 wrong arguments, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")
    commands.add_parser(
        "demo",
        help="start a real plugin, call it, kill it, and watch the connection come back",
        description="Start the packaged calculator plugin, call it, kill it with -9 under way, show every transition "
        "with its time as it happens, and disconnect.",
        epilog="Example: fsm-conn demo",
    )
    return parser


async def _demo() -> None:
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its core's notes are for its makers
    from fsm_conn.demo.tour import tour

    await tour(_write, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb")


def _write(line: str) -> None:
    print(line, flush=True)
