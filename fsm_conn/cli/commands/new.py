"""`fsm-conn new`: writes a plugin and its host, with tests, as a start for a project."""

from __future__ import annotations

from pathlib import Path

import click

from fsm_conn.cli.terminal import output

__all__ = ["command"]


@click.command(
    epilog="""\b
Examples:
  fsm-conn new my-plugin
  cd my-plugin && python host.py"""
)
@click.argument("directory", metavar="NAME", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Write a new project: a plugin, a host that starts it, and tests of both.

    NAME is the directory to write to, and the project's name. What is written runs as it is.
    """
    from fsm_conn.cli.project import requirement, write_project  # it imports protobuf
    from fsm_conn.demo.tour import activation

    written = write_project(directory)
    console = output()
    for path in written:
        console.say(f"  {path}")
    console.say("")
    console.say("Next:")
    for command in activation():
        console.say(f"  {command}")
    console.say(f"  cd {directory}")
    console.say("  python host.py                  # starts the plugin, and calls it")
    console.say(f"  pip install {requirement()} mypy")
    console.say("  python -m pytest -q")
    console.say("  less README.md                  # how to go on")
