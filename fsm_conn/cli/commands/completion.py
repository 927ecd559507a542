"""`fsm-conn completion`: prints the script that makes a shell complete commands, options, formats, states and classes.

The script is click's own. It runs `fsm-conn` with `_FSM_CONN_COMPLETE` set. This module adds what bash needs: for bash
a colon ends a word, so `module:Class` arrives as three words, and only the part after the colon is completed.
"""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
    split_arg_string,
)

from fsm_conn.cli import COMPLETE
from fsm_conn.cli.terminal import output

__all__ = ["command", "complete"]


@add_completion_class
class _Bash(BashComplete):
    """As click's class, but words that bash split at a colon are joined."""

    _cut = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that word."""
        at = int(os.environ["COMP_CWORD"])
        words, index = split_arg_string(os.environ["COMP_WORDS"]), 1
        while index < len(words) and len(words) > 1:
            if index > 1 and (words[index].startswith(":") or words[index - 1].endswith(":")):
                words[index - 1 : index + 1] = [words[index - 1] + words[index]]
                at -= index <= at
            else:
                index += 1
        incomplete = words[at] if at < len(words) else ""
        joined = len(words) < len(split_arg_string(os.environ["COMP_WORDS"]))
        self._cut = incomplete[: incomplete.rfind(":") + 1] if joined else ""
        return words[1:at], incomplete

    def format_completion(self, item: Any) -> str:
        """The kind, and the text to replace the word that bash sees."""
        return f"{item.type},{item.value.removeprefix(self._cut)}"


def complete(group: click.Group, instruction: str) -> None:
    """Do what the shell asks for: print the script, or the completions of the words in the shell's variables."""
    shell_complete(group, {}, "fsm-conn", COMPLETE, instruction)


@click.command(
    epilog="""\b
Examples:
  eval "$(fsm-conn completion bash)"     in ~/.bashrc
  eval "$(fsm-conn completion zsh)"      in ~/.zshrc
  fsm-conn completion fish > ~/.config/fish/completions/fsm-conn.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete the words of fsm-conn."""
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "fsm-conn", COMPLETE)
    output().print(script.source_template % script.source_vars(), soft_wrap=True)
