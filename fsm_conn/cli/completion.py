"""`fsm-conn completion`: the script that makes a shell complete commands, options, formats, states and classes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from fsm_conn.cli.terminal import output

__all__ = ["command"]


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
    script = kind(ctx.find_root().command, {}, "fsm-conn", "_FSM_CONN_COMPLETE")
    output().print(script.source_template % script.source_vars(), soft_wrap=True)
