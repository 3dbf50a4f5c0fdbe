"""``graphkit completion``: a script for the shell."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script for SHELL; it completes commands, options and the names of passes.

    \b
    bash   graphkit completion bash > ~/.local/share/bash-completion/completions/graphkit
    zsh    graphkit completion zsh > ~/.zfunc/_graphkit     (with ~/.zfunc in fpath)
    fish   graphkit completion fish > ~/.config/fish/completions/graphkit.fish
    """
    from click.shell_completion import get_completion_class

    from graphkit.cli import main

    cls = get_completion_class(shell)
    assert cls is not None, "click.Choice lets only the shells through that click knows"
    made = cls(main, {}, "graphkit", "_GRAPHKIT_COMPLETE")
    click.echo(made.source_template % made.source_vars())
