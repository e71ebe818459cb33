"""`ferryman completion`: the script that lets a shell complete our commands and options."""

from __future__ import annotations

import sys

import click

#: What the script asks us with; click's name for a program called `ferryman`.
VARIABLE = "_FERRYMAN_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for a shell: commands, options and their values."""
    from click.shell_completion import get_completion_class

    of_shell = get_completion_class(shell)
    assert of_shell is not None, shell
    sys.stdout.write(
        of_shell(click.get_current_context().find_root().command, {}, "ferryman", VARIABLE).source()
    )
